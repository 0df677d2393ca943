"""Who may ask: names of the server, origins, tokens, sessions, proxies, TLS and limits. ``guard`` has them together."""

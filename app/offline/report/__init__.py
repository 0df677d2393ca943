"""The report of ``detect --report``: one HTML file that looks at tracks, without a server or a network."""

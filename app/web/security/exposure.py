"""Whether it may be served where it is to be served.

From this machine nothing is asked. Beyond it, not without tokens, and not in the clear unless somebody says that
something else encrypts.
"""

import ipaddress

from app.errors import ConfigurationError
from app.settings import Settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(settings: Settings) -> None:
    """Raises ConfigurationError, with what to set, where the view and the API would be open to others."""
    host, api = settings.dashboard.host, settings.api
    if is_loopback(host) or not settings.dashboard.enabled:  # without it there are probes and metrics only
        return
    if not api.tokens_file and not api.oidc_issuer:
        raise ConfigurationError(
            f"dashboard.host: {host} can be reached from other machines, and nobody would be asked for a token: "
            "set api.tokens_file (`faust-anomaly token create NAME --role read --file PATH` makes it) or "
            "api.oidc_issuer, or listen on 127.0.0.1, or set dashboard.enabled to false: probes and metrics remain"
        )
    if not api.tls_certificate_file and not api.trusted_proxies and not api.plaintext:
        raise ConfigurationError(
            f"dashboard.host: {host} can be reached from other machines, and tokens could be read on the way: "
            "set api.tls_certificate_file and api.tls_key_file, or api.trusted_proxies to the addresses of a proxy "
            "that speaks TLS, or api.plaintext to true where something else encrypts"
        )

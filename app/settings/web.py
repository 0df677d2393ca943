"""The sections ``dashboard`` and ``api``: what is served, to whom, and how safely."""

from __future__ import annotations

from typing import Annotated

from app.settings.fields import HostName, Network, SettingsSection, matching, setting

Origin = Annotated[str, matching(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")]
RootPath = Annotated[str, matching(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")]
# Who can change what is fetched there can make tokens: without TLS only from this machine, for tests.
IssuerAddress = Annotated[
    str, matching(r"https://[^\s/@?#]+(/[^\s?#]*)?|http://(localhost|127\.0\.0\.1)(:[0-9]+)?(/[^\s?#]*)?")
]
FILE = "the path of a file"


class DashboardSettings(SettingsSection):
    enabled: bool = setting(True, "serve the web view")
    host: str = setting(
        "127.0.0.1", "address to listen on; 0.0.0.0: all", expected="an address or host name", min_length=1
    )
    port: int = setting(8000, "port to listen on; 0: any free port", at_least=0, at_most=65535)
    allowed_hosts: list[HostName] = setting(
        [],
        "host names that requests may use, for example behind a proxy; addresses and localhost are always allowed",
        expected="host names, separated by commas",
    )
    websocket_enabled: bool = setting(True, "serve the stream of results (WebSocket)")
    real_time_updates: bool = setting(True, "update the view when results arrive")


class ApiSettings(SettingsSection):
    """The API on the port of ``dashboard``: who may use it, and how much."""

    writes: bool = setting(True, "accept points, alerts and decisions over HTTP; false: read only")
    tokens_file: str | None = setting(
        None, "file with the hashes of tokens, written by `faust-anomaly token`; none: no token is required",
        expected=FILE, min_length=1,
    )  # fmt: skip
    tls_certificate_file: str | None = setting(
        None, "certificate chain, PEM; read again when it changes; none: no TLS", expected=FILE, min_length=1
    )
    tls_key_file: str | None = setting(
        None, "its private key, PEM; none: in the file of the certificate", expected=FILE, min_length=1
    )
    plaintext: bool = setting(False, "allow listening beyond loopback without TLS: tokens are readable on the network")
    probes_open: bool = setting(True, "answer /livez and /readyz without a token")
    metrics_open: bool = setting(True, "answer /metrics without a token")
    cors_origins: list[Origin] = setting(
        [], "origins whose pages may use the API, with tokens", expected="scheme://host[:port], separated by commas"
    )
    root_path: RootPath | None = setting(
        None, "path under which a proxy serves this program; none: /", expected="/path"
    )
    trusted_proxies: list[Network] = setting(
        [],
        "addresses or networks whose X-Forwarded-For, -Proto, -Host and -Prefix are believed",
        expected="addresses or networks, separated by commas",
    )
    oidc_issuer: IssuerAddress | None = setting(
        None, "OpenID Connect issuer whose access tokens are accepted too", expected="https://host[/path]"
    )
    oidc_audience: str | None = setting(None, "audience that these tokens must have", expected="text", min_length=1)
    oidc_roles_claim: str = setting(
        "roles",
        "claim of these tokens that lists read, write or admin; or its path, as realm_access.roles",
        expected="text",
        min_length=1,
    )
    access_log: bool = setting(False, "write a line for each request to the log")
    max_connections: int = setting(
        200,
        "open connections beside those of open pages; half of them from one address that is no trusted proxy",
        at_least=10,
        at_most=10_000,
    )
    max_body_bytes: int = setting(4 << 20, "largest body of a request", unit="bytes", at_least=1024, at_most=256 << 20)
    max_points: int = setting(10_000, "points in one request", unit="points", at_least=1, at_most=1_000_000)
    max_point_rate: float = setting(
        10_000.0,
        "points per second of one client; a burst may have one second's worth",
        unit="points/s",
        above=0.0,
        at_most=10.0**7,
    )

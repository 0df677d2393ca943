"""All that stands before the routes, made of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.metrics import Metrics
from app.settings import ApiSettings, Settings
from app.web.security import exposure
from app.web.security.access import Access, check_roles
from app.web.security.clients import Proxies, address_of
from app.web.security.headers import secured
from app.web.security.hosts import only_for
from app.web.security.origins import AllowedOrigins
from app.web.security.roles import METRICS, OPEN, PROBE
from app.web.security.tls import Certificate
from app.web.security.tokens import TokensFile


def tokens_of(api: ApiSettings) -> TokensFile | None:
    """Those of api.tokens_file. Raises ConfigurationError."""
    return TokensFile(Path(api.tokens_file)) if api.tokens_file else None


def certificate_of(api: ApiSettings, taken: Callable[[Path], None] = lambda path: None) -> Certificate | None:
    """That of api.tls_certificate_file. Raises ConfigurationError."""
    certificate, key = api.tls_certificate_file, api.tls_key_file
    return Certificate(Path(certificate), Path(key) if key else None, taken) if certificate else None


class Guard:
    """
    Raises
    ------
    ConfigurationError
        A file of tokens or certificates cannot be used, or the settings would let anybody in.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        api, dashboard = settings.api, settings.dashboard
        exposure.check(settings)
        self._tokens = tokens_of(api)
        issuer = None
        if api.oidc_issuer:
            from app.web.security.oidc import Issuer

            issuer = Issuer(api.oidc_issuer, api.oidc_audience or "", api.oidc_roles_claim)
        self._certificate = certificate_of(api, partial(metrics.certificate, "api"))
        self.tls = self._certificate.context if self._certificate else None
        self.proxies = Proxies(api.trusted_proxies, api.root_path or "")
        without_token = {OPEN, *[PROBE] * api.probes_open, *[METRICS] * api.metrics_open}
        self.access = Access(self._tokens, issuer, without_token, api.root_path or "")
        self._hosts = only_for([dashboard.host, *dashboard.allowed_hosts])
        self._origins = AllowedOrigins(api.cors_origins)
        self._refused = metrics.refused_requests

    def stand_before(self, app: web.Application, roles: Mapping[Handler, tuple[str, ...]]) -> None:
        """Check each request to this application, whose routes are all there. ``roles``: of each handler.

        Raises
        ------
        ValueError
            A route has no role.
        """
        check_roles(app, roles)
        app.middlewares.extend(self._middlewares(roles))
        app.on_response_prepare.append(secured)
        app.on_response_prepare.append(self._origins.mark)
        app.on_response_prepare.append(self._count)

    def _middlewares(self, roles: Mapping[Handler, tuple[str, ...]]) -> list[Middleware]:
        return [self.proxies.middleware(), self._hosts, self._origins.check, self.access.middleware(roles)]

    def is_many(self, address: str) -> bool:
        """Whether many people come from this address of a connection: a trusted proxy, or this machine."""
        found = address_of(address)
        return found is None or found.is_loopback or self.proxies.trusts(found)

    async def look(self) -> None:
        """Take what changed in the files; to be called every second."""
        if self._tokens:
            self._tokens.look()
        if self._certificate:
            self._certificate.look()
        await self.access.cut_revoked()

    async def _count(self, request: web.Request, response: web.StreamResponse) -> None:
        if counter := self._refused.get(str(response.status)):
            counter.inc()

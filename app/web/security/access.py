"""Whether a request is let in: the one place that decides, by the role of its route alone."""

import asyncio
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.web.problems import HttpProblem
from app.web.security import sessions
from app.web.security.clients import CLIENT, Client
from app.web.security.limits import Rate, by_network
from app.web.security.origins import SAFE, is_ours, is_upgrade, origin_of
from app.web.security.roles import EVERYBODY, METRICS, OPEN, PROBE, READ, ROLES, Caller, Unreachable
from app.web.security.tokens import LONGEST, TokensFile

if TYPE_CHECKING:
    from app.web.security.oidc import Issuer

CALLER = web.RequestKey("caller", Caller)  # set for every route that is not public
PLAUSIBLE = re.compile(rf"[A-Za-z0-9._~+/=-]{{1,{LONGEST}}}")  # as RFC 6750 has it, section 2.1
OPEN_BYTES = 1 << 16  # of a body without a token: of a login
FAILED_LOGINS, FAILED_PER_S = 10, 60.0  # of one address
REALM = 'Bearer realm="faust-anomaly"'
# After a link from another site the browser does not send the cookie. This page makes it ask again, from here.
AGAIN = '<!doctype html><meta http-equiv="refresh" content="0"><title>faust-anomaly</title>'
REFUSED = "this token is not valid: unknown, expired or revoked"


class Access:
    """Who may do what, by tokens; without ``tokens`` and ``issuer`` everybody may do everything.

    ``open_roles``: of routes that never require a token. ``root_path``: a prefix that paths may have.
    """

    def __init__(
        self,
        tokens: TokensFile | None = None,
        issuer: "Issuer | None" = None,
        open_roles: Collection[str] = (OPEN, PROBE, METRICS),
        root_path: str = "",
    ) -> None:
        self._root_path = root_path
        self._tokens, self._issuer, self._open_roles = tokens, issuer, frozenset(open_roles)
        self._failed = Rate(FAILED_LOGINS, FAILED_PER_S)
        self._open: dict[asyncio.Transport, tuple[str, tuple[str, ...]]] = {}  # of WebSockets: token, roles it needs

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return self._tokens is not None or self._issuer is not None

    async def find(self, token: str) -> Caller | None:
        """Whose token this is, None if it is not valid.

        Raises
        ------
        HttpProblem
            503: it is of an issuer that does not answer.
        """
        if not PLAUSIBLE.fullmatch(token):
            return None
        if self._issuer and self._issuer.takes(token):
            try:
                return await self._issuer.caller(token)
            except Unreachable:
                raise HttpProblem(
                    503,
                    "the issuer of this token does not answer, so that it cannot be checked",
                    headers={"Retry-After": str(round(Unreachable.RETRY_S))},
                ) from None
        return self._tokens.find(token) if self._tokens else None

    async def log_in(self, token: str, client: Client) -> Caller:
        """Whose token this is.

        Raises
        ------
        HttpProblem
            401: it is not valid; 422: too long to be kept; 429: too many of this address were not valid; 503: it cannot
            be said now.
        """
        if not self.asks:
            return EVERYBODY
        key = by_network(client.address)
        if wait := self._failed.wait(key):
            what = f"too many tokens from {client.address} were not valid"
            raise HttpProblem(429, what, headers={"Retry-After": f"{wait + 1:.0f}"})
        caller = await self.find(token)
        if caller is None:
            self._failed.take(key)
            raise _unauthorized(REFUSED)
        if len(token) > sessions.LONGEST:
            raise HttpProblem.at("/token", f"is longer than a cookie may be, {sessions.LONGEST} characters", 422)
        return caller

    def middleware(self, roles: Mapping[Handler, tuple[str, ...]]) -> Middleware:
        """Sets ``request[CALLER]``, or refuses. ``roles``: of each handler; needs ``request[CLIENT]``."""

        @web.middleware
        async def decided(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.match_info.http_exception is not None:
                return await handler(request)  # 404 or 405, which tell nothing
            allowed = roles.get(request.match_info.handler, ())
            if self._open_roles & set(allowed):
                # Bodies are kept in memory: of who shows no token not those of api.max_body_bytes.
                return await handler(request.clone(client_max_size=OPEN_BYTES) if request.body_exists else request)
            allowed = tuple(READ if role in (PROBE, METRICS) else role for role in allowed)
            if not allowed:
                raise HttpProblem(403, "nobody may use this")
            if not self.asks:
                request[CALLER] = EVERYBODY
                return await handler(request)
            caller, token = await self._identified(request)
            request[CALLER] = caller
            if not caller.may(allowed):
                wanted = [role for role in ROLES if role in allowed]
                has = ", ".join(one for one in ROLES if one in caller.roles) or "none"
                raise HttpProblem(
                    403,
                    f"this needs a token with the role {' or '.join(wanted)}; {caller.name} has {has}",
                    headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{" ".join(wanted)}"'},
                )
            if not is_upgrade(request) or (transport := request.transport) is None:
                return await handler(request)
            self._open[transport] = token, allowed
            try:
                return await handler(request)
            finally:
                del self._open[transport]

        return decided

    async def cut_revoked(self) -> None:
        """Cut the WebSockets whose token does not allow them any more; to be called every second or so."""
        for transport, (token, allowed) in list(self._open.items()):
            try:
                caller = await self.find(token)
            except HttpProblem:
                continue
            if caller is None or not caller.may(allowed):
                transport.abort()
            await asyncio.sleep(0)

    async def _identified(self, request: web.Request) -> tuple[Caller, str]:
        client, given = request[CLIENT], request.headers.getall("Authorization", ())
        if given:
            scheme, _, token = given[0].partition(" ")
            if len(given) > 1 or scheme.lower() != "bearer" or not (token := token.strip(" ")):
                raise _unauthorized("expected one header Authorization: Bearer <token>")
            caller = await self.find(token)
            if caller is None:
                raise _unauthorized(REFUSED)
            return caller, token
        held = sessions.token_in(request, client)
        caller = await self.find(held) if held else None
        if held is None or caller is None:
            if wants_page(request):
                if request.headers.get("Sec-Fetch-Site") == "cross-site":
                    raise web.HTTPOk(text=AGAIN, content_type="text/html")
                raise web.HTTPSeeOther(self._login_for(request))
            raise _unauthorized(REFUSED if held else "expected a header Authorization: Bearer <token>")
        self._check_cookie(request, client, held)
        return caller, held

    def _check_cookie(self, request: web.Request, client: Client, token: str) -> None:
        """A browser sends the cookie by itself: that our own page asks must show too."""
        origin = origin_of(request)
        if origin is not None and not is_ours(origin, client):
            raise HttpProblem.at("Origin", f"the cookie is for pages of {client.host!r}, got {origin!r}", 403)
        if request.method not in SAFE and not sessions.csrf_fits(request, token):
            what = "must be given beside the cookie, as GET /api/session says it"
            raise HttpProblem.at(sessions.CSRF_HEADER, what, 403)

    def _login_for(self, request: web.Request) -> str:
        """Relative, so that it holds under any path that a proxy serves us under."""
        path = request.rel_url.raw_path
        if path.startswith(self._root_path + "/"):
            path = path[len(self._root_path) :]
        up = "../" * (path.count("/") - 1) or "./"
        here = path[1:] + (f"?{request.rel_url.raw_query_string}" if request.query_string else "")
        return f"{up}login?next={quote(here, safe='')}"


def wants_page(request: web.Request) -> bool:
    """Whether a person's browser goes there, rather than a program or a script of a page."""
    return request.method == "GET" and not is_upgrade(request) and "text/html" in request.headers.get("Accept", "")


def check_roles(app: web.Application, roles: Mapping[Handler, tuple[str, ...]]) -> None:
    """Raises ValueError if a route has no role, or an unknown one: such a server must not start."""
    for route in app.router.routes():
        found = roles.get(route.handler, ())
        if not found or not set(found) <= {*ROLES, OPEN, PROBE, METRICS}:
            raise ValueError(f"{route.method} {route.resource and route.resource.canonical}: its roles are {found}")


def _unauthorized(text: str) -> HttpProblem:
    what = f'{REALM}, error="invalid_token"' if text == REFUSED else REALM
    return HttpProblem(401, text, headers={"WWW-Authenticate": what})

"""Which pages may ask: our own, and those of the origins that are named (CORS).

Any page in the browser of somebody who reaches this server can send it requests, without tokens too where the server is
on loopback. A browser says whose page it is: in Origin, with everything that changes something and with a WebSocket,
and in Sec-Fetch-Site. What sends neither is no page.

Pages of named origins have to send a token in Authorization: they are never allowed to use the cookie.
"""

from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler

from app.web.problems import HttpProblem
from app.web.security.clients import CLIENT, Client

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
JSON = frozenset({"application/json", "application/x-ndjson"})
DEFAULT_PORTS = {"http": "80", "https": "443"}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}


def origin_of(request: web.BaseRequest) -> str | None:
    """The Origin, None if there is none. Raises HttpProblem of more than one."""
    given = request.headers.getall("Origin", ())
    if len(given) > 1:
        raise HttpProblem.at("Origin", f"must be given once, got {len(given)}", 403)
    return given[0] if given else None


def is_ours(origin: str, client: Client) -> bool:
    """Whether this is the origin of our own pages.

    The scheme is known only where TLS ends here or a trusted proxy told; elsewhere both count.

    >>> plain, secure = Client("", False, "view.example:80", ""), Client("", True, "view.example", "")
    >>> is_ours("http://view.example", plain), is_ours("https://view.example:443", secure)
    (True, True)
    >>> [is_ours(one, secure) for one in ("http://view.example", "https://view.example:80", "null", "")]
    [False, False, False, False]
    """
    scheme, found, name = origin.partition("://")
    if not found or scheme not in DEFAULT_PORTS or (client.secure and scheme != "https"):
        return False
    default = ":" + DEFAULT_PORTS[scheme]
    return bool(name) and name.lower().removesuffix(default) == client.host.lower().removesuffix(default)


def is_upgrade(request: web.BaseRequest) -> bool:
    return "websocket" in request.headers.get("Upgrade", "").lower()


class AllowedOrigins:
    """``named``: origins whose pages may ask, exactly as browsers send them, as https://grafana.example:3000."""

    def __init__(self, named: Collection[str] = ()) -> None:
        self._named = frozenset(named)

    def is_named(self, origin: str | None) -> bool:
        return origin in self._named

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what another page sent, and answer preflights of named ones. Needs ``request[CLIENT]``."""
        origin = origin_of(request)
        if request.method == "OPTIONS" and self.is_named(origin):
            if "Access-Control-Request-Method" in request.headers:
                return web.Response(status=204, headers=PREFLIGHT)
        elif request.method not in SAFE or is_upgrade(request):
            self._refuse_others(request, origin)
            if request.body_exists:
                _check_body(request)
        elif not self.is_named(origin):
            _refuse_parts(request)
        return await handler(request)

    def _refuse_others(self, request: web.Request, origin: str | None) -> None:
        if origin is None:
            site = request.headers.get("Sec-Fetch-Site", "none")
            if site not in ("none", "same-origin"):
                raise HttpProblem.at("Sec-Fetch-Site", f"must be same-origin, got {site!r}", 403)
            return
        client = request[CLIENT]
        if self.is_named(origin):
            return
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if not is_ours(origin, client) or site not in ("none", "same-origin"):
            what = f"must be this server, {client.host!r}, or one of api.cors_origins, got {origin!r}"
            raise HttpProblem.at("Origin", what, 403)

    async def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the pages of named origins read the answer; for ``on_response_prepare``."""
        if not self._named:
            return
        response.headers.add("Vary", "Origin")
        given = request.headers.getall("Origin", ())
        if len(given) == 1 and given[0] in self._named:
            response.headers["Access-Control-Allow-Origin"] = given[0]
            response.headers["Access-Control-Expose-Headers"] = "Location, Retry-After, WWW-Authenticate"


def _refuse_parts(request: web.Request) -> None:
    """A link may lead here from anywhere, but no other page has a use for our answers: it could not read them."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    link = (request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    if site not in ("none", "same-origin") and not link:
        raise HttpProblem.at("Sec-Fetch-Site", f"must be same-origin, unless a link leads here, got {site!r}", 403)


def _check_body(request: web.Request) -> None:
    if request.content_type not in JSON:  # forms can be sent without asking
        found = request.headers.get("Content-Type", "none")
        what = f"expected application/json, or application/x-ndjson for many, got {found!r}"
        raise HttpProblem.at("Content-Type", what, 415)
    if (coding := request.headers.get("Content-Encoding", "identity")) != "identity":
        raise HttpProblem.at("Content-Encoding", f"expected none, got {coding!r}", 415)

"""Under which names the server may be asked.

A page of another site can be given this server's address for its own name (DNS rebinding), and a browser then lets it
read what we answer, as if it were ours. Such a request still says the page's name in Host. An address in Host is no
name that anybody can point elsewhere, so addresses are always allowed, and so is localhost.
"""

import ipaddress
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.web.problems import Problem
from app.web.security.clients import CLIENT


def name_of(host: str) -> str:
    """The name or address in a Host header, without port, in lower case.

    >>> [name_of(host) for host in ("View.example.:8000", "[::1]:8000", "127.0.0.1", "")]
    ['view.example', '::1', '127.0.0.1', '']
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")


def is_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a request with this Host may be answered; ``names`` are allowed beside addresses and localhost."""
    name = name_of(host)
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def only_for(names: Collection[str]) -> Middleware:
    """Refuse requests under any other name. What sends no Host is no browser. Needs ``request[CLIENT]``.

    A proxy's own name for this server, in Host, must be allowed as well as what it says in X-Forwarded-Host.
    """
    known = {name_of(name) for name in names}

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.getall("Host", ())
        if len(given) > 1:
            raise Problem.at("Host", f"must be given once, got {len(given)}", 400)
        for host in (*given, request[CLIENT].host) if given else ():
            if not is_allowed(host, known):
                raise Problem.at(
                    "Host", f"must be an address, localhost or one of dashboard.allowed_hosts, got {host!r}", 403
                )
        return await handler(request)

    return checked

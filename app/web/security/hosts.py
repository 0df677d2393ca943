"""Under which names the server may be asked.

A page of another site can be given this server's address for its own name (DNS rebinding), and a browser then lets it
read what we answer, as if it were ours. Such a request still says the page's name in Host. An address in Host is no
name that anybody can point elsewhere, so addresses are always allowed, and so is localhost.
"""

import ipaddress
import re
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from app.web.problems import HttpProblem
from app.web.security.clients import CLIENT

HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@,\[\]]*)(:[0-9]{1,5})?")


def name_of(host: str) -> str:
    """The name or address in a Host header, without port, in lower case; "" of what is none.

    >>> [name_of(host) for host in ("View.example.:8000", "[::1]:8000", "127.0.0.1", "[::1", "a@b", "")]
    ['view.example', '::1', '127.0.0.1', '', '', '']
    """
    found = HOST.fullmatch(host)
    return found[1].strip("[]").lower().removesuffix(".") if found else ""


def is_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a request with this Host may be answered; ``names`` are allowed beside addresses and localhost."""
    name = name_of(host)
    if not name:
        return False
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
    known = {name.lower().removesuffix(".") for name in names}

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.getall("Host", ())
        if len(given) > 1:
            raise HttpProblem.at("Host", f"must be given once, got {len(given)}", 400)
        for host in (*given, request[CLIENT].host) if given else ():
            if not is_allowed(host, known):
                raise HttpProblem.at(
                    "Host", f"must be an address, localhost or one of dashboard.allowed_hosts, got {host!r}", 403
                )
        return await handler(request)

    return checked

"""Who is at the other end: the address, scheme, host and path as the browser sees them.

A reverse proxy says them in X-Forwarded headers. Anybody can send such headers, so they count only where the connection
comes from one of ``api.trusted_proxies``; of a list, what the last trusted proxy appended.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}")


@dataclass(frozen=True, slots=True)
class Client:
    """``address``: of who asks, "" if unknown. ``host``: with port, as in Host. ``prefix``: path before ours, or ""."""

    address: str
    secure: bool
    host: str
    prefix: str


CLIENT = web.RequestKey("client", Client)


def address_of(text: str) -> Address | None:
    """An address as proxies write it: maybe with brackets, port or zone, or IPv4 in IPv6.

    >>> [str(address_of(text)) for text in ("10.0.0.1", "10.0.0.1:80", "[::1]:80", "::ffff:10.0.0.1", "unknown")]
    ['10.0.0.1', '10.0.0.1', '::1', '10.0.0.1', 'None']
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


class Proxies:
    """``trusted``: addresses or networks. ``root_path``: the path that a proxy serves us under, "" or as "/anomaly"."""

    def __init__(self, trusted: Sequence[str] = (), root_path: str = "") -> None:
        self._trusted = [ipaddress.ip_network(one, strict=False) for one in trusted]
        self._root_path = root_path.rstrip("/")

    def trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

    def client(self, request: web.BaseRequest) -> Client:
        """Whom this request comes from."""
        peer = address_of(request.remote or "")
        own_host = request.headers.get("Host", "")
        if not self.trusts(peer):
            return Client(str(peer or request.remote or ""), request.secure, own_host, self._root_path)
        for hop in reversed(_all(request, "X-Forwarded-For")):
            if (found := address_of(hop)) is None:
                break  # what stands further left was said by nobody we know
            peer = found
            if not self.trusts(found):
                break
        scheme = (_all(request, "X-Forwarded-Proto") or [request.scheme])[-1].lower()
        host = (_all(request, "X-Forwarded-Host") or [own_host])[-1]
        prefix = (_all(request, "X-Forwarded-Prefix") or [self._root_path])[-1].rstrip("/")
        if not PREFIX.fullmatch(prefix):
            prefix = self._root_path
        return Client(str(peer), scheme in ("https", "wss"), host, prefix)

    def middleware(self) -> Middleware:
        """Sets ``request[CLIENT]``."""

        @web.middleware
        async def known(request: web.Request, handler: Handler) -> web.StreamResponse:
            request[CLIENT] = self.client(request)
            return await handler(request)

        return known


def _all(request: web.BaseRequest, header: str) -> list[str]:
    values = ",".join(request.headers.getall(header, ()))
    return [value.strip() for value in values.split(",") if value.strip()]

"""HTTP connections of channels: which addresses are allowed, timeouts, and the size of answers.

A host is resolved once, each of its addresses is checked, and the connection goes to a checked address: a name that
resolves to another address a moment later has no effect. Redirects and further connections are checked too. All
addresses outside the public internet are refused: loopback, private and shared networks, link-local, multicast,
reserved, in every notation, also inside IPv6 (mapped, 6to4, Teredo, NAT64). ``alerting.allowed_addresses`` allows
names, addresses and networks; the addresses at which clouds give their credentials away are never allowed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from app.errors import AnomalyError

CONNECT_S = 10.0  # for each address
TOTAL_S = 30.0  # for a whole exchange, unless a channel sets another limit
MOST_BYTES = 65_536  # of an answer; the rest is not read
AGENT = "faust-anomaly"

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], Awaitable[Iterable[str]]]

# Metadata services: AWS, Azure, Google, DigitalOcean, Oracle and others; ECS; EKS; AWS and Google on IPv6; Azure's wire
# server; Alibaba; Oracle's old one.
METADATA = frozenset(
    ip_address(one)
    for one in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
        *("168.63.129.16", "100.100.100.200", "192.0.0.192"),
    )
)
CLOUDS = "the metadata service of a cloud"
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; the IPv4 address is in the last 32 bits, as in the next
COMPATIBLE = IPv6Network("::/96")  # RFC 4291, deprecated
# Not global, though some versions of Python's ipaddress say so.
OTHERS = [
    *map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b:1::/48")),
    *map(ip_network, ("fec0::/10", "3fff::/20", "5f00::/16", "2001::/23", "100::/64")),
]


class Forbidden(AnomalyError):
    """A host that channels may not connect to; the message names the setting that would allow it."""


class Outgoing:
    """Makes connections to allowed addresses.

    Parameters
    ----------
    allowed
        ``alerting.allowed_addresses``: names of hosts, addresses, networks.
    lookup
        Host and port -> addresses as text; the system's own if not given.
    """

    def __init__(self, allowed: Iterable[str] = (), lookup: Lookup | None = None) -> None:
        self.names, self.networks = set(), []
        for one in allowed:
            try:
                self.networks.append(ip_network(one, strict=False))
            except ValueError:
                self.names.add(_name(one))
        self._lookup = lookup or _system

    async def check(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to, at least one.

        Raises Forbidden if none of them may be, and OSError if the host is not found.
        """
        named = _name(host) in self.names
        found = list(await self._lookup(host, port))
        reasons = {one: self._refusal(ip_address(one), named) for one in found}
        if good := [one for one, reason in reasons.items() if not reason]:
            return good
        if not reasons:
            raise OSError(f"{host} has no address")
        address, reason = next(iter(reasons.items()))
        which = host if host == address else f"{host} is {address}, which"
        advice = "" if reason == CLOUDS else "; alerting.allowed_addresses can allow it"
        raise Forbidden(f"{which} is {reason}: nothing is sent there{advice}")

    def session(self) -> aiohttp.ClientSession:
        """A client that connects to nothing else; the caller closes it. Needs a running event loop."""
        return aiohttp.ClientSession(
            connector=_Connector(self, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=TOTAL_S, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
            auto_decompress=False,  # so a small answer cannot become a large one
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Certificates are always verified, by the system's authorities or those of SSL_CERT_FILE."""
        return ssl.create_default_context()

    def _refusal(self, address: Address, named: bool) -> str:
        """Why this address is refused; "" if it is allowed. ``named``: its host name is allowed."""
        carried = [address, *_carried(address)]
        if not METADATA.isdisjoint(carried):
            return CLOUDS
        if named or any(one in network for network in self.networks for one in carried):
            return ""
        return next(filter(None, map(_kind, carried)), "")


async def read(response: aiohttp.ClientResponse, most: int = MOST_BYTES) -> bytes:
    """The body of an answer, or its first bytes. Raises aiohttp's error if it breaks off."""
    body = bytearray()
    while len(body) < most and (part := await response.content.read(most - len(body))):
        body += part
    if len(body) >= most:
        response.close()  # what follows is not waited for
    return bytes(body)


def _name(host: str) -> str:
    return host.rstrip(".").lower()


def _carried(address: Address) -> list[IPv4Address]:
    """IPv4 addresses inside an IPv6 address, to which its packets may go."""
    if isinstance(address, IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64 or (address in COMPATIBLE and int(address) > 1):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def _kind(address: Address) -> str:
    """The kind of a non-public address; "" if it is public, or if the IPv4 address inside it decides."""
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address in NAT64):
        return ""
    if address.is_unspecified:
        return "no address of a host"
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_reserved or any(address in network for network in OTHERS):
        return "a reserved address"
    return "" if address.is_global else "an address of a private network"


async def _system(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host[:80]}: no name of a host: {error}") from error
    return [_with_zone(where) for *_, where in found]


def _with_zone(where: Any) -> str:
    """The address of a socket's place; of a link-local one with the number of its link."""
    address = where[0]
    return f"{address}%{where[3]}" if len(where) > 3 and where[3] and "%" not in address else address


class _Resolver(AbstractResolver):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = []
        for address in await self._outgoing.check(host, port):
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            results.append(ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            ))  # fmt: skip
        return results

    async def close(self) -> None:
        pass


class _Connector(aiohttp.TCPConnector):
    """Names go through the resolver; a literal address does not, so it is checked here."""

    def __init__(self, outgoing: Outgoing, ssl: ssl.SSLContext) -> None:
        super().__init__(resolver=_Resolver(outgoing), ssl=ssl)
        self._outgoing = outgoing

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        host = req.url.raw_host
        if ":" in host or host.replace(".", "").isdigit():  # what aiohttp takes for an address
            await self._outgoing.check(host, req.url.port)
        return await super().connect(req, traces, timeout)

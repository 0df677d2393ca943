"""How often, and how many: rates of what is asked, and connections."""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from app.web.security.clients import address_of


class Rate:
    """At most ``most`` times in ``per_s`` seconds for each key, spread evenly after a burst of ``most``.

    Of more than ``keys`` keys the longest unused are forgotten.

    >>> now = 0.0
    >>> rate = Rate(2, 60.0, clock=lambda: now)
    >>> [rate.take("10.0.0.1") for _ in range(3)]
    [0.0, 0.0, 30.0]
    >>> now = 31.0
    >>> rate.take("10.0.0.1")
    0.0
    """

    def __init__(
        self, most: int, per_s: float, keys: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._each_s, self._keys, self._clock = most, per_s / most, keys, clock
        self._free_at: OrderedDict[str, float] = OrderedDict()  # when all that was taken has come back

    def wait(self, key: str) -> float:
        """Seconds until the next may be taken; 0.0: now."""
        ahead = self._free_at.get(key, 0.0) - self._clock()
        return max(ahead - (self._most - 1) * self._each_s, 0.0)

    def take(self, key: str) -> float:
        """Take one, if it may be taken; the seconds to wait if not."""
        if wait := self.wait(key):
            return wait
        now = self._clock()
        self._free_at[key] = max(self._free_at.get(key, now), now) + self._each_s
        self._free_at.move_to_end(key)
        while len(self._free_at) > self._keys:
            self._free_at.popitem(last=False)
        return 0.0


def by_network(address: str) -> str:
    """The key of an address: itself, or the /64 of an IPv6 one, all of which one machine may have.

    >>> by_network("10.0.0.1"), by_network("2001:db8::1:2")
    ('10.0.0.1', '2001:db8::/64')
    """
    found = address_of(address)
    if isinstance(found, ipaddress.IPv6Address) and not found.is_loopback:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address


def excess(
    connections: Iterable[asyncio.Transport | None],
    most: int,
    most_of_one: int,
    exempt: Callable[[str], bool],
) -> tuple[list[asyncio.Transport], list[asyncio.Transport]]:
    """What to cut of open connections, given oldest first: (too many of one address, too many of all).

    ``exempt``: addresses, as of proxies, that bring many people.
    """
    by_address: dict[str, list[asyncio.Transport]] = {}
    everything = [transport for transport in connections if transport]
    for transport in everything:
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if not exempt(address):
            by_address.setdefault(by_network(address), []).append(transport)
    of_one = [one for held in by_address.values() for one in held[: max(len(held) - most_of_one, 0)]]
    cut = set(of_one)
    left = [transport for transport in everything if transport not in cut]
    return of_one, left[: max(len(left) - most, 0)]

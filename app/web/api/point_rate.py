"""How many points each client may send."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_CLIENTS = 10_000


class PointRate:
    """A bucket of tokens for each client, of which each point takes one: one second's worth, filled at the rate.

    A request is taken whole while the bucket is not empty, and what it takes too much is waited for by the next one: so
    one that has more points than the bucket is not refused for ever.

    >>> now = 0.0
    >>> rate = PointRate(100.0, clock=lambda: now)
    >>> rate.take("a", 250), rate.take("a", 1), rate.take("b", 1)
    (0.0, 1.5, 0.0)
    >>> now = 1.6
    >>> rate.take("a", 1)
    0.0
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (tokens, when)

    def take(self, client: str, points: int) -> float:
        """0.0 if they are taken, else the seconds after which some may be."""
        now = self._clock()
        left, at = self._left.pop(client, (self._per_s, now))
        left = min(left + (now - at) * self._per_s, self._per_s)
        wait = -left / self._per_s if left <= 0.0 else 0.0
        taken = left > 0.0
        self._left[client] = (left - points if taken else left), now
        while len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if taken else max(wait, 1e-3)

"""How many messages a channel is sent: a few at once, then so many a minute."""

from __future__ import annotations

BURST = 5


class Pace:
    """A bucket of tokens, one for each message; ``now`` are seconds of any clock.

    >>> pace = Pace(6.0)
    >>> [pace.left(0.0)] + [pace.take(0.0) for _ in range(5)] + [pace.left(9.0), pace.left(10.0)]
    [5, None, None, None, None, None, 0, 1]
    """

    def __init__(self, per_minute: float) -> None:
        self._every_s = 60.0 / per_minute
        self._full_at = float("-inf")  # when the bucket is full again

    def left(self, now: float) -> int:
        """Messages that may be sent now."""
        missing = max(self._full_at - now, 0.0) / self._every_s
        return int(BURST - missing + 1e-9)

    def take(self, now: float) -> None:
        """One is sent."""
        self._full_at = max(self._full_at, now) + self._every_s

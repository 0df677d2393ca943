"""The rate limit of a channel: a burst of messages, then so many a minute."""

from __future__ import annotations

BURST = 5


class RateLimit:
    """A token bucket, one token for each message; ``now``: seconds of any clock.

    >>> limit = RateLimit(6.0)
    >>> [limit.left(0.0)] + [limit.take(0.0) for _ in range(5)] + [limit.left(9.0), limit.left(10.0)]
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
        """A message is sent."""
        self._full_at = max(self._full_at, now) + self._every_s

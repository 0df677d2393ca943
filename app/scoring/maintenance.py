"""Spans of event time that are known in advance: their points are scored, and neither alerted nor learned.

The detectors, their past scores, the drift of scores and the open episode stay as they were before the span, bit for
bit, as if its points had not come (``app/scoring/passes.py``). Only the source's last offset moves on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from app.detectors.support.calendar import instant

NONE = -1


class Span(NamedTuple):
    name: str
    start: float  # epoch s
    end: float  # is not in it
    sources: str  # pattern of names


class Maintenance:
    """The spans of a profile; where several hold, the first one counts."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = tuple(spans)

    @classmethod
    def of(cls, given: Sequence[Any], zone: tzinfo) -> Maintenance:
        """As settings give them; ``zone`` is that of times without one."""
        return cls([Span(one.name, instant(one.start, zone), instant(one.end, zone), one.sources) for one in given])

    def places(self, times: np.ndarray, slots: np.ndarray, source_of: Callable[[int], str]) -> np.ndarray:
        """i8[n]: which span each of n points lies in, NONE outside. ``source_of``: the source that has a slot."""
        found = np.full(len(times), NONE, np.int64)
        if not self.spans or not len(times):
            return found
        first, last = times.min(), times.max()
        for place in reversed(range(len(self.spans))):
            span = self.spans[place]
            if span.end <= first or span.start > last:
                continue
            inside = np.flatnonzero((span.start <= times) & (times < span.end))
            if span.sources != "*":
                inside = inside[[fnmatchcase(source_of(slot), span.sources) for slot in slots[inside].tolist()]]
            found[inside] = place
        return found

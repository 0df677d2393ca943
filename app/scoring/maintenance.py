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

    def ends(self, times: np.ndarray, slots: np.ndarray, source_of: Callable[[int], str]) -> np.ndarray:
        """f8[n]: where the last span before each of n points ended, epoch s; -inf if there was none."""
        found = np.full(len(times), -np.inf)
        for span in self.spans:
            later = np.flatnonzero((times >= span.end) & (found < span.end))
            found[later[self._matching(span, slots[later], source_of)]] = span.end
        return found

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
            found[inside[self._matching(span, slots[inside], source_of)]] = place
        return found

    @staticmethod
    def _matching(span: Span, slots: np.ndarray, source_of: Callable[[int], str]) -> np.ndarray:
        """bool[n]: is the span for the sources of these slots?"""
        if span.sources == "*":
            return np.ones(len(slots), bool)
        different, places = np.unique(slots, return_inverse=True)
        matches = [fnmatchcase(source_of(slot), span.sources) for slot in different.tolist()]
        return np.array(matches, bool)[places]

"""The results of ``detect`` as a table for people: counts, and the episodes with the highest scores."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from app.cli.common import many
from app.detectors.kinds import KINDS

if TYPE_CHECKING:
    from app.pipeline.outcome import Outcome
    from app.pipeline.points import Points

TOP = 10
NAMED = 0.2  # a series is named if at least this share of its points is not judged


@dataclass(order=True)
class EpisodeSummary:
    """An anomaly from its beginning to its end, shown by the point with its highest alert score."""

    score: float  # the alert score
    source: str
    timestamp: float
    metric: str = field(compare=False)
    value: float = field(compare=False)
    lower: float = field(compare=False)
    upper: float = field(compare=False)
    kind: str = field(compare=False)
    explanation: str = field(compare=False)
    points: int = field(compare=False, default=1)
    reason: str = field(compare=False, default="")  # why it ended; empty: it is still open


@dataclass
class NotJudged:
    """A series of one file, with the points from which its detectors only learned."""

    name: str  # the source, and its metric if the series is one
    learns_first: int  # points of a source before an episode can open
    points: int = 0
    unjudged: int = 0


@dataclass
class Summary:
    """Counts of one file or of several; memory grows with sources and TOP, not with points."""

    points: int = 0
    anomalous: int = 0
    episodes: int = 0
    unreadable: int = 0
    empty: int = 0
    sources: int = 0
    unjudged: int = 0  # points at which no episode could open, as the detectors had not seen enough
    named: list[NotJudged] = field(default_factory=list)  # series that are named; at most TOP
    waiting: int = 0  # number of series with such a share of points that are not judged
    top: list[EpisodeSummary] = field(default_factory=list)  # a heap
    _open: dict[int, tuple[tuple[int, int], EpisodeSummary]] = field(default_factory=dict)  # by the source's slot
    _counts: dict[int, NotJudged] = field(default_factory=dict)  # likewise

    def add(self, points: Points, outcome: Outcome) -> None:
        """Results of one file, in its order."""
        self.points += len(points) - len(outcome.rejected)
        self.unreadable += len(outcome.rejected)
        self.episodes += int(outcome.opened.sum())
        self.anomalous += int(outcome.anomaly.sum())
        self._count(points, outcome)
        ends = outcome.ends()
        for i in np.flatnonzero(outcome.anomaly).tolist():
            slot = int(outcome.slot[i])
            key = int(outcome.episode_offset[i]), int(outcome.episode_index[i])
            known, best = self._open.get(slot, (None, None))
            if best is None or known != key:
                if best is not None and known is not None:
                    self._keep(best, ends.get(known, ""))
                self._open[slot] = key, _episode(points, outcome, i)
            else:
                count = best.points + 1
                if outcome.alert[i] > best.score:
                    best = _episode(points, outcome, i)
                best.points = count
                self._open[slot] = key, best
        for slot, (key, best) in list(self._open.items()):
            if key in ends:
                self._keep(best, ends[key])
                del self._open[slot]

    def end(self, sources: int) -> None:
        """The file has ended; open episodes stay so."""
        self.sources += sources
        for _, episode in self._open.values():
            self._keep(episode)
        self._open.clear()
        named = [one for one in self._counts.values() if one.unjudged >= NAMED * one.points]
        self.waiting += len(named)
        self._keep_waiting(named)
        self._counts.clear()

    def __iadd__(self, other: Summary) -> Summary:
        for name in ("points", "anomalous", "episodes", "unreadable", "empty", "sources", "unjudged", "waiting"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for episode in other.top:
            self._keep(episode)
        self._keep_waiting(other.named)
        return self

    def counts(self) -> str:
        text = f"{many(self.points, 'point')} of {many(self.sources, 'source')}, {many(self.episodes, 'anomaly')}"
        text += f" ({many(self.anomalous, 'point')})" if self.episodes else ""
        text += f", {many(self.unjudged, 'point')} not judged" if self.unjudged else ""
        text += f", {many(self.unreadable, 'row')} unreadable" if self.unreadable else ""
        return text + (f", {many(self.empty, 'row')} without a value" if self.empty else "")

    def lines(self) -> Iterator[str]:
        """The episodes with the highest scores, in order of time; series of which many points could not be judged."""
        if len(self.top) < self.episodes:
            yield f"The {len(self.top)} highest of {self.episodes:,} anomalies:"
        shown = sorted(self.top, key=lambda each: (each.source, each.timestamp))
        rows = [_row(each) for each in shown]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        for one in self.named:
            which = f"the first {one.unjudged:,}" if one.unjudged == one.learns_first else f"{one.unjudged:,} of them"
            which = "none of them" if one.unjudged == one.points else f"{which} not"
            first = f"its detectors only learn from the first {many(one.learns_first, 'point')}"
            yield f"{one.name}: {many(one.points, 'point')}, {which} judged: {first}"
        if self.waiting > len(self.named):
            yield f"and likewise {self.waiting - len(self.named):,} more series"

    def _count(self, points: Points, outcome: Outcome) -> None:
        """Count, by source, points and those that are not judged."""
        kept = outcome.slot >= 0
        judged = outcome.judged
        self.unjudged += int((kept & ~judged).sum())
        slots, first, total = np.unique(outcome.slot[kept], return_index=True, return_counts=True)
        waiting = np.bincount(outcome.slot[kept & ~judged], minlength=slots[-1] + 1 if len(slots) else 0)
        positions = np.flatnonzero(kept)[first]
        for slot, at, count in zip(slots.tolist(), positions.tolist(), total.tolist()):
            if slot not in self._counts:
                profile = outcome.profiles[int(outcome.profile[at])]
                name = f"{points.source[at]} {points.metric[at] if points.metric else ''}".rstrip()
                self._counts[slot] = NotJudged(name, profile.learns_first)
            one = self._counts[slot]
            one.points += count
            one.unjudged += int(waiting[slot])

    def _keep_waiting(self, more: list[NotJudged]) -> None:
        """Those with the most points."""
        self.named = sorted([*self.named, *more], key=lambda one: (-one.points, one.name))[:TOP]

    def _keep(self, episode: EpisodeSummary, reason: str = "") -> None:
        episode.reason = reason or episode.reason
        heapq.heappush(self.top, episode)
        if len(self.top) > TOP:
            heapq.heappop(self.top)


def _episode(points: Points, outcome: Outcome, i: int) -> EpisodeSummary:
    cells = points.cells(i)
    highest = int(np.argmax(outcome.cell_score[cells]))
    cell, metric = cells.start + highest, points.names(i)[highest]
    return EpisodeSummary(
        score=float(outcome.alert[i]),
        source=points.source[i],
        timestamp=points.timestamp[i],
        metric=metric,
        value=points.values[cell],
        lower=float(outcome.lower[cell]),
        upper=float(outcome.upper[cell]),
        kind=KINDS[outcome.kind[i]],
        explanation=outcome.explanation.get(i, ""),
    )


def _row(episode: EpisodeSummary) -> tuple[str, ...]:
    time = datetime.fromtimestamp(episode.timestamp, UTC).isoformat(sep=" ", timespec="seconds")
    band = "" if np.isnan(episode.lower) else f"expected {episode.lower:.4g} to {episode.upper:.4g}"
    return (
        time.removesuffix("+00:00"),
        episode.source,
        f"{episode.metric} {episode.value:.6g}",
        band,
        f"score {episode.score:.3f}",
        episode.kind,
        many(episode.points, "point"),
        episode.reason or "open",
        episode.explanation,
    )

"""The results of ``detect`` as a table for people: counts, and the episodes with the highest scores."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from app.cli.common import many

if TYPE_CHECKING:
    from app.pipeline.outcome import Outcome
    from app.pipeline.points import Points

TOP = 10


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
    explanation: str = field(compare=False)
    points: int = field(compare=False, default=1)


@dataclass
class Summary:
    """Counts of one file or of several; memory grows with sources and TOP, not with points."""

    points: int = 0
    anomalous: int = 0
    episodes: int = 0
    unreadable: int = 0
    empty: int = 0
    sources: int = 0
    top: list[EpisodeSummary] = field(default_factory=list)  # a heap
    _open: dict[int, tuple[tuple[int, int], EpisodeSummary]] = field(default_factory=dict)  # by the source's slot

    def add(self, points: Points, outcome: Outcome) -> None:
        """Results of one file, in its order."""
        self.points += len(points) - len(outcome.rejected)
        self.unreadable += len(outcome.rejected)
        self.episodes += int(outcome.opened.sum())
        anomalous = np.flatnonzero(outcome.anomaly).tolist()
        self.anomalous += len(anomalous)
        for i in anomalous:
            slot = int(outcome.slot[i])
            key = int(outcome.episode_offset[i]), int(outcome.episode_index[i])
            known, best = self._open.get(slot, (None, None))
            if best is None or known != key:
                if best is not None:
                    self._keep(best)
                self._open[slot] = key, _episode(points, outcome, i)
            else:
                count = best.points + 1
                if outcome.alert[i] > best.score:
                    best = _episode(points, outcome, i)
                best.points = count
                self._open[slot] = key, best

    def end(self, sources: int) -> None:
        """The file has ended, and with it every episode."""
        self.sources += sources
        for _, episode in self._open.values():
            self._keep(episode)
        self._open.clear()

    def __iadd__(self, other: Summary) -> Summary:
        for name in ("points", "anomalous", "episodes", "unreadable", "empty", "sources"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for episode in other.top:
            self._keep(episode)
        return self

    def counts(self) -> str:
        text = f"{many(self.points, 'point')} of {many(self.sources, 'source')}, {many(self.episodes, 'anomaly')}"
        text += f" ({many(self.anomalous, 'point')})" if self.episodes else ""
        text += f", {many(self.unreadable, 'row')} unreadable" if self.unreadable else ""
        return text + (f", {many(self.empty, 'row')} without a value" if self.empty else "")

    def lines(self) -> Iterator[str]:
        """The episodes with the highest scores, in order of time."""
        if len(self.top) < self.episodes:
            yield f"The {len(self.top)} highest of {self.episodes:,} anomalies:"
        shown = sorted(self.top, key=lambda each: (each.source, each.timestamp))
        rows = [_row(each) for each in shown]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()

    def _keep(self, episode: EpisodeSummary) -> None:
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
        many(episode.points, "point"),
        episode.explanation,
    )

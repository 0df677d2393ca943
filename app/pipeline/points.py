"""Points of one partition, as the reader hands them to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.state.series import joined
from app.state.sources import VALUE

INDEX_BITS = 32
INDEX_MASK = 2**INDEX_BITS - 1


def packed(partition: int, index: int) -> int:
    """One number for both; ``index`` is below 2**32. It sorts by partition, then index."""
    return partition << INDEX_BITS | index


@dataclass(slots=True)
class Points:
    """Points of one partition, in its order, as parallel lists.

    ``metrics`` and ``start`` are None when every point has one cell, called by ``metric`` or else "value". Otherwise
    point i has the cells start[i]:start[i+1] of ``values`` and ``metrics``, at least one, sorted by metric.

    ``metric`` is the name that a point gives its only value, if its series is that metric of its source: all that is
    known of a series comes from its own points. It is "" for other points, whose series is their source, and None when
    all are such.

    ``named`` are the offsets that ids are made of, None where those are ``offset``. Behind the hop that sorts points by
    source an id says where its point was before: ``index`` then holds the partition too (see ``packed``).

    ``arrived`` is when the records of the points were written, by Kafka: from it a series learns how often it sends.
    """

    offset: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)  # position inside an array, else 0
    source: list[str] = field(default_factory=list)
    timestamp: list[float] = field(default_factory=list)  # epoch s, UTC
    own_time: list[bool] = field(default_factory=list)  # False: the time is the Kafka record's
    values: list[float] = field(default_factory=list)
    metrics: list[str] | None = None
    start: list[int] | None = None
    metric: list[str] | None = None
    labels: list[dict[str, Any] | None] | None = None  # fields of each point's record that its result repeats
    named: list[int] | None = None
    arrived: list[float] | None = field(default=None, compare=False)  # epoch s; None: at their times
    single: bool = False  # ``metrics`` are names of values that come alone, and not of vectors

    def __len__(self) -> int:
        return len(self.offset)

    def series(self) -> list[str]:
        """The name of each point's series."""
        if self.metric is None:
            return self.source
        return [joined(source, metric) if metric else source for source, metric in zip(self.source, self.metric)]

    def cells(self, i: int) -> slice:
        """Where the values of point i are."""
        return slice(i, i + 1) if self.start is None else slice(self.start[i], self.start[i + 1])

    def names(self, i: int) -> list[str]:
        """The metrics of point i."""
        if self.metrics is not None:
            return self.metrics[self.cells(i)]
        return [(self.metric and self.metric[i]) or VALUE]

    def select(self, keep: Sequence[int]) -> Points:
        """The points at these positions, in that order."""
        points = Points(
            [self.offset[i] for i in keep],
            [self.index[i] for i in keep],
            [self.source[i] for i in keep],
            [self.timestamp[i] for i in keep],
            [self.own_time[i] for i in keep],
            metric=self.metric and [self.metric[i] for i in keep],
            labels=self.labels and [self.labels[i] for i in keep],
            named=self.named and [self.named[i] for i in keep],
            arrived=self.arrived and [self.arrived[i] for i in keep],
            single=self.single,
        )
        if self.start is None or self.metrics is None:
            points.values = [self.values[i] for i in keep]
            return points
        values: list[float] = []
        metrics: list[str] = []
        start = [0]
        for i in keep:
            cells = slice(self.start[i], self.start[i + 1])
            values += self.values[cells]
            metrics += self.metrics[cells]
            start.append(len(values))
        points.values, points.metrics, points.start = values, metrics, start
        return points

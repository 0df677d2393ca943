"""Points of one partition, as the reader hands them to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Points:
    """Points of one partition, in its order, as parallel lists.

    ``metrics`` and ``start`` are None when every point is one cell called "value". Else point i has the
    cells start[i]:start[i+1] of ``values`` and ``metrics``, at least one, sorted by metric.
    """

    offset: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)  # position inside an array, else 0
    source: list[str] = field(default_factory=list)
    timestamp: list[float] = field(default_factory=list)  # epoch s, UTC
    own_time: list[bool] = field(default_factory=list)  # False: the time is the Kafka record's
    values: list[float] = field(default_factory=list)
    metrics: list[str] | None = None
    start: list[int] | None = None

    def __len__(self) -> int:
        return len(self.offset)

    def select(self, keep: Sequence[int]) -> Points:
        """The points at these positions, in that order."""
        points = Points(
            [self.offset[i] for i in keep],
            [self.index[i] for i in keep],
            [self.source[i] for i in keep],
            [self.timestamp[i] for i in keep],
            [self.own_time[i] for i in keep],
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

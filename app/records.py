"""Bytes of raw-data to points; results, episodes and dead letters to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Points:
    """Points of one partition, in its order, as parallel lists.

    A point is one cell (metrics and start are None: every point is one cell called "value") or several:
    point i then has the cells start[i]:start[i+1] of values and metrics, sorted by metric name.
    """

    offset: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)  # position inside an array record, else 0
    source: list[str] = field(default_factory=list)
    timestamp: list[float] = field(default_factory=list)  # epoch s, UTC
    own_time: list[bool] = field(default_factory=list)  # False: Kafka's time of the record was used
    values: list[float] = field(default_factory=list)
    metrics: list[str] | None = None
    start: list[int] | None = None

    def __len__(self) -> int:
        return len(self.offset)

    def select(self, keep: Sequence[int]) -> Points:
        """The points at these positions, in that order."""
        def pick(column: list) -> list:
            return [column[i] for i in keep]

        head = [pick(c) for c in (self.offset, self.index, self.source, self.timestamp, self.own_time)]
        if self.start is None:
            return Points(*head, values=pick(self.values))
        values: list[float] = []
        metrics: list[str] = []
        start = [0]
        for i in keep:
            cells = slice(self.start[i], self.start[i + 1])
            values += self.values[cells]
            metrics += self.metrics[cells]  # type: ignore[index]
            start.append(len(values))
        return Points(*head, values=values, metrics=metrics, start=start)


@dataclass(slots=True)
class DeadLetter:
    """A record, or one element of an array record, that could not be read; the raw bytes are all of the record's."""

    offset: int
    index: int
    reason: str
    label: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

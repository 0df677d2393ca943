"""The results of one page: all of them, or downsampled for a chart, with every spike."""

from __future__ import annotations

from typing import NamedTuple

PER_BUCKET = 4  # first, last, lowest, highest


class CollectedResult(NamedTuple):
    """One result. They are sorted by event time, and at one time by their place in the log."""

    time: float  # event time, epoch s
    partition: int
    offset: int  # in anomaly-results
    figure: float  # what is drawn: the value; of a vector its anomaly score
    is_anomaly: bool
    value: bytes  # JSON


class ResultCollector:
    """Takes results of event times in [begin, end).

    With ``most`` it keeps of each of ``most // 4`` equal spans of time the first, the last, the lowest and the highest,
    and all that are inside an episode. ``seen`` counts those that it was given.
    """

    def __init__(self, begin: float, end: float, most: int | None = None) -> None:
        self.seen = self.nbytes = 0
        self._all: list[CollectedResult] = []  # without ``most``; else those inside episodes
        self._spans: dict[int, list[CollectedResult]] = {}
        self._begin, self._most = begin, most
        self._per_s = max(most // PER_BUCKET, 1) / (end - begin) if most else 0.0

    def __len__(self) -> int:
        """How many are kept, at most."""
        return len(self._all) + PER_BUCKET * len(self._spans)

    def take(self, one: CollectedResult) -> None:
        self.seen += 1
        if self._most is None or one.is_anomaly:
            self._all.append(one)
            self.nbytes += len(one.value)
        if self._most is None:
            return
        number = int((one.time - self._begin) * self._per_s)
        span = self._spans.get(number)
        if span is None:
            self._spans[number] = [one] * PER_BUCKET
            self.nbytes += PER_BUCKET * len(one.value)  # more than it is: those of a span are of one size, about
            return
        first, last, lowest, highest = span
        span[:] = (
            min(first, one),
            max(last, one),
            one if one.figure < lowest.figure else lowest,
            one if one.figure > highest.figure else highest,
        )

    def results(self) -> list[CollectedResult]:
        """What is kept, oldest first."""
        kept = {(one.partition, one.offset): one for one in self._all}
        for span in self._spans.values():
            kept.update({(one.partition, one.offset): one for one in span})
        return sorted(kept.values())

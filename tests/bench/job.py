"""The job every contestant does, and what its answers must be.

Each source has a window of its last 100 values. A point is compared with mean and standard deviation
of the window before the point enters it; one JSON result a record, keyed by the source, goes to the
partition of the same number. ``Window`` is what the rivals run; ``reference`` says the same by sums
over whole windows, without running anything forward, and is what all are checked against.
"""

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np

WINDOW = 100
WARMUP = 2  # points before the first score: a standard deviation needs two
THRESHOLD_Z = 3.0  # z at which the score is 0.8
PARTITIONS = 4
START = 1_700_000_000.0  # event time of the first record, epoch s


class Window:
    """Sums over the last 100 values. Good enough for values near 50; see app/detectors/support/window.py for any
    values."""

    __slots__ = ("next", "squares", "sum", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self.next = 0
        self.sum = self.squares = 0.0

    def step(self, x: float) -> tuple[float | None, float]:
        """(mean before x or None, score in [0, 1)), then x enters the window."""
        values = self.values
        n = len(values)
        verdict = judge(n, self.sum, self.squares, x)
        if n == WINDOW:
            i = self.next
            old = values[i]
            values[i] = x
            self.sum += x - old
            self.squares += x * x - old * old
            self.next = i + 1 if i + 1 < WINDOW else 0
        else:
            values.append(x)
            self.sum += x
            self.squares += x * x
        return verdict


def judge(n: int, total: float, squares: float, x: float) -> tuple[float | None, float]:
    """What a window of n values with these sums says about x: (mean or None, score)."""
    if n < WARMUP:
        return None, 0.0
    mean = total / n
    variance = squares / n - mean * mean
    if variance <= 1e-12:
        return mean, 0.0
    z = abs(x - mean) / math.sqrt(variance)
    return mean, z / (z + THRESHOLD_Z / 4.0)


def reference(values: Sequence[float]) -> list[tuple[float | None, float]]:
    """(mean, score) for each value of one source in order; the mean is None where nothing need be expected."""
    said: list[tuple[float | None, float]] = []
    for i, x in enumerate(values):
        if i < WARMUP:
            said.append((None, 0.0))
            continue
        past = values[max(0, i - WINDOW) : i]
        mean = math.fsum(past) / len(past)
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in past) / len(past))
        z = abs(x - mean) / sd if sd else 0.0
        said.append((mean, z / (z + THRESHOLD_Z / 4.0)))
    return said


def values(count: int, sources: int, seed: int = 1) -> list[tuple[str, float]]:
    """(source, value) of ``count`` points: sources at random, one value in 1,000 is a spike."""
    rng = np.random.default_rng(seed)
    who = rng.integers(sources, size=count)
    what = np.round(rng.normal(50.0, 5.0, count) + 40.0 * (rng.random(count) < 0.001), 3)
    return [(f"s{source}", value) for source, value in zip(who.tolist(), what.tolist())]


def encode(source: str, timestamp: float, value: float) -> bytes:
    said = {"source": source, "timestamp": round(timestamp, 6), "value": value}
    return json.dumps(said, separators=(",", ":")).encode()


def encode_nested(source: str, timestamp: float, value: float) -> bytes:
    """The same point for a reader of paths, host.name and fields.load, beside that of the job."""
    said = {"source": source, "timestamp": round(timestamp, 6), "value": value}
    said |= {"host": {"name": source, "os": "linux"}, "fields": {"load": value, "unit": "1"}}
    return json.dumps(said, separators=(",", ":")).encode()


def records(count: int, sources: int, nested: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of ``count`` records, a millisecond of event time apart."""
    write = encode_nested if nested else encode
    for i, (source, value) in enumerate(values(count, sources)):
        yield source.encode(), write(source, START + i * 0.001, value)

"""raw-data of a schedule: one byte a record, so that a schedule stays short and shrinks well."""

import json
from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

from app.state.series import joined

SOURCES = ("a", "b", "pump-3", "pump-4", "ä")
PARTITIONS = 2
RAW = 3  # partitions of raw-data where its records have no keys
START = 1_700_000_000
GAP = "gap"  # an offset without a record, as a transaction's marker leaves it


class Given(NamedTuple):
    """One record, and how many elements of it become points; key GAP: only an offset."""

    partition: int
    key: bytes
    value: bytes | None
    points: tuple[int, ...]  # their indices
    metric: str = ""  # of the series that the points belong to

    @property
    def series(self) -> str:
        return joined(self.key.decode(), self.metric)


def records(numbers: bytes) -> Iterator[Given]:
    """What each of these numbers, 0 to 255, stands for."""
    last: dict[int, Given] = {}
    for i, number in enumerate(numbers):
        which, kind = number % len(SOURCES), number // len(SOURCES)
        given = _record(i, which, kind, last)
        if kind < 40 and given.points:
            last[which] = given
        yield given


def without_keys(numbers: bytes) -> Iterator[Given]:
    """The same, in each partition in turn."""
    for partition, given in zip(cycle(range(RAW)), records(numbers)):
        yield given._replace(partition=partition)


def _record(i: int, which: int, kind: int, last: dict[int, Given]) -> Given:
    source, partition = SOURCES[which], which % PARTITIONS
    key = source.encode()

    def point(at: int = 0, **more: object) -> dict[str, object]:
        return {"source": source, "timestamp": START + i + at / 10, "value": i * 7919 % 101 / 10, **more}

    def given(said: object, *points: int) -> Given:
        return Given(partition, key, json.dumps(said).encode(), points)

    match kind:
        case 28 | 29:
            return given(point(value=1000.0), 0)
        case 30 | 31 | 32 | 33 | 34:
            size = kind - 28
            return given([point(at) for at in range(size)], *range(size))
        case 35 | 36:
            return given([point(), point(1, value="high"), point(2)], 0, 2)
        case 37 | 38:
            return given({"source": source, "values": {"x": float(i % 5), "y": 1.5}}, 0)
        case 39:
            return given({"source": source, "value": float(i % 7)}, 0)
        case 40 | 41:
            return Given(partition, key, (b'{"oops', None)[kind - 40], ())
        case 42:
            return Given(partition, b"another", json.dumps(point()).encode(), ())
        case 43 if which in last:
            return last[which]
        case 44 | 45:
            return Given(partition, GAP.encode(), None, ())
        case 46 | 47 | 48:
            return given(point(metric="x"), 0)._replace(metric="x")
        case _:
            return given(point(), 0)

"""Records of the topic of decisions that workers write: which series of a partition have stopped sending.

One record for each partition of what is scored, under the key ``Overdue.key``; the last one counts. The next
owner of the partition reads it, so a series stays overdue over a restart, until it has a point.
"""

from __future__ import annotations

import msgspec

from app.errors import StateError

PREFIX = "overdue/"  # of the keys
MOST, MOST_BYTES = 1000, 500_000  # series that a record lists, and what they take
AROUND = 200  # bytes around a name


class Quiet(msgspec.Struct, omit_defaults=True):
    """An overdue series. Times are epoch seconds by the clock of the worker."""

    source: str
    since: float  # when it had its last point
    found_at: float  # when it became overdue
    last: int = -1  # offset of its last point
    usual_s: float = 0.0  # its longest usual pause
    metric: str = ""  # of the series; "" where that is a whole source


class Overdue(msgspec.Struct, tag_field="decision", tag="overdue", omit_defaults=True):
    """What is overdue in a partition."""

    partition: int
    at: float  # epoch seconds, when it was written
    series: list[Quiet] = []  # those that are overdue; of very many the first to become so
    count: int = 0  # of all of them
    oldest: float = 0.0  # the earliest ``since`` of all of them; 0: none is overdue
    late: int = 0  # series of which a point was due and did not come, whether overdue or not
    due: int = 0  # all of which a point was due
    forgotten: list[tuple[str, str, float]] = []  # (source, metric, since): not expected any more
    pause_s: float = 0.0  # the longest usual time between two deliveries of points of a series

    @property
    def key(self) -> str:
        return f"{PREFIX}{self.partition}"


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Overdue).decode


def encode(overdue: Overdue) -> bytes:
    return _encode(overdue)


def decode(record: bytes) -> Overdue:
    """Raises StateError if it is not such a record."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"expected what is overdue in a partition, got {record[:80]!r}: {error}") from error


def is_key(key: bytes | None) -> bool:
    """Whether a record of the topic of decisions is one of these."""
    return key is not None and key.startswith(PREFIX.encode())

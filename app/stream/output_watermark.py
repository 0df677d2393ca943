"""The last result that was emitted, found in what is read of the end of a partition of anomaly-results.

A result begins with its id, {"id":"topic:partition:offset:index", as app/wire/results.py writes it. Recovery reads
20,000 of them for each partition: compiled code reads the ids in the bytes of a fetch, in a tenth of the time; what
begins otherwise is read as JSON, and must have such an id too.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from app.compiled.jit import compiled
from app.errors import StateError
from app.kafka.fetched import Fetched

WHOLE = 2**31  # an index no element of an array record has: all of the offset
NOTHING = (-1, WHOLE)
MOST_DIGITS = 18  # what an i8 holds
REMEDY = (
    "Only workers may write to this topic: delete everything before the offset after it (kafka-delete-records.sh), or "
    "name another kafka.output_topic."
)

Position = tuple[int, int]  # (offset, index) of a point


class ResultId(msgspec.Struct):
    id: str


_ids = msgspec.json.Decoder(ResultId)


def last_emitted(kafka: Any, number: int, records: Iterable[Any]) -> Position:
    """The highest position among records of anomaly-results, or fetches of them; NOTHING without any.

    ``kafka`` are its settings, ``number`` the partition. Raises StateError for a record that is no result of ours, and
    for a damaged fetch.
    """
    highest = NOTHING
    for record in records:
        if isinstance(record, Fetched):
            highest = max(highest, _of_fetch(kafka, number, record))
        else:
            highest = max(highest, _position(kafka, number, record.offset, record.value))
    return highest


def _of_fetch(kafka: Any, number: int, fetched: Fetched) -> Position:
    try:
        records = fetched.records()
    except StateError as error:
        raise StateError(f"{kafka.output_topic}[{number}]{error}. {REMEDY}") from error
    begin = np.frombuffer(bytearray(b'{"id":"%b:%d:' % (kafka.input_topic.encode(), number)), np.uint8)
    other = np.zeros(len(records.offsets), np.bool_)
    highest: Position = _highest(np.frombuffer(records.data, np.uint8), records.spans, begin, other)
    for i in np.flatnonzero(other).tolist():
        highest = max(highest, _position(kafka, number, int(records.offsets[i]), records.value(i)))
    return highest


def _position(kafka: Any, number: int, at: int, value: bytes | None) -> Position:
    """Of the result at this offset, from its id."""
    where = f"{kafka.output_topic}[{number}]@{at}"
    try:
        of_topic, partition, offset, index = _ids.decode(value or b"").id.rsplit(":", 3)
        position = int(offset), int(index)
    except (msgspec.DecodeError, ValueError) as error:
        found = (value or b"")[:80]
        raise StateError(
            f"{where}: expected a result with an id topic:partition:offset:index, got {found!r}. {REMEDY}"
        ) from error
    if (of_topic, partition) != (kafka.input_topic, str(number)):
        raise StateError(
            f"{where}: a result of {of_topic}[{partition}] among those of {kafka.input_topic}[{number}]: "
            "give each job an output topic of its own"
        )
    return position


def _digits(data, i, end):
    """(the number that begins here, or -1 without one that fits into an i8; place after it)"""
    value = 0
    start = i
    while i < end and 48 <= data[i] <= 57 and i - start < MOST_DIGITS:
        value = value * 10 + data[i] - 48
        i += 1
    return value if i > start else -1, i


@compiled
def _highest(data, spans, begin, other):
    """The highest position; ``other`` is set where ``begin``, offset, colon, index and quote are not found."""
    last, at = NOTHING
    for n in range(len(spans)):
        i, end = spans[n, 2], spans[n, 3]
        other[n] = True
        if i < 0 or end - i < len(begin) + 4:
            continue
        k = 0
        while k < len(begin) and data[i + k] == begin[k]:
            k += 1
        if k < len(begin):
            continue
        offset, i = _digits(data, i + k, end)
        if offset < 0 or i >= end or data[i] != 58:
            continue
        index, i = _digits(data, i + 1, end)
        if index < 0 or i >= end or data[i] != 34:
            continue
        other[n] = False
        if offset > last or (offset == last and index > at):
            last, at = offset, index
    return last, at

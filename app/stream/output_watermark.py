"""Finds the last result that was emitted, in the records at the end of a partition of anomaly-results.

A result begins with its id, {"id":"topic:partition:offset:index", as app/wire/results.py writes it. Recovery reads
20,000 of them for each partition: compiled code reads the ids in the bytes of a fetch, in a tenth of the time; records
that begin otherwise are read as JSON, and must have such an id too.

With ``input.rekey`` ids do not contain the offset in the topic that is scored. There results have a header with the
name of that topic, so that results of another group are refused, and with the offset.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec
import numpy as np

from app.compiled.byte_columns import RecordColumns
from app.compiled.jit import compiled
from app.errors import StateError
from app.kafka.fetched import Fetched, varint
from app.wire.checked import Record

WHOLE = 2**62  # an index no point has, not even one with a partition in it: all of the offset
NOTHING = (-1, WHOLE)
MOST_DIGITS = 18  # what an i8 holds
REMEDY = (
    "Only workers may write to this topic: delete everything before the offset after it (kafka-delete-records.sh), or "
    "name another kafka.output_topic."
)

Position = tuple[int, int]  # (offset, index) of a point


class JobTopics(Protocol):
    """The names of the settings ``kafka`` that are needed here."""

    @property
    def input_topic(self) -> str: ...

    @property
    def log_topic(self) -> str: ...

    @property
    def output_topic(self) -> str: ...

    @property
    def rekeys(self) -> bool: ...


class ResultId(msgspec.Struct):
    id: str


_ids = msgspec.json.Decoder(ResultId)


def last_emitted(topics: JobTopics, number: int, records: Iterable[Fetched | Record]) -> Position:
    """The highest position among records of anomaly-results, or fetches of them; NOTHING without any.

    ``number``: of the partition. Raises StateError for a record that is no result of ours, and
    for a damaged fetch.
    """
    highest = NOTHING
    for record in records:
        if isinstance(record, Fetched):
            found = (_by_header_of_fetch if topics.rekeys else _of_fetch)(topics, number, record)
        elif topics.rekeys:
            found = _by_header(topics, number, record)
        else:
            found = _position(topics, number, record.offset, record.value)
        highest = max(highest, found)
    return highest


def _records(topics: JobTopics, number: int, fetched: Fetched) -> RecordColumns:
    try:
        return fetched.records()
    except StateError as error:
        raise StateError(f"{topics.output_topic}[{number}]{error}. {REMEDY}") from error


def _of_fetch(topics: JobTopics, number: int, fetched: Fetched) -> Position:
    records = _records(topics, number, fetched)
    begin = np.frombuffer(bytearray(b'{"id":"%b:%d:' % (topics.input_topic.encode(), number)), np.uint8)
    other = np.zeros(len(records.offsets), np.bool_)
    highest: Position = _highest(np.frombuffer(records.data, np.uint8), records.spans, begin, other)
    for i in np.flatnonzero(other).tolist():
        highest = max(highest, _position(topics, number, int(records.offsets[i]), records.value(i)))
    return highest


def _by_header_of_fetch(topics: JobTopics, number: int, fetched: Fetched) -> Position:
    records = _records(topics, number, fetched)
    name = np.frombuffer(bytearray(topics.log_topic.encode()), np.uint8)
    offset, other = _highest_of_headers(np.frombuffer(records.data, np.uint8), records.spans, name)
    if other >= 0:
        raise _foreign(topics, number, int(records.offsets[other]), records.value(other))
    return (offset, WHOLE) if offset >= 0 else NOTHING


def _by_header(topics: JobTopics, number: int, record: Record) -> Position:
    names, values = zip(*record.headers) if record.headers else ((), ())
    if names != (topics.log_topic,) or not (values[0] or b"").isdigit():
        raise _foreign(topics, number, record.offset, record.value)
    return int(values[0]), WHOLE


def _foreign(topics: JobTopics, number: int, at: int, value: bytes | None) -> StateError:
    return StateError(
        f"{topics.output_topic}[{number}]@{at}: expected a result with the header {topics.log_topic}, as this group "
        f"writes them with input.rekey, got {(value or b'')[:80]!r} without. {REMEDY}"
    )


def _position(topics: JobTopics, number: int, at: int, value: bytes | None) -> Position:
    """Of the result at this offset, from its id."""
    where = f"{topics.output_topic}[{number}]@{at}"
    try:
        of_topic, partition, offset, index = _ids.decode(value or b"").id.rsplit(":", 3)
        position = int(offset), int(index)
    except (msgspec.DecodeError, ValueError) as error:
        found = (value or b"")[:80]
        raise StateError(
            f"{where}: expected a result with an id topic:partition:offset:index, got {found!r}. {REMEDY}"
        ) from error
    if (of_topic, partition) != (topics.input_topic, str(number)):
        raise StateError(
            f"{where}: a result of {of_topic}[{partition}] among those of {topics.input_topic}[{number}]: "
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


@compiled
def _highest_of_headers(data, spans, name):
    """(the highest number in the only header of each record, which has this name; -1; or the first without one)"""
    highest = -1
    for n in range(len(spans)):
        i = spans[n, 3]  # behind the value are the headers: how many, and of each name and value with their lengths
        end = min(len(data), i + len(name) + MOST_DIGITS + 6)
        count, i = varint(data, i, end)
        size, i = varint(data, i, end)
        if count != 1 or size != len(name) or i + size >= end:
            return highest, n
        for k in range(size):
            if data[i + k] != name[k]:
                return highest, n
        size, i = varint(data, i + size, end)
        offset, after = _digits(data, i, min(end, i + size))
        if offset < 0 or after != i + size:
            return highest, n
        highest = max(highest, offset)
    return highest, -1

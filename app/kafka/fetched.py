"""What a consumer fetched, as it came from the broker: recovery reads it by compiled code.

aiokafka makes Python objects of each record, 2 us of the event loop's time; recovery wants the bytes that its threads
find snapshots and results in. Record batches that are compressed, or of an older format, are left to aiokafka.

The layout is that of https://kafka.apache.org/documentation/#recordbatch; tests/unit/kafka/test_fetched.py compares
with aiokafka's own parser.
"""

from dataclasses import dataclass

import numpy as np

from app.compiled.byte_columns import RecordColumns
from app.compiled.checksum import CRC32C, crc, tables
from app.compiled.jit import compiled
from app.errors import StateError

MAGIC = 2
LENGTH_AT, MAGIC_AT, CRC_AT, ATTRIBUTES_AT, LAST_AT, COUNT_AT, HEADER = 8, 16, 17, 21, 23, 57, 61
COUNTED_FROM = 12  # the length is of what follows it
COMPRESSED, CONTROL = 0x07, 0x20  # attributes
SMALLEST = 7  # bytes of a record

_CRC32C = tables(CRC32C)


@dataclass(frozen=True)
class Fetched:
    """The record batches of one fetch from one partition."""

    data: bytes
    first: int  # offset asked for: records before it may come along
    end: int  # offset after the last record
    count: int  # of records

    @classmethod
    def of(cls, data: bytes, first: int) -> "Fetched | None":
        """None when aiokafka must read it."""
        plain, count, end = _survey(np.frombuffer(data, np.uint8))
        return cls(data, first, max(end, first), count) if plain else None

    def records(self) -> RecordColumns:
        """The records from ``first`` on. Raises StateError when a batch is damaged."""
        data = np.frombuffer(self.data, np.uint8)
        room = min(self.count, len(data) // SMALLEST)
        offsets, spans = np.empty(room, np.int64), np.empty((room, 4), np.int64)
        read, damaged = _read(data, self.first, _CRC32C, offsets, spans)
        if damaged >= 0:
            at = int.from_bytes(self.data[damaged : damaged + 8], "big")
            raise StateError(f"@{at}: the record batch is damaged: its checksum or its lengths are wrong")
        return RecordColumns(self.data, offsets[:read], spans[:read])


def whole(key: bytes) -> bytes:
    """As ``key_deserializer`` of a consumer: its getmany gives each fetch as one Fetched (app/kafka/patches.py)."""
    return key


def _big(data, i, size):
    """An unsigned number, the highest byte first."""
    value = 0
    for k in range(i, i + size):
        value = value << 8 | data[k]
    return value


@compiled
def _survey(data):
    """(all batches are such as _read reads, their records, offset after the last); the end may cut a batch off."""
    at = 0
    count = 0
    end = 0
    while at + HEADER <= len(data):
        after = at + COUNTED_FROM + _big(data, at + LENGTH_AT, 4)
        if after > len(data):
            break
        if data[at + MAGIC_AT] != MAGIC or data[at + ATTRIBUTES_AT + 1] & COMPRESSED or after < at + HEADER:
            return False, 0, 0
        count += _big(data, at + COUNT_AT, 4)
        end = _big(data, at, 8) + _big(data, at + LAST_AT, 4) + 1
        at = after
    return True, count, end


def _varint(data, i, end):
    """(number, place after it), as zigzag; beyond ``end`` there are zeros."""
    value = 0
    shift = 0
    while i < end and data[i] > 127 and shift < 63:
        value |= (data[i] & 127) << shift
        shift += 7
        i += 1
    if i < end:
        value |= (data[i] & 127) << shift
    return value >> 1 ^ -(value & 1), i + 1


@compiled
def _read(data, first, tables, offsets, spans):
    """Fill in the records from offset ``first`` on: (how many, where the damaged batch begins or -1)."""
    n = 0
    at = 0
    while at + HEADER <= len(data):
        end = at + COUNTED_FROM + _big(data, at + LENGTH_AT, 4)
        if end > len(data):
            break
        if crc(tables, data, at + ATTRIBUTES_AT, end) != _big(data, at + CRC_AT, 4):
            return n, at
        count = 0 if data[at + ATTRIBUTES_AT + 1] & CONTROL else _big(data, at + COUNT_AT, 4)
        base = _big(data, at, 8)
        i = at + HEADER
        for _ in range(count):
            size, i = _varint(data, i, end)
            after = i + size
            if size < 0 or after > end or n >= len(offsets):
                return n, at
            _, i = _varint(data, i + 1, after)  # behind the attributes: time
            delta, i = _varint(data, i, after)
            offsets[n] = base + delta
            for k in (0, 2):  # key, value
                size, i = _varint(data, i, after)
                spans[n, k] = i if size >= 0 else -1
                i += max(size, 0)
                spans[n, k + 1] = i
                if i > after:
                    return n, at
            if offsets[n] >= first:
                n += 1
            i = after  # behind the headers
        at = end
    return n, -1

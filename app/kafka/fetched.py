"""The bytes of a fetch as the broker sent them: recovery reads them with compiled code.

aiokafka makes Python objects of each record, 2 us of the event loop's time; recovery needs only the bytes, which its
threads search for snapshots and results. Compressed record batches are unpacked with aiokafka's functions. Aborted
transactions and control records are skipped. Record batches older than Kafka 0.11's format are left to aiokafka.

The layout is that of https://kafka.apache.org/documentation/#recordbatch; tests/unit/kafka/test_fetched.py compares
with aiokafka's own parser.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from aiokafka import codec

from app.compiled.byte_columns import RecordColumns
from app.compiled.checksum import CRC32C, crc, tables
from app.compiled.jit import compiled
from app.errors import StateError

MAGIC = 2
LENGTH_AT, MAGIC_AT, CRC_AT, ATTRIBUTES_AT, LAST_AT, LATEST_AT, PRODUCER_AT, COUNT_AT = 8, 16, 17, 21, 23, 35, 43, 57
HEADER = 61
COUNTED_FROM = 12  # the length is of what follows it
CODEC, TRANSACTIONAL, CONTROL = 0x07, 0x10, 0x20  # attributes
SMALLEST = 7  # bytes of a record
UNPACKED = {1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}
AT, END, BASE, COUNT, ATTRIBUTES, PRODUCER = range(6)  # columns of a survey: i8 for each record batch

_CRC32C = tables(CRC32C)


@dataclass(frozen=True)
class Fetched:
    """The record batches of one fetch from one partition."""

    data: bytes
    first: int  # offset asked for: records before it may be included
    end: int  # offset after the last record
    count: int  # of records, without those that are skipped
    batches: np.ndarray = field(repr=False)  # i8[n, 6]: the survey of ``data``
    wanted: np.ndarray = field(repr=False)  # bool[n]: neither a control batch nor of an aborted transaction

    @classmethod
    def of(cls, data: bytes, first: int, aborted: Sequence[tuple[int, int]] = ()) -> "Fetched | None":
        """None when aiokafka must read it.

        ``aborted``: (producer, first offset) of the aborted transactions in it, as the broker names them to a
        read_committed consumer.
        """
        batches = np.empty((len(data) // HEADER, 6), np.int64)
        found, end = _survey(np.frombuffer(data, np.uint8), batches)
        if found < 0:
            return None
        batches = batches[:found]
        codecs = batches[:, ATTRIBUTES] & CODEC
        if codecs.max(initial=0) > max(UNPACKED):
            return None
        wanted = batches[:, ATTRIBUTES] & CONTROL == 0
        if aborted:
            wanted &= ~_aborted(data, batches, aborted)
        return cls(data, first, max(end, first), int(batches[wanted, COUNT].sum()), batches, wanted)

    def records(self) -> RecordColumns:
        """The records from ``first`` on. Raises StateError when a batch is damaged."""
        self.check()
        return _columns(*self._plain(), self.first, self.count)

    def check(self) -> None:
        """Raises StateError when the checksum of a batch is wrong."""
        damaged = _damaged(np.frombuffer(self.data, np.uint8), self.batches, _CRC32C)
        if damaged >= 0:
            raise _damage(self.batches[damaged, BASE], "its checksum is wrong")

    def parts(self) -> "Iterator[UnpackedBatch]":
        """The wanted batches one by one, unpacked; unchecked. Raises StateError when one cannot be unpacked."""
        packed = memoryview(self.data)
        for batch in self.batches[self.wanted]:
            at, end = int(batch[AT]), int(batch[END])
            of = batch.copy()
            plain = bytes(_unpacked(packed[at + HEADER : end], batch))
            of[AT], of[END] = 0, len(plain)
            latest = int.from_bytes(packed[at + LATEST_AT : at + LATEST_AT + 8], "big", signed=True)
            yield UnpackedBatch(plain, of, latest)

    def _plain(self) -> tuple[bytes, np.ndarray]:
        """Bytes that hold the wanted records unpacked, and the survey with where they are in them."""
        parts = self.batches[self.wanted]
        parts[:, AT] += HEADER
        if not (parts[:, ATTRIBUTES] & CODEC).any():
            return self.data, parts
        packed, pieces, at = memoryview(self.data), [], 0
        for part in parts:
            piece = _unpacked(packed[part[AT] : part[END]], part)
            pieces.append(piece)
            part[AT], part[END] = at, at + len(piece)
            at += len(piece)
        return b"".join(pieces), parts


class UnpackedBatch(NamedTuple):
    """One record batch, unpacked."""

    plain: bytes
    batch: np.ndarray  # i8[6]: its row of a survey, its place being that in ``plain``
    latest_ms: int  # the highest of its records' times

    def records(self, first: int = 0) -> RecordColumns:
        """Those from this offset on. Raises StateError when its lengths are wrong."""
        return _columns(self.plain, self.batch[np.newaxis], first, int(self.batch[COUNT]))


def whole(key: bytes) -> bytes:
    """As ``key_deserializer`` of a consumer: its getmany gives each fetch as one Fetched (app/kafka/patches.py)."""
    return key


def _unpacked(piece: memoryview, batch: np.ndarray) -> bytes | memoryview:
    unpack = UNPACKED.get(int(batch[ATTRIBUTES]) & CODEC)
    if not batch[COUNT] or unpack is None:
        return piece
    try:
        return unpack(bytes(piece))
    except Exception as error:  # each library has its own
        raise _damage(batch[BASE], f"it cannot be unpacked: {error}") from error


def _columns(plain: bytes, parts: np.ndarray, first: int, count: int) -> RecordColumns:
    data = np.frombuffer(plain, np.uint8)
    room = min(count, len(data) // SMALLEST)
    offsets, spans = np.empty(room, np.int64), np.empty((room, 4), np.int64)
    read, damaged = _read(data, parts, first, offsets, spans)
    if damaged >= 0:
        raise _damage(parts[damaged, BASE], "its lengths are wrong")
    return RecordColumns(plain, offsets[:read], spans[:read])


def _damage(base: int, why: str) -> StateError:
    return StateError(f"@{base}: the record batch is damaged: {why}")


def _aborted(data: bytes, batches: np.ndarray, aborted: Sequence[tuple[int, int]]) -> np.ndarray:
    """bool[n]: the batch is of an aborted transaction, from its first offset to its control record."""
    waiting = sorted(aborted, key=lambda one: one[1], reverse=True)
    open_: set[int] = set()
    found = np.zeros(len(batches), np.bool_)
    for i, (at, end, base, count, attributes, producer) in enumerate(batches.tolist()):
        while waiting and waiting[-1][1] <= base:
            open_.add(waiting.pop()[0])
        if not attributes & CONTROL:
            found[i] = attributes & TRANSACTIONAL and producer in open_
        elif count and is_abort(data[at + HEADER : end]):
            open_.discard(producer)
    return found


def is_abort(record: bytes) -> bool:
    """Whether this record of a control batch, which is never compressed, marks the end of an aborted transaction."""
    i = 0
    for attributes in (0, 1, 0, 0):  # length, behind the attributes time, offset, length of the key: version, type
        _, i = varint(record, i + attributes, len(record))
    return record[i + 2 : i + 4] == b"\0\0"


def _big(data, i, size):
    """An unsigned number, the highest byte first."""
    value = 0
    for k in range(i, i + size):
        value = value << 8 | data[k]
    return value


@compiled
def _survey(data, batches):
    """Fill in ``batches``: (how many, or -1 with one of an older format; offset after the last).

    The end may cut a batch off.
    """
    n = 0
    at = 0
    end = 0
    while at + MAGIC_AT < len(data):
        after = at + COUNTED_FROM + _big(data, at + LENGTH_AT, 4)
        if after > len(data):
            break
        if data[at + MAGIC_AT] != MAGIC or after < at + HEADER:
            return -1, 0
        base = _big(data, at, 8)
        batches[n, AT] = at
        batches[n, END] = after
        batches[n, BASE] = base
        batches[n, COUNT] = _big(data, at + COUNT_AT, 4)
        batches[n, ATTRIBUTES] = data[at + ATTRIBUTES_AT + 1]
        batches[n, PRODUCER] = _big(data, at + PRODUCER_AT, 8)
        end = base + _big(data, at + LAST_AT, 4) + 1
        at = after
        n += 1
    return n, end


@compiled
def _damaged(data, batches, tables):
    """The first batch whose checksum is wrong, or -1."""
    for n in range(len(batches)):
        at = batches[n, AT]
        if crc(tables, data, at + ATTRIBUTES_AT, batches[n, END]) != _big(data, at + CRC_AT, 4):
            return n
    return -1


def varint(data, i, end):
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
def _read(data, parts, first, offsets, spans):
    """Fill in the records from offset ``first`` on: (how many, the damaged part or -1)."""
    n = 0
    for part in range(len(parts)):
        end = parts[part, END]
        i = parts[part, AT]
        for _ in range(parts[part, COUNT]):
            size, i = varint(data, i, end)
            after = i + size
            if size < 0 or after > end or n >= len(offsets):
                return n, part
            _, i = varint(data, i + 1, after)  # behind the attributes: time
            delta, i = varint(data, i, after)
            offsets[n] = parts[part, BASE] + delta
            for k in (0, 2):  # key, value
                size, i = varint(data, i, after)
                spans[n, k] = i if size >= 0 else -1
                i += max(size, 0)
                spans[n, k + 1] = i
                if i > after:
                    return n, part
            if offsets[n] >= first:
                n += 1
            i = after  # behind the headers
    return n, -1

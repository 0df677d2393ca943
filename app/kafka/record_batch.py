"""Writes Kafka's record batches (message format 2) with compiled code, from columns of keys and values.

``FramedBatch`` replaces aiokafka's BatchBuilder in ``send_batch``: .1 us a record instead of .6. The layout is
that of https://kafka.apache.org/documentation/#recordbatch; tests/unit/kafka/test_record_batch.py reads the bytes back
with aiokafka's own parser.

A codec packs the records of a batch together. The levels are the fastest ones: tests/bench/codecs.py measures them.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from aiokafka import codec
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from app.compiled.byte_columns import Column, Encoded, Header, put
from app.compiled.jit import compiled

HEADER = struct.Struct(">qiibIhiqqqhii")  # base offset .. number of records
CRC_AT, CHECKED_FROM = 17, 21
LENGTH_AFTER = 12  # the length counts what comes after it
MAGIC = 2
FRAME = 50  # bytes of a record beside key, value and header, at most
NO_HEADER = Header("", Column.of([]))
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: codec.gzip_encode(body, 1),
    "snappy": codec.snappy_encode,
    "lz4": lambda body: codec.lz4_encode(body, 1),
    "zstd": lambda body: codec.zstd_encode(body, 1),
}
CODECS = {name: number for number, name in enumerate(["none", *PACKED])}  # as attributes of a record batch


def _varint(out, i, value):
    """Zigzag; only of numbers >= 0."""
    rest = value << 1
    while rest > 127:
        out[i] = (rest & 127) | 128
        rest >>= 7
        i += 1
    out[i] = rest
    return i + 1


def _length(value):
    rest = value << 1
    n = 1
    while rest > 127:
        rest >>= 7
        n += 1
    return n


@compiled
def _frame(out, first, limit, keys, key_ends, values, value_ends, name, headers, header_ends):
    """Records from ``first`` on while they fit into ``limit`` bytes, at least one; (next, bytes).

    ``headers`` are values of the header of this name, none where records have no header.
    """
    with_header = len(header_ends) > 0
    i = 0
    j = first
    while j < len(key_ends):
        key_start = key_ends[j - 1] if j > 0 else 0
        value_start = value_ends[j - 1] if j > 0 else 0
        key = key_ends[j] - key_start
        value = value_ends[j] - value_start
        delta = j - first
        # attributes, timestamp delta, offset delta, key, value, number of headers
        body = 2 + _length(delta) + _length(key) + key + _length(value) + value + 1
        header_start = 0
        header = 0
        if with_header:
            header_start = header_ends[j - 1] if j > 0 else 0
            header = header_ends[j] - header_start
            body += _length(len(name)) + len(name) + _length(header) + header
        if j > first and i + _length(body) + body > limit:
            break
        i = _varint(out, i, body)
        out[i] = 0
        out[i + 1] = 0
        i = _varint(out, i + 2, delta)
        i = _varint(out, i, key)
        i = put(out, i, keys, key_start, key_ends[j])
        i = _varint(out, i, value)
        i = put(out, i, values, value_start, value_ends[j])
        i = _varint(out, i, 1 if with_header else 0)
        if with_header:
            i = _varint(out, i, len(name))
            i = put(out, i, name, 0, len(name))
            i = _varint(out, i, header)
            i = put(out, i, headers, header_start, header_ends[j])
        j += 1
    return j, i


class FramedBatch(BatchBuilder):
    """A finished record batch. ``body`` holds ``records`` framed records, all of the time ``now_ms``.

    ``codec``: one of CODECS, that packed the body.
    """

    def __init__(self, body: bytes, records: int, now_ms: int, codec: str = "none") -> None:
        self._body, self._records, self._now_ms, self._codec = body, records, now_ms, codec
        self._producer = (-1, -1, -1)  # id, epoch, sequence; set by an idempotent producer before each try
        self._buffer: bytearray | None = None
        self._closed = True

    def append(self, **_: Any) -> None:
        return None

    def close(self) -> None:
        return None

    def record_count(self) -> int:
        return self._records

    def size(self) -> int:
        return HEADER.size + len(self._body)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        if self._buffer is None:
            buffer = bytearray(HEADER.size) + self._body
            HEADER.pack_into(
                buffer, 0, 0, len(buffer) - LENGTH_AFTER, -1, MAGIC, 0, CODECS[self._codec],
                self._records - 1, self._now_ms, self._now_ms, *self._producer, self._records,
            )  # fmt: skip
            struct.pack_into(">I", buffer, CRC_AT, calc_crc32c(memoryview(buffer)[CHECKED_FROM:]))
            self._buffer = buffer
        return self._buffer


def framed(records: Encoded, limit: int, now_ms: int, codec: str = "none") -> Iterator[FramedBatch]:
    """Record batches of about ``limit`` bytes at most before they are packed; a larger record makes one of its own."""
    keys, values, header = records
    total = len(keys.ends)
    if not total:
        return
    name, headers = header or NO_HEADER
    named = np.frombuffer(bytearray(name.encode()), np.uint8)
    size = len(keys.data) + len(values.data) + len(headers.data) + (FRAME + len(named)) * total
    out = np.empty(size, np.uint8)
    at, pack = 0, PACKED.get(codec)
    while at < total:
        first = at
        columns = keys.data, keys.ends, values.data, values.ends, named, headers.data, headers.ends
        at, size = _frame(out, first, limit, *columns)
        body = out[:size].tobytes()
        yield FramedBatch(pack(body) if pack else body, at - first, now_ms, codec)

"""Many byte strings in one piece of memory, for compiled code: no Python object for each record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np

from app.compiled.jit import AVAILABLE, compiled

Bytes = np.ndarray  # u1


class Column(NamedTuple):
    """Many byte strings, end to end; string i is data[ends[i - 1]:ends[i]]."""

    data: Bytes
    ends: np.ndarray  # i8

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Column:
        # A bytearray's view is writable, as a kernel's output is: to numba one type, compiled once.
        data = np.frombuffer(bytearray().join(strings), np.uint8)
        return cls(data, np.fromiter(accumulate(map(len, strings)), np.int64, len(strings)))

    def part(self, first: int, end: int) -> Column:
        """Strings first..end-1; no copy of their bytes."""
        start = int(self.ends[first - 1]) if first else 0
        return Column(self.data[start : int(self.ends[end - 1]) if end else 0], self.ends[first:end] - start)

    def ordered(self, order: np.ndarray) -> Column:
        """The strings at these places, i8, each at most once, in this order."""
        data, ends = np.empty(len(self.data), np.uint8), np.empty(len(order), np.int64)
        return Column(data[: _order(data, ends, self.data, self.ends, order)], ends)

    def strings(self) -> list[bytes]:
        whole, ends = self.data.tobytes(), self.ends.tolist()
        return [whole[start:end] for start, end in zip([0, *ends], ends)]


class Header(NamedTuple):
    """A header that every record has, with a value of its own."""

    name: str
    values: Column


class Encoded(NamedTuple):
    """Keys and values of records, as columns of bytes."""

    keys: Column
    values: Column
    header: Header | None = None

    @classmethod
    def of(cls, pairs: Sequence[tuple[bytes, bytes]]) -> Encoded:
        keys, values = zip(*pairs) if pairs else ((), ())
        return cls(Column.of(keys), Column.of(values))

    def pairs(self) -> list[tuple[bytes, bytes]]:
        return list(zip(self.keys.strings(), self.values.strings()))

    def records(self) -> list[tuple[Any, ...]]:
        """(key, value), or (key, value, headers) where there is a header."""
        if self.header is None:
            return self.pairs()
        name, values = self.header
        return [(*pair, [(name, value)]) for pair, value in zip(self.pairs(), values.strings())]

    def __len__(self) -> int:
        return len(self.keys.ends)


class RecordColumns(NamedTuple):
    """Records of the changelog, as columns of positions in the bytes that hold them."""

    data: bytes
    offsets: np.ndarray  # i8[n]
    spans: np.ndarray  # i8[n, 4]: key is data[0:1], value is data[2:3]; none where it starts at -1

    @classmethod
    def of(cls, records: Iterable[tuple[int, bytes | None, bytes | None]]) -> RecordColumns:
        """From (offset, key, value) of each."""
        offsets, *parts = zip(*records) if (records := list(records)) else ((), (), ())
        pieces = list(chain.from_iterable(zip(*parts)))
        ends = np.fromiter(accumulate(len(piece or b"") for piece in pieces), np.int64, len(pieces))
        starts = np.concatenate([[0], ends[:-1]]) if pieces else ends
        starts[[piece is None for piece in pieces]] = -1
        spans = np.stack([starts, ends], axis=1).reshape(-1, 4)
        return cls(b"".join(piece for piece in pieces if piece), np.array(offsets, np.int64), spans)

    def key(self, i: int) -> bytes | None:
        return self._span(*self.spans[i, :2].tolist())

    def value(self, i: int) -> bytes | None:
        return self._span(*self.spans[i, 2:].tolist())

    def _span(self, start: int, end: int) -> bytes | None:
        return self.data[start:end] if start >= 0 else None

    def slices(self, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
        data = self.data
        return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist())]


def put(out, i, data, start, end):
    """Copy data[start:end] to ``out`` at i; returns the place after it."""
    length = end - start
    to = out[i : i + length]  # indices from 0: the compiler copies 32 bytes at a time
    source = data[start:end]
    for k in range(length):
        to[k] = source[k]
    return i + length


@compiled
def _order(out, out_ends, data, ends, order):
    i = 0
    for n in range(len(order)):
        at = order[n]
        i = put(out, i, data, ends[at - 1] if at > 0 else 0, ends[at])
        out_ends[n] = i
    return i


def wide(data: Bytes) -> np.ndarray:
    """The bytes, as numbers that code can count with: numpy's own bytes overflow, where numba does not compile it."""
    return data if AVAILABLE else data.astype(np.int64)

"""Rows of state, declared once as numpy fields, held in either of two ways.

Compiled code works on a structured array. CPython works on plain objects with the same attributes and
lists, because a numpy record costs it 65 times more; both give the same bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

Fields = Sequence[tuple]  # (name, "f8" | "i8" | .. or Fields[, (length,)])


def dtype(fields: Fields) -> np.dtype:
    """An aligned structured type; a field's type may be fields again."""
    made = []
    for name, kind, *shape in fields:
        made.append((name, kind if isinstance(kind, (str, np.dtype)) else dtype(kind), *shape))
    return np.dtype(made, align=True)


class Row:
    """One row as a plain object: attributes, lists and further rows."""

    def __init__(self, kind: np.dtype) -> None:
        for name in kind.names or ():
            field = kind[name]
            if field.names:
                setattr(self, name, Row(field))
            elif field.shape:
                setattr(self, name, [field.base.type().item()] * field.shape[0])
            else:
                setattr(self, name, field.type().item())

    @classmethod
    def of(cls, values: dict[str, Any]) -> Row:
        row = cls.__new__(cls)
        row.__dict__ = values
        return row

    def copy(self) -> Row:
        return Row.of({name: v.copy() if isinstance(v, (Row, list)) else v for name, v in self.__dict__.items()})

    def write(self, record: Any) -> None:
        """Into a numpy record of the same type."""
        for name, v in self.__dict__.items():
            if isinstance(v, Row):
                v.write(record[name])
            else:
                record[name] = v

    def read(self, record: Any) -> None:
        """From a numpy record of the same type."""
        for name, v in self.__dict__.items():
            if isinstance(v, Row):
                v.read(record[name])
            else:
                setattr(self, name, record[name].tolist())


def plain(records: np.ndarray) -> list[Row]:
    """Objects in place of records without records in them."""
    names = records.dtype.names or ()
    return [Row.of(dict(zip(names, values))) for values in records.tolist()]


DOUBLED = 64 << 20  # bytes of rows up to which they double; from there on a quarter more
MAPPED = 4 << 20  # bytes of rows above which they have memory mapped for them alone
PAGE = 2 << 20  # bytes of a large page, on most systems


class ArrayRows:
    """Rows in a structured array that grows when it is full, without a copy where the system can.

    Many rows get mapped memory, in large pages where the system has them; numpy's ``resize`` gives small pages, whose
    page faults were a third of the time of recovery. Reserved rows that are not used yet take no memory.
    """

    def __init__(self, kind: np.dtype) -> None:
        self.kind = kind
        self.count = 0
        self.data: Any = np.zeros(16, kind)
        self._mapped: mmap.mmap | None = None

    def add(self, number: int = 1) -> int:
        """Add empty rows; returns the index of the first."""
        first = self.count
        self.count += number
        if self.count > len(self.data):
            more = len(self.data) // (1 if self.data.nbytes < DOUBLED else 4)
            self._grow(max(self.count, len(self.data) + more))
        return first

    def _grow(self, size: int) -> None:
        length = -(-size * self.kind.itemsize // PAGE) * PAGE
        if self._mapped is not None:
            held = len(self.data)
            self.data = None  # memory with a view on it cannot be moved
            try:
                self._mapped.resize(length)
            except (BufferError, SystemError):  # there is another view on it, or this system cannot move it
                self.data = np.frombuffer(self._mapped, self.kind, held)
            else:
                self.data = np.frombuffer(self._mapped, self.kind, size)
                return
        if length < MAPPED:
            grown = np.zeros(size, self.kind)
        else:
            self._mapped = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with suppress(AttributeError, OSError):  # there are none on this system, or in this kernel
                self._mapped.madvise(mmap.MADV_HUGEPAGE)
            grown = np.frombuffer(self._mapped, self.kind, size)
        grown[: len(self.data)] = self.data
        self.data = grown

    def clear(self, i: int) -> None:
        self.data[i] = np.zeros((), self.kind)

    def dump(self, i: int) -> bytes:
        return self.data[i].tobytes()

    def load(self, i: int, data: bytes) -> None:
        self.data[i] = np.frombuffer(data, self.kind)[0]

    def get(self, i: int, name: str) -> Any:
        return self.data[name][i].item()

    def put(self, i: int, name: str, value: Any) -> None:
        self.data[name][i] = value

    def column(self, name: str, at: Any = slice(None)) -> np.ndarray:
        """One field of the rows at these indices (a slice or an array), by default of all."""
        return self.data[name][: self.count][at]

    def for_passes(self) -> np.ndarray:
        """The rows as ``app.scoring.cells`` finds its way in them: u1[:, :]."""
        found: np.ndarray = self.data.view(np.uint8).reshape(len(self.data), -1)
        return found

    @property
    def nbytes(self) -> int:
        return self.count * self.kind.itemsize


class ObjectRows:
    """Rows as plain objects in a list."""

    def __init__(self, kind: np.dtype) -> None:
        self.kind = kind
        self.data: Any = []
        self._record = np.zeros(1, kind)

    @property
    def count(self) -> int:
        return len(self.data)

    def add(self, number: int = 1) -> int:
        first = len(self.data)
        self.data.extend(Row(self.kind) for _ in range(number))
        return first

    def clear(self, i: int) -> None:
        self.data[i] = Row(self.kind)

    def dump(self, i: int) -> bytes:
        self.data[i].write(self._record[0])
        return self._record.tobytes()

    def load(self, i: int, data: bytes) -> None:
        self.data[i].read(np.frombuffer(data, self.kind)[0])

    def get(self, i: int, name: str) -> Any:
        return getattr(self.data[i], name)

    def put(self, i: int, name: str, value: Any) -> None:
        setattr(self.data[i], name, value)

    def column(self, name: str, at: Any = slice(None)) -> np.ndarray:
        rows = self.data[at] if isinstance(at, slice) else [self.data[i] for i in at.tolist()]
        return np.array([getattr(row, name) for row in rows], self.kind[name])

    def for_passes(self) -> list[Row]:
        """The rows as ``app.scoring.cells`` finds its way in them."""
        found: list[Row] = self.data
        return found

    @property
    def nbytes(self) -> int:
        return len(self.data) * self.kind.itemsize

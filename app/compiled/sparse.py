"""Rows of state as snapshots hold them: words of 8 bytes that are 0 are left out.

A young series has nothing in most of its row: of the default set's 9.6 KB, 2.7 KB after 20 points, 4.7 KB after 400,
7 KB after 3,000. So there is less to check, send, store and read.

    marks: a bit for each word of 8 bytes, 1 where it is not 0; the first word's is the lowest of the first byte
    the words that are not 0

Rows are whole words, as each begins with an i8: see ``rows.dtype``.
"""

import numpy as np

from app.compiled.jit import compiled

WORD = 8  # bytes, and marks in a byte


def most(size: int) -> int:
    """Bytes of a packed row without a 0, of ``size`` bytes."""
    return size + _marks(size // WORD)


def pack(row: bytes) -> bytes:
    """The row's marks, and its words that are not 0."""
    words = np.frombuffer(row, np.uint64)
    some = words != 0
    return np.packbits(some, bitorder="little").tobytes() + words[some].tobytes()


def unpack(data: bytes, at: int, end: int, size: int) -> tuple[bytes | None, int]:
    """The row of ``size`` bytes that begins at ``at``, and the place after it; no row if it goes beyond ``end``."""
    row = np.empty(size, np.uint8)
    after = _unpack(np.frombuffer(data, np.uint8), at, end, row)
    return (None if after < 0 else row.tobytes()), after


def _marks(words):
    return (words + WORD - 1) // WORD


@compiled
def _unpack(data, at, end, row):
    return unpack_into(data, at, end, row)


def unpack_into(data, at, end, row):
    """Write the row that begins at ``at``; the place after it, -1 when it does not end by ``end``. Both: u1."""
    words = len(row) // WORD
    marks = at
    at += _marks(words)
    if at > end:
        return -1
    for i in range(words):
        if data[marks + i // WORD] >> i % WORD & 1:
            if at + WORD > end:
                return -1
            for k in range(WORD):
                row[WORD * i + k] = data[at + k]
            at += WORD
        else:
            for k in range(WORD):
                row[WORD * i + k] = 0
    return at

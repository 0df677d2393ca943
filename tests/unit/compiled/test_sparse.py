"""Rows without their words that are 0 come back whole, and what is cut off is noticed."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.compiled import sparse

rows = st.lists(st.sampled_from([0, 0, 1, 1 << 63, 2**64 - 1, 0x8000]), min_size=1, max_size=40)


def by_hand(words):
    """Its marks as one number, and the words that are not 0."""
    marks = sum(1 << i for i, word in enumerate(words) if word)
    return marks.to_bytes((len(words) + 7) // 8, "little") + b"".join(struct.pack("<Q", word) for word in words if word)


@given(rows)
def test_a_row_comes_back_as_it_was(words):
    row = struct.pack(f"<{len(words)}Q", *words)
    packed = sparse.pack(row)
    assert packed == by_hand(words) and len(packed) <= sparse.most(len(row))
    assert sparse.unpack(b"ab" + packed + b"c", 2, 2 + len(packed), len(row)) == (row, 2 + len(packed))


@given(rows)
def test_a_row_that_is_cut_off_is_no_row(words):
    packed = sparse.pack(struct.pack(f"<{len(words)}Q", *words))
    for end in range(len(packed)):
        assert sparse.unpack(packed, 0, end, 8 * len(words)) == (None, -1)


def test_it_is_as_large_as_what_is_in_it():
    row = np.zeros(1200, np.uint64)
    assert len(sparse.pack(row.tobytes())) == 150
    row[:] = 7
    assert len(sparse.pack(row.tobytes())) == sparse.most(8 * 1200) == 150 + 8 * 1200


@pytest.mark.parametrize("words", [1, 8, 9])
def test_what_was_there_before_is_gone(words):
    held = np.full(8 * words, 9, np.uint8)
    data = np.frombuffer(sparse.pack(bytes(8 * words)), np.uint8)
    assert sparse.unpack_into(data, 0, len(data), held) == len(data) and not held.any()

"""A file with a copy of a group's state: read as it was written, and refused when anything is wrong with it."""

import io
import random
from pathlib import Path

import pytest

from app.errors import StateError
from app.stream.copies.file import Commit, CopyReader, CopyWriter, Head

HEAD = Head(
    program="0.1.0",
    made="2026-11-29T12:00:00+00:00",
    group="g",
    log="raw-data",
    input="raw-data",
    partitions=2,
    topics=["g-sources-changelog", "anomalies"],
    ids={"raw-data": "1"},
    commits=[Commit("raw-data", 0, 7, '{"v":1,"replay":5}')],
)
RECORDS = [
    ("g-sources-changelog", 0, 1_700_000_000_000, b"pump-1", b"state"),
    ("g-sources-changelog", 1, 1_700_000_000_001, b"pump-2", None),
    ("anomalies", 0, -1, None, b""),
]


@pytest.fixture(scope="module")
def written():
    file = io.BytesIO()
    writer = CopyWriter(file, HEAD)
    for record in RECORDS:
        writer.add(*record)
    writer.end("records are on their way")
    return file.getvalue()


def read(data):
    copy = CopyReader(Path("a-copy"), io.BytesIO(data))
    found = [tuple(record[:5]) for record in copy.records()]
    return copy.head, found, copy.not_drained


def test_a_copy_is_read_as_it_was_written(written):
    assert read(written) == (HEAD, RECORDS, "records are on their way")


def test_it_can_be_read_again(written):
    copy = CopyReader(Path("a-copy"), io.BytesIO(written))
    assert list(copy.records()) == list(copy.records())
    first = next(copy.records())
    assert written[first.at :].startswith(b"state")


def test_no_cut_and_no_flipped_bit_goes_unseen(written):
    for size in range(len(written)):
        with pytest.raises(StateError, match="a-copy"):
            read(written[:size])
    with pytest.raises(StateError, match="more follows"):
        read(written + b"x")
    rng = random.Random(5)
    for bit in rng.sample(range(8 * len(written)), 500):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StateError, match="a-copy"):
            read(bytes(damaged))

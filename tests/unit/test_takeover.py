"""The mark: the highest result that was emitted, whatever shares its offset and whatever was written after it."""

from dataclasses import dataclass
from itertools import chain

import pytest

from app.pipeline import Pipeline
from app.settings import Detection, KafkaSettings
from app.stream.takeover import RESULTS_TAIL, WHOLE, Takeover
from tables.sources import SourcesTable

PIPELINE = Pipeline(Detection(), engine="python")


@dataclass
class Record:
    offset: int
    value: bytes


@dataclass
class Commit:
    offset: int
    metadata: str


FIRST = Commit(0, '{"v":1,"replay":0}')  # of a worker that has joined


def mark(positions, commit=FIRST, end=10_000):
    """By results at these (offset, index), the last RESULTS_TAIL of them."""
    takeover = Takeover(KafkaSettings(), 3, SourcesTable(PIPELINE).take_over())
    told = [b'{"id":"raw-data:3:%d:%d","source":"p"}' % position for position in positions]
    takeover.results(Record(i, value) for i, value in list(enumerate(told))[-RESULTS_TAIL:])
    return takeover.start(0, end, commit).mark


def of_array(offset, elements):
    return [(offset, index) for index in range(elements)]


@pytest.mark.parametrize("emitted", [1, 5_000, RESULTS_TAIL, RESULTS_TAIL + 1, 41_999])
def test_the_mark_lies_inside_an_array_however_long(emitted):
    assert mark([(6, 0), *of_array(7, emitted)]) == (7, emitted - 1)


def test_a_late_write_of_an_earlier_owner_does_not_hide_it():
    late = of_array(5, 3_000)
    assert mark([*late, *of_array(7, 2_000), *late]) == (7, 1_999)
    assert mark(chain.from_iterable([of_array(7, 2_000), late] * 3)) == (7, 1_999)


def test_a_later_write_than_is_read_hides_what_was_not_committed_and_no_more():
    """Then results are repeated, by an owner that was stopped past its session; see RESULTS_TAIL."""
    hidden = [*of_array(7, 2_000), *of_array(5, RESULTS_TAIL)]
    assert mark(hidden) == (5, RESULTS_TAIL - 1)
    assert mark(hidden, Commit(7, '{"v":1,"replay":2}')) == (6, WHOLE)
    assert mark(hidden, Commit(8, '{"v":1,"replay":2}')) == (7, WHOLE)

"""The rarity of a number among the highest of each block, against its definition by numpy's sorting and quantiles."""

import math

import numpy as np
import pytest

from app.compiled import rows
from app.detectors.support import block_maxima
from app.detectors.support.block_maxima import BLOCK, BLOCKS, MAXIMA


class Maxima:
    """The maxima of blocks that were learned, in CPython."""

    def __init__(self, highest=(), around_one=False):
        self.c = rows.Row(rows.dtype(MAXIMA))
        block_maxima.begin_maxima(self.c, around_one)
        for one in highest:
            self.c.highest = float(one)
            block_maxima.end_block(self.c)

    def surprise(self, size):
        return block_maxima.surprise(self.c, size)

    def size_of(self, rarity):
        return block_maxima.size_of(self.c, rarity)


def rounded_up(highest):
    """Logarithms of the last maxima, rounded up to a twentieth."""
    return np.clip(np.ceil(20.0 * (np.log(np.maximum(highest[-BLOCKS:], 1e-6)) + 6.0)), 0, 255) / 20.0 - 6.0


def surprise(highest, size, tail=0.1):
    """The decimal logarithm of how seldom a block has such a number, of the whole series of maxima."""
    known = np.sort(rounded_up(np.asarray(highest)))
    n = len(known)
    in_tail = n - int((1.0 - tail) * n)
    line, middle = known[-in_tail], known[(n - 1) // 2]
    if not math.log(size) > line:
        return 0.0
    lower_half = (line - middle) / 1.88  # as if an exponential had made the maxima
    excesses = np.maximum(known - line, 0.0)
    scale = max((excesses.sum() + 3.0 * lower_half + 0.12) / (in_tail + 5), 0.02)
    return math.log10((n + 1) / (in_tail + 1)) + (math.log(size) - line) / scale * math.log10(math.e)


def exponential(blocks, seed):
    return np.random.default_rng(seed).exponential(1.0, (blocks, BLOCK)).max(axis=1)


HIGHEST = {
    "of an exponential": exponential(300, 1),
    "of a normal": np.abs(np.random.default_rng(2).normal(0.0, 1.0, (200, BLOCK))).max(axis=1),
    "of a heavy tail": np.random.default_rng(3).pareto(1.5, (128, BLOCK)).max(axis=1),
    "few": exponential(7, 4),
    "one": np.array([2.0]),
    "all equal": np.full(40, 3.0),
    "nearly none, and huge": np.array([0.0, 0.0, 1e-9, 1.0, 1e300, 0.0]),
}
on_each = pytest.mark.parametrize("name", HIGHEST)


@on_each
def test_it_is_the_rarity_of_an_exponential_above_the_highest_tenth(name):
    highest = HIGHEST[name]
    maxima = Maxima(highest)
    for size in np.exp(np.linspace(-7.0, 9.0, 200)).tolist():
        assert maxima.surprise(size) == pytest.approx(surprise(highest, size), rel=1e-9, abs=1e-9)


def test_another_tail_is_seen_to_differ():
    """The negative control."""
    highest = HIGHEST["of an exponential"]
    found = Maxima(highest).surprise(20.0)
    assert found == pytest.approx(surprise(highest, 20.0)) != pytest.approx(surprise(highest, 20.0, tail=0.3), rel=0.02)


@on_each
def test_a_larger_number_is_never_less_surprising(name):
    maxima = Maxima(HIGHEST[name])
    found = [maxima.surprise(size) for size in np.exp(np.linspace(-10.0, 60.0, 500)).tolist()]
    assert found == sorted(found) and found[0] == 0.0 and found[-1] > 1.0


@on_each
def test_a_tenth_of_the_maxima_reaches_the_line_and_it_is_a_decade_rare(name):
    maxima, kept = Maxima(HIGHEST[name]), rounded_up(HIGHEST[name])
    tenth = max(1, math.ceil(0.1 * len(kept) - 1e-9))
    assert (kept >= maxima.c.line - 1e-9).sum() >= tenth > (kept > maxima.c.line + 1e-9).sum() or len(kept) < 10
    if len(kept) == BLOCKS:
        assert maxima.surprise(maxima.c.above * 1.001) == pytest.approx(1.0, abs=0.1)


@on_each
@pytest.mark.parametrize("rarity", [1.5, 2.5, 4.5])
def test_the_size_of_a_rarity_has_that_rarity(name, rarity):
    maxima = Maxima(HIGHEST[name])
    if maxima.size_of(rarity) > maxima.c.above:
        assert maxima.surprise(maxima.size_of(rarity)) == pytest.approx(rarity)


def test_so_many_blocks_are_as_surprising_as_it_says():
    """One in 10 to the rarity has such a number: by the exact chance, after 128 blocks of each of 40 series."""
    learned = [Maxima(exponential(BLOCKS, seed)) for seed in range(40)]
    for rarity in (1.5, 2.0, 2.5):
        chances = [1.0 - (1.0 - math.exp(-maxima.size_of(rarity))) ** BLOCK for maxima in learned]
        assert 0.5 < np.mean(chances) * 10.0**rarity < 2.0


def test_the_scale_of_the_numbers_is_no_matter_but_for_their_rounding():
    highest = HIGHEST["of a normal"]
    for by in (math.exp(-1.0), math.exp(2.0)):
        assert Maxima(by * highest).surprise(by * 6.0) == pytest.approx(Maxima(highest).surprise(6.0), rel=0.02)


def test_maxima_of_128_blocks_are_kept():
    old, new = np.full(500, 1e6), exponential(BLOCKS, 5)
    assert Maxima([*old, *new]).surprise(12.0) == Maxima(new).surprise(12.0)
    assert Maxima([*old, *new[1:]]).surprise(12.0) < Maxima(new).surprise(12.0)


def test_before_any_block_it_begins_around_one():
    fresh = Maxima(around_one=True)
    assert fresh.c.blocks == 6 and 1.0 < fresh.c.above < 1.5
    assert fresh.surprise(1.0) == 0.0 < fresh.surprise(2.0) < fresh.surprise(3.0)


def test_not_a_number_is_no_surprise():
    assert Maxima(HIGHEST["few"]).surprise(math.nan) == 0.0

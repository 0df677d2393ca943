"""The interval of errors against exact weighted quantiles, and the share of values inside it."""

import math

import numpy as np
import pytest

from app.compiled import rows
from app.detectors.support import interval
from app.detectors.support.interval import BINS, INTERVAL, OCTAVE


class Interval:
    """An interval that learned errors, in CPython, each in the mean size that was known then."""

    def __init__(self, outside=0.01):
        self.c = rows.Row(rows.dtype(INTERVAL))
        self.outside = outside
        interval.begin_interval(self.c, outside)

    def learn(self, errors, smallest=0.0, most=math.inf):
        """How many errors lay outside of what was said before, above and below; the edges in the end."""
        above = below = 0
        for error in errors:
            unit = self.c.unit
            above += error > self.c.up * unit
            below += -error > self.c.down * unit
            interval.learn_interval(self.c, error, unit, smallest, self.outside, most)
        return above, below

    @property
    def edges(self):
        return self.c.down * self.c.unit, self.c.up * self.c.unit


RNG = np.random.default_rng
ERRORS = {
    "normal": lambda n, seed: RNG(seed).normal(0.0, 3.0, n),
    "laplace": lambda n, seed: RNG(seed).laplace(0.0, 1.0, n),
    "uniform": lambda n, seed: RNG(seed).uniform(-1.0, 1.0, n),
    "exponential": lambda n, seed: RNG(seed).exponential(1.0, n) - 1.0,
    "log-normal": lambda n, seed: RNG(seed).lognormal(0.0, 0.5, n) - 1.0,
    "rounded": lambda n, seed: np.round(RNG(seed).normal(0.0, 2.0, n)),
}
on_each = pytest.mark.parametrize("kind", ERRORS)


def sized(errors):
    """f8[n], each error in the mean size of those before: of all, then a hundredth of each new one."""
    unit, found = 0.0, []
    for i, error in enumerate(errors):
        found.append(error / unit if unit else 0.0)
        unit += max(1.0 / (i + 1), 0.01) * (abs(error) - unit)
    return np.array(found), unit


def exact(errors, outside):
    """The edges: of all weight half of the missing share lies beyond each; the newest error weighs most."""
    own, unit = sized(errors)
    weights = (1.0 / 0.999) ** np.arange(len(own))
    edges = []
    for side in (-own, own):
        order = np.argsort(-side)
        beyond = np.cumsum(weights[order])
        edges.append(unit * side[order][np.searchsorted(beyond, 0.5 * outside * weights.sum())])
    return edges


BIN = 2.0 ** (1.0 / OCTAVE)


@pytest.mark.parametrize("outside", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform", "exponential", "log-normal"])
def test_the_edges_are_the_weighted_quantiles_of_the_errors(kind, outside):
    errors = ERRORS[kind](6000, 1)
    learned = Interval(outside)
    learned.learn(errors)
    for found, wanted in zip(learned.edges, exact(errors, outside)):
        assert wanted / BIN < found < wanted * BIN, "they agree to a bin, a sixth of an octave"


def test_quantiles_of_another_share_are_seen_to_differ():
    """The negative control."""
    errors = ERRORS["normal"](6000, 1)
    learned = Interval(0.01)
    learned.learn(errors)
    assert not exact(errors, 0.2)[1] / BIN < learned.edges[1] < exact(errors, 0.2)[1] * BIN


@pytest.mark.parametrize("outside", [0.01, 0.05, 0.1])
@on_each
def test_the_stated_share_lies_outside(kind, outside):
    learned = Interval(outside)
    errors = ERRORS[kind](12_500, 2)
    learned.learn(errors[:500])
    found = sum(learned.learn(errors[500:])) / 12_000
    assert (0.5 if kind != "rounded" else 0.2) * outside <= found <= 1.5 * outside


def test_a_band_of_half_the_width_is_seen_to_miss():
    """The negative control."""
    learned = Interval(0.01)
    errors = ERRORS["normal"](4000, 2)
    learned.learn(errors[:500])
    out = 0
    for error in errors[500:]:
        out += not -0.5 * learned.edges[0] <= error <= 0.5 * learned.edges[1]
        learned.learn([error])
    assert out / 3500 > 3 * 0.01


def test_errors_of_one_side_move_that_edge_only():
    learned = Interval()
    learned.learn(ERRORS["exponential"](6000, 3))
    down, up = learned.edges
    assert up > 3.0 * down, "an exponential ends at 0, and so its errors at -1"
    assert down == pytest.approx(1.0, abs=0.15) and up == pytest.approx(-math.log(0.005) - 1.0, rel=0.25)


def test_of_a_symmetric_distribution_both_edges_are_alike():
    learned = Interval()
    learned.learn(np.repeat(ERRORS["normal"](3000, 4), 2) * np.tile([1.0, -1.0], 3000))
    down, up = learned.edges
    assert down == pytest.approx(up, rel=0.02) and up == pytest.approx(2.576 * 3.0, rel=0.15)


def test_before_any_error_it_is_that_of_a_normal_distribution():
    for outside, quantile in ((0.01, 2.576), (0.05, 1.960), (0.1, 1.645), (0.3173, 1.0)):
        c = Interval(outside).c
        assert c.up == c.down == pytest.approx(quantile / 0.7979, rel=0.07)


def test_it_forgets():
    learned = Interval()
    learned.learn(ERRORS["laplace"](3000, 5))
    laplace = learned.c.up
    learned.learn(ERRORS["uniform"](6000, 5))
    assert laplace > 3.5 and learned.c.up < 2.2, "edges in mean sizes: 4.6 of the one, 1.98 of the other"


def test_an_error_no_larger_than_noise_of_rounding_counts_on_both_sides():
    c = Interval().c
    interval.learn_interval(c, 1.0, 0.0, 0.0, 0.01, math.inf)
    below, above = sum(c.below), sum(c.above)
    interval.learn_interval(c, 1e-12, 1.0, 1e-9, 0.01, math.inf)
    assert sum(c.below) - below == pytest.approx(sum(c.above) - above) == pytest.approx(0.5, rel=1e-2)


def test_an_outlier_is_learned_as_the_largest_size_allowed():
    learned = Interval()
    learned.learn(ERRORS["normal"](500, 6), most=30.0)
    unit = learned.c.unit
    learned.learn([1e12], most=30.0)
    assert learned.c.unit == pytest.approx(unit + 0.01 * (30.0 - unit))


def test_its_weights_stay_finite_and_single():
    learned = Interval()
    learned.learn(ERRORS["normal"](30_000, 7))
    weights = [*learned.c.below, *learned.c.above]
    assert len(weights) == 2 * BINS and max(weights) < 1e10 and learned.c.weight <= 1.001e6
    assert learned.c.total == pytest.approx(sum(weights), rel=1e-3)
    assert weights == np.array(weights, np.float32).tolist()


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_in_other_units_of_a_power_of_two_the_edges_are_the_same_to_the_bit(scale):
    plain, scaled = Interval(), Interval()
    plain.learn(ERRORS["laplace"](1000, 8))
    scaled.learn(scale * ERRORS["laplace"](1000, 8))
    assert (scaled.c.up, scaled.c.down, scaled.c.unit) == (plain.c.up, plain.c.down, plain.c.unit * scale)

"""What prediction_interval promises: a band that holds the stated share of the values, and of faults one episode each.

Faults are judged by their times alone, over several series of each kind. ``make drills`` does so for the whole default
set and for more kinds of series; here are the promises of this detector's docstring.
"""

import numpy as np
import pytest
from support.points import alone, batches, columns, points, states

from app import detectors
from app.compiled import rows
from app.detectors.kinds import KINDS
from app.detectors.support.calendar import places
from app.scoring.episodes import REASONS

MIDNIGHT = 1_700_006_400.0
DAY = 86400.0
SEEDS = range(6)
RNG = np.random.default_rng


def every(seconds, n):
    return MIDNIGHT + seconds * np.arange(n)


def scored(values, times=None, **given):
    pipeline = alone("prediction_interval", warmup=1, **given)
    made = points(values)
    made.timestamp = (every(60.0, len(made)) if times is None else times).tolist()
    return pipeline.run(pipeline.sources(), made)


def told(values, times=None):
    """(first point, kind, first point after it, why it ended) of each episode."""
    outcome = scored(values, times)
    closed = np.flatnonzero(outcome.closed).tolist()
    ends = [(i, REASONS[outcome.reason[i]]) for i in closed]
    ends += [(len(values), "")] * (int(outcome.opened.sum()) - len(ends))
    return [(i, KINDS[outcome.kind[i]], *end) for i, end in zip(np.flatnonzero(outcome.opened).tolist(), ends)]


def since(found, first):
    return [one for one in found if one[0] >= first]


def noise(n, seed):
    return RNG(seed).normal(50.0, 3.0, n)


def daily(n, seconds, seed, size=10.0):
    times = every(seconds, n)
    return 20.0 + size * np.sin(2.0 * np.pi * times / DAY) + RNG(seed).normal(0.0, 1.0, n), times


def autoregressive(n, seed):
    values = RNG(seed).normal(0.0, 1.0, n)
    for i in range(1, n):
        values[i] += 0.9 * values[i - 1]
    return values


# --- the band

CALM = {
    "normal": noise,
    "laplace": lambda n, seed: RNG(seed).laplace(50.0, 2.0, n),
    "log-normal": lambda n, seed: RNG(seed).lognormal(3.0, 0.5, n),
    "quantised": lambda n, seed: np.round(noise(n, seed)),
    "counts": lambda n, seed: RNG(seed).poisson(8.0, n).astype(float),
    "daily": lambda n, seed: daily(n, 300.0, seed)[0],
    "autoregressive": autoregressive,
    "walk": lambda n, seed: np.cumsum(RNG(seed).normal(0.0, 1.0, n)),
}


def outside(kind, half=False, **given):
    """Of 1,000 values after the first 500, how many lie outside the band; or outside one of half its width."""
    count = known = 0
    for seed in SEEDS:
        values = CALM[kind](3500, seed)
        found = scored(values, every(300.0, 3500), **given)
        lower, upper = found.lower, found.upper
        if half:
            lower, upper = (lower + found.expected) / 2.0, (upper + found.expected) / 2.0
        out = ((values < lower) | (values > upper))[500:]
        assert np.isfinite(found.expected[500:]).all()
        count += int(out.sum())
        known += len(out)
    return 1000.0 * count / known


@pytest.mark.parametrize("kind", CALM)
def test_one_in_a_hundred_values_lies_outside_the_band(kind):
    assert 5.0 <= outside(kind) <= 15.0


@pytest.mark.parametrize(("coverage", "wanted"), [(0.95, 50.0), (0.9, 100.0)])
@pytest.mark.parametrize("kind", CALM)
def test_the_share_outside_is_the_one_that_is_asked_for(kind, coverage, wanted):
    assert 0.9 * wanted <= outside(kind, coverage=coverage) <= 1.1 * wanted


@pytest.mark.parametrize("kind", CALM)
def test_a_band_of_half_the_width_is_seen_to_miss(kind):
    """The negative control."""
    assert outside(kind, half=True) > 30.0


def test_a_course_with_noise_has_a_band_as_wide_as_the_noise():
    for seed in SEEDS:
        values, times = daily(4000, 300.0, seed, size=100.0)
        found = scored(values, times)
        width = (found.upper - found.lower)[1500:]
        assert 4.0 < width.min() < width.max() < 7.0, "2 * 2.58 standard deviations would be 5.2"


def test_a_band_is_as_asymmetric_as_the_errors():
    found = scored(CALM["log-normal"](3000, 1))
    up, down = (found.upper - found.expected)[-1], (found.expected - found.lower)[-1]
    assert up > 2.0 * down


def test_nothing_is_told_before_the_60th_point():
    values = noise(59, 1)
    values[40:] += 1000.0
    outcome = scored(values)
    assert not outcome.alert.any() and not outcome.opened.any() and np.isnan(outcome.expected).all()


# --- faults of one kind


def test_a_spike_is_told_early_and_leaves_no_echo():
    early = 0
    for seed in range(20):
        values = noise(600, seed)
        values[120] += 45.0
        found = told(values)
        early += [one[0] for one in found] == [120]
        if found:
            assert found[0][1:] == ("value", 125, "recovered")
    assert early >= 16, "15 standard deviations, after 120 points, when the line is 1.9 higher than later"


@pytest.mark.parametrize("seconds", [60.0, 300.0, 900.0, 3600.0])
def test_a_spike_at_the_first_point_of_an_hour_is_not_expected_for_the_rest_of_it(seconds):
    for seed in SEEDS:
        values, times = daily(2600, seconds, seed)
        values[1500] += 40.0
        assert times[1500] % 3600 == 0
        found = since(told(values, times), 1490)
        assert [one[:2] for one in found] == [(1500, "value")]
        assert found[0][2] <= (1505 if seconds >= 300.0 else 1570) and found[0][3] == "recovered"


def outages(seed, spread):
    values = noise(4500, seed)
    for first in (1500, 2500, 3500):
        values[first : first + 20] = RNG(seed + 50).normal(0.0, spread, 20)
    return told(values)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_same_outage_is_told_again_and_a_third_time(spread):
    at_once = 0
    for seed in range(8):
        found = since(outages(seed, spread), 1400)
        assert [one[:2] for one in found[:2]] == [(1500, "value"), (2500, "value")]
        assert [one[2:] for one in found[:2]] == [(1524, "recovered"), (2524, "recovered")]
        assert found[2][0] < 3520, "if not at once, then by its level or because it is stuck"
        at_once += found[2][0] == 3500
    assert at_once >= 4


def test_a_new_level_is_one_episode_that_ends_when_it_is_normal_and_going_back_is_told_once():
    for seed in SEEDS:
        values = noise(2900, seed)
        values[1500:2700] += 36.0
        shift, back = since(told(values), 1450)
        assert shift[:2] == (1500, "value") and shift[3] == "adapted" and shift[2] <= 1900
        assert back == (2700, "value", 2705, "recovered"), "the former level is known"


def test_after_a_new_level_is_accepted_the_band_is_about_it():
    values = noise(2500, 1)
    values[1500:] += 36.0
    found = scored(values)
    inside = (values >= found.lower) & (values <= found.upper)
    assert not inside[1500:1503].any() and inside[1710:].mean() > 0.97
    assert found.expected[1710:] == pytest.approx(86.0, abs=3.0)


def test_a_stuck_value_is_told_until_it_moves():
    for seed in SEEDS:
        values = noise(3200, seed)
        values[3000:3100] = 51.3
        ((first, kind, closed, reason),) = since(told(values), 3000)
        assert kind == "stuck" and first <= 3012 and (closed, reason) == (3104, "recovered")


@pytest.mark.parametrize("kind", ["quantised", "counts"])
def test_values_that_are_often_equal_are_not_stuck(kind):
    for seed in SEEDS:
        assert not [one for one in told(CALM[kind](3000, seed)) if one[1] == "stuck"]


def test_more_noise_is_told():
    for seed in SEEDS:
        values = noise(3300, seed)
        values[3000:3150] = RNG(seed + 9).normal(50.0, 15.0, 150)
        found = since(told(values), 3000)
        assert 1 <= len(found) <= 6 and found[0][0] <= 3010 and found[-1][2] <= 3170
        assert {one[1] for one in found} <= {"value", "noise"}


def test_a_higher_mean_that_no_value_shows_is_told_as_a_level():
    first, kinds = [], []
    for seed in SEEDS:
        values = noise(3200, seed)
        values[3000:] += 7.5
        found = since(told(values), 3000)
        first.append(found[0][0])
        kinds += [one[1] for one in found]
    assert max(first) <= 3020 and kinds.count("level") >= len(kinds) / 2


def test_a_change_of_a_constant_is_told_and_so_is_a_new_one():
    for level in (0.0, -5.0, 100.0):
        values = np.full(1500, level)
        values[1000] += 1.0
        assert told(values) == [(1000, "value", 1005, "recovered")]
        values[1000:] = level + 1.0
        ((first, _, closed, reason),) = told(values)
        assert (first, reason) == (1000, "adapted") and closed <= 1400


def test_a_usual_value_at_an_unusual_time_and_a_peak_that_does_not_come_are_named():
    for seed in range(3):
        values, times = daily(5000, 300.0, seed, size=40.0)
        values[4300] = 20.0
        assert [one[:2] for one in since(told(values, times), 4200)] == [(4300, "season")]
        values, times = jobs(24, seed, but=20)
        assert [one[:2] for one in since(told(values, times), 20 * 288 - 100)] == [(20 * 288 + 100, "missing")]


# --- counters


def counter(seed, n=3000):
    """A counter that is reset at point 1500; what is added to it."""
    rate = RNG(seed).poisson(20.0, n).astype(float)
    values = np.cumsum(rate)
    values[1500:] -= values[1500]
    return values, rate


def test_of_a_counter_its_rate_is_judged_and_a_reset_is_not():
    for seed in SEEDS:
        values, rate = counter(seed)
        assert told(values) == []
        values[2500:] += 5.0 * np.cumsum(rate)[: len(values) - 2500].clip(max=60 * 20.0)
        ((first, kind, closed, reason),) = told(values)
        assert (first, kind, reason) == (2500, "rate", "recovered") and closed <= 2575


def test_of_a_counter_the_next_value_is_expected():
    values, rate = counter(1)
    found = scored(values)
    assert found.expected[1000:1400] == pytest.approx(values[999:1399] + 20.0, abs=3.0)
    assert (found.lower[1000:] >= np.concatenate([values[999:1499], values[1499:-1]])).all(), "it never falls"
    assert rate.min() >= 0.0


# --- habits


def jobs(days, seed, first=0, but=-1, lasting=()):
    """A job of a quarter of an hour at 08:20 of each day; ``lasting``: three hours on that day."""
    times = every(300.0, days * 288)
    values = RNG(seed).normal(20.0, 1.0, len(times))
    for day in range(first, days):
        if day != but:
            begin = day * 288 + 100
            values[begin : begin + (36 if day in lasting else 3)] += 60.0
    return values, times


@pytest.mark.parametrize("first", [0, 6])
def test_a_daily_job_is_soon_told_no_more(first):
    for seed in SEEDS:
        found = told(*jobs(18, seed, first))
        days = [one[0] // 288 for one in found]
        assert days and days[0] == first and len(days) <= 4 and days[-1] <= first + 4


def test_it_is_told_again_when_it_lasts_longer_than_ever():
    for seed in SEEDS:
        values, times = jobs(18, seed, 6, lasting=(15,))
        begin = 15 * 288 + 100
        found = since(told(values, times), 14 * 288)
        assert begin + 3 < found[0][0] < begin + 36 and begin + 36 <= found[0][2] <= begin + 60
        assert len(found) == 1


def test_such_a_job_at_another_time_is_told():
    for seed in SEEDS:
        values, times = jobs(18, seed, 6)
        begin = 15 * 288 + 200
        values[begin : begin + 3] += 60.0
        assert [one[0] for one in since(told(values, times), 14 * 288)] == [begin]


# --- how rare is rare


class Alone:
    """The kernel over one series, in CPython."""

    def __init__(self):
        self.kernel = detectors.kernel("prediction_interval")
        checked = self.kernel.params.check("", {})
        self.p = self.kernel.params.values(checked)
        self.s = rows.Row(rows.dtype(self.kernel.fields(checked)))
        self.i = 0

    def run(self, values, metrics=1):
        found = []
        for x in values:
            at = rows.plain(places([MIDNIGHT + 60.0 * self.i]))[0]
            at.metrics = metrics
            found.append(self.kernel.step(self.s, self.p, float(x), at, None))
            self.i += 1
        return found


def test_among_k_metrics_a_value_must_be_k_times_as_rare():
    values = [*noise(2200, 1), 75.0]
    one = Alone().run(values)[-1]
    assert 3.0 < one < 8.0
    for k in (2, 10, 100):
        among = Alone().run(values, k)[-1]
        assert among == 0.0 or among == pytest.approx(one - np.log10(k))
    assert Alone().run(values, 10**9)[-1] == 0.0


def test_what_was_told_lately_makes_the_next_less_surprising():
    calm = Alone()
    calm.run(noise(2200, 1))
    lively = Alone()
    lively.run(noise(2200, 1))
    lively.s.told = 9.0
    size = float(calm.s.predictors.constant + 25.0)
    first, later = calm.run([size])[0], lively.run([size])[0]
    assert first - later == pytest.approx(np.log10(10.0), abs=1e-3)


def test_a_larger_value_is_at_least_as_surprising():
    before = Alone()
    before.run(noise(2200, 1))
    found = []
    for size in (10.0, 15.0, 20.0, 25.0, 30.0, 50.0, 1e3, 1e9):
        copy = Alone()
        copy.s, copy.i = before.s.copy(), before.i
        found += copy.run([50.0 + size])
    assert found == sorted(found) and found[0] == 0.0 and found[-1] == found[-2] > 6.0


def test_calm_noise_is_told_of_less_than_once_in_5000_points():
    assert sum(len(told(noise(4500, seed))) for seed in range(20)) <= 20 * 4500 / 5000


# --- units, batches, restarts


def faulty(seed=2):
    values = noise(2500, seed)
    values[1500:1530] = 0.0
    values[2200] += 60.0
    return values


@pytest.mark.parametrize("scale", [2.0**-20, 0.5, 2.0**30])
def test_in_other_units_of_a_power_of_two_everything_is_the_same_to_the_bit(scale):
    plain, scaled = scored(faulty()), scored(scale * faulty())
    assert plain.alert.max() > 0.9
    for column in ("alert", "score", "opened", "closed", "kind", "reason"):
        assert getattr(plain, column).tobytes() == getattr(scaled, column).tobytes()
    for column in ("expected", "lower", "upper"):
        assert (scale * getattr(plain, column)).tobytes() == getattr(scaled, column).tobytes()


@pytest.mark.parametrize("shift", [1024.0, -65536.0])
def test_shifted_values_are_told_alike(shift):
    plain, shifted = scored(faulty()), scored(faulty() + shift)
    assert plain.alert.tolist() == pytest.approx(shifted.alert.tolist(), abs=1e-5)
    assert plain.opened.tobytes() == shifted.opened.tobytes() and plain.closed.tobytes() == shifted.closed.tobytes()
    assert shifted.expected[100:] - shift == pytest.approx(plain.expected[100:], abs=1e-2)


@pytest.mark.parametrize("make", [lambda: faulty(), lambda: jobs(9, 1, 3)[0], lambda: counter(1)[0][1000:]])
def test_both_engines_and_any_batches_give_the_same_bits(make):
    made = points(make()[:2300])
    made.timestamp = every(300.0, len(made)).tolist()
    compiled, plain = (alone("prediction_interval", engine, warmup=1) for engine in ("numba", "python"))
    one, other = compiled.sources(), plain.sources()
    whole = compiled.run(one, made)
    parts = [plain.run(other, batch) for batch in batches(made, [1, 59, 60, 61, 700, 1501, 1502, 2201])]
    assert columns(parts) == columns([whole]) and states(one) == states(other)

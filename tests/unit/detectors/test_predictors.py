"""The seven predictors against plain definitions of each, and which of them a series of a known kind prefers.

The references keep every value and use numpy's means, weighted sums and least squares where the kernels go on from
their last figure. Values are uniform where a reference is compared: no error is so large that it would be cut.
"""

import math

import numpy as np
import pytest

from app.compiled import rows
from app.detectors.support import predictors
from app.detectors.support.calendar import places
from app.detectors.support.predictors import ALL, CONSTANT, DAY, DAY_NEXT, LAGS, LAST, SLOW, WEEK

NAMES = {CONSTANT: "constant", SLOW: "slow", DAY: "day", WEEK: "week", DAY_NEXT: "day next", LAGS: "lags", LAST: "last"}
DAYS = 86400.0
START = 20_000 * DAYS  # a midnight


class Predictors:
    """The predictors over one series, in CPython."""

    def __init__(self, x):
        self.f = rows.Row(rows.dtype(predictors.PREDICTORS))
        predictors.begin_predictors(self.f, x)

    def predict(self, t):
        at = rows.plain(places([t]))[0]
        return at, predictors.predict(self.f, at)

    def feed(self, x, t, calm=True, limit=0.0):
        """Learn x, its errors at most as ``limit`` (0.0: none); what each predictor said before, and the best one."""
        at, fresh = self.predict(t)
        said, best = list(self.f.next), self.f.best
        predictors.learn_errors(self.f, x, at, fresh, limit)
        predictors.learn_means(self.f, x, limit)
        predictors.learn_course(self.f, x, at, fresh, calm)
        return said, best


def every(seconds, n):
    return START + seconds * np.arange(n)


def followed(values, times):
    """f8[n, ALL], what each predictor said of each value before it was learned; and the best, by name."""
    p = Predictors(float(values[0]))
    said, best = zip(*(p.feed(float(x), float(t)) for x, t in zip(values, times)))
    return np.array(said), [NAMES[k] for k in best]


def uniform(n, seed=1):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, n) + 20.0


def remembered(values, share):
    """The mean of values of which the newest counts 1/n, and later ``share``: by the weight of each of them."""
    first = min(len(values), math.floor(1.0 / share))  # so many count alike
    ages = np.arange(len(values) - 1, first - 1, -1)
    weights = np.concatenate([np.full(first, 1.0 / first), share * (1.0 - share) ** np.arange(len(ages))[::-1]])
    weights[:first] *= (1.0 - share) ** len(ages)
    return float(weights @ values)


# --- what each says


def test_constant_is_the_mean_of_all_values_until_3000_are_known():
    values = uniform(3200)
    said, _ = followed(values, every(60.0, 3200))
    means = np.cumsum(values)[:-1] / np.arange(1, 3200)
    assert said[1:3001, CONSTANT] == pytest.approx(means[:3000], rel=1e-12)
    assert said[3199, CONSTANT] == pytest.approx(remembered(values[:3199], 1 / 3000), rel=1e-12)


def test_slow_is_the_mean_of_about_50_values():
    values = uniform(400)
    said, _ = followed(values, every(60.0, 400))
    for i in (1, 7, 50, 51, 200, 399):
        assert said[i, SLOW] == pytest.approx(remembered(values[:i], 1 / 50), rel=1e-12)


def test_day_is_the_mean_of_the_values_at_that_time_of_day():
    values, times = uniform(12 * 288), every(300.0, 12 * 288)
    said, _ = followed(values, times)
    for i in range(288, len(values), 97):
        assert said[i, DAY] == pytest.approx(remembered(values[i % 288 : i : 288], 0.12), rel=1e-6)


def test_until_a_time_of_day_was_seen_the_slow_mean_is_expected_there():
    said, _ = followed(uniform(200), every(300.0, 200))
    assert (said[:, DAY] == said[:, SLOW]).all()


def test_week_is_the_mean_of_the_values_in_that_hour_of_the_week():
    values, times = uniform(4 * 672), every(900.0, 4 * 672)
    said, _ = followed(values, times)
    hours = (times // 3600 + 72) % 168  # 1970 began on a Thursday
    for i in range(672, len(values), 131):
        assert said[i, WEEK] == pytest.approx(remembered(values[:i][hours[:i] == hours[i]], 0.3 / 4), rel=1e-6)


def test_day_next_adds_a_share_of_the_last_distance_from_the_day():
    """The share is the autocorrelation of such distances, of which each counts .998 of the next."""
    n = 6 * 96
    values, times = np.convolve(uniform(n + 1), [0.7, 0.3], "valid"), every(900.0, n)
    said, _ = followed(values, times)
    off = values - said[:, DAY]
    for i in range(2 * 96, n, 41):
        pairs = np.arange(96, i)
        weights = 0.998 ** (i - 1.0 - pairs)
        share = weights @ (off[pairs] * off[pairs - 1]) / (weights @ off[pairs - 1] ** 2)
        assert said[i, DAY_NEXT] == pytest.approx(said[i, DAY] + np.clip(share, 0.0, 1.0) * off[i - 1], rel=1e-9)
        assert 0.1 < share < 0.7


def autoregression(values):
    """What LAGS says, by least squares over all values at once.

    Values are in the standard deviations and from the mean that were known then, the first fitted is the 21st. A value
    counts .999 of the next one, and the coefficients are drawn to (0, .5, 0, 0, 0, 0) by a tenth of a value at first.
    """
    n = len(values)
    means = np.cumsum(values) / np.arange(1, n + 1)
    sds = np.sqrt(np.maximum(np.cumsum(values**2) / np.arange(1, n + 1) - means**2, 0.0))
    sds[0] = 0.0
    own = np.divide(values - means, sds, out=np.zeros(n), where=sds > 0.0)
    lags = np.array([[1.0, *(own[i - k] if i >= k else 0.0 for k in range(1, 6))] for i in range(n)])
    wanted = np.array([0.0, 0.0, *((values[2:] - means[1:-1]) / sds[1:-1])])
    start = np.array([0.0, 0.5, 0.0, 0.0, 0.0, 0.0])

    def said(i):
        weights = 0.999 ** (i - 1.0 - np.arange(20, i))
        pull = 0.1 * 0.999 ** (i - 20.0)
        a = (lags[20:i] * weights[:, None]).T @ lags[20:i] + pull * np.eye(6)
        b = (lags[20:i] * weights[:, None]).T @ wanted[20:i] + pull * start
        return means[i - 1] + sds[i - 1] * float(lags[i] @ np.linalg.solve(a, b))

    return said


def swinging(n, seed=2):
    """An AR(2) process: a noisy oscillation of some 15 points."""
    noise, values = np.random.default_rng(seed).uniform(-1.0, 1.0, n + 200), [0.0, 0.0]
    for e in noise:
        values.append(1.7 * values[-1] - 0.9 * values[-2] + e)
    return np.array(values[-n:])


def test_lags_is_the_least_squares_fit_on_the_last_five_values():
    values = swinging(1200)
    said, _ = followed(values, every(60.0, 1200))
    reference = autoregression(values)
    for i in (25, 40, 100, 500, 1199):
        assert said[i, LAGS] == pytest.approx(reference(i), rel=1e-6, abs=1e-6)


def test_a_fit_on_other_values_is_seen_to_differ():
    """The negative control."""
    values = swinging(300)
    said, _ = followed(values, every(60.0, 300))
    assert abs(said[299, LAGS] - autoregression(values[::-1])(299)) > 0.1
    assert abs(said[299, SLOW] - remembered(values[:299], 1 / 60)) > 1e-3


def test_last_is_the_last_value():
    values = uniform(50)
    said, _ = followed(values, every(60.0, 50))
    assert (said[1:, LAST] == values[:-1]).all()


def test_errors_are_means_of_the_last_500():
    values = uniform(900)
    p = Predictors(float(values[0]))
    said = np.array([p.feed(float(x), t)[0] for x, t in zip(values, every(60.0, 900))])
    for k, first in ((CONSTANT, 1), (SLOW, 1), (LAST, 2)):  # how long a pause is, is known from the second value on
        errors = np.abs(values - said[:, k])[first:]
        assert p.f.absolute[k] == pytest.approx(remembered(errors, 1 / 500), rel=1e-9)
        assert p.f.squared[k] == pytest.approx(remembered(errors**2, 1 / 500), rel=1e-9)


# --- which is the best


def course(n, seconds, seed):
    """Another level in each quarter of an hour of the day, with noise."""
    rng = np.random.default_rng(seed)
    profile = rng.normal(0.0, 10.0, 96)
    return profile[(every(seconds, n) % DAYS // 900).astype(int)] + rng.normal(0.0, 1.0, n)


def weekly(n, seconds, seed):
    """Office hours: nothing at weekends."""
    rng, times = np.random.default_rng(seed), every(seconds, n)
    day, hour = (times // DAYS + 3) % 7, times % DAYS // 3600
    return np.where((day < 5) & (hour >= 8) & (hour < 18), 50.0, 5.0) + rng.normal(0.0, 1.0, n)


def drifting(n, seconds, seed):
    """The course, with noise of which each value keeps .8 of the last."""
    values = course(n, seconds, seed)
    noise = np.random.default_rng(seed + 100).normal(0.0, 1.0, n)
    for i in range(1, n):
        noise[i] += 0.8 * noise[i - 1]
    return values + 3.0 * noise


def wandering(n, seed):
    """Noise about a level that walks slowly."""
    steps, noise = np.random.default_rng(seed).normal(0.0, 1.0, (2, n))
    return 0.06 * np.cumsum(steps) + noise


KINDS = {
    "constant": (lambda n, seed: np.random.default_rng(seed).normal(10.0, 2.0, n), 1000, 60.0),
    "slow": (wandering, 2000, 3600.0),
    "day": (lambda n, seed: course(n, 900.0, seed), 960, 900.0),
    "week": (lambda n, seed: weekly(n, 1800.0, seed), 1344, 1800.0),
    "day next": (lambda n, seed: drifting(n, 900.0, seed), 1344, 900.0),
    "lags": (swinging, 1000, 60.0),
    "last": (lambda n, seed: np.cumsum(np.random.default_rng(seed).normal(0.0, 1.0, n)), 1000, 60.0),
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_series_of_a_kind_is_predicted_by_that_kind(kind, seed):
    make, n, seconds = KINDS[kind]
    _, best = followed(make(n, seed), every(seconds, n))
    later = best[3 * n // 4 :]
    assert later.count(kind) >= 0.9 * len(later)


# --- time


def test_after_a_pause_of_more_than_five_intervals_the_last_values_predict_nothing():
    p = Predictors(0.0)
    for x, t in zip(np.cumsum(np.random.default_rng(1).normal(0.0, 1.0, 300)), every(60.0, 300)):
        p.feed(float(x), float(t))
    end = START + 60.0 * 299
    assert [p.predict(end + pause)[1] for pause in (60.0, 300.0, 301.0, 86400.0)] == [True, True, False, False]
    p.predict(end + 60.0)
    assert p.f.best in (LAGS, LAST)
    p.predict(end + 301.0)
    assert p.f.best < DAY_NEXT and p.f.next[DAY_NEXT] == p.f.next[DAY]


def test_late_points_do_not_turn_time_back():
    p = Predictors(1.0)
    for t in (0.0, 60.0, 120.0, 30.0, 180.0):
        p.feed(1.0, START + t)
    assert p.f.time == START + 180.0 and 0.0 < p.f.interval <= 60.0


# --- what they learn of what is far off


def known(days=6, noise=1.0):
    """After some days of a plain daily course, and the time of the next value."""
    rng, p, n = np.random.default_rng(4), Predictors(0.0), 96 * days
    for i, t in enumerate(every(900.0, n)):
        p.feed(10.0 * math.sin(2.0 * math.pi * i / 96) + noise * rng.normal(), float(t))
    return p, START + 900.0 * n


def mornings(p, t, x, days, calm=True):
    """What is expected at the first value of each of the next days, if that is x and all others are as usual."""
    found = []
    for i in range(96 * days):
        usual = 10.0 * math.sin(2.0 * math.pi * i / 96)
        said, _ = p.feed(x if i % 96 == 0 else usual, t + 900.0 * i, calm)
        if i % 96 == 0:
            found.append(said[DAY])
    return found


def test_a_course_follows_what_is_far_off_for_three_days_in_a_row():
    said = mornings(*known(), 100.0, 6)
    assert max(map(abs, said[:3])) < 4.0 and said[3] > 60.0 and said[5] > 85.0


def test_one_far_value_is_learned_as_a_near_one():
    p, t = known()
    before = p.f.first + p.f.day[0]
    p.feed(1e9, t, limit=5.0)
    assert p.f.first + p.f.day[0] == pytest.approx(before + 4.0 * p.f.absolute[DAY] / 7.0, rel=1e-5)
    assert max(map(abs, p.f.next)) < 30.0


def test_one_far_value_is_not_expected_for_the_rest_of_an_hour_that_was_not_seen_before():
    p, t = known()
    assert not p.f.week_seen[72]
    p.feed(1e9, t, limit=5.0)
    p.predict(t + 900.0)
    assert abs(p.f.next[WEEK]) < 10.0


def test_in_an_episode_a_far_value_is_not_learned_at_all():
    p, t = known(days=8)
    day, week, mean = list(p.f.day), list(p.f.week), p.f.mean
    p.feed(1e9, t, calm=False, limit=5.0)
    assert (p.f.day, p.f.week, p.f.mean) == (day, week, mean)


@pytest.mark.parametrize("seed", [3, 9, 17, 31])
def test_two_first_values_that_are_nearly_equal_spoil_no_fit(seed):
    """Their deviation is far too small a unit: what was fitted in it was seven times as far off at point 1000."""
    values = swinging(1000, seed)
    said, _ = followed(values, every(60.0, 1000))
    assert abs(values[1] - values[0]) < 0.13
    assert np.mean(np.abs(said[100:, LAGS] - values[100:])) == pytest.approx(0.5, abs=0.03)


def test_a_move_of_the_level_moves_what_every_mean_says():
    p, t = known()
    p.predict(t)
    before = np.array(p.f.next)
    predictors.move(p.f, 1000.0)
    p.predict(t + 1.0)
    assert np.array(p.f.next)[:LAGS] - before[:LAGS] == pytest.approx([1000.0] * LAGS, rel=1e-6)


# --- units


@pytest.mark.parametrize("scale", [2.0**-30, 0.5, 2.0**40])
def test_in_other_units_of_a_power_of_two_they_say_the_same_to_the_bit(scale):
    values = drifting(400, 900.0, 1)
    said, best = followed(values, every(900.0, 400))
    scaled, same = followed(values * scale, every(900.0, 400))
    assert (scaled == said * scale).all() and same == best


def test_a_shift_changes_them_as_little_as_single_precision_does():
    values = drifting(400, 900.0, 1)
    said, best = followed(values, every(900.0, 400))
    shifted, same = followed(values + 1024.0, every(900.0, 400))
    assert np.abs(shifted - 1024.0 - said).max() < 1e-4 and same == best
    assert ALL == len(NAMES) == said.shape[1]

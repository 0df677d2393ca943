"""Each statistical detector against an independent answer: a batch formula, another library, published figures."""

from itertools import groupby

import numpy as np
import pytest
from river.drift import PageHinkley
from scipy import stats
from support.points import gaussian

from app import detectors
from app.compiled import rows
from app.detectors.api import run
from app.detectors.support import window
from app.detectors.support.calendar import places


class Alone:
    """One detector over one series, fed by hand: its state ``s`` can be set and looked at, as can its window ``w``."""

    def __init__(self, name, window_points=100, **given):
        self.kernel = detectors.kernel(name)
        checked = self.kernel.params.check(name, given)
        self.p = self.kernel.params.values(checked)
        fields = self.kernel.fields(checked)
        self.s = rows.Row(rows.dtype(fields)) if fields else None
        self.w = rows.Row(rows.dtype(window.fields(max(window_points, getattr(self.p, "window_size", 0)))))
        self.t = 0.0

    def expected(self, t=None):
        t = self.t + 60.0 if t is None else t
        return self.kernel.band(self.s, self.p, rows.plain(places([t]))[0], self.w)

    def feed(self, x, t=None):
        self.t = self.t + 60.0 if t is None else t
        score = self.kernel.step(self.s, self.p, x, rows.plain(places([self.t]))[0], self.w)
        window.push(self.w, x)
        return score


def pasts(values, size):
    """Each value with the window before it, from the second one on."""
    for i in range(1, len(values)):
        yield i, np.array(values[max(0, i - size) : i]), values[i]


NOISE = gaussian(400)
ROUNDED = np.random.default_rng(5).poisson(0.4, 400).astype(float).tolist()  # more than half are 0


@pytest.mark.parametrize("values", [NOISE, ROUNDED], ids=["noise", "counts"])
def test_modified_zscore_is_that_of_the_window(values):
    found = run("modified_zscore", values, window_points=50, warmup=1)
    for i, past, x in pasts(values, 50):
        spread = stats.median_abs_deviation(past, scale=0.6745)
        if spread == 0.0:
            spread = np.sqrt(np.pi / 2) * np.abs(past - np.median(past)).mean()
        if spread > 0.0:
            assert found[i] == pytest.approx(abs(x - np.median(past)) / spread, rel=1e-9)


def test_modified_zscore_finds_what_outliers_hide_from_the_zscore():
    masked = [*gaussian(70), *[1000.0] * 30]
    assert run("zscore", [*masked, 1000.0])[-1] < 3.0
    assert run("modified_zscore", [*masked, 1000.0])[-1] > 100.0


@pytest.mark.parametrize("values", [NOISE, ROUNDED], ids=["noise", "counts"])
def test_iqr_is_the_distance_beyond_the_quartiles(values):
    found = run("iqr", values, window_points=50, warmup=1)
    for i, past, x in pasts(values, 50):
        low, high = np.quantile(past, [0.25, 0.75])
        spread = stats.iqr(past) or stats.norm.ppf(0.75) * 2 * past.std()
        if spread > 0.0:
            assert found[i] == pytest.approx(max(low - x, x - high, 0.0) / spread, rel=1e-6)


@pytest.mark.parametrize(("threshold", "outside"), [(1.5, 0.00698), (3.0, 2.3e-6)])
def test_of_normal_noise_as_many_points_lie_beyond_the_fences_as_tukey_says(threshold, outside):
    a = Alone("iqr", window_points=4096, threshold=threshold)
    for x in gaussian(4096, seed=1, mean=0.0, std=1.0):
        a.feed(x)
    _, lower, upper = a.expected()
    assert stats.norm.cdf(lower) + stats.norm.sf(upper) == pytest.approx(outside, rel=0.4)


BANDED = ["moving_average", "zscore", "modified_zscore", "iqr", "ewma", "rate_of_change", "linear_regression"]
BANDED += ["autoregression", "seasonal"]


@pytest.mark.parametrize("name", BANDED)
def test_what_lies_on_the_edge_of_the_band_scores_its_alert_line(name):
    values = gaussian(150)
    for side in (1, 2):
        a = Alone(name)
        for x in values:
            a.feed(x)
        edge = a.expected()[side]
        assert a.feed(edge) == pytest.approx(getattr(a.p, a.kernel.alert_at), rel=1e-9)


def weighted(values, half_life):
    """Mean and standard deviation, the weight of a value halved every half_life."""
    weights = 0.5 ** (np.arange(len(values))[::-1] / half_life)
    mean = np.average(values, weights=weights)
    return mean, np.sqrt(np.average((np.array(values) - mean) ** 2, weights=weights))


def test_ewma_measures_from_the_weighted_mean_of_all_before():
    found = run("ewma", NOISE, half_life=20.0, warmup=2)
    for i in range(2, len(NOISE)):
        mean, std = weighted(NOISE[:i], 20.0)
        assert found[i] == pytest.approx(abs(NOISE[i] - mean) / std, rel=1e-9)


def test_ewma_expects_what_the_nist_handbook_prints():
    """NIST/SEMATECH e-Handbook of Statistical Methods, section 6.3.2.4: lambda = .3, starting at the target 50."""
    values = [52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5]
    values += [49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1]
    printed = [50.00, 50.60, 49.52, 50.56, 50.18, 50.16, 49.21, 49.75, 49.85, 50.26]
    printed += [50.33, 50.11, 49.36, 49.52, 50.05, 49.38, 49.92, 50.73, 51.23, 51.94, 51.99]
    a = Alone("ewma", half_life=np.log(0.5) / np.log(0.7))
    a.s.level.mean, a.s.level.weight = 50.0, 1.0 / 0.3
    found = [a.expected()[0]]
    for x in values:
        a.feed(x)
        found.append(a.expected()[0])
    assert found == pytest.approx(printed, abs=0.0101)  # the handbook rounds as it goes


def test_an_outlier_of_any_size_moves_the_weighted_mean_no_more_than_one_of_six_deviations():
    for size in (1e3, 1e12, 1e150):
        a = Alone("ewma")
        for x in NOISE:
            a.feed(x)
        mean, var = a.s.level.mean, a.s.level.var
        a.feed(size)
        share = 1.0 / a.s.level.weight
        assert a.s.level.mean - mean == pytest.approx(6.0 * share * np.sqrt(var))
        assert a.s.level.var == pytest.approx((1.0 - share) * (1.0 + 36.0 * share) * var)


def test_a_lasting_change_of_level_is_taken_in():
    found = run("ewma", [*NOISE, *gaussian(200, seed=2, mean=1010.0)])
    assert found[400] > 400.0 and max(found[-50:]) < 3.0


def test_rate_of_change_is_the_score_of_the_steps():
    steps = np.diff(NOISE)
    found = run("rate_of_change", NOISE, half_life=20.0, warmup=3)
    for i in range(3, len(NOISE)):
        mean, std = weighted(steps[: i - 1], 20.0)
        assert found[i] == pytest.approx(abs(steps[i - 1] - mean) / std, rel=1e-9)


def test_rate_of_change_sees_a_jump_inside_the_range_of_values():
    values = (10.0 * np.sin(np.arange(300) / 10.0) + 0.1 * np.array(gaussian(300, mean=0.0, std=1.0))).tolist()
    values[250] = -values[250]
    assert abs(values[250]) > 1.0
    assert run("rate_of_change", values)[250] > 3.0 > run("zscore", values)[250]


def known(a, mean, std):
    """Let a detector take the level for settled: its mean and deviation no longer move."""
    a.s.level.mean, a.s.level.var, a.s.level.weight, a.s.level.seen = mean, std * std, 1e15, 1000
    return a


MONTGOMERY = """
    9.45 0 .05 | 7.99 0 1.56 | 9.29 0 1.77 | 11.66 1.16 0 | 12.16 2.82 0 | 10.18 2.50 0 | 8.04 .04 1.46 | 11.46 1.00 0
    9.20 0 .30 | 10.34 0 0 | 9.03 0 .47 | 11.47 .97 0 | 10.51 .98 0 | 9.40 0 .10 | 10.08 0 0 | 9.37 0 .13
    10.62 .12 0 | 10.31 0 0 | 8.52 0 .98 | 10.84 .34 0 | 10.90 .74 0 | 9.33 0 .17 | 12.29 1.79 0 | 11.50 2.79 0
    10.60 2.89 0 | 11.08 3.47 0 | 10.38 3.35 0 | 11.62 4.47 0 | 11.31 5.28 0"""


def test_cusum_sums_up_what_montgomery_prints():
    """Statistical Quality Control, section 9.1: target 10, deviation 1, k = .5, h = 5; value, C+ and C- of each."""
    a = known(Alone("cusum", half_life=1e12, threshold=5.0), 10.0, 1.0)
    for line in MONTGOMERY.replace("\n", "|").strip("| ").split("|"):
        x, above, below = map(float, line.split())
        assert a.feed(x) == pytest.approx(max(above, below), abs=1e-9)
        assert (a.s.above, a.s.below) == pytest.approx((above, below), abs=1e-9)
    a.feed(10.52)
    assert a.s.above == pytest.approx(0.02), "after the signal the sums start again"


def test_normal_noise_reaches_the_line_of_cusum_as_rarely_as_siegmund_says():
    """(exp(2 k b) - 2 k b - 1) / (2 k k) points for one side, b = h + 1.166 (Montgomery, equation 9.6)."""
    b = 4.0 + 1.166
    length = (np.exp(b) - b - 1.0) / 0.5 / 2.0
    a = known(Alone("cusum", half_life=1e12, threshold=4.0), 0.0, 1.0)
    signals = sum(a.feed(x) >= 4.0 for x in gaussian(30_000, mean=0.0, std=1.0))
    assert signals == pytest.approx(30_000 / length, rel=0.25)


def test_cusum_expects_the_mean_and_its_band_ends_where_a_sum_reaches_the_line():
    for side, field in ((2, "above"), (1, "below")):
        a = known(Alone("cusum"), 10.0, 2.0)
        setattr(a.s, field, 6.0)
        assert a.expected()[0] == 10.0 and abs(a.expected()[side] - 10.0) == 5.0
        assert a.feed(a.expected()[side]) == pytest.approx(8.0)


SHIFTED = [*gaussian(300, mean=0.0, std=1.0), *gaussian(60, seed=8, mean=1.5, std=1.0)]


def test_page_hinkley_is_that_of_river_in_standard_deviations():
    river = PageHinkley(min_instances=30, delta=0.0, threshold=1e9, alpha=0.99)
    ours = Alone("page_hinkley", delta=0.0, alpha=0.99, threshold=1e9)
    for i, x in enumerate(SHIFTED):
        score = ours.feed(x)
        river.update(x)
        rise, fall = river._sum_increase - river._min_increase, river._max_decrease - river._sum_decrease
        std = np.std(SHIFTED[: i + 1])
        assert score == (pytest.approx(max(rise, fall) / std, rel=1e-9) if i >= 29 else 0.0)
    assert score > 20.0


def test_page_hinkley_leaves_out_delta_of_each_deviation():
    values = np.array(SHIFTED)
    count = np.arange(1, len(values) + 1)
    mean = values.cumsum() / count
    std = np.array([values[:n].std() for n in count])
    rise = (values - mean - 0.25 * std).cumsum()
    fall = (values - mean + 0.25 * std).cumsum()
    expected = np.maximum(rise - np.minimum.accumulate(rise), np.maximum.accumulate(fall) - fall)[29:] / std[29:]
    found = run("page_hinkley", SHIFTED, alpha=1.0, threshold=1e9)
    assert found[30:] == pytest.approx(expected[1:].tolist(), rel=1e-9)


def test_page_hinkley_says_a_lasting_shift_once():
    found = np.array(run("page_hinkley", [*gaussian(300), *gaussian(400, seed=8, mean=14.0)]))
    assert (found >= 20.0).sum() == 1 and 300 < found.argmax() < 330


@pytest.mark.parametrize("seed", range(5))
def test_flatline_compares_each_run_with_the_longest_before_it(seed):
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.integers(0, 50, 60), rng.geometric(0.3, 60) + rng.integers(0, 9, 60)).astype(float).tolist()
    found, expected, longest = run("flatline", values, warmup=1), [], 0
    for _, run_ in groupby(values):
        length = len(list(run_))
        least = max(longest, 5)
        expected += [max(0.0, i / least - 1.0) if longest else 0.0 for i in range(1, length + 1)]
        longest = max(longest, min(length, 2 * least) if longest else length)
    assert found == pytest.approx(expected) and max(found) > 0.0


def test_flatline_takes_a_trembling_value_for_stuck_within_its_tolerance():
    values = [*gaussian(100), *(10.0 + 0.01 * np.sin(np.arange(40))).tolist()]
    assert run("flatline", values)[-1] == 0.0 < 1.0 < run("flatline", values, tolerance=0.03)[-1]


def spaced(intervals):
    return np.cumsum([1e9, *intervals]).tolist()


def test_gaps_measures_an_interval_by_those_before_it():
    intervals = np.random.default_rng(3).uniform(30.0, 200.0, 300)
    found = run("gaps", [1.0] * 301, times=spaced(intervals), half_life=20.0, warmup=3)
    for i in range(3, 301):
        mean, std = weighted(intervals[: i - 1], 20.0)
        spread = max(std, 0.25 * mean)
        assert found[i] == pytest.approx(max(0.0, intervals[i - 1] - mean) / spread, rel=1e-6)


@pytest.mark.parametrize(("missing", "alerts"), [(1, False), (2, True), (500, True)])
def test_gaps_of_a_source_that_keeps_time(missing, alerts):
    intervals = [60.0] * 100 + [60.0 * (1 + missing)] + [60.0] * 20
    found = run("gaps", [1.0] * 122, times=spaced(intervals))
    assert (found[101] >= 8.0) == alerts and max(found[:101] + found[102:]) < 1.0


def test_gaps_of_points_that_come_by_chance_are_rarely_said():
    intervals = np.random.default_rng(3).exponential(60.0, 20_000)
    found = np.array(run("gaps", [1.0] * 20_001, times=spaced(intervals)))
    assert (found >= 8.0).sum() <= 20


def test_gaps_measures_on_from_a_clock_that_was_set_back():
    minutes = 60.0 * np.arange(200)
    back = np.concatenate([1e9 + minutes[:100], 1e9 - 1e6 + minutes[100:]])
    back[170:] += 900.0
    found = run("gaps", [1.0] * 200, times=back.tolist())
    assert [i for i, score in enumerate(found) if score > 1.0] == [170]


@pytest.mark.parametrize("size", [3, 30])
def test_linear_regression_is_that_of_scipy(size):
    values = (np.array(NOISE) + 0.3 * np.arange(400)).tolist()
    a = Alone("linear_regression", window_size=size)
    for i, x in enumerate(values):
        if i >= 3:
            past = np.array(values[max(0, i - size) : i])
            n, ages = len(past), np.arange(len(past))
            line = stats.linregress(ages, past)
            left = ((past - line.intercept - line.slope * ages) ** 2).sum() / (n - 2)
            error = np.sqrt(left * (1 + 1 / n + (n - ages.mean()) ** 2 / ((ages - ages.mean()) ** 2).sum()))
            expected, lower, upper = a.expected()
            assert expected == pytest.approx(line.intercept + line.slope * n, rel=1e-9)
            assert (lower, upper) == pytest.approx((expected - 3 * error, expected + 3 * error), rel=1e-7)
        a.feed(x)


def test_three_standard_errors_hold_as_many_points_beside_a_line_as_the_t_distribution_says():
    values = (np.array(gaussian(20_000, mean=0.0, std=1.0)) + 0.01 * np.arange(20_000)).tolist()
    found = np.array(run("linear_regression", values, window_size=10))
    assert (found[30:] > 3.0).mean() == pytest.approx(2 * stats.t.sf(3.0, 8), rel=0.15)


def autoregressive(n, coefficients, seed=3, mean=50.0):
    values = [0.0] * len(coefficients)
    for shock in gaussian(n, seed, mean=0.0, std=1.0):
        values.append(shock + float(np.dot(coefficients, values[: -len(coefficients) - 1 : -1])))
    return (mean + np.array(values[-n:])).tolist()


@pytest.mark.parametrize("order", range(1, 9))
def test_autoregression_predicts_as_weighted_least_squares_over_all_points(order):
    values = autoregressive(120, [1.2, -0.5, 0.1])
    a = Alone("autoregression", order=order, forgetting_factor=0.98)
    for i, x in enumerate(values):
        if i in (3 * order + 2, 60, 119):
            lagged = np.array([[1.0, *values[k - order : k][::-1]] for k in range(order, i + 1)])
            weights = np.sqrt(0.98 ** np.arange(i - order)[::-1])
            found, *_ = np.linalg.lstsq(lagged[:-1] * weights[:, None], np.array(values[order:i]) * weights, rcond=None)
            assert a.expected()[0] == pytest.approx(lagged[-1] @ found, rel=1e-7)
        a.feed(x)


def test_autoregression_finds_the_model_that_made_the_values_and_its_noise():
    values = autoregressive(5000, [1.2, -0.5])
    a = Alone("autoregression", order=2, forgetting_factor=1.0)
    scores = [a.feed(x) for x in values]
    _, level, change = a.s.coefficients  # x - x1 = (a1 + a2 - 1) x1 - a2 (x1 - x2)
    assert (level + 1.0 + change, -change) == pytest.approx((1.2, -0.5), abs=0.03)
    _, lower, upper = a.expected()
    assert (upper - lower) / 6.0 == pytest.approx(1.0, abs=0.05)
    assert np.mean(np.array(scores[100:]) > 3.0) == pytest.approx(2 * stats.norm.sf(3.0), abs=0.002)


@pytest.mark.parametrize("values", [[5.0] * 20_000, [1e9 + v for v in autoregressive(20_000, [0.9])]])
def test_autoregression_neither_winds_up_nor_loses_its_accuracy(values):
    """On a constant source the recursion of the inverse grows by 1 / forgetting_factor a point, without bound."""
    a = Alone("autoregression", forgetting_factor=0.95)
    scores = [a.feed(x) for x in values]
    assert np.isfinite(scores).all() and np.abs(a.s.factor).max() < 1e4
    assert np.mean(np.array(scores[1000:]) > 3.0) < 0.02
    assert a.feed(values[-1] + 50.0) > 10.0


def test_autoregression_is_usable_again_right_after_an_outlier():
    values = autoregressive(600, [1.2, -0.5])
    struck = values.copy()
    struck[400] = 1e12
    calm, found = run("autoregression", values), run("autoregression", struck)
    assert found[400] == 1e9 and found[420:] == pytest.approx(calm[420:], abs=0.5)


def daily(days, every=1200.0, seed=3):
    """Times and values of a daily course with noise of 1."""
    times = 1_700_000_000.0 + every * np.arange(int(days * 86400 / every))
    course = 10.0 * np.sin(2 * np.pi * times / 86400)
    return times.tolist(), (50.0 + course + gaussian(len(times), seed, mean=0.0, std=1.0)).tolist()


@pytest.mark.parametrize("season", [24, 168])
def test_seasonal_measures_from_the_weighted_mean_of_the_hour(season):
    times, values = daily(20)
    hours = [int(t // 3600) for t in times]
    found = run("seasonal", values, times=times, season_hours=season, half_life=3.0, warmup=1)
    residuals, decays = [], []  # the spread fades with every hour entered whose mean is known
    for i, x in enumerate(values):
        same = [k for k in range(i) if hours[k] % season == hours[i] % season]
        if not same:
            assert found[i] == 0.0
            continue
        seasons = [hours[k] // season for k in same]
        mean = np.average([values[k] for k in same], weights=[0.5 ** ((seasons[-1] - n) / 3.0) for n in seasons])
        if hours[i] != hours[i - 1]:  # the weight of this season's values is not yet in it
            assert seasons[-1] < hours[i] // season
        if len(residuals) >= 20:
            ages = np.cumsum([0, *decays[:0:-1]])[::-1]
            std = np.sqrt(np.average(np.square(residuals), weights=0.5 ** (ages / (3.0 * season))))
            assert found[i] == pytest.approx(abs(x - mean) / std, rel=1e-6)
        residuals.append(x - mean)
        decays.append(hours[i] != hours[i - 1])
    assert len(residuals) > 20


def test_seasonal_finds_the_common_value_at_the_wrong_hour():
    times, values = daily(14)
    peak = max(range(900, 972), key=lambda i: values[i])
    low = min(range(900 - 72, 900), key=lambda i: values[i])
    values[low] = values[peak]
    assert run("seasonal", values, times=times)[low] > 8.0
    assert run("zscore", values)[low] < 3.0


def test_seasonal_by_the_week_knows_its_weekend():
    times, values = daily(70, every=3600.0)
    weekend = [int(t // 86400) % 7 in (2, 3) for t in times]  # 1970 began on a Thursday
    values = [v - 30.0 * off for v, off in zip(values, weekend)]
    start = max(i for i in range(len(times)) if weekend[i]) + 1 - 24 * 5
    assert not any(weekend[start : start + 24])
    values[start : start + 24] = [v - 30.0 for v in values[start : start + 24]]
    by_day, by_week = (run("seasonal", values, times=times, season_hours=hours) for hours in (24, 168))
    assert min(by_week[start : start + 24]) > 6.0 > 3.0 > max(by_day[start : start + 24])
    assert np.mean(np.array(by_week[24 * 28 : start]) > 3.0) < 0.01


def test_seasonal_band_is_that_of_the_hour_of_the_point():
    times, values = daily(10)
    a = Alone("seasonal")
    for t, x in zip(times, values):
        expected = a.expected(t)[0]
        if t > times[300]:
            assert abs(expected - x) < 7.0 and expected == a.s.means[int(t // 3600) % 24]
        a.feed(x, t)

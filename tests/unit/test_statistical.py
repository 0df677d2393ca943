"""Each statistical detector against an independent answer: a batch formula, another library, published figures."""

import numpy as np
import pytest
from points import gaussian
from scipy import stats

from app import detectors, rows, window
from app.detectors.kit import run


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

    def expected(self):
        return self.kernel.band(self.s, self.p, self.w)

    def feed(self, x, t=None):
        self.t = self.t + 60.0 if t is None else t
        score = self.kernel.step(self.s, self.p, x, self.t, self.w)
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


@pytest.mark.parametrize("name", ["moving_average", "zscore", "modified_zscore", "iqr", "ewma", "rate_of_change"])
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

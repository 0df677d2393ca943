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


@pytest.mark.parametrize("name", ["moving_average", "zscore", "modified_zscore", "iqr"])
def test_what_lies_on_the_edge_of_the_band_scores_its_alert_line(name):
    values = gaussian(150)
    for side in (1, 2):
        a = Alone(name)
        for x in values:
            a.feed(x)
        edge = a.expected()[side]
        assert a.feed(edge) == pytest.approx(getattr(a.p, a.kernel.alert_at), rel=1e-9)

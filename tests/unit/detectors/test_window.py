"""The window against the statistics of exactly the values it should hold."""

import statistics
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation
from support.points import gaussian

from app.compiled import rows
from app.detectors.support import window

SIZE = 16


def made(size=SIZE):
    return rows.Row(rows.dtype(window.fields(size)))


def series():
    rng = np.random.default_rng(5)
    noise = rng.normal(0.0, 0.1, 3000)
    spiked = noise.copy()
    spiked[::97] = 1e12
    falling = noise * 10.0 ** (12 - np.arange(3000) % 25)
    return {
        "gaussian": gaussian(3000),
        "spikes of 1e12 in noise of 0.1": spiked.tolist(),
        "scale falling by 10 a point": falling.tolist(),
        "mean of 1e9": (1e9 + noise).tolist(),
        "ties": rng.integers(-2, 3, 3000).astype(float).tolist(),
        "constant between changes": np.repeat(rng.normal(0, 5, 100), 30).tolist(),
        "walk": np.cumsum(rng.normal(0, 1, 3000)).tolist(),
        "huge": (rng.normal(0, 0.3, 3000) * 1e150).tolist(),
    }


@pytest.mark.parametrize("name", series())
def test_features_are_those_of_exactly_the_last_values(name):
    w, last = made(), deque(maxlen=SIZE)
    for i, x in enumerate(series()[name]):
        if last and (i < 4 * SIZE or i % 7 == 0):
            values = np.array(last)
            scale = np.abs(values).max()
            assert window.count(w) == len(values)
            assert window.mean(w) == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-13 * scale), i
            assert window.std(w) == pytest.approx(exact_std(values), rel=1e-9, abs=1e-14 * scale), i
            assert (window.lowest(w), window.highest(w)) == (values.min(), values.max())
            assert window.median(w) == pytest.approx(np.median(values), rel=1e-12, abs=1e-15 * scale), i
            for share in (0.0, 0.1, 0.25, 0.75, 1.0):
                assert window.quantile(w, share) == pytest.approx(np.quantile(values, share), rel=1e-9), (i, share)
            assert window.mad(w) == pytest.approx(median_abs_deviation(values), rel=1e-12, abs=1e-15 * scale), i
            distance = np.abs(values - x).mean()
            assert window.mean_distance(w, x) == pytest.approx(distance, rel=1e-12, abs=1e-15 * scale), i
            assert window.percentile(w, x) == ((values < x).sum() + (values <= x).sum()) / (2 * len(values))
            assert [window.before(w, age) for age in range(1, len(values) + 1)] == values[::-1].tolist()
        window.push(w, x)
        last.append(x)


def exact_std(values):
    """Two passes in extended precision around the middle value."""
    wide = values.astype(np.longdouble) - np.longdouble(np.median(values))
    return float(np.sqrt(((wide - wide.mean()) ** 2).mean()))


def test_noise_is_measured_again_as_soon_as_a_spike_has_left():
    w = made()
    noise = gaussian(3 * SIZE, mean=0.0, std=0.1)
    for x in [*noise[:SIZE], 1e12, *noise[SIZE : 2 * SIZE]]:
        window.push(w, x)
    assert window.std(w) == pytest.approx(np.std(noise[SIZE : 2 * SIZE]), rel=1e-12)


def test_a_rolling_variance_without_renewal_is_seen_to_drift():
    """The negative control: the same formula, never made anew, is off after the spike."""
    w = made()
    values = [*gaussian(SIZE, mean=0.0, std=0.1), 1e12, *gaussian(SIZE, seed=8, mean=0.0, std=0.1)]
    for x in values:
        w.moments.peak, w.moments.lap = 0.0, 0
        window.push(w, x)
    assert abs(window.std(w) / np.std(values[-SIZE:]) - 1.0) > 1e-6


def test_an_empty_window_answers_too():
    w = made()
    assert [window.mean(w), window.std(w), window.lowest(w), window.highest(w)] == [0.0] * 4
    assert [window.median(w), window.quantile(w, 0.3), window.mad(w), window.mean_distance(w, 3.0)] == [0.0] * 4
    assert window.z(w, 3.0) == 0.0 and window.percentile(w, 3.0) == 0.5


@pytest.mark.parametrize("size", [2, 3, 256, 257, 300])
def test_every_size_keeps_its_order(size):
    w, last = made(size), deque(maxlen=size)
    for x in gaussian(3 * size + 5):
        window.push(w, x)
        last.append(x)
    ordered = [w.ring[i] for i in w.order[: len(last)]]
    assert ordered == sorted(last) and sorted(w.order[: len(last)]) == list(range(len(last)))


@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=60), st.integers(2, 12))
def test_it_is_bounded_and_ordered_for_any_values(values, size):
    w = made(size)
    for x in values:
        window.push(w, x)
    kept = values[-size:]
    assert [w.ring[i] for i in w.order[: len(kept)]] == sorted(kept)
    assert np.isfinite(window.std(w)) and window.std(w) <= (max(kept) - min(kept)) * 1.000001

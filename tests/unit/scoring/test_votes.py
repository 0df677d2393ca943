"""Raw scores to votes, votes to a score, a score to a word and a sentence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.compiled import rows
from app.pipeline import explain
from app.scoring import calibration, severity


def past(raws, silent=0):
    c = rows.Row(rows.dtype(calibration.FIELDS))
    for raw in raws:
        calibration.learn(c, raw, silent)
    return c


@pytest.mark.parametrize("k", [0.5, 3.0, 100.0])
def test_a_score_on_its_line_votes_080(k):
    assert calibration.on_line(k, k) == 0.8
    assert calibration.on_line(0.0, k) == 0.0 == calibration.on_line(-5.0, k)
    assert calibration.on_line(1e9, k) == pytest.approx(1.0, abs=1e-6)


@given(st.floats(0.0, 1e9), st.floats(0.0, 1e9), st.floats(0.01, 100.0))
def test_a_higher_score_never_votes_lower(a, b, k):
    assert (calibration.on_line(a, k) <= calibration.on_line(b, k)) == (a <= b) or calibration.on_line(
        a, k
    ) == calibration.on_line(b, k)


def test_a_score_is_standardised_by_its_own_past():
    raws = np.random.default_rng(3).normal(50, 4, 1000).clip(40, 60)
    c = past(raws)
    assert calibration.above_past(c, 58.0) == pytest.approx((58.0 - raws.mean()) / raws.std(), rel=1e-9)
    assert calibration.above_past(c, 42.0) < 0.0


def test_scores_that_mean_nothing_are_no_past():
    raws = np.random.default_rng(3).normal(50, 4, 100).tolist()
    late, plain = past([0.0] * 250 + raws, silent=250), past(raws)
    assert (late.mean, late.var, late.seen) == (plain.mean, plain.var, 350)
    assert past([0.0] * 250 + raws).mean < 20.0


def test_an_outlier_is_learned_cut():
    raws = np.random.default_rng(3).normal(50, 4, 200)
    calm, struck = past(raws), past([*raws, 1e6])
    assert struck.mean - calm.mean < 1.0 and np.sqrt(struck.var) < 1.2 * np.sqrt(calm.var)


def test_a_constant_past_does_not_freeze_what_is_learned():
    c = past([2.0] * 100)
    assert calibration.above_past(c, 2.0) == 0.0 and calibration.above_past(c, 3.0) > 1e6
    for _ in range(3000):
        calibration.learn(c, 3.0, 0)
    assert c.mean == pytest.approx(3.0, abs=0.1) and calibration.above_past(c, 3.0) < 3.0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=60), st.floats(-1e308, 1e308))
def test_what_is_learned_stays_finite_for_any_raw_scores(raws, raw):
    c = past(raws)
    assert np.isfinite([c.mean, c.var, calibration.above_past(c, raw)]).all() and c.seen == len(raws)


@given(st.floats(-5.0, 40.0), st.floats(0.1, 5.0))
def test_ten_times_rarer_leaves_a_tenth_to_1(e, k):
    found = calibration.on_surprise(e, k)
    assert found == pytest.approx(max(0.0, 1 - 0.2 * 10 ** (k - e)) if e > 0 else 0.0, abs=1e-6)
    assert calibration.on_surprise(k, k) == 0.8


@pytest.mark.parametrize(
    ("alert", "word"),
    [
        *[(0.0, "low"), (0.8, "low"), (0.800001, "medium"), (0.9, "medium"), (0.900001, "high"), (0.95, "high")],
        *[(0.950001, "critical"), (1.0, "critical")],
    ],
)
def test_severity_is_a_word_for_the_alert_score(alert, word):
    assert severity.severity(alert) == word
    assert severity.NAMES[severity.severities(np.array([alert]))[0]] == word


def test_an_explanation_names_value_side_and_what_was_expected():
    template = "{value} is {score} {side} {expected} of {count} ({name})"
    assert explain.explain(template, "m", 12.3456, 4.1, 9.8, 100) == "12.35 is 4.1 above 9.8 of 100 (m)"
    assert explain.explain(template, "m", -39197.4, 4.1, 1e20, 7) == "-39197 is 4.1 below 1e+20 of 7 (m)"
    assert explain.explain(template, "m", -1e9, 4.0, 0.0, 7) == "-1e+09 is 4 below 0 of 7 (m)"
    assert explain.explain(explain.DEFAULT, "m", 5.0, 0.25, float("nan"), 0) == "5 is unusual: m scores it 0.25"

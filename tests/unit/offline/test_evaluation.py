"""The figures of results against labels, compared with other programs and with counting by hand."""

import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import SCORE_NAB, needs_data

from app.offline.evaluation import (
    NAB,
    LabelledScores,
    LabelledWindow,
    best_f1,
    delay_f1,
    evaluation_metrics,
    mask,
    nab,
    probation,
    runs,
    windows_between,
)


def series(alert, windows=(), first=0, inside=None, score=None, time=None):
    """Alerts are the points of .8 and more; each is an episode of one point unless ``inside`` says otherwise."""
    alert = np.array(alert, float)
    opened = alert >= 0.8
    inside = opened if inside is None else np.array(inside, bool)
    score = alert if score is None else np.array(score, float)
    time = np.arange(len(alert)) * 60.0 if time is None else np.array(time, float)
    return LabelledScores(time, score, alert, inside, opened, [LabelledWindow(*each) for each in windows], first)


def drawn(seed, points=400, ties=True):
    """A series with windows and scores that have something to do with them, many of them equal."""
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.choice(points // 20, 4, replace=False)) * 20
    windows = [(int(a), int(a + rng.integers(1, 20))) for a in starts]
    alert = rng.random(points) ** 3 + 0.4 * mask(points, [LabelledWindow(*each) for each in windows]) * rng.random(
        points
    )
    alert = np.round(np.minimum(alert, 1.0), 1 if ties else 6)
    return series(alert, windows, first=probation(points))


# --- windows


def test_runs_of_marks_are_windows():
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [(0, 2), (3, 4), (6, 7)]
    assert runs(np.zeros(3, bool)) == runs(np.zeros(0, bool)) == []


@given(st.lists(st.booleans(), max_size=40))
def test_runs_hold_exactly_what_is_marked(marks):
    label = np.array(marks, bool)
    assert (mask(len(label), runs(label)) == label).all()


def test_intervals_of_time_hold_both_their_ends():
    time = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    assert windows_between(time, [(30, 40), (5, 20)]) == [(1, 3), (3, 5)], "neighbours stay two"
    assert windows_between(time, [(21, 29)]) == []
    assert windows_between(time, [(0, 20), (10, 30)]) == [(0, 3), (3, 4)], "no point is in two"


def test_times_that_go_back_keep_points_outside_an_interval_outside():
    time = np.array([0.0, 10.0, 20.0, 0.0, 10.0, 20.0])
    assert windows_between(time, [(10, 20)]) == [(1, 3), (4, 6)]


# --- points and alerts, counted by hand


def test_points_and_alerts_by_hand():
    #                        0   1   2   3   4   5   6   7   8   9
    found = evaluation_metrics([series([0, .9, 0, 0, .9, 0, 0, .9, 0, 0], [(3, 6), (8, 10)],
                            inside=[0, 1, 0, 0, 1, 1, 1, 1, 0, 0])])  # fmt: skip
    assert (found.points, found.labelled, found.windows, found.hit) == (10, 5, 2, 1)
    assert (found.alerts, found.false_alerts) == (3, 2)
    assert found.false_alerts_per_1000 == 1000 * 2 / 5 and found.false_alarm_rate == 3 / 5
    assert found.precision == 2 / 5 and found.recall == 2 / 5 and found.f1 == 0.4
    assert found.delay_points == 1 and found.delay_s == 60.0


def test_first_points_do_not_count():
    windows = [(0, 2), (3, 6)]
    found = evaluation_metrics([series([0.9, 0, 0.9, 0, 0.9, 0, 0], windows, first=4)])
    assert (found.points, found.labelled, found.windows, found.alerts, found.hit) == (3, 2, 1, 1, 1)
    assert found.delay_points == 0, "a window begins with its first point that counts"
    assert probation(1000) == 150 and probation(100_000) == 750 and probation(0) == 0


def test_what_cannot_be_divided_is_none():
    nothing = evaluation_metrics([])
    assert nothing.points == 0 and nothing.precision is nothing.f1 is nothing.average_precision is None
    normal = evaluation_metrics([series([0, 0, 0.9])])
    assert normal.false_alerts_per_1000 == 1000 / 3 and normal.f1 == 0.0
    assert normal.recall is normal.best_f1 is normal.delay_points is normal.delay_f1 is None and normal.nab == {}


def test_counts_of_several_series_are_added_before_they_are_divided():
    a, b = drawn(1), drawn(2, points=200)
    one, other, both = evaluation_metrics([a]), evaluation_metrics([b]), evaluation_metrics([a, b])
    for name in ("points", "labelled", "windows", "hit", "alerts", "false_alerts"):
        assert getattr(both, name) == getattr(one, name) + getattr(other, name)
    inside, label = (np.concatenate([a.counted().inside, b.counted().inside]),
                     np.concatenate([a.counted().label, b.counted().label]))  # fmt: skip
    assert both.precision == (inside & label).sum() / inside.sum()


# --- other programs


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_points_are_counted_as_scikit_learn_does(seed, ties):
    metrics = pytest.importorskip("sklearn.metrics")
    part = drawn(seed, ties=ties).counted()
    found = evaluation_metrics([drawn(seed, ties=ties)])
    label, inside = part.label, part.inside
    precision, recall, _ = metrics.precision_recall_curve(label, part.score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found.best_f1 == pytest.approx(f1.max())
    assert metrics.f1_score(label, part.score >= found.best_threshold) == pytest.approx(found.best_f1)
    right = metrics.precision_recall_fscore_support(label, inside, average="binary", zero_division=0.0)
    assert [found.precision or 0.0, found.recall, found.f1] == pytest.approx(right[:3])
    normal, wrong, _, _ = metrics.confusion_matrix(label, inside).ravel()
    assert found.false_alarm_rate == wrong / (normal + wrong)


def average_precision_by_definition(score, label):
    """The sum of (recall - recall at the threshold before) * precision, over all thresholds from high to low."""
    total = before = 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        reached = score >= threshold
        right = int((reached & label).sum())
        total += (right / label.sum() - before) * right / int(reached.sum())
        before = right / label.sum()
    return total


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_that_of_its_definition_also_with_equal_scores(seed, ties):
    part = drawn(seed, ties=ties).counted()
    expected = average_precision_by_definition(part.score, part.label)
    assert evaluation_metrics([drawn(seed, ties=ties)]).average_precision == pytest.approx(expected, rel=1e-12)


def test_average_precision_by_hand():
    # .9: 1 of 1, half of the labelled points; .5, two points at once: 2 of 3, the other half; 0 adds nothing.
    found = evaluation_metrics([series([0.9, 0.5, 0.5, 0.0], [(0, 2)])])
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert evaluation_metrics([series([0.5] * 4, [(1, 2)])]).average_precision == 1 / 4, "equal scores rank nothing"


def test_only_labels_load_scikit_learn():
    """It takes a second, which nobody without labels should wait for."""
    code = (
        "import sys, numpy as np\n"
        "from app.offline.evaluation import LabelledScores, LabelledWindow, evaluation_metrics\n"
        "n = np.zeros(3)\n"
        "for windows in ([], [LabelledWindow(0, 1)]):\n"
        "    evaluation_metrics([LabelledScores(n, n, n, n > 0, n > 0, windows)]); print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def brute_force_delay_f1(score, windows, delay):
    """As the rule is written: points of a window all found or all missed, at every threshold."""
    label, best = mask(len(score), windows), 0.0
    for level in np.unique(score):
        said = score >= level
        for start, stop in windows:
            said[start:stop] = said[start : min(stop, start + delay + 1)].any()
        best = max(best, 2 * (said & label).sum() / (said.sum() + label.sum()))
    return best


@pytest.mark.parametrize("seed", range(10))
def test_f1_with_a_delay_is_that_of_the_adjusted_points(seed):
    part = drawn(seed)
    for delay in (0, 3, 7):
        assert delay_f1([(part.score, part.windows)], delay) == pytest.approx(
            brute_force_delay_f1(part.score, part.windows, delay)
        )


def test_f1_with_a_delay_by_hand():
    score = np.array([0, 0.1, 0, 0.9, 0.9, 0.1, 0.9, 0, 0.2, 0])
    windows = [LabelledWindow(2, 6), LabelledWindow(7, 10)]
    # At .9 the first window is found in its 2nd point, all 4 points of it count; .9 outside is wrong; 3 are missed.
    assert delay_f1([(score[:7], windows[:1])], 1) == 2 * 4 / (4 + 1 + 4)
    # With no delay allowed its first point must do, at 0, where everything is found: the three points outside too.
    assert delay_f1([(score[:7], windows[:1])], 0) == 2 * 4 / (4 + 3 + 4)
    # .2 finds the second window, in its 2nd point, at no further cost.
    assert delay_f1([(score, windows)], 1) == 2 * 7 / (7 + 1 + 7)


# --- NAB


def nab_by_definition(every, threshold, weigh):
    """One threshold, one pass over the points: as the paper says it."""
    total = windows = 0
    for each in every:
        last_stop = width = None
        found = [False] * len(each.windows)
        for i in range(len(each.time)):
            k = next((k for k, (start, stop) in enumerate(each.windows) if start <= i < stop), None)
            for start, stop in each.windows:
                if stop <= i:
                    last_stop, width = stop, stop - start
            if i < each.first or each.alert[i] < threshold:
                continue
            if k is not None:
                start, stop = each.windows[k]
                if not found[k]:
                    y = -(stop - i) / (stop - start)
                    total += weigh.found * (2 / (1 + math.exp(5 * y)) - 1) / (2 / (1 + math.exp(-5)) - 1)
                found[k] = True
            else:
                after = None if last_stop is None else (i - last_stop + 1) / max(width - 1, 1)
                far = after is None or after > 3
                total -= weigh.false * (1.0 if far else -(2 / (1 + math.exp(5 * after)) - 1))
        counted = [stop > each.first for _, stop in each.windows]
        windows += sum(counted)
        total -= weigh.missed * sum(not hit for hit, counts in zip(found, counted) if counts)
    return 100 * (total + weigh.missed * windows) / (windows * (weigh.found + weigh.missed))


def test_the_perfect_detector_of_nab_has_100_and_the_null_detector_0():
    windows = [(300, 360), (500, 501), (700, 760)]
    at_once = [1.0 if i in (300, 500, 700) else 0.0 for i in range(1000)]
    assert nab([series(at_once, windows, first=150)]) == pytest.approx(dict.fromkeys(NAB, 100.0))
    assert nab([series([0.5] * 1000, windows, first=150)])["standard"] == 0.0, "nothing told apart: better say nothing"
    assert nab([series([0.5] * 1000)]) == {}


def test_a_detection_half_way_into_a_window_by_hand():
    """2 / (1 + e^-2.5) - 1 of 2 / (1 + e^-5) - 1 = .8483 / .9866, of a window that could have given 1 or taken 1."""
    half = [1.0 if i == 350 else 0.0 for i in range(1000)]
    found = nab([series(half, [(300, 400)], first=150)])
    assert found["standard"] == pytest.approx(100 * (0.84828 / 0.98661 + 1) / 2, abs=1e-3)
    assert found["reward_low_FN_rate"] == pytest.approx(100 * (0.84828 / 0.98661 + 2) / 3, abs=1e-3)


def test_false_alerts_cost_what_the_profile_says():
    early = [1.0 if i in (200, 300) else 0.0 for i in range(1000)]
    found = nab([series(early, [(300, 400)], first=150)])
    assert found["standard"] == pytest.approx(100 * (1 - 0.11 + 1) / 2)
    assert found["reward_low_FP_rate"] == pytest.approx(100 * (1 - 0.22 + 1) / 2)
    unheard = [1.0 if i in (100, 300) else 0.0 for i in range(1000)]
    assert nab([series(unheard, [(300, 400)], first=150)])["standard"] == pytest.approx(100.0)


@pytest.mark.parametrize("seed", range(10))
def test_nab_agrees_with_its_definition(seed):
    every = [drawn(seed), drawn(seed + 100, points=150, ties=False)]
    levels = np.unique(np.concatenate([each.alert for each in every]))
    for name, found in nab(every).items():
        expected = max(0.0, *(nab_by_definition(every, level, NAB[name]) for level in levels))
        assert found == pytest.approx(expected)


@needs_data
@pytest.mark.parametrize("seed", range(10))
def test_nab_agrees_with_another_scorer(seed):
    spec = importlib.util.spec_from_file_location("score_nab", SCORE_NAB)
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    every = {f"{i}": drawn(seed + i, points=300 + i) for i in range(4)}
    layouts = {
        name: scorer.Layout(len(each.time), [(a, b - 1) for a, b in each.windows]) for name, each in every.items()
    }
    theirs = scorer.score_series(layouts, {name: each.alert for name, each in every.items()})
    ours = nab(list(every.values()))
    assert ours == pytest.approx({name: theirs[name]["score"] for name in ours})


def test_numbers_of_figures_do_not_depend_on_numpy_types():
    """They are written as JSON."""
    assert json.loads(json.dumps(asdict(evaluation_metrics([drawn(3)])))) == asdict(evaluation_metrics([drawn(3)]))


def test_average_precision_and_f1_of_nothing():
    empty, none = np.zeros(0), np.zeros(0, bool)
    assert evaluation_metrics([series([], [])]).average_precision is None and best_f1(empty, none) == (None, None)

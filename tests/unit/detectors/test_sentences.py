"""What the default set says of anomalies is true: ``claims.py`` recomputes every sentence from the raw points."""

from functools import cache

import msgspec
import numpy as np
import pytest
from support.claims import PATTERNS, SENTENCES, Series, false, joint, parsed, subject

from app.detectors import prediction_interval
from app.pipeline import Pipeline
from app.pipeline.explain import digits, span
from app.pipeline.points import Points
from app.settings import Detection
from app.wire.results import encode_results
from tests.drills.series import DRILLS, made

SEEDS = (1, 2)
EXPLANATIONS = {(detector, number): template for detector, number, template in SENTENCES}
LEVELS = [("prediction_interval", number) for number in (prediction_interval.LEVEL, prediction_interval.RATE_LEVEL)]
EACH = 7  # of the points within an episode one in so many is checked, besides its first


@cache
def pipeline():
    made = Pipeline(Detection())
    made.compile()
    return made


def results(time, metrics):
    """The results, as they are sent, of one source."""
    names, n = sorted(metrics), len(time)
    points = Points(list(range(n)), [0] * n, ["a"] * n, list(time), [True] * n)
    points.values = np.column_stack([metrics[name] for name in names]).ravel().tolist()
    if names != ["value"]:
        points.metrics, points.start = names * n, list(range(0, len(names) * n + 1, len(names)))
    outcome = pipeline().run(pipeline().sources(), points)
    return [msgspec.json.decode(result) for _, result in encode_results(points, outcome, "raw-data", 0)]


class Told:
    """One source: its raw points, and the sentences on them."""

    def __init__(self, time, metrics, counter=False):
        self.time, self.metrics, self.counter = time, metrics, counter
        self.results = results(time, metrics)
        self.inside = [one["is_anomaly"] for one in self.results]
        self.opened = [one.get("episode") == one["id"] for one in self.results]
        values = list(zip(time, *metrics.values()))
        self.learned = [i for i, one in enumerate(values) if i == 0 or one != values[i - 1]]  # repeats are not
        self.series = {}
        self.sentences = []  # (metric or None: all of them, point, sentence, figures)
        since = 0
        for i in np.flatnonzero(self.inside).tolist():
            since = i if self.opened[i] else since
            if (i - since) % EACH == 0:
                one = self.results[i]
                metric, said = "value", one["explanation"]
                if list(metrics) != ["value"]:
                    metric, said = subject(said, sorted(metrics))
                    most = max(one["attribution"], key=one["attribution"].get)
                    assert metric in (None, most) or (one["kind"] == "pair" and not self.opened[i])
                place = int(np.searchsorted(self.learned, i))
                if self.learned[place] == i:
                    self.sentences.append((metric, place, said, (one["figure"], one["usual"])))

    def of(self, metric):
        """The raw points of a metric, or what all of them come to."""
        if metric not in self.series:
            expected = [one.get("expected", np.nan) for one in self.results]
            if metric is None:
                x, expected = joint(self.metrics), np.full(len(expected), np.nan)
            else:
                x = self.metrics[metric]
                expected = [one.get(metric, np.nan) if isinstance(one, dict) else one for one in expected]
            votes = np.array([one.get("detectors", {}).get("prediction_interval", np.nan) for one in self.results])
            columns = self.time, x, expected, self.inside, self.opened, votes >= 0.8
            kept = (np.asarray(one)[self.learned] for one in columns)
            begins = int(np.argmax(~np.isnan(votes[self.learned])))
            others = {name: x[self.learned] for name, x in self.metrics.items() if name != metric}
            self.series[metric] = Series(*kept, begins, self.counter, others)
        return self.series[metric]

    def false(self):
        """The sentences that are not true, and why."""
        found = []
        for metric, i, said, figures in self.sentences:
            why = false(self.of(metric), i, said, figures)
            if why:
                found.append(f"point {i}: {said}: {'; '.join(why)}")
        return found


def drill(name, seed):
    case = made(name, seed, 0)
    alone = case.metrics() if hasattr(case, "metrics") else case.values
    if not case.one_by_one:
        return [Told(case.time.tolist(), alone, counter="counter" in name)]
    kept = {metric: ~np.isnan(x) for metric, x in alone.items()}
    return [Told(case.time[kept[metric]].tolist(), {"value": x[kept[metric]]}) for metric, x in alone.items()]


def minutes(n):
    return [60.0 * i for i in range(n)]


def counter(added):
    return Told(minutes(len(added)), {"value": np.cumsum(added)}, counter=True)


def counter_that_begins_anew(random):
    added = np.round(random.normal(100.0, 8.0, 3000))
    added[2525:2565] += 400.0
    x = np.cumsum(added)
    for at in (2525 + EACH, 2525 + 2 * EACH, 2525 + 4 * EACH):
        x[at:] -= x[at] - 7.0
    return Told(minutes(3000), {"value": x}, counter=True)


def counter_of_equal_steps(random):
    added = random.poisson(3.0, 3000).astype(float)
    added[:40] += 1.0
    added[2200:2290] = 3.0
    return counter(added)


def counter_that_scatters(random):
    added = random.normal(1000.0, 10.0, 3000)
    added[2200:2300] += random.normal(0.0, 22.0, 100)
    return counter(added)


def counter_that_is_slower(random):
    added = random.normal(1000.0, 10.0, 3000)
    added[2200:] -= 14.0
    return counter(added)


def values_that_lie_higher(random):
    x = random.normal(50.0, 2.0, 3000)
    x[2200:] += 2.9
    return Told(minutes(3000), {"value": x})


def missing_peaks(random):
    x = random.normal(50.0, 2.0, 288 * 20)
    for first in range(100, len(x), 288):
        x[first : first + 3] += 80.0
    at = 100 + 288 * 15
    x[at : at + 3] -= 80.0
    return Told([300.0 * i for i in range(len(x))], {"value": x})


def vectors(random):
    n = 2600
    metrics = {name: random.normal(mean, 1.0, n) for name, mean in (("cpu", 40.0), ("disk", 900.0), ("load", 3.0))}
    for x in metrics.values():
        x[1200:1230] += random.normal(0.0, 3.0, 30)
        x[2000:2040] += 2.5
    metrics["disk"][2300] += 20.0
    return Told(minutes(n), metrics)


def metrics_that_part(random):
    """Two of three went together; one goes its own way, and comes back."""
    n, at = 3000, slice(2200, 2300)
    load, own = (np.convolve(random.normal(0.0, 4.0, n + 9), np.full(10, 0.3), "valid") for _ in range(2))
    b = 500.0 + 3.0 * load + random.normal(0.0, 1.5, n)
    b[at] = 500.0 + 3.0 * own[at] + random.normal(0.0, 1.5, 100)
    return Told(minutes(n), {"a": 100.0 + load + random.normal(0.0, 0.3, n), "b": b, "c": random.normal(7.0, 1.0, n)})


def usual_for_the_hour_but_not_lately(random):
    """A value far from the last 400, but not so far from the last ones of its hour."""
    x = np.clip(random.normal(50.0, 2.0, 3600), 44.5, 55.5)
    x[10], at = 60.0, 2903
    x[at - 5 : at] = 53.5 + random.normal(0.0, 0.3, 5)
    x[at] = 58.0
    return Told([600.0 * i for i in range(len(x))], {"value": x})


OWN = (
    counter_that_begins_anew, counter_of_equal_steps, counter_that_scatters, counter_that_is_slower,
    values_that_lie_higher, missing_peaks, vectors, metrics_that_part, *6 * [usual_for_the_hour_but_not_lately],
)  # fmt: skip


@cache
def told(name, seed):
    own = [one(np.random.default_rng([seed, k])) for k, one in enumerate(OWN) if one.__name__ == name]
    return own or drill(name, seed)


NAMES = [*DRILLS, *dict.fromkeys(one.__name__ for one in OWN)]
SCATTERED = [("calm_weekends", 4), ("calm_weekends", 5)]  # of those above none


@pytest.mark.parametrize(("name", "seed"), [*((name, seed) for name in NAMES for seed in SEEDS), *SCATTERED])
def test_every_sentence_is_true(name, seed):
    assert [one for series in told(name, seed) for one in series.false()] == []


@cache
def everything():
    made = [*((name, seed) for name in NAMES for seed in SEEDS), *SCATTERED]
    return [series for name, seed in made for series in told(name, seed)]


ANOTHER = {"above": "below", "below": "above"}


def changed(field, text, which):
    """Another side, length, metric, or number; what is usual is not known as exactly as other numbers."""
    if field == "other":
        return "c"
    if field == "span":
        return text.replace("days", "hours") if "days" in text else text.replace("hours", "days")
    if text in ANOTHER:
        return ANOTHER[text]
    factor = 1.1 if field != "usual" else 4.0 if which in LEVELS else 1.5
    return digits(float(text) * factor + (1.0 if "." not in text else 1e-3))


@pytest.mark.parametrize("which", EXPLANATIONS, ids=str)
def test_a_sentence_with_something_changed_is_found_out(which):
    examples = [
        (series.of(metric), i, said)
        for series in everything()
        for metric, i, said, _ in series.sentences
        if parsed(said)[0] == which
    ]
    assert examples, "no series of this test makes the detectors say so"
    s, i, said = examples[len(examples) // 2]
    match = PATTERNS[which].fullmatch(said)
    for field, text in match.groupdict().items():
        wrong = said[: match.start(field)] + changed(field, text, which) + said[match.end(field) :]
        assert false(s, i, wrong), f"not found out: {wrong}, where true is: {said}"


def test_days_are_told_in_the_unit_in_which_they_read_best():
    assert [span(days) for days in (0.001, 0.04, 0.5, 1.99, 2.0, 36.4142, 1234.5)] == [
        "86.4 seconds", "57.6 minutes", "12 hours", "47.8 hours", "2 days", "36.4 days", "1234 days",
    ]  # fmt: skip

"""When an open episode is told of again: against its definition, read off the results, in both engines."""

import json
from itertools import pairwise

import numpy as np
import pytest
from support.points import detection, points

from app.pipeline import Pipeline
from app.scoring.severity import severity
from app.settings import Detection
from app.wire.results import encode_episodes

ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])


def walk(seed: int, n: int = 600):
    """Of two sources: outbursts of rising height, times of all steps, repeats, now and then backwards."""
    rng = np.random.default_rng(seed)
    values = rng.normal(10.0, 1.0, n)
    for first in rng.integers(60, n - 60, 6).tolist():
        values[first : first + 50] += np.sort(rng.uniform(2.0, 14.0, 50))
    made = points(values.round(3), ["a" if i % 3 else "b" for i in range(n)])
    made.timestamp = np.cumsum(rng.choice([0.0, 1.0, 7.0, 30.0, 61.0, -40.0, -300.0], n)).tolist()
    for i in range(3, n):
        if rng.random() < 0.1:
            made.timestamp[i], made.values[i] = made.timestamp[i - 3], made.values[i - 3]
    return made


def told(outcome) -> list[bool]:
    """Where there must be an event that an episode has changed."""
    last: dict[int, float] = {}
    peaks: dict[int, float] = {}
    found = []
    for i, slot in enumerate(outcome.slot.tolist()):
        time, peak, counts = outcome.timestamp[i], float(outcome.peak[i]), outcome.anomaly[i] and not outcome.repeat[i]
        changed = bool(counts and not outcome.opened[i])
        changed = changed and (severity(peak) != severity(peaks[slot]) or time - last[slot] >= 60.0)
        if outcome.opened[i] or changed:
            last[slot] = time
        if counts:
            peaks[slot] = peak
        found.append(changed)
    return found


@pytest.mark.parametrize("seed", range(3))
@ENGINES
def test_an_open_episode_is_told_when_it_is_worse_and_once_a_minute_of_its_points(seed, engine):
    pipeline = Pipeline(detection("ewma", warmup=5, threshold_=0.7), engine=engine)
    made = walk(seed)
    outcome = pipeline.run(pipeline.sources(), made)
    assert outcome.changed.tolist() == told(outcome)
    rose = [severity(float(outcome.peak[i])) for i in np.flatnonzero(outcome.changed)]
    assert len(set(rose)) > 1 and outcome.repeat[outcome.anomaly].any() and (np.diff(outcome.timestamp) < 0).any()
    whole = encode_episodes(made, outcome, "t", 0)
    sources, parts = pipeline.sources(), []
    for first in range(0, len(made), 7):
        part = made.select(range(first, min(first + 7, len(made))))
        parts += encode_episodes(part, pipeline.run(sources, part), "t", 0)
    assert parts == whole
    events = [json.loads(value) for _, value in whole]
    assert [one["offset"] for one in events] == sorted({one["offset"] for one in events}), "one event a point"
    for before, event in pairwise(events):
        if (event["event"], event["source"]) == ("changed", before["source"]):
            assert event["episode"] == before["episode"] and event["points"] > before["points"]
            assert event["severity"] == severity(event["peak_score"])


@ENGINES
def test_a_clock_that_was_set_back_makes_no_event_of_each_point(engine):
    """Two clocks, five minutes apart, in one source: one event a minute and not one a point."""
    pipeline = Pipeline(Detection(method="zscore", range_highest=99.0), engine=engine)
    made = points([999.0] * 200)
    made.timestamp = [float(i) - (300.0 if i % 2 else 0.0) for i in range(200)]
    outcome = pipeline.run(pipeline.sources(), made)
    assert np.flatnonzero(outcome.opened).tolist() == [0] and outcome.anomaly.all()
    assert np.flatnonzero(outcome.changed).tolist() == [60, 120, 180]

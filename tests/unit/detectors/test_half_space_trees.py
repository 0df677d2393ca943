"""The compiled trees beside River's own, and what they make of spikes."""

import csv
import math
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.points import alone, awkward, batches, columns, detection, kinds, points, states

import generators
from app import detectors
from app.compiled import rows
from app.compiled.numeric import log
from app.errors import ConfigurationError
from app.pipeline import Pipeline
from app.state import snapshot

KERNEL = detectors.kernel("HalfSpaceTrees")
SERIES = Path(generators.__file__).with_name("series")
GIVEN = [
    {},
    {"margin": 0.0},
    {"n_trees": 3, "height": 5, "window_size": 300, "seed": 7},
    {"n_trees": 2, "height": 12, "window_size": 255, "seed": 1, "margin": 0.37},
    {"n_trees": 1, "height": 1, "window_size": 2, "seed": 0},
    {"n_trees": 25, "height": 6, "window_size": 256, "seed": 2**40, "margin": 10.0},
]
each = pytest.mark.parametrize("given", GIVEN, ids=str)


@cache
def synthetic():
    rng = random.Random(4)
    series = awkward()
    series["spiky"] = [rng.gauss(50.0, 5.0) + (60.0 if rng.random() < 0.01 else 0.0) for _ in range(1300)]
    series["seasonal"] = [math.sin(i / 20.0) + rng.gauss(0.0, 0.1) for i in range(1300)]
    return series


@cache
def real():
    found = {}
    for path in sorted(SERIES.glob("*.csv")):
        with path.open() as file:
            found[path.stem] = [float(row["value"]) for row in csv.DictReader(file)][:3000]
    assert len(found) == 6
    return found


def rivers(given, values):
    """Scores of River's own objects."""
    return _rivers(tuple(given.items()), np.array(values).tobytes())


@cache
def _rivers(given, values):
    from river import anomaly, preprocessing

    names = ("n_trees", "height", "window_size", "seed")
    defaults = {name: KERNEL.params.declared[name].default for name in (*names, "margin")}
    p = defaults | dict(given)
    limits = {"value": (-p["margin"], 1.0 + p["margin"])}
    trees = anomaly.HalfSpaceTrees(**{name: p[name] for name in names}, limits=limits)
    own = preprocessing.MinMaxScaler() | trees
    scores = []
    for x in np.frombuffer(values).tolist():
        scores.append(own.score_one({"value": x}))
        own.learn_one({"value": x})
    return scores


def twins(given, values):
    """Raw scores of the kernel, in CPython."""
    checked = KERNEL.params.check("trees", given)
    p, s = KERNEL.params.values(checked), rows.Row(rows.dtype(KERNEL.fields(checked)))
    return [KERNEL.step(s, p, x, None, None) for x in values]


def rarity(score):
    """What the kernel makes of River's score."""
    return log(1.0 / (1.0 - score))


@each
@pytest.mark.parametrize("name", sorted(synthetic()))
def test_they_score_as_rivers_own_bit_for_bit(name, given):
    values = synthetic()[name]
    expected = rivers(given, values)
    assert twins(given, values) == list(map(rarity, expected))


@pytest.mark.parametrize("name", sorted(real()))
def test_they_score_real_series_as_rivers_own_bit_for_bit(name):
    values = real()[name]
    expected = rivers({}, values)
    assert max(expected) > 0.5
    assert twins({}, values) == list(map(rarity, expected))


def test_other_trees_score_otherwise():
    """The negative control: the comparison would notice."""
    values = synthetic()["spiky"]
    found = [twins(given, values) for given in ({}, {"seed": 43}, {"margin": 2.5}, {"n_trees": 11}, {"height": 7})]
    assert all(found[0] != other for other in found[1:])


def test_the_trees_are_rivers_own():
    from river import anomaly

    own = anomaly.HalfSpaceTrees(n_trees=4, height=5, seed=9)
    own.learn_one({"value": 0.5})
    expected = []
    for tree in own.trees:
        level = [tree]
        for _ in range(5):
            expected += [node.threshold for node in level]
            level = [child for node in level for child in node.children]
    given = KERNEL.params.check("trees", {"n_trees": 4, "height": 5, "seed": 9, "margin": 0.0})
    assert KERNEL.params.values(given).splits == expected


def test_defaults_are_those_of_river_but_for_seed_and_margin():
    from river import anomaly

    own = anomaly.HalfSpaceTrees()
    for name in ("n_trees", "height", "window_size"):
        assert KERNEL.params.declared[name].default == getattr(own, name)


@each
@pytest.mark.parametrize("engine", ["numba", "python"])
def test_restored_amid_a_stream_they_go_on_as_rivers_own(given, engine):
    values = synthetic()["spiky"]
    pipeline = Pipeline(detection("HalfSpaceTrees", **given, warmup=1), engine=engine)
    whole, parts = pipeline.sources(), pipeline.sources()
    once = pipeline.run(whole, points(values))
    split = []
    for batch in batches(points(values), [1, 2, 249, 250, 251, 600, 777]):
        split.append(pipeline.run(parts, batch))
        fresh = pipeline.sources()
        snapshot.loads(fresh, snapshot.dumps(parts, 0, 0))
        parts = fresh
    assert columns(split) == columns([once]) and states(parts) == states(whole)
    # The votes are those of River's scores, through the calibration.
    from app.scoring import calibration

    size = pipeline.profiles[0].members[0].silent
    c, expected = rows.Row(rows.dtype(calibration.FIELDS)), []
    for raw in map(rarity, rivers(given, values)):
        expected.append(calibration.on_line(calibration.above_past(c, raw), 5.0) if c.seen > size else np.nan)
        calibration.learn(c, raw, size)
    np.testing.assert_array_equal(once.votes[:, 0], expected)


@pytest.mark.parametrize("height", [6, 8])
@pytest.mark.parametrize("seed", [42, 1])
def test_a_spike_and_a_far_outlier_alert_at_the_default_threshold(height, seed):
    pipeline = alone("HalfSpaceTrees", n_trees=10, height=height, window_size=250, seed=seed, warmup=100)
    false = []
    for draw in (1, 2, 3):
        for name, values in kinds(1500, draw).items():
            middle, spread = np.mean(values), np.std(values)
            for deviations in (14.0, -14.0, 1000.0):
                struck = [*values[:1200], middle + deviations * spread]
                found = pipeline.run(pipeline.sources(), points(struck))
                assert found.alert[-1] >= 0.8 and found.opened[-1], (name, draw, deviations, found.alert[-1])
            found = pipeline.run(pipeline.sources(), points(values))
            assert (found.status[:350] == 0).all() and (found.status[350:] == 1).all()
            false.append(found.alert[350:] >= 0.8)
    assert np.mean(false) < 0.003


def test_without_the_margin_a_spike_lies_among_the_extremes():
    """The negative control: why there is one."""
    pipeline = alone("HalfSpaceTrees", window_size=250, margin=0.0, warmup=100)
    values = kinds(1200, 1)["uniform"]
    assert pipeline.run(pipeline.sources(), points([*values, 1e6])).alert[-1] < 0.8


def test_counts_of_large_windows_have_two_bytes():
    sizes = [
        Pipeline(detection("HalfSpaceTrees", window_size=size)).profiles[0].cell.itemsize for size in (250, 255, 256)
    ]
    assert sizes[0] == sizes[1] == sizes[2] - 2 * 10 * 256


@pytest.mark.parametrize(
    ("given", "named"),
    [({"trees": 3}, "trees"), ({"n_trees": 0}, "n_trees"), ({"height": 40}, "height"), ({"seed": None}, "seed")],
)
def test_a_wrong_parameter_is_named(given, named):
    with pytest.raises(ConfigurationError, match=f"here.{named}"):
        KERNEL.params.check("here", given)

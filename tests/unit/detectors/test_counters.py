"""Counters: what was added since the last point is judged, for series that are found to be one or said to be one."""

import json

import numpy as np
import pytest
from support.points import points

from app.detectors.kinds import KINDS
from app.pipeline import Pipeline
from app.scoring import passes
from app.settings import Detection, DetectorSettings
from app.wire.results import encode_results


def results(values, engine="numba", **given):
    detectors = {"prediction_interval": DetectorSettings(method="prediction_interval", **given)}
    pipeline, made = Pipeline(Detection(detectors=detectors), engine=engine), points(values)
    return [json.loads(one) for _, one in encode_results(made, pipeline.run(pipeline.sources(), made), "raw-data", 0)]


def counter(n=600, falls=()):
    """About 100 more each minute; begins anew at 0 at some points, and does not move at others."""
    added = np.random.default_rng(3).normal(100.0, 10.0, n).round()
    added[400:405] = 900.0
    x = np.cumsum(added)
    for at in falls:
        x[at:] -= x[at]
    return x


def expects_more(result):
    return result["expected"] > result["value"] + 50.0


def told(found):
    return [(i, one["kind"]) for i, one in enumerate(found) if one.get("episode") == one["id"]]


def test_a_counter_is_found_out():
    found = results(counter())
    assert told(found) == [(400, "rate")]
    assert "more than at the last point" in found[400]["explanation"]
    assert abs(found[200]["expected"] - found[199]["value"] - 100.0) < 20.0


@pytest.mark.parametrize("engine", ["numba", "python"])
def test_a_counter_that_falls_at_once_is_one_where_that_is_said(engine):
    falls = (10, 20, 29, 300)
    x = counter(falls=falls)
    assert told(results(x, engine, counter=1)) == [(400, "rate")]
    assert abs(results(x, engine, counter=1)[350]["expected"] - x[349] - 100.0) < 20.0
    assert results(x, engine)[400].get("kind") != "rate", "by its first values it is none"


def test_a_counter_that_often_falls_remains_one_where_that_is_said():
    falls = range(37, 600, 7)
    assert told(results(counter(falls=falls), counter=1)) == [(400, "rate")]


def test_values_that_only_rise_are_no_counter_where_that_is_said():
    found = results(counter(), counter=-1)
    assert "rate" not in {one.get("kind") for one in found}


def test_in_the_default_set_no_other_detector_tells_of_a_counter():
    """Of a record at each point, or of a value far below the last ones after a reset."""
    assert KINDS.index("rate") == passes.RATE
    pipeline, made = Pipeline(Detection()), points(counter(3000, falls=(1500, 2200)))
    found = [json.loads(one) for _, one in encode_results(made, pipeline.run(pipeline.sources(), made), "raw-data", 0)]
    assert {kind for at, kind in told(found) if at > 31} == {"rate"}
    assert not [at for at, _ in told(found) if at in (1500, 1501, 2200, 2201)]

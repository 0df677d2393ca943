"""The view reads what the pipeline writes: the same names, types and episodes, through the real encoder."""

import json
import random

import msgspec
import pytest

from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection
from app.web.topics.recent_results import RecentResults
from app.web.topics.records import EpisodeEvent, ShownResult
from app.wire import episodes, results

N = 300


def points(metrics):
    """A quiet source with one outburst near the end."""
    rng = random.Random(4)
    values = [
        rng.gauss(20.0, 1.0) + (60.0 if 270 <= at < 273 else 0.0) for at in range(N) for _ in range(len(metrics or [0]))
    ]
    several = {"metrics": metrics * N, "start": [len(metrics) * at for at in range(N + 1)]} if metrics else {}
    return Points(
        offset=list(range(N)),
        index=[0] * N,
        source=["pump-7"] * N,
        timestamp=[1_698_401_060.0 + at for at in range(N)],
        own_time=[True] * N,
        values=values,
        **several,
    )


@pytest.mark.parametrize("metrics", [None, ["pressure", "temperature"]])
def test_every_field_and_every_episode_arrives(metrics):
    pipeline, given = Pipeline(Detection(), engine="python"), points(metrics)
    outcome = pipeline.run(pipeline.sources(), given)
    recent = RecentResults()
    written = [value for _, value in results.encode_results(given, outcome, "raw-data", 3)]
    events = [value for _, value in results.encode_episodes(given, outcome, "raw-data", 3)]
    for value in written:
        recent.take_result(value)
    for value in events:
        recent.take_event(value)

    assert recent.unreadable == 0 and recent.results == N
    series = recent.series("pump-7")
    assert len(series) > 150
    for shown, value in zip(series, written[-len(series) :], strict=True):
        told = json.loads(value)
        del told["config_hash"]  # the one field the page has no use for
        assert msgspec.to_builtins(shown) == told
    told = [json.loads(value) for value in events]
    ends = [one for one in told if one["event"] == "closed"]
    assert ends and recent.opened == sum(one["event"] == "opened" for one in told)
    episodes = {episode["episode"]: episode for episode in recent.anomalies()}
    for end in ends:
        episode = episodes[end["episode"]]
        assert episode["state"] == "closed" and episode["explanation"]
        assert all(episode[name] == end[name] for name in ("points", "peak_score", "kind", "reason"))


def test_no_field_of_a_result_is_left_out_of_the_view_by_accident():
    assert set(results.Result.__struct_fields__) - set(ShownResult.__struct_fields__) == {"config_hash"}
    assert {*results.Closed.__struct_fields__, *results.Standing.__struct_fields__} <= set(
        EpisodeEvent.__struct_fields__
    )


def test_readers_of_events_know_every_field_of_them_but_what_is_of_results_alone():
    of_results = {"id", "anomaly_score", "alert_score", "is_anomaly", "status", "maintenance", "drift", "config_hash"}
    written = (results.Result, results.Standing, results.Closed)
    assert {name for one in written for name in one.__struct_fields__} - of_results == {
        name for name in episodes.Event.__struct_fields__ if name != "event"
    } | {"event"}

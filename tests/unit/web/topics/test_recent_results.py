import gc
import json
import random
import tracemalloc
from collections import deque
from functools import cache

import msgspec
import pytest

from app.state.series import joined
from app.web.topics.recent_results import POINT_BYTES, RECORD_BYTES, RecentResults, _size
from app.web.topics.records import SORTS, decode_result


def written(body):
    """As JSON, with what is not ASCII as escapes: so it takes the most bytes."""
    raw = msgspec.json.encode(body)
    return raw if raw.isascii() else json.dumps(body).encode()


def result(source="pump-7", at=0.0, value=1.0, **fields):
    body = {"id": f"raw-data:0:{at:.0f}:0", "source": source, "timestamp": at, "value": value}
    body |= {"anomaly_score": 0.1, "alert_score": 0.1, "is_anomaly": False, "severity": "low", "status": "ok"}
    return written(body | fields)


def opened(episode="raw-data:0:9:0", source="pump-7", at=9.0, **fields):
    body = {"event": "opened", **msgspec.json.decode(result(source, at)), "id": episode, "episode": episode}
    return written(body | {"is_anomaly": True, "severity": "high"} | fields)


def closed(episode="raw-data:0:9:0", source="pump-7", at=12.0, **fields):
    body = {"event": "closed", "episode": episode, "source": source, "timestamp": at, "points": 3}
    return written(body | {"peak_score": 0.97, "opened_at": 9.0} | fields)


def changed(episode="raw-data:0:9:0", source="pump-7", at=11.0, points=3, peak=0.97, **fields):
    body = msgspec.json.decode(opened(episode, source, at)) | {"event": "changed", "points": points, "peak_score": peak}
    return written(body | {"opened_at": 9.0, "severity": "critical", "offset": 11, "index": 0} | fields)


def times(recent, source, limit=500):
    return [point.timestamp for point in recent.series(source, limit)]


def test_the_latest_result_and_the_series_of_a_source():
    recent = RecentResults()
    for at in range(700):
        recent.take_result(result(at=at, value=at * 0.5))
    matching, [latest] = recent.sources()
    assert (matching, latest.timestamp, latest.value) == (1, 699, 349.5)
    assert times(recent, "pump-7") == list(range(200, 700))
    assert times(recent, "pump-7", 3) == [697, 698, 699]
    assert times(recent, "pump-7", 0) == []
    assert recent.series("pump-8") is None


@pytest.mark.parametrize("seed", range(5))
def test_a_series_is_the_end_of_what_came(seed):
    """Against plain lists: whatever comes in what order, a series is a suffix of its source's points."""
    rng, recent, came = random.Random(seed), RecentResults(max_sources=300, kept=5, shared_bytes=200_000), {}
    for at in range(5_000):
        source = f"s{min(int(rng.expovariate(0.02)), 280)}"
        recent.take_result(result(source, at))
        came.setdefault(source, []).append(at)
        if rng.random() < 0.01:
            recent.series(rng.choice(list(came)))
    for source, all_times in came.items():
        shown = times(recent, source)
        assert shown and all_times[-len(shown) :] == shown


@cache
def wide(metrics):
    return {"values": {f"m{k}": 1.5 for k in range(metrics)}}


FLOODS = {  # how many results; (source, fields) of each
    "small results": (3_000, lambda at: (f"s{at % 1_500}", {})),
    "results of many metrics": (750, lambda at: (f"s{at % 90}", wide(100))),
    "few of so many metrics that one fills it": (40, lambda at: (f"s{at % 7}", wide(20_000) if at < 12 else {})),
    "names as long as they may be": (3_000, lambda at: (f"{at % 1_500:x}".rjust(256, "\U0001f600"), {})),
    "names of metrics as long as they may be": (
        3_000,
        lambda at: ("\U0001f600" * 250, {"metric": f"{at % 1_500:x}".rjust(128, "\U0001f600")}),
    ),
    "explanations that never end": (
        1_000,
        lambda at: (f"s{at % 300}", {"explanation": "x" * (10**5 if at < 450 else 9)}),
    ),
    "ids that never end": (1_000, lambda at: (f"s{at % 300}", {"id": f"{at}" + "i" * (10**5 if at < 450 else 9)})),
    "one source": (1_200, lambda at: ("s", {})),
}


def most_bytes(recent):
    """The bound on all that is kept; while a record is taken in, it is there too."""
    return recent._max_bytes + recent._max_source_bytes + recent._max_episode_bytes + RECORD_BYTES


def flooded(flood, recent, kept_too=None):
    """The most bytes taken, by the tracer of allocations, after results and episodes of all kinds."""
    rng, most, (count, fields_at) = random.Random(3), 0, FLOODS[flood]
    gc.collect()
    tracemalloc.start()
    try:
        for at in range(count):
            source, fields = fields_at(at)
            raw = result(source, at, **fields)
            recent.take_result(raw)
            if kept_too is not None:
                kept_too.append(decode_result(raw))
            if at % 3 == 0:
                one = {"id": f"e{at}"} | fields
                recent.take_event(opened(one["id"], source, at, **{k: v for k, v in fields.items() if k != "id"}))
                recent.take_event(changed(f"e{at - 15}", source, points=2**40 + at, peak=at * 0.1))
                recent.take_event(closed(f"e{at - 30}", source))
            if rng.random() < 0.01:
                recent.series(source, 1)
            if at % 100 == 99:
                recent.drain()
                del raw
                most = max(most, tracemalloc.get_traced_memory()[0])
        return most
    finally:
        tracemalloc.stop()


def small():
    return RecentResults(
        max_sources=1_000, kept=10, kept_bytes=20_000, shared_bytes=500_000, max_episodes=500, episode_bytes=300_000
    )


@pytest.mark.parametrize("flood", FLOODS)
def test_memory_is_bounded_in_bytes_whatever_comes(flood):
    recent = small()
    assert flooded(flood, recent) <= most_bytes(recent) < 4_000_000
    held = recent._series.values()
    assert len(recent) <= 1_000 and len(recent.anomalies(limit=5_000)) <= 500
    assert recent.source_bytes == sum(series.own_bytes for series in held)
    assert recent.nbytes == sum(series.nbytes for series in held)
    assert all(series.nbytes == sum(len(raw) + POINT_BYTES for raw in series.points) for series in held)
    assert recent.episode_bytes == sum(_size(*each) for each in recent._episodes.items())


def test_the_tracer_sees_decoded_results_that_are_kept():
    """The negative control: what the view kept of each source before."""
    recent = small()
    assert flooded("results of many metrics", recent, kept_too=deque(maxlen=500)) > most_bytes(recent)


def test_the_bound_of_the_view_is_stated():
    assert 68e6 < most_bytes(RecentResults()) < 69e6


def test_sources_with_large_results_make_room_for_each_other():
    recent = RecentResults(kept=0, shared_bytes=1_000_000)
    for at in range(100):
        recent.take_result(result(f"s{at}", at, **wide(10_000)))
    assert 5 < len(recent) < 20 and recent.nbytes <= 2_000_000
    assert times(recent, "s99") == [99]


def test_the_least_recently_active_source_goes_first():
    recent = RecentResults(max_sources=2)
    for at, source in enumerate(["a", "b", "a", "c"]):
        recent.take_result(result(source, at))
    assert recent.series("b") is None
    assert {found.source for found in recent.sources()[1]} == {"a", "c"}


def test_a_source_somebody_looks_at_keeps_a_full_series():
    recent = RecentResults(kept=2, shared_bytes=128 * 3 * (len(result("quiet", 100)) + POINT_BYTES))
    recent.take_result(result("looked-at", 100))
    recent.series("looked-at")
    for at in range(100, 150):
        recent.take_result(result("quiet", at))
        recent.take_result(result("looked-at", at))
    assert len(times(recent, "looked-at")) == 51
    assert len(recent._series["quiet"].points) == 3
    recent.series("quiet")
    recent.take_event(opened(source="quieter"))  # its episode opened: kept in the place of looked-at
    assert len(recent._series["looked-at"].points) <= 3


def test_many_sources_share_the_budget_without_losing_their_latest():
    recent = RecentResults(kept=1, shared_bytes=1 << 18)
    for at in range(5):
        for number in range(2_000):
            recent.take_result(result(f"s{number}", at))
    lengths = {len(series.points) for series in recent._series.values()}
    assert min(lengths) >= 1 and recent.nbytes <= (1 << 18) + 2_000 * 200
    assert recent.sources()[0] == 2_000


def test_sources_are_sorted_by_the_score_they_show_or_by_their_episodes():
    recent = RecentResults()
    recent.take_result(result("calm", 3, anomaly_score=0.25, alert_score=0.2))
    recent.take_result(result("rising", 1, anomaly_score=0.7, alert_score=0.7))
    recent.take_result(result("inside", 2, anomaly_score=0.3, alert_score=0.1, is_anomaly=True))
    recent.take_result(result("unscored", 4, anomaly_score=None, alert_score=None))
    order = {sort: [found.source for found in recent.sources(sort=sort)[1]] for sort in SORTS}
    assert order == {
        "score": ["rising", "inside", "calm", "unscored"],
        "alert": ["inside", "rising", "calm", "unscored"],
        "source": ["calm", "inside", "rising", "unscored"],
        "recent": ["unscored", "calm", "inside", "rising"],
    }
    assert [found.source for found in recent.sources(limit=1)[1]] == ["rising"]
    assert recent.sources(limit=1)[0] == 4


def test_search_finds_parts_of_names_in_any_case():
    recent = RecentResults()
    for source in ("Pump-7", "pump-8", "fan"):
        recent.take_result(result(source))
    assert recent.sources("PUMP", sort="source")[0] == 2
    assert recent.sources("*")[0] == 0


def test_each_metric_of_a_source_that_results_name_is_a_series():
    recent, cpu, mem = RecentResults(), joined("host", "cpu"), joined("host", "mem")
    recent.watched = {cpu}
    for at, fields in enumerate([{}, {"metric": "cpu"}, {"metric": "mem"}, {"metric": "cpu"}]):
        recent.take_result(result("host", at, **fields))
    assert (times(recent, "host"), times(recent, cpu), times(recent, mem)) == ([0], [1, 3], [2])
    assert recent.series("cpu") is None and len(recent) == 3
    assert recent.drain().points == {cpu: 2}
    order = [(found.source, found.metric) for found in recent.sources(sort="source")[1]]
    assert order == [("host", None), ("host", "cpu"), ("host", "mem")]
    found = {search: recent.sources(search)[0] for search in ("HOST", "cpu", "host c", "t m", "hostc")}
    assert found == {"HOST": 3, "cpu": 1, "host c": 1, "t m": 1, "hostc": 0}


def test_an_episode_is_of_the_series_it_names():
    recent = RecentResults()
    recent.take_event(opened("a", "host", metric="cpu"))
    recent.take_event(opened("b", "host"))
    recent.take_event(closed("a", "host", metric="cpu"))
    recent.take_event(closed("c", "host", metric="mem"))
    episodes = {one["episode"]: one for one in recent.anomalies(source="host")}
    assert {name: one.get("metric") for name, one in episodes.items()} == {"a": "cpu", "b": None, "c": "mem"}
    assert episodes["a"]["state"] == "closed"
    assert [one["episode"] for one in recent.anomalies(source="host", metric="")] == ["b"]
    assert [one["episode"] for one in recent.anomalies(source="host", metric="cpu")] == ["a"]


def test_an_episode_opens_and_closes_once_however_often_it_is_told():
    recent = RecentResults()
    for _ in range(2):
        recent.take_event(opened(explanation="9.3 deviations above the mean"))
    assert recent.open_episodes == recent.opened == 1
    for _ in range(2):
        recent.take_event(closed())
    recent.take_event(opened())  # repeated late
    [episode] = recent.anomalies()
    assert recent.open_episodes == 0 and recent.opened == 1
    assert episode["explanation"] == "9.3 deviations above the mean"
    assert (episode["state"], episode["opened_at"], episode["closed_at"]) == ("closed", 9.0, 12.0)
    assert (episode["points"], episode["peak_score"], episode["severity"]) == (3, 0.97, "critical"), "of its peak"


def test_an_open_episode_shows_what_has_become_of_it():
    recent = RecentResults()
    for raw in (opened(value=90.0), changed(), changed(at=10.0, points=2, peak=0.9, severity="medium"), opened()):
        recent.take_event(raw)
    [episode] = recent.anomalies()
    assert (episode["state"], episode["value"]) == ("open", 90.0)
    assert (episode["opened_at"], episode["changed_at"]) == (9.0, 11.0)
    assert (episode["points"], episode["peak_score"], episode["severity"]) == (3, 0.97, "critical")
    assert not {"offset", "index", "event"} & episode.keys() and list(recent.drain().episodes) == [episode["episode"]]
    recent.take_event(changed())
    assert not recent.drain().episodes
    recent.take_event(closed(points=5))
    [episode] = recent.anomalies()
    assert (episode["state"], episode["points"], recent.opened) == ("closed", 5, 1)


def test_compaction_leaves_the_last_event_of_a_series_and_a_tombstone_none():
    recent = RecentResults()
    recent.take_event(changed(points=7))
    recent.take_event(None)
    [episode] = recent.anomalies()
    assert (episode["state"], episode["opened_at"], episode["points"]) == ("open", 9.0, 7) and recent.unreadable == 0
    recent.take_event(changed(points=8, peak=0.98, at=20.0))
    assert recent.anomalies()[0]["points"] == 8 and recent.open_episodes == 1


def test_the_end_of_an_episode_whose_start_was_not_read_is_shown():
    recent = RecentResults()
    recent.take_event(closed())
    [episode] = recent.anomalies()
    assert (episode["state"], episode["opened_at"], episode["source"]) == ("closed", 9.0, "pump-7")
    assert recent.open_episodes == 0


def test_anomalies_are_newest_first_and_of_one_source():
    recent = RecentResults()
    for at in (5.0, 9.0, 7.0):
        recent.take_event(opened(f"e{at}", f"pump-{at:.0f}", at))
    assert [episode["opened_at"] for episode in recent.anomalies()] == [9.0, 7.0, 5.0]
    assert [episode["episode"] for episode in recent.anomalies(limit=1)] == ["e9.0"]
    assert [episode["episode"] for episode in recent.anomalies(source="pump-7")] == ["e7.0"]


def test_news_of_a_replayed_series_is_news():
    recent = RecentResults()
    recent.take_event(opened("live", "pump", at=1_795_000_000.0), written_at=1_795_000_001.0)
    recent.take_event(opened("old", "taxi", at=1_404_000_000.0), written_at=1_795_000_002.0)
    recent.take_event(closed("live", "pump"), written_at=1_795_000_003.0)
    assert [(episode["episode"], episode["told_at"]) for episode in recent.anomalies()] == [
        ("old", 1_795_000_002.0),
        ("live", 1_795_000_001.0),
    ]


def test_drain_says_what_is_new_and_only_once():
    recent = RecentResults()
    recent.watched = {"pump-7"}
    recent.take_result(result(at=1))
    recent.take_result(result(at=2))
    recent.take_result(result("other", at=3))
    recent.take_event(opened())
    changes = recent.drain()
    assert changes.sources["pump-7"].timestamp == 2 and set(changes.sources) == {"pump-7", "other"}
    assert changes.points == {"pump-7": 2}
    assert list(changes.episodes) == ["raw-data:0:9:0"]
    empty = recent.drain()
    assert not (empty.sources or empty.points or empty.episodes)


UNREADABLE = [
    b"",
    None,
    b"not json",
    b"[]",
    b"{}",
    b'{"id": 1, "source": "s", "timestamp": 0}',
    b'{"id": "i", "source": "s", "timestamp": NaN}',
    b'{"id": "i", "source": "s", "timestamp": 1e999}',
    b'{"id": "i", "source": "\xff", "timestamp": 0}',
    b'{"id": "i", "source": "s", "timestamp": 0, "value": "high"}',
    b'{"id": "i", "source": "s", "timestamp": 0, "ignored": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"id": "i", "source": "' + b"s" * 1_100_000 + b'", "timestamp": 0}',
]


@pytest.mark.parametrize("raw", UNREADABLE, ids=lambda raw: repr(raw)[:40])
def test_what_cannot_be_read_is_counted_and_passed_over(raw):
    recent = RecentResults()
    recent.take_result(raw)
    recent.take_event(raw)
    assert recent.unreadable == 2 - (raw is None) and len(recent) == 0 and not recent.anomalies()


def test_fields_of_a_later_release_are_passed_over():
    recent = RecentResults()
    recent.take_result(result(added_in_2030={"x": [1]}))
    recent.take_event(opened(added_in_2030=1))
    recent.take_event(closed(event="paused"))
    assert len(recent) == 1 and recent.unreadable == 0 and recent.open_episodes == 1


def test_values_of_several_metrics_stay_together():
    recent = RecentResults()
    body = msgspec.json.decode(result(at=1))
    del body["value"]
    body |= {
        "values": {"pressure": 2.0, "temperature": 45.0},
        "expected": {"pressure": 2.1, "temperature": None},
    }
    recent.take_result(written(body))
    [point] = recent.series("pump-7")
    assert point.value is None and point.values == {"pressure": 2.0, "temperature": 45.0}
    assert point.expected == {"pressure": 2.1, "temperature": None}


def test_a_flood_of_watched_points_does_not_grow_without_a_drain():
    recent = RecentResults()
    recent.watched = {"pump-7"}
    for at in range(5_000):
        recent.take_result(result(at=at))
    changes = recent.drain()
    assert len(changes.sources["pump-7"].last(changes.points["pump-7"])) <= 500


def notification(*episodes, state="sent", channel="ops", at=5.0, why="opened", **more):
    news = [{"event": {"episode": episode, "source": "pump-7"}, "why": why} for episode in episodes]
    return written({"id": "n", "channel": channel, "state": state, "created_at": at, "news": news, **more})


def test_an_episode_says_who_was_told_of_it_and_why_not():
    recent = RecentResults()
    recent.take_event(opened("e"))
    recent.take_notification(notification("e", state="queued", at=10.0))
    recent.take_notification(notification("e", at=10.0, done_at=11.0, answer="200 ok"))
    recent.take_notification(notification("e", state="muted", channel="mail", at=10.0, answer="silenced: by ann"))
    recent.take_notification(notification("e", state="queued", at=10.0))  # read again
    [row] = recent.anomalies()
    assert row["told"] == [
        {"channel": "mail", "state": "muted", "why": "opened", "at": 10.0, "said": "silenced: by ann"},
        {"channel": "ops", "state": "sent", "why": "opened", "at": 11.0, "said": "200 ok"},
    ]
    assert list(recent.drain().episodes) == ["e"]


def test_a_notification_that_is_read_before_its_event_is_not_lost_and_others_take_no_memory():
    recent = RecentResults()
    for i in range(3_000):
        recent.take_notification(notification(f"e{i}", answer="x" * 900))
    recent.take_event(opened("e2999"))
    [row] = recent.anomalies()
    assert row["told"][0]["said"] == "x" * 200
    assert len(recent._early) < 1_001
    recent.take_notification(b"{}")
    recent.take_notification(None)
    assert recent.unreadable == 1

import gc
import json
import random
import tracemalloc
from collections import deque

import pytest

from app.web.feed import POINT_BYTES, Feed, _size
from app.web.shown import SORTS, decode_result


def result(source="pump-7", at=0.0, value=1.0, **fields):
    body = {"id": f"raw-data:0:{at:.0f}:0", "source": source, "timestamp": at, "value": value}
    body |= {"anomaly_score": 0.1, "alert_score": 0.1, "is_anomaly": False, "severity": "low", "status": "ok"}
    return json.dumps(body | fields).encode()


def opened(episode="raw-data:0:9:0", source="pump-7", at=9.0, **fields):
    body = {"event": "opened", **json.loads(result(source, at)), "id": episode, "episode": episode}
    return json.dumps(body | {"is_anomaly": True, "severity": "high"} | fields).encode()


def closed(episode="raw-data:0:9:0", source="pump-7", at=12.0, **fields):
    body = {"event": "closed", "episode": episode, "source": source, "timestamp": at, "points": 3}
    return json.dumps(body | {"peak_score": 0.97, "opened_at": 9.0} | fields).encode()


def times(feed, source, limit=500):
    return [point.timestamp for point in feed.series(source, limit)]


def test_the_latest_result_and_the_series_of_a_source():
    feed = Feed()
    for at in range(700):
        feed.take_result(result(at=at, value=at * 0.5))
    matching, [latest] = feed.sources()
    assert (matching, latest.timestamp, latest.value) == (1, 699, 349.5)
    assert times(feed, "pump-7") == list(range(200, 700))
    assert times(feed, "pump-7", 3) == [697, 698, 699]
    assert times(feed, "pump-7", 0) == []
    assert feed.series("pump-8") is None


@pytest.mark.parametrize("seed", range(5))
def test_a_series_is_the_end_of_what_came(seed):
    """Against plain lists: whatever comes in what order, a series is a suffix of its source's points."""
    rng, feed, came = random.Random(seed), Feed(max_sources=300, kept=5, shared_bytes=200_000), {}
    for at in range(5_000):
        source = f"s{min(int(rng.expovariate(0.02)), 280)}"
        feed.take_result(result(source, at))
        came.setdefault(source, []).append(at)
        if rng.random() < 0.01:
            feed.series(rng.choice(list(came)))
    for source, all_times in came.items():
        shown = times(feed, source)
        assert shown and all_times[-len(shown) :] == shown


def wide(metrics):
    return {"values": {f"m{k}": 1.5 for k in range(metrics)}}


FLOODS = {  # how many results; (source, fields) of each
    "small results": (6_000, lambda at: (f"s{at % 3_000}", {})),
    "results of many metrics": (1_500, lambda at: (f"s{at % 90}", wide(100))),
    "few of so many metrics that one fills it": (100, lambda at: (f"s{at % 7}", wide(20_000) if at < 12 else {})),
    "names as long as they may be": (6_000, lambda at: (f"{at % 3_000:x}".rjust(256, "\U0001f600"), {})),
    "explanations that never end": (
        2_000,
        lambda at: (f"s{at % 300}", {"explanation": "x" * (10**5 if at < 900 else 9)}),
    ),
    "ids that never end": (2_000, lambda at: (f"s{at % 300}", {"id": f"{at}" + "i" * (10**5 if at < 900 else 9)})),
    "one source": (2_000, lambda at: ("s", {})),
}


def flooded(flood, feed, kept_too=None):
    """Bytes that a feed has taken at most, by the tracer of allocations, after results and episodes of all kinds."""
    rng, most, (count, fields_at) = random.Random(3), 0, FLOODS[flood]
    gc.collect()
    tracemalloc.start()
    try:
        for at in range(count):
            source, fields = fields_at(at)
            raw = result(source, at, **fields)
            feed.take_result(raw)
            if kept_too is not None:
                kept_too.append(decode_result(raw))
            if at % 3 == 0:
                one = {"id": f"e{at}"} | fields
                feed.take_event(opened(one["id"], source, at, **{k: v for k, v in fields.items() if k != "id"}))
                feed.take_event(closed(f"e{at - 30}", source))
            if rng.random() < 0.01:
                feed.series(source, 1)
            if at % 100 == 99:
                feed.drain()
                del raw
                most = max(most, tracemalloc.get_traced_memory()[0])
        return most
    finally:
        tracemalloc.stop()


def small_feed():
    return Feed(
        max_sources=1_000, kept=10, kept_bytes=20_000, shared_bytes=500_000, max_episodes=500, episode_bytes=300_000
    )


@pytest.mark.parametrize("flood", FLOODS)
def test_memory_is_bounded_in_bytes_whatever_comes(flood):
    feed = small_feed()
    assert flooded(flood, feed) <= feed.most_bytes < 4_000_000
    held = feed._series.values()
    assert len(feed) <= 1_000 and len(feed.anomalies(limit=5_000)) <= 500
    assert feed.source_bytes == sum(series.own_bytes for series in held)
    assert feed.nbytes == sum(series.nbytes for series in held)
    assert all(series.nbytes == sum(len(raw) + POINT_BYTES for raw in series.points) for series in held)
    assert feed.episode_bytes == sum(_size(*each) for each in feed._episodes.items())


def test_the_tracer_sees_decoded_results_that_are_kept():
    """The negative control: what the view kept of each source before."""
    feed = small_feed()
    assert flooded("results of many metrics", feed, kept_too=deque(maxlen=500)) > feed.most_bytes


def test_the_bound_of_the_view_is_stated():
    assert 68e6 < Feed().most_bytes < 69e6


def test_sources_with_large_results_make_room_for_each_other():
    feed = Feed(kept=0, shared_bytes=1_000_000)
    for at in range(100):
        feed.take_result(result(f"s{at}", at, values={f"m{k}": 1.5 for k in range(10_000)}))
    assert 5 < len(feed) < 20 and feed.nbytes <= 2_000_000
    assert times(feed, "s99") == [99]


def test_the_least_recently_active_source_goes_first():
    feed = Feed(max_sources=2)
    for at, source in enumerate(["a", "b", "a", "c"]):
        feed.take_result(result(source, at))
    assert feed.series("b") is None
    assert {found.source for found in feed.sources()[1]} == {"a", "c"}


def test_a_source_somebody_looks_at_keeps_a_full_series():
    feed = Feed(kept=2, shared_bytes=128 * 3 * (len(result("quiet", 100)) + POINT_BYTES))
    feed.take_result(result("looked-at", 100))
    feed.series("looked-at")
    for at in range(100, 150):
        feed.take_result(result("quiet", at))
        feed.take_result(result("looked-at", at))
    assert len(times(feed, "looked-at")) == 51
    assert len(feed._series["quiet"].points) == 3
    feed.series("quiet")
    feed.take_event(opened(source="quieter"))  # its episode opened: kept in the place of looked-at
    assert len(feed._series["looked-at"].points) <= 3


def test_many_sources_share_the_budget_without_losing_their_latest():
    feed = Feed(kept=1, shared_bytes=1 << 18)
    for at in range(5):
        for number in range(2_000):
            feed.take_result(result(f"s{number}", at))
    lengths = {len(series.points) for series in feed._series.values()}
    assert min(lengths) >= 1 and feed.nbytes <= (1 << 18) + 2_000 * 200
    assert feed.sources()[0] == 2_000


def test_sources_in_an_episode_come_first_then_by_score():
    feed = Feed()
    feed.take_result(result("calm", 3, alert_score=0.2))
    feed.take_result(result("rising", 1, alert_score=0.7))
    feed.take_result(result("inside", 2, alert_score=0.1, is_anomaly=True))
    order = {sort: [found.source for found in feed.sources(sort=sort)[1]] for sort in SORTS}
    assert order == {
        "alert": ["inside", "rising", "calm"],
        "source": ["calm", "inside", "rising"],
        "recent": ["calm", "inside", "rising"],
    }
    assert [found.source for found in feed.sources(limit=1)[1]] == ["inside"]
    assert feed.sources(limit=1)[0] == 3


def test_search_finds_parts_of_names_in_any_case():
    feed = Feed()
    for source in ("Pump-7", "pump-8", "fan"):
        feed.take_result(result(source))
    assert feed.sources("PUMP", sort="source")[0] == 2
    assert feed.sources("*")[0] == 0


def test_an_episode_opens_and_closes_once_however_often_it_is_told():
    feed = Feed()
    for _ in range(2):
        feed.take_event(opened(explanation="9.3 deviations above the mean"))
    assert feed.open_episodes == feed.opened == 1
    for _ in range(2):
        feed.take_event(closed())
    feed.take_event(opened())  # repeated late
    [episode] = feed.anomalies()
    assert feed.open_episodes == 0 and feed.opened == 1
    assert episode["explanation"] == "9.3 deviations above the mean"
    assert (episode["state"], episode["opened_at"], episode["closed_at"]) == ("closed", 9.0, 12.0)
    assert (episode["points"], episode["peak_score"], episode["severity"]) == (3, 0.97, "high")


def test_the_end_of_an_episode_whose_start_was_not_read_is_shown():
    feed = Feed()
    feed.take_event(closed())
    [episode] = feed.anomalies()
    assert (episode["state"], episode["opened_at"], episode["source"]) == ("closed", 9.0, "pump-7")
    assert feed.open_episodes == 0


def test_anomalies_are_newest_first_and_of_one_source():
    feed = Feed()
    for at in (5.0, 9.0, 7.0):
        feed.take_event(opened(f"e{at}", f"pump-{at:.0f}", at))
    assert [episode["opened_at"] for episode in feed.anomalies()] == [9.0, 7.0, 5.0]
    assert [episode["episode"] for episode in feed.anomalies(limit=1)] == ["e9.0"]
    assert [episode["episode"] for episode in feed.anomalies(source="pump-7")] == ["e7.0"]


def test_news_of_a_replayed_series_is_news():
    feed = Feed()
    feed.take_event(opened("live", "pump", at=1_795_000_000.0), written_at=1_795_000_001.0)
    feed.take_event(opened("old", "taxi", at=1_404_000_000.0), written_at=1_795_000_002.0)
    feed.take_event(closed("live", "pump"), written_at=1_795_000_003.0)
    assert [(episode["episode"], episode["told_at"]) for episode in feed.anomalies()] == [
        ("old", 1_795_000_002.0),
        ("live", 1_795_000_001.0),
    ]


def test_drain_says_what_is_new_and_only_once():
    feed = Feed()
    feed.watched = {"pump-7"}
    feed.take_result(result(at=1))
    feed.take_result(result(at=2))
    feed.take_result(result("other", at=3))
    feed.take_event(opened())
    changes = feed.drain()
    assert changes.sources["pump-7"].timestamp == 2 and set(changes.sources) == {"pump-7", "other"}
    assert changes.points == {"pump-7": 2}
    assert list(changes.episodes) == ["raw-data:0:9:0"]
    empty = feed.drain()
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
    feed = Feed()
    feed.take_result(raw)
    feed.take_event(raw)
    assert feed.unreadable == 2 and len(feed) == 0 and not feed.anomalies()


def test_fields_of_a_later_release_are_passed_over():
    feed = Feed()
    feed.take_result(result(added_in_2030={"x": [1]}))
    feed.take_event(opened(added_in_2030=1))
    feed.take_event(closed(event="paused"))
    assert len(feed) == 1 and feed.unreadable == 0 and feed.open_episodes == 1


def test_values_of_several_metrics_stay_together():
    feed = Feed()
    body = json.loads(result(at=1))
    del body["value"]
    body |= {
        "values": {"pressure": 2.0, "temperature": 45.0},
        "expected": {"pressure": 2.1, "temperature": None},
    }
    feed.take_result(json.dumps(body).encode())
    [point] = feed.series("pump-7")
    assert point.value is None and point.values == {"pressure": 2.0, "temperature": 45.0}
    assert point.expected == {"pressure": 2.1, "temperature": None}


def test_a_flood_of_watched_points_does_not_grow_without_a_drain():
    feed = Feed()
    feed.watched = {"pump-7"}
    for at in range(5_000):
        feed.take_result(result(at=at))
    changes = feed.drain()
    assert len(changes.sources["pump-7"].last(changes.points["pump-7"])) <= 500

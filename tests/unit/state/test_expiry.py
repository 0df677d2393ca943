"""A source that was silent for too long is reset, and live sources are limited by partition: from the log alone.

Every law is held against a model of a few lines that knows no batch, row, snapshot or replay.
"""

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_detectors import running_mean
from support.points import batches, columns, detection, gaussian, points, states, vectors

from app.errors import ConfigurationError
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, DetectorSettings, load
from app.state import snapshot
from app.wire import episodes
from app.wire.results import encode_episodes

AFTER = 30  # offsets
MEMBERS = {
    "average": DetectorSettings(method="moving_average", window_size=5, warmup=3),
    "running": DetectorSettings(method="running"),
}
ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def with_library():
    with running_mean.added():
        yield


@cache
def made(engine="numba", most=1000, after=AFTER):
    """Two metrics at most; a kernel and an adapter."""
    members = detection(window_points=8, detectors=MEMBERS)
    return Pipeline(members, max_metrics=2, engine=engine, forget_after=after, max_sources=most)


def stream(seed: int, n: int = 240, sources: int = 8) -> Points:
    """Sources fall silent and return; offsets have gaps; some records have several points, some too many metrics."""
    rng = np.random.default_rng(seed)
    steps = {0: 0.1, 1: 0.7, 2: 0.1, 11: 0.06, AFTER: 0.01, AFTER + 1: 0.02, 3 * AFTER: 0.01}
    offsets = np.cumsum(rng.choice(list(steps), n, p=list(steps.values())))
    busy = [f"s{i}" for i in rng.permutation(sources)]
    one = []
    for i in range(n):
        if i % 40 == 39:
            rng.shuffle(busy)
        name = busy[min(int(rng.exponential(1.5)), sources - 1)]
        kind = rng.random()
        values = {"value": rng.normal(10, 2) + 100 * (rng.random() < 0.1)}
        if kind < 0.2:
            values["second"] = 1.0
        if kind < 0.1:
            values["third"] = 1.0
        if kind < 0.05:
            del values["value"]
        one.append((name, values))
    made = vectors([values for _, values in one], [name for name, _ in one])
    made.offset = offsets.tolist()
    made.index = [int(sum(offsets[:i] == offsets[i])) for i in range(n)]
    made.timestamp = [float(i) for i in range(n)]
    return made


def lives(stream: Points, after: int, most: int, max_metrics: int = 2):
    """(source, number of its life) of each point, or a label; and the last offset of each source."""
    last, metrics, number, found = {}, {}, {}, []
    for i, (source, offset) in enumerate(zip(stream.source, stream.offset)):
        names = set(stream.metrics[stream.start[i] : stream.start[i + 1]]) if stream.metrics else {"value"}
        new = source not in last or offset - last[source] > after
        known = set() if new else metrics[source]
        # Who had a point in an earlier record, and not too long ago: counted afresh each time.
        earlier = {s for s, o, seat in zip(stream.source[:i], stream.offset, found) if offset - after <= o < offset
                   and not isinstance(seat, str)}  # fmt: skip
        if len(known | names) > max_metrics:
            found.append("too_many_metrics")
        elif new and len(earlier) >= most:
            found.append("too_many_sources")
        else:
            number[source] = number.get(source, -1) + new
            metrics[source] = known | names
            last[source] = offset
            found.append((source, number[source]))
    return found, last


def live(sources, found, last, end):
    """States of those that are not forgotten at the end."""
    of = states(sources)
    return {name: of[name] for name in of if end - last[name] <= AFTER}


@settings(deadline=None, max_examples=25)
@given(seed=seeds, most=st.sampled_from([1000, 4, 2]))
def test_each_life_is_scored_as_that_of_a_source_never_seen(seed, most):
    given = stream(seed)
    found, _ = lives(given, AFTER, most)
    pipeline, plain = made(most=most), made(after=1 << 60)
    o = pipeline.run(pipeline.sources(), given)
    assert {r.position: r.label for r in o.rejected} == {i: of for i, of in enumerate(found) if isinstance(of, str)}
    for life in {of for of in found if not isinstance(of, str)}:
        at = [i for i, of in enumerate(found) if of == life]
        alone = plain.run(plain.sources(), given.select(at))
        for name in ("score", "status", "direction", "opened", "anomaly", "length"):
            assert getattr(alone, name)[alone.anomaly | (name != "length")].tolist() == (
                getattr(o, name)[at][o.anomaly[at] | (name != "length")].tolist()
            ), (life, name)
        assert alone.votes.tobytes() == o.votes[at].tobytes()


def test_the_streams_have_what_the_laws_are_about():
    """Not vacuous: returns, returns within a batch, both kinds of refusals, expired episodes, reused rows."""
    returns = refused = few = expired = closed = 0
    for seed in range(20):
        found, _ = lives(stream(seed), AFTER, 3)
        returns += sum(1 for of in set(found) if not isinstance(of, str) and of[1] > 0)
        refused += found.count("too_many_sources")
        few += found.count("too_many_metrics")
        o = made(most=3).run(made().sources(), stream(seed))
        expired += len(o.expired)
        closed += int(o.closed.sum())
    assert min(returns, refused, few, closed) > 50 and expired > 20


@settings(deadline=None, max_examples=40)
@given(
    seed=seeds,
    cuts=st.lists(st.integers(1, 239), max_size=8),
    most=st.sampled_from([1000, 3]),
    engine=st.sampled_from(["numba", "python"]),
    restored=st.booleans(),
    dropped=st.booleans(),
)
def test_neither_batches_nor_engine_nor_restores_nor_dropping_rows_show(seed, cuts, most, engine, restored, dropped):
    given = stream(seed)
    whole, pipeline = made(most=most), made(engine, most)
    all_at_once = whole.sources()
    expected = whole.run(all_at_once, given)
    sources, outcomes = pipeline.sources(), []
    for batch in batches(given, cuts):
        outcomes.append(pipeline.run(sources, batch))
        if dropped:  # as the owner does: tables/sources.py
            for slot in list(sources.slots.values()):
                if sources.rows.get(slot, "last") + 2 * AFTER < batch.offset[-1]:
                    sources.drop(slot)
        if restored:
            saved, sources = states(sources, batch.offset[-1]), pipeline.sources()
            for data in saved.values():
                snapshot.loads(sources, data)
    assert columns(outcomes) == columns([expected])
    _, last = lives(given, AFTER, most)
    assert live(sources, *lives(given, AFTER, most), given.offset[-1]) == (
        live(all_at_once, *lives(given, AFTER, most), given.offset[-1])
    )
    assert last.keys() >= states(sources).keys()


@settings(deadline=None, max_examples=40)
@given(seed=seeds, begin=st.integers(0, 200), data=st.data(), most=st.sampled_from([1000, 4, 3, 2]))
def test_a_replay_from_snapshots_of_different_ages_comes_to_the_same(seed, begin, data, most):
    """Recovery: each source from a snapshot of its own age, points that it holds skipped, all others read again."""
    given = stream(seed)
    pipeline = made(most=most)
    straight = pipeline.sources()
    replay = given.offset[begin]
    saved, taken = {}, {}
    for i, offset in enumerate(given.offset):
        pipeline.run(straight, given.select([i]))
        if i + 1 < len(given) and given.offset[i + 1] == offset:
            continue  # snapshots hold whole records
        last_before = offset < replay and i + 1 < len(given) and given.offset[i + 1] >= replay
        for name, slot in straight.slots.items():
            # Every source has one from just before the replay; some a later one, within what a replay may span.
            if last_before or (replay <= offset <= replay + AFTER and data.draw(st.booleans(), name)):
                saved[name], taken[name] = snapshot.dumps(straight, slot, offset), offset
    again = pipeline.sources()
    for name, state in saved.items():
        if straight.slots.get(name) is not None:
            snapshot.loads(again, state)
    covered = [taken.get(source, -1) for source in given.source]
    rest = [i for i, offset in enumerate(given.offset) if offset >= replay and offset > covered[i]]
    o = pipeline.run(again, given.select(rest))
    found, last = lives(given, AFTER, most)
    assert {rest[r.position]: r.label for r in o.rejected} == ({i: found[i] for i in rest if isinstance(found[i], str)})
    end = given.offset[-1]
    assert live(again, found, last, end) == live(straight, found, last, end)


def test_a_replay_counts_the_life_before_of_a_source_that_was_saved_after_it_returned():
    pipeline = made(most=2)
    straight, again = pipeline.sources(), pipeline.sources()
    given = points([1.0, 1.0, 1.0, 1.0], ["a", "b", "c", "a"])
    given.offset = [0, 20, 25, AFTER + 1]
    assert [r.position for r in pipeline.run(straight, given).rejected] == [2], "a and b are live at 25"
    assert straight.rows.get(0, "born") == AFTER + 1
    for data in states(straight, 40).values():
        snapshot.loads(again, data)
    assert [r.position for r in pipeline.run(again, given.select([2])).rejected] == [0]


@ENGINES
def test_silence_of_exactly_so_many_records_is_remembered_and_one_more_is_not(engine):
    pipeline = made(engine)
    for gap, status in ((AFTER, 1), (AFTER + 1, 0)):
        sources = pipeline.sources()
        pipeline.run(sources, points(gaussian(20)))
        o = pipeline.run(sources, points([10.0], start=19 + gap))
        assert o.status.tolist() == [status]
        assert sources.rows.get(0, "seen") == (21 if status else 1)
        assert (sources.models[0][0][0] is not None) and len(sources) == 1


def test_rows_of_dropped_sources_are_used_again():
    pipeline = made()
    sources = pipeline.sources()
    for k in range(50):
        names = [f"{k}-{i}" for i in range(20)]
        pipeline.run(sources, points(gaussian(20), names, start=20 * k))
        for name in [name for name in sources.slots if sources.rows.get(sources.slots[name], "last") < 20 * k]:
            sources.drop(sources.slots[name])
    assert len(sources) == 20 and sources.rows.count == 40 and sources.cells[0].count == 40
    assert len(sources.models[0][0]) == 40 and sum(model is not None for model in sources.models[0][0]) == 20
    assert sources.warming_up == 20


def test_an_episode_that_is_open_when_its_source_falls_silent_is_told_to_have_ended():
    pipeline = made()
    sources = pipeline.sources()
    pipeline.run(sources, points([*gaussian(20), 999.0], "pump"))
    near = points([1.0], "fan", start=20 + AFTER)
    beyond = points([1.0, 2.0], "fan", start=21 + AFTER)
    assert encode_episodes(near, pipeline.run(sources, near), "raw", 3) == []
    [(key, value)] = encode_episodes(beyond, pipeline.run(sources, beyond), "raw", 3)
    assert key == b"pump" and json.loads(value) == {
        "event": "closed", "episode": "raw:3:20:0", "kind": "value", "source": "pump", "timestamp": 60.0 * 20,
        "points": 1, "peak_score": pytest.approx(1.0, abs=0.1), "opened_at": 60.0 * 20, "reason": "silence",
        "severity": "critical", "offset": 21 + AFTER, "index": -1,
    }  # fmt: skip
    assert pipeline.run(sources, points([1.0], "fan", start=90)).expired == []
    back = pipeline.run(sources, points([10.0], "pump", start=91))
    assert back.expired == [] and not back.closed[0] and not back.anomaly[0]


def test_the_event_of_an_end_by_silence_is_the_same_if_a_replay_skips_the_point_that_showed_it():
    """Its source was saved later: the next point that is read shows it."""
    pipeline = made()
    told = set()
    for first in (21 + AFTER, 22 + AFTER):
        sources = pipeline.sources()
        pipeline.run(sources, points([*gaussian(20), 999.0], "pump"))
        later = points([1.0] * 5, ["fan", "pump", "fan", "fan", "fan"], start=first)
        told.add(encode_episodes(later, pipeline.run(sources, later), "raw", 3)[0])
    assert len(told) == 1


@pytest.mark.parametrize("single", [True, False])
def test_all_events_of_an_episode_are_of_one_series_where_settings_name_the_value(single):
    """``input.value_fields: [flow]``: results name it, and its series is the source; a vector of one has no name."""
    pipeline = made()
    sources, events = pipeline.sources(), []
    values = [*gaussian(20), 999.0, 10.0, *gaussian(20), 999.0]
    for batch in (vectors([{"flow": value} for value in values], "pump"), points([1.0], "fan", start=60 + AFTER)):
        batch.single = single
        events += encode_episodes(batch, pipeline.run(sources, batch), "raw", 3)
    read = [episodes.decode(value) for _, value in events]
    assert [one.event for one in read] == ["opened", "closed", "opened", "closed"] and read[-1].reason == "silence"
    assert {one.metric for one in read} == {"flow" if single else ""} and {key for key, _ in events} == {b"pump"}
    assert [one.place for one in read] == sorted({one.place for one in read})


def test_it_ends_before_the_source_that_returns_and_opens_anew():
    pipeline = made()
    sources = pipeline.sources()
    pipeline.run(sources, points([*gaussian(20), 999.0], "pump"))
    back = points([*gaussian(20), 999.0], "pump", start=21 + AFTER)
    events = [json.loads(value) for _, value in encode_episodes(back, pipeline.run(sources, back), "raw", 0)]
    assert [(e["event"], e.get("episode")) for e in events] == [
        ("closed", "raw:0:20:0"), ("opened", f"raw:0:{41 + AFTER}:0"),
    ]  # fmt: skip


def test_a_refusal_names_the_setting_and_hurts_nobody_else():
    pipeline = made(most=2)
    sources = pipeline.sources()
    o = pipeline.run(sources, points(gaussian(9), ["a", "b", "c"] * 3))
    assert [r[:2] for r in o.rejected] == [(i, "too_many_sources") for i in (2, 5, 8)]
    assert "state.max_sources" in o.rejected[0].reason and "'c'" in o.rejected[0].reason
    assert set(sources.slots) == {"a", "b"} and o.slot.tolist() == [0, 1, -1] * 3
    o = pipeline.run(sources, points([1.0, 1.0], ["b", "c"], start=9 + AFTER))  # a was last seen at 6
    assert o.rejected == [] and set(sources.slots) == {"a", "b", "c"}


@pytest.mark.parametrize("detectors", [None, MEMBERS])
def test_refusals_in_a_part_of_a_long_batch_change_nothing_of_the_rest(detectors):
    """With the default set too, one of whose detectors gives reasons beside its score."""
    chosen = Detection() if detectors is None else detection(detectors=detectors)
    pipeline = Pipeline(chosen, forget_after=AFTER, max_sources=2)
    together, apart = pipeline.sources(), pipeline.sources()
    long = points(gaussian(4 * AFTER), ["a", "b", "c"] + ["a", "b"] * (2 * AFTER - 1) + ["a"])
    first = points(gaussian(4 * AFTER)[: AFTER + 1], long.source[: AFTER + 1])
    rest = points(gaussian(4 * AFTER)[AFTER + 1 :], long.source[AFTER + 1 :], start=AFTER + 1)
    found = pipeline.run(together, long)
    assert [refused.position for refused in found.rejected] == [2]
    assert columns([found]) == columns([pipeline.run(apart, part) for part in (first, rest)])
    assert states(together) == states(apart)


def test_settings_let_no_replay_reach_back_further_than_forgetting():
    with pytest.raises(ConfigurationError, match=r"at least state.replay_records = 50000, got 2000"):
        load(environ={}, state={"forget_after_records": 2000})
    with pytest.raises(ConfigurationError, match=r"forget_after_records .*at least .* = 100000000, got 10000000"):
        load(environ={}, state={"replay_records": 10**8, "forget_after_records": 10**7})

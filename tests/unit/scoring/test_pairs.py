"""Metrics that part: what opens an episode and what does not, and a line that is that of least squares."""

import json
from functools import cache

import numpy as np
import pytest
from support.points import batches, columns, detection, points, states, vectors

from app.compiled import rows
from app.compiled.byte_columns import RecordColumns
from app.detectors.kinds import KINDS
from app.pipeline import Pipeline
from app.scoring import pairs
from app.scoring.episodes import REASONS
from app.scoring.profile import PAIR
from app.settings import Detection, DetectorSettings
from app.state import snapshot
from app.wire.results import encode_results
from tables.sources import ChangelogSources

N, AT, WIDTH = 2400, 1700, 150
PART = slice(AT, AT + WIDTH)


def pipeline(engine="numba", **given):
    return _pipeline(engine, json.dumps(given))


@cache
def _pipeline(engine, given):
    return Pipeline(Detection(**json.loads(given)), engine=engine)


def noise(seed, n=N, smooth=8):
    """Noise of about standard deviation 1 of which values that follow each other are alike."""
    drawn = np.random.default_rng(seed).normal(0.0, smooth**-0.5, n + smooth - 1)
    return np.convolve(drawn, np.ones(smooth), "valid")


def two(seed=1):
    """(what both follow, a, b)"""
    both = noise([seed, 0])
    e = np.random.default_rng([seed, 1]).normal(0.0, 1.0, (2, N))
    return both, 100.0 + 5.0 * both + 0.3 * e[0], 500.0 - 20.0 * both + 1.5 * e[1]


def records(metrics, n=N):
    """Points of these metrics; NaN: the point does not have it."""
    made = vectors([{m: x[i] for m, x in metrics.items() if x[i] == x[i]} for i in range(n)])
    made.timestamp = [300.0 * t / 60.0 for t in made.timestamp]
    return made


def episodes(metrics, of=pipeline):
    """(kind, position, reason of the end, sentence) of each."""
    found, run = [], of()
    outcome = run.run(run.sources(), records(metrics))
    for i in np.flatnonzero(outcome.opened | outcome.closed).tolist():
        if outcome.closed[i]:
            found[-1][2] = REASONS[outcome.reason[i]]
        if outcome.opened[i]:
            found.append([KINDS[outcome.kind[i]], i, "", outcome.explanation[i]])
    return found


def parted(how, seed):
    both, a, b = two(seed)
    own = b + 20.0 * both
    instead = {
        "own way": noise([seed, 2])[PART],
        "late": both[AT - 15 : AT - 15 + WIDTH],
        "not on": np.full(WIDTH, both[AT - 1]),
        "other ratio": 0.3 * both[PART],
        "other side": -both[PART],
    }
    b[PART] = own[PART] - 20.0 * instead[how]
    return {"a": a, "b": b, "c": 7.0 + noise([seed, 3])}


HOWS = ("own way", "late", "not on", "other ratio", "other side")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("how", HOWS)
def test_two_metrics_that_part_are_told_and_named_once(how, seed):
    about = [one for one in episodes(parted(how, seed)) if AT <= one[1] <= AT + WIDTH + 60]
    assert len(about) == 1
    kind, at, reason, sentence = about[0]
    assert kind == "pair" and at <= AT + 30 and reason == "recovered"
    assert sentence.startswith(("a: ", "b: ")) and f" from what {'b' if sentence[0] == 'a' else 'a'} lets" in sentence


def test_a_lasting_change_is_told_once_and_learned():
    both, a, b = two()
    b[AT:] += 12.0 * both[AT:]
    assert [one[::2] for one in episodes({"a": a, "b": b}) if one[1] >= AT] == [["pair", "adapted"]]


def test_what_another_detector_tells_is_not_told_again_as_a_pair():
    _, a, b = two()
    b[PART] += 200.0
    assert {one[0] for one in episodes({"a": a, "b": b}) if one[1] >= AT} <= {"value", "level", "record", "season"}


def following(a, gain, seed, late=0, own=0.2):
    """A series that follows another one."""
    e = np.random.default_rng(seed).normal(0.0, own * abs(gain) * float(np.std(a)), len(a))
    return gain * np.concatenate([a[:1].repeat(late), a[: len(a) - late]]) + e


def calm():
    both, a, b = two(7)
    i = np.arange(N)
    day = 30.0 + 20.0 * np.sin(i / 288.0 * 2.0 * np.pi) + noise(3)
    jumps, steps = np.zeros(N), np.repeat(np.random.default_rng(6).normal(0.0, 1.5, 8), N // 8)
    jumps[np.random.default_rng(5).integers(900, N, 9)] = 8.0
    walk = np.cumsum(np.random.default_rng(8).normal(0.0, 1.0, (3, N)), axis=1)
    work = np.abs(100.0 + 20.0 * both)
    return {
        "together": {"a": a, "b": b},
        "late": {"a": both, "b": following(both, 3.0, 1, late=5)},
        "loosely": {"a": both, "b": following(both, 3.0, 2, own=0.7)},
        "a day": {"a": day, "b": following(day, 0.5, 3), "c": np.maximum(day, 25.0) ** 2 + 9.0 * noise(4)},
        "one that scatters": {"a": a, "b": b, "c": 7.0 + 9.0 * noise(9, smooth=1)},
        "jumps of both": {"a": a + 5.0 * jumps, "b": b - 20.0 * jumps},
        "steps of both": {"a": a + 5.0 * steps, "b": b - 20.0 * steps},
        "counters": {"a": np.cumsum(np.round(work)), "b": np.cumsum(np.round(3.0 * work + noise(11)))},
        "walks": dict(zip("abc", walk)),
        "a sum": {"used": np.round(work, 1), "free": np.round(400.0 - work, 1)},
        "constant": {"a": np.full(N, 5.0), "b": np.full(N, 7.0)},
        "constant and not": {"a": np.full(N, 5.0), "b": b},
        "rarely both": {"a": np.where(i % 3, a, np.nan), "b": np.where(i % 5, b, np.nan), "c": noise(12)},
        "one that is new": {"a": np.where(i < 900, np.nan, a), "b": b},
        "huge": {"a": 1e147 * a, "b": 1e147 * b},
        "tiny": {"a": 1e-200 * a, "b": 1e-200 * b},
    }


@pytest.mark.parametrize("how", list(calm()))
def test_what_goes_on_together_or_never_did_is_no_pair_that_parts(how):
    assert [one for one in episodes(calm()[how]) if one[0] == "pair"] == []


@pytest.mark.parametrize("how", ["rarely both", "one that is new"])
def test_metrics_that_are_missing_or_new_are_told_too(how):
    metrics = calm()[how]
    metrics["b"][PART] += 40.0 * two(7)[0][PART]  # on the other side
    assert [one[0] for one in episodes(metrics) if AT <= one[1] < AT + 60] == ["pair"]


def test_mates_are_found_among_many_metrics():
    _, a, b = two(7)
    metrics = {f"m{k}": noise([k, 9]) for k in range(38)} | {"a": a, "b": b}
    many = Pipeline(Detection(), max_metrics=40)
    sources = many.sources()
    for part in batches(records({name: np.concatenate([x, x]) for name, x in metrics.items()}, 2 * N), [N]):
        many.run(sources, part)
    names = [name for name in sources.metrics(0) if name]
    mates = [sources.pairs.get(row, "mate") for row in sources.pair_rows(0)]
    known = {name: names[mate - 1] for name, mate in zip(names, mates) if mate}
    assert known == {"a": "b", "b": "a"} and all(sources.pairs.get(row, "tried") for row in sources.pair_rows(0))


def lively():
    """Metrics that part, are missing, come late, are equal, and are repeated."""
    metrics = parted("own way", 3)
    metrics["b"] = np.where(np.arange(N) % 7, metrics["b"], np.nan)
    metrics["new"] = np.where(np.arange(N) < 700, np.nan, metrics["a"] + noise(21, smooth=1))
    made = records(metrics)
    return made.select([*range(1750), 1749, 1749, *range(1750, N)])


@pytest.fixture(scope="module")
def whole():
    """(columns of the outcome, states) of it in one batch."""
    sources = pipeline().sources()
    return columns([pipeline().run(sources, lively())]), states(sources)


def test_both_engines_give_the_same_bits(whole):
    plain = pipeline("python")
    sources = plain.sources()
    assert (columns([plain.run(sources, lively())]), states(sources)) == whole
    assert KINDS.index("pair") in np.frombuffer(whole[0]["kind"], np.int8)


@pytest.mark.parametrize("cuts", [[1, 2, 1705, 1720], [100 * k + 3 for k in range(24)]])
def test_batches_and_restarts_change_nothing(whole, cuts):
    sources, found = pipeline().sources(), []
    for part in batches(lively(), cuts):
        found.append(pipeline().run(sources, part))
        saved, sources = states(sources), pipeline().sources()
        for data in saved.values():
            snapshot.loads(sources, data)
    assert (columns(found), states(sources)) == whole


def test_the_state_does_not_grow_and_sources_with_one_metric_have_none():
    sources = pipeline().sources()
    pipeline().run(sources, records({"value": noise(1)}))
    assert sources.pairs.nbytes == 0 and snapshot.dumps(sources, 0, 9)[4] == snapshot.FORMAT
    pipeline().run(sources, records({"value": noise(1), "b": noise(2)}))
    assert sources.pairs.nbytes == 2 * PAIR.itemsize <= 2 * 560
    sources.drop(0)
    pipeline().run(sources, records({"b": noise(1), "c": noise(2)}))
    assert sources.pairs.count == 2, "rows are used again"
    assert [sources.pairs.get(row, "place") for row in sources.pair_rows(0)] == [0, 1]


def test_points_in_maintenance_teach_nothing():
    start, end = (f"1970-01-06T{hour}:00:00Z" for hour in ("12", "18"))
    first, last = int((5 * 86400 + 12 * 3600) / 300), int((5 * 86400 + 18 * 3600) / 300)
    given = pipeline(maintenance=({"name": "upgrade", "start": start, "end": end},))
    _, a, b = two()
    found = []
    for factor in (1.0, 1e3):
        sources = given.sources()
        b[first:last] *= factor
        given.run(sources, records({"a": a, "b": b}))
        found.append([sources.pairs.dump(row) for row in sources.pair_rows(0)])
    assert found[0] == found[1]


def test_a_repeat_teaches_nothing():
    _, a, b = two()
    made = records({"a": a, "b": b})
    found = []
    for at in (range(N), [*range(N), N - 1]):
        sources = pipeline().sources()
        pipeline().run(sources, made.select(at))
        found.append([sources.pairs.dump(row) for row in sources.pair_rows(0)])
    assert found[0] == found[1]


def test_pairs_that_were_saved_by_another_version_are_reset_and_named(monkeypatch):
    sources, now = pipeline().sources(), pipeline().sources()
    _, a, b = two()
    pipeline().run(sources, records({"a": a, "b": b}))
    data = snapshot.dumps(sources, 0, 9)
    snapshot.loads(now, data)
    assert not now.reset_sections and now.pairs.get(0, "mate") == 2
    monkeypatch.setattr(pairs, "VERSION", pairs.VERSION + 1)
    snapshot.loads(now, data)
    assert now.reset_sections == {"pairs": {0}} and now.pairs.get(0, "mate") == 0


def test_a_changelog_of_sources_with_one_metric_and_with_several_is_read():
    _, a, b = two()
    owned, now = (ChangelogSources(pipeline().sources()) for _ in range(2))
    pipeline().run(owned.rows, records({"a": a, "b": b}))
    pipeline().run(owned.rows, points(a[:50].tolist(), "one metric", start=10 * N))
    saved = owned.snapshots([0, 1], 77)
    now.load(RecordColumns.of((i, key, value) for i, (key, value) in enumerate(saved)))
    assert states(now.rows) == states(owned.rows) and now.rows.pairs.count == 2 and not now.rows.reset_sections


def test_they_are_reset_with_fewer_metrics_and_dropped_without_detectors_of_episodes():
    _, a, b = two()
    sources = pipeline().sources()
    pipeline().run(sources, records({"a": a, "b": b, "c": noise(1)}))
    data = snapshot.dumps(sources, 0, 9)
    fewer = Pipeline(Detection(), max_metrics=2).sources()
    snapshot.loads(fewer, data)
    assert fewer.reset_sections == {"pairs": {0}} and len(fewer.pair_rows(0)) == 2
    other = Pipeline(detection("level")).sources()
    snapshot.loads(other, data)
    assert "pairs" not in other.reset_sections and not other.pair_rows(0)


def test_pairs_of_metrics_in_another_order_are_refused():
    sources = pipeline().sources()
    _, a, b = two()
    pipeline().run(sources, records({"a": a, "b": b}))
    sources.pairs.put(1, "place", 2**40)
    with pytest.raises(snapshot.StateError, match="in the order of its metrics"):
        snapshot.loads(pipeline().sources(), snapshot.dumps(sources, 0, 9))


def test_a_drift_that_resets_detectors_resets_pairs():
    given = Detection(drift={"method": "PageHinkley", "reset": True})
    run = Pipeline(given)
    sources = run.sources()
    _, a, b = two()
    metrics = {"a": a, "b": b}
    run.run(sources, records(metrics))
    assert sources.pairs.get(0, "mate") == 2
    sources.rows.put(0, "anew", sources.rows.get(0, "seen"))
    run.run(sources, records(metrics).select([0, 1, 2]))
    assert sources.pairs.get(0, "mate") == 0


@pytest.mark.parametrize(("rule", "told"), [({"min_deviation": 15.0}, True), ({"min_deviation": 1e4}, False)])
def test_rules_of_deviation_hold_for_the_distance_from_what_the_other_lets_expect(rule, told):
    metrics = {name: 10.0 * x for name, x in parted("other side", 1).items()}
    found = episodes(metrics, lambda: pipeline(**rule))
    assert [one[0] for one in found if one[0] == "pair"] == ["pair"] * told


def test_own_detectors_that_open_no_episodes_have_no_pairs():
    of_level = Pipeline(Detection(detectors={"level": DetectorSettings()}))
    assert not [one for one in episodes(parted("own way", 1), lambda: of_level) if one[0] == "pair"]


def test_results_of_a_pair_have_the_figures_of_the_sentence():
    metrics = parted("other side", 1)
    made = records(metrics)
    outcome = pipeline().run(pipeline().sources(), made)
    results = [json.loads(result) for _, result in encode_results(made, outcome, "t", 0)]
    inside = [one for one in results if one.get("kind") == "pair"]
    assert all("lets expect" in one["explanation"] and one["figure"] > 0.0 < one["usual"] for one in inside[:100])
    first = inside[0]
    assert max(first["attribution"], key=first["attribution"].get) == first["explanation"][0]
    assert first["alert_score"] >= 0.8 <= first["anomaly_score"] and first["detectors"]["prediction_interval"] < 0.8


def test_the_line_is_that_of_weighted_least_squares():
    _, a, b = two()
    fit = rows.Row(rows.dtype(pairs.FIT))
    for x, y in zip(a.tolist(), b.tolist()):
        pairs.learn_point(fit, x, y)
    slope, middle = np.polyfit(a, b, 1)
    assert pairs.error_of(fit, 90.0, 480.0) == pytest.approx(480.0 - slope * 90.0 - middle, rel=1e-9)
    assert pairs.explained(fit) == pytest.approx(np.corrcoef(a, b)[0, 1] ** 2, rel=1e-9)


def test_a_line_forgets():
    fit = rows.Row(rows.dtype(pairs.FIT))
    x = np.random.default_rng(1).normal(0.0, 1.0, 20000)
    y = np.where(np.arange(20000) < 10000, 2.0, 3.0) * x
    for one in zip(x.tolist(), y.tolist()):
        pairs.learn_point(fit, *one)
    ages = np.arange(20000)[::-1]
    share = np.where(ages >= 15000, (1 - pairs.MEMORY) ** 15000 / 5000, pairs.MEMORY * (1 - pairs.MEMORY) ** ages)
    moment = np.polynomial.polynomial.polyfit(x, y, 1, w=np.sqrt(share))
    assert fit.xy / fit.xx == pytest.approx(moment[1], rel=1e-9)

"""A point that names its metric belongs to a series of its own, which is as it would be as a source."""

import json
import random
import struct
from zlib import crc32

import numpy as np
import pytest
from support.points import alone, batches, detection, named, points, states

from app.compiled.byte_columns import RecordColumns
from app.errors import StateError
from app.pipeline import Pipeline
from app.settings import Detection, InputSettings, SourceOverride
from app.state import series, snapshot
from app.state.sources import VALUE
from app.wire.reader import Reader
from app.wire.results import encode_columns, encode_episodes
from tables.sources import ChangelogSources

METRICS = ("cpu", "mem", "disk", "net", "load", 'tëmp "°"')
ODD = ("h", "ÿ", "h\0", "h\nx", '"', "cpu", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"))
AUTO = Detection(window_points=30)


class Record:
    """What the reader takes of aiokafka's ConsumerRecord."""

    headers = ()

    def __init__(self, offset: int, source: str, **said: object) -> None:
        self.offset, self.timestamp, self.key = offset, 1_700_000_000_000 + 60_000 * offset, source.encode()
        self.value = json.dumps({"source": source, **said}).encode()


def stream(n: int = 6000) -> list[tuple[str, Record]]:
    """(what it is of, record): six metrics of a host one by one; between them vectors and plain values of that host."""
    rng = random.Random(4)
    found = []
    for i in range(n):
        what = rng.choice((*METRICS, "vector", "plain"))
        x = round(rng.gauss(10.0 * len(what), 1.0), 2) + (80.0 if i > n // 2 and rng.random() < 0.03 else 0.0)
        said: dict[str, object] = {"timestamp": 1.7e9 + 60.0 * i}
        if what == "vector":
            said |= {"values": {"cpu": x, "mem": -x}}
        elif what == "plain":
            said |= {"value": x}
        else:
            said |= {"metric": what, "value": x}
        found.append((what, Record(i, "host", **said)))
        if rng.random() < 0.02:  # the last point of its series once more
            found.append((what, Record(i, "host", **said)))
    for i, (_, record) in enumerate(found):
        record.offset = i
    return found


def written(pipeline: Pipeline, records: list[Record], size: int = 97) -> tuple[list[dict], list[dict]]:
    """Results and events, through the reader and the encoders, in batches of ``size`` records."""
    reader, sources = Reader(InputSettings(), "t", 0, keyed=True), pipeline.sources()
    results, events = [], []
    for first in range(0, len(records), size):
        decoded = reader.read(records[first : first + size])
        assert not decoded.dead_letters
        outcome = pipeline.run(sources, decoded.points)
        results += [json.loads(value) for _, value in encode_columns(decoded.points, outcome, "t", 0).pairs()]
        events += [json.loads(value) for _, value in encode_episodes(decoded.points, outcome, "t", 0)]
    return results, events


def without_names(said: list[dict]) -> list[dict]:
    """Source and metric left out."""
    found = [{k: v for k, v in one.items() if k not in ("source", "metric")} for one in said]
    for one in found:
        if "attribution" in one:
            one["attribution"] = list(one["attribution"].values())
    return found


@pytest.mark.parametrize("engine", ["numba", "python"])
def test_each_metric_gives_what_it_would_give_alone_as_a_source(engine):
    records = stream(6000 if engine == "numba" else 800)
    pipeline = Pipeline(AUTO, engine=engine)
    results, events = written(pipeline, [record for _, record in records])
    of = {what for what, _ in records}
    assert of == {*METRICS, "vector", "plain"}
    for what in METRICS:
        own = [record for other, record in records if other == what]
        as_source = []
        for record in own:
            said = json.loads(record.value)
            as_source.append(Record(record.offset, "alone", timestamp=said["timestamp"], value=said["value"]))
        alone_results, alone_events = written(pipeline, as_source, 31)
        mine = [one for one in results if one.get("metric") == what]
        assert len(mine) == len(own)
        assert without_names(mine) == without_names(alone_results)
        assert without_names([one for one in events if one.get("metric") == what]) == without_names(alone_events)
    assert engine == "python" or len([one for one in events if "metric" in one]) > 20, "else this proves little"
    whole = [record for what, record in records if what in ("vector", "plain")]
    assert written(pipeline, whole)[0] == [one for one in results if "metric" not in one]
    assert written(pipeline, whole)[1] == [one for one in events if "metric" not in one]


def test_results_do_not_depend_on_batches():
    pipeline, records = Pipeline(AUTO), [record for _, record in stream(1000)]
    assert written(pipeline, records, 1) == written(pipeline, records, 1000)


def test_a_metric_called_value_is_the_series_of_the_source():
    read = Reader(InputSettings(), "t", 0, True).read
    plain, said = read([Record(0, "h", value=1.0)]).points, read([Record(0, "h", value=1.0, metric="value")]).points
    assert said == plain and said.series() == ["h"]
    three = [
        Record(0, "h", value=1.0, metric="value"),
        Record(1, "h", values={"a": 1.0}),
        Record(2, "h", value=1.0, metric="a"),
    ]
    mixed = read(three)
    assert mixed.points.series() == ["h", "h", series.joined("h", "a")]


def test_no_two_series_have_the_same_name():
    pairs = [(source, metric) for source in ODD for metric in ("", *ODD)]
    names = {series.joined(*pair): pair for pair in pairs}
    assert len(names) == len(pairs) and {name: series.parted(name) for name in names} == names
    data = {series.to_bytes(name): name for name in names}
    assert len(data) == len(names) and {raw: series.from_bytes(raw) for raw in data} == data
    for raw in (b"\xff", b"\xffa", b"a\xff", b"a\xffb\xffc", b"\xfe"):
        with pytest.raises(UnicodeDecodeError):
            series.from_bytes(raw)


def filled(pipeline: Pipeline, n: int = 400):
    sources, rng = pipeline.sources(), np.random.default_rng(1)
    pairs = [(source, metric) for source in ODD for metric in ("", *ODD)]
    for source in ODD:
        of = [metric for one, metric in pairs if one == source]
        pipeline.run(
            sources, named([(of[i % len(of)], x) for i, x in enumerate(rng.normal(9.0, 1.0, n).tolist())], source)
        )
    return sources


def test_snapshots_of_series_restore_them_one_by_one_and_all_at_once():
    pipeline = alone("moving_average")
    sources = filled(pipeline)
    assert len(sources) == len(ODD) * (len(ODD) + 1) and all(
        sources.metrics(slot) == {VALUE: slot} for slot in range(len(sources))
    )
    one_by_one = pipeline.sources()
    for data in states(sources, 77).values():
        snapshot.loads(one_by_one, data)
    owned = ChangelogSources(sources)
    changelog = list(owned.snapshots(range(len(sources)), 77))
    at_once = ChangelogSources(pipeline.sources())
    at_once.load(RecordColumns.of((i, key, value) for i, (key, value) in enumerate(changelog)))
    assert states(one_by_one, 77) == states(at_once.rows, 77) == states(sources, 77)
    assert at_once.covered == dict.fromkeys(sources.slots, 77)
    # The tombstones of an earlier owner are those of its keys.
    assert {key for key, _ in at_once.tombstones(range(len(sources)))} == {key for key, _ in changelog}


def test_a_snapshot_differs_from_that_of_a_source_by_its_name_only():
    pipeline, values = alone("moving_average"), [float(x) for x in range(50)]
    one, other = pipeline.sources(), pipeline.sources()
    pipeline.run(one, points(values, "host#cpu"))
    pipeline.run(other, named([("cpu", x) for x in values], "host"))
    (a,), (b,) = states(one).values(), states(other).values()
    assert len(a) == len(b) and a.replace(b"host#cpu", b"host\xffcpu")[:-4] == b[:-4]


def test_the_largest_names_fit_into_what_is_the_largest_snapshot():
    pipeline = Pipeline(detection("zscore"), max_metrics=1)
    sources = pipeline.sources()
    pipeline.run(sources, named([("m" * series.MAX_METRIC_BYTES, 1.0)], "s" * series.MAX_SOURCE_BYTES))
    sources.cells[0].data.view(np.uint8)[:] = 1  # no word is left out
    assert len(snapshot.dumps(sources, 0, 9)) == pipeline.max_snapshot_bytes()


def test_a_flood_of_metrics_is_bounded_by_the_live_series_of_a_partition():
    pipeline = Pipeline(detection("zscore"), max_metrics=1, max_sources=3, forget_after=10**6)
    sources = pipeline.sources()
    outcome = pipeline.run(sources, named([(f"m{i}", 1.0) for i in range(9)], "host"))
    assert len(sources) == 3 and [one.position for one in outcome.rejected] == [3, 4, 5, 6, 7, 8]
    assert outcome.rejected[0].label == "too_many_sources"
    assert outcome.rejected[0].reason.startswith(
        "series 'm3' of source 'host' is new, and its partition has as many live"
    )


def test_a_silent_series_ends_its_episode_under_its_own_name():
    pipeline = Pipeline(detection("zscore", warmup=5), forget_after=50)
    sources = pipeline.sources()
    given = named([("cpu", float(i % 3)) for i in range(30)] + [("cpu", 1e6)] + [("mem", 1.0)] * 60, "host")
    outcome = pipeline.run(sources, given)
    events = [json.loads(value) for _, value in encode_episodes(given, outcome, "t", 0)]
    assert [(one["event"], one["source"], one["metric"]) for one in events] == [
        ("opened", "host", "cpu"),
        ("closed", "host", "cpu"),
    ]
    assert events[1]["reason"] == "silence"


def test_a_pattern_of_metrics_is_for_series_that_have_one():
    overrides = [
        SourceOverride(match="disk-*", metric="us[ae]*", range_highest=100.0),
        SourceOverride(match="disk-*", threshold=0.9),
    ]
    pipeline = Pipeline(detection("zscore"), overrides)
    of = {name: pipeline.profile_of(series.joined(*name)) for name in (
        ("disk-1", "usage"), ("disk-1", "Usage"), ("disk-1", ""), ("usage", "usage"), ("disk-1", "used"))}  # fmt: skip
    assert list(of.values()) == [1, 2, 2, 0, 1]
    assert pipeline.profiles[1].rules["highest"] == 100.0
    given = named([("usage", 101.0), ("load", 101.0)], "disk-1")
    assert pipeline.run(pipeline.sources(), given).anomaly.tolist() == [True, False]


# State of an earlier version


@pytest.mark.parametrize("version", [1, 2])
def test_state_of_an_earlier_format_is_that_of_its_source(version):
    pipeline = Pipeline(AUTO)
    old, now = pipeline.sources(), pipeline.sources()
    records = [record for what, record in stream(600) if what in ("vector", "plain")]
    read = Reader(InputSettings(), "t", 0, True).read
    pipeline.run(old, read(records[:80]).points)
    pipeline.run(old, points([1.0, 2.0], "plain", start=10**6))
    for name in old.slots:
        snapshot.loads(now, earlier(snapshot.dumps(old, old.slots[name], 77), version))
    had = [{name: earlier(data, version) for name, data in states(of).items()} for of in (now, old)]
    assert had[0] == had[1] and now.reset_sections == {snapshot.PAIRS: {now.slots["host"]}}
    known = {now.slots["host"]} if version == 1 else set()
    assert now.undivided == known, "its metrics may have been sent one by one"
    rest = read(records[80:]).points
    assert pipeline.run(now, rest).score.tolist() == pipeline.run(old, rest).score.tolist()
    snapshot.loads(now, snapshot.dumps(old, old.slots["host"], 99))
    assert not now.undivided


def earlier(data: bytes, version: int) -> bytes:
    """The snapshot in format 1 or 2, with whole rows: of kernels only."""
    _, _, metrics, reader = snapshot._opened(data)
    own, *stored = snapshot._sections(reader)
    reader.take(own.length)
    made = [data[: reader.at]]
    for _ in range(metrics):
        made += [snapshot._text(reader.text()), *snapshot.stored_parts(stored, reader)]
    if data[4] == snapshot.PAIRED:
        snapshot.stored_pairs(reader)
    reader.end()
    whole = b"".join(made)
    whole = whole[:4] + struct.pack("<HHI", version, *struct.unpack("<H", whole[6:8]), len(whole) + 4) + whole[12:]
    return whole + crc32(whole).to_bytes(4, "little")


@pytest.mark.parametrize("version", [1, 2])
def test_a_changelog_of_an_earlier_format_is_read(version):
    pipeline = alone("moving_average")
    sources = pipeline.sources()
    pipeline.run(sources, points([1.0, 2.0, 3.0], ["a", "b", "a"]))
    changelog = [(key, earlier(value, version)) for key, value in ChangelogSources(sources).snapshots([0, 1], 77)]
    now = ChangelogSources(pipeline.sources())
    now.load(RecordColumns.of((i, key, value) for i, (key, value) in enumerate(changelog)))
    assert states(now.rows) == states(sources) and now.covered == {"a": 77, "b": 77} and not now.rows.undivided
    with pytest.raises(StateError, match="has the key"):
        ChangelogSources(pipeline.sources()).load(RecordColumns.of([(0, b"b" + changelog[0][0][1:], changelog[0][1])]))


@pytest.mark.parametrize("cuts", [(1,), (3, 40), (7, 8, 9, 60)])
def test_batches_of_series_are_as_one(cuts):
    pipeline = Pipeline(AUTO)
    given = named([(METRICS[i % 6], float(i % 13)) for i in range(90)], ["h", "g"] * 45)
    one, cut = pipeline.sources(), pipeline.sources()
    whole = pipeline.run(one, given)
    parts = [pipeline.run(cut, part) for part in batches(given, cuts)]
    assert np.concatenate([part.score for part in parts]).tolist() == whole.score.tolist()
    assert states(one) == states(cut)

import struct
import sys
from zlib import crc32

import numpy as np
import pytest
from sample_detectors import running_mean
from support.points import alone, columns, detection, gaussian, points, states, vectors

from app import detectors
from app.errors import StateError
from app.pipeline import Pipeline
from app.settings import DetectorSettings, SourceOverride
from app.state import snapshot

ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])
MEMBERS = {
    "average": DetectorSettings(method="moving_average", window_size=8, warmup=5),
    "running": DetectorSettings(method="running", forget=0.1),
    "whole": DetectorSettings(method="zscore", warmup=5),
}


@pytest.fixture
def with_library(monkeypatch):
    monkeypatch.setattr(detectors, "_libraries", [*detectors._libraries, running_mean])


def mixed(engine="numba", window_points=20, **changed):
    """Kernels and an adapter; ``changed`` members in place of or beside them (None: left out)."""
    members = {name: m for name, m in {**MEMBERS, **changed}.items() if m}
    return Pipeline(detection(window_points=window_points, detectors=members), engine=engine)


def rechecked(data):
    """The bytes with a checksum that is right again."""
    return data[:-4] + struct.pack("<I", crc32(data[:-4]))


def filled(pipeline, n=60):
    sources = pipeline.sources()
    rng = np.random.default_rng(4)
    pipeline.run(sources, vectors([{"p": rng.normal(), "t": rng.normal()} for _ in range(n)], "pump-ü"))
    return sources


@ENGINES
def test_a_restored_source_goes_on_exactly(with_library, engine):
    pipeline = mixed(engine)
    original, restored = filled(pipeline), pipeline.sources()
    restored.slot("another")
    data = snapshot.dumps(original, 0, 77)
    assert snapshot.loads(restored, data) == (1, 77) and snapshot.peek(data) == ("pump-ü", 77)
    assert snapshot.dumps(restored, 1, 77) == data
    later = vectors([{"p": 1.0, "t": 5.0}, {"p": 13.0}, {"t": 9.0, "z": 1.0}] * 9, "pump-ü", start=60)
    assert columns([pipeline.run(original, later)]) == columns([pipeline.run(restored, later)])
    assert states(original)["pump-ü"] == states(restored)["pump-ü"]


def test_both_engines_write_and_read_the_same_bytes(with_library):
    numba, python = mixed("numba"), mixed("python")
    data = snapshot.dumps(filled(numba), 0, 5)
    assert snapshot.dumps(filled(python), 0, 5) == data
    sources = python.sources()
    snapshot.loads(sources, data)
    assert snapshot.dumps(sources, 0, 5) == data


@ENGINES
def test_an_open_episode_is_still_open_after_a_restore(engine):
    pipeline = alone("moving_average", engine)
    before, after = pipeline.sources(), pipeline.sources()
    pipeline.run(before, points([*gaussian(30), 999.0]))
    snapshot.loads(after, snapshot.dumps(before, 0, 30))
    o = pipeline.run(after, points([10.0], start=31))
    assert o.closed[0] and (o.episode_offset[0], o.length[0]) == (30, 1)


def test_a_row_of_a_later_release_is_refused_and_not_reset(monkeypatch):
    pipeline = alone("moving_average", "numba")
    sources = pipeline.sources()
    pipeline.run(sources, points(gaussian(30)))
    data = snapshot.dumps(sources, 0, 30)
    monkeypatch.setattr(snapshot.episodes, "VERSION", snapshot.episodes.VERSION - 1)
    monkeypatch.setattr(snapshot, "table", lambda profile: b"of this release")
    with pytest.raises(StateError, match=r"row of the source of version .* run the release that wrote it"):
        snapshot.loads(pipeline.sources(), data)


@pytest.mark.parametrize("covered, shift, last, born", [(40, 0, 30, 0), (1040, 1000, 1030, 1000), (-1, -31, 0, -1)])
def test_a_snapshot_for_another_log_differs_in_its_offsets_and_has_no_open_episode(covered, shift, last, born):
    pipeline = alone("moving_average", "numba")
    before, after = pipeline.sources(), pipeline.sources()
    pipeline.run(before, points([*gaussian(30), 999.0]))
    data, was_open = snapshot.moved(snapshot.dumps(before, 0, 30), covered, shift)
    assert was_open and snapshot.peek(data)[1] == covered
    assert snapshot.loads(after, data) == (0, covered) and not after.open
    for field, value in {"open": 0, "last": last, "born": born}.items():
        before.rows.put(0, field, value)
    assert snapshot.dumps(after, 0, covered) == snapshot.dumps(before, 0, covered) == data
    assert snapshot.moved(data, covered, 0)[1] is False
    with pytest.raises(StateError, match="damaged"):
        snapshot.moved(data[:-1] + b"x", 0, 0)


def test_loading_replaces_all_that_the_source_had(with_library):
    pipeline = mixed()
    data = snapshot.dumps(filled(pipeline), 0, 9)
    sources = pipeline.sources()
    pipeline.run(sources, vectors([{"t": 1.0, "other": 2.0}] * 30, "pump-ü"))
    snapshot.loads(sources, data)
    assert snapshot.dumps(sources, 0, 9) == data and list(sources.metrics(0)) == ["p", "t"]


def sections(pipeline, sources, name):
    """Bytes of one section in every metric's row."""
    (section,) = [s for s in pipeline.profiles[0].sections if s.name == name]
    return [sources.cells[0].dump(row)[section.start : section.end] for row in sources.metrics(0).values()]


AVERAGE = {"method": "moving_average", "window_size": 8}
CHANGES = {
    "nothing": ({}, []),
    "another parameter": ({"average": DetectorSettings(method="moving_average", window_size=9)}, ["detector:average"]),
    "another threshold": ({"average": DetectorSettings(**AVERAGE, warmup=5, threshold_multiplier=9.0)}, []),
    "another warmup": ({"average": DetectorSettings(**AVERAGE, warmup=50)}, []),
    "another method": ({"average": DetectorSettings(method="zscore")}, ["detector:average"]),
    "an adapter's parameter": ({"running": DetectorSettings(method="running", forget=0.2)}, ["detector:running"]),
    "one left out": ({"average": None}, []),
    "one more": ({"new": DetectorSettings(method="zscore")}, ["detector:new"]),
    "another name": ({"average": None, "mean": MEMBERS["average"]}, ["detector:mean"]),
    "another weight": ({"average": MEMBERS["average"].model_copy(update={"weight": 3.0})}, []),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_detector_is_reset_and_the_others_go_on(with_library, change):
    changed, reset = CHANGES[change]
    old, new = mixed(), mixed(**changed)
    original, sources = filled(old), new.sources()
    snapshot.loads(sources, snapshot.dumps(original, 0, 9))
    for section in new.profiles[0].sections:
        found = sections(new, sources, section.name)
        if section.name in reset:
            assert found == [bytes(len(f)) for f in found]
        else:
            assert found == sections(old, original, section.name) and any(found[0])
    assert sources.reset_sections == {key: {0} for key in reset}
    model = sources.models[0][0][0]
    assert (model is None) == ("detector:running" in reset)
    assert sources.rows.dump(0) == original.rows.dump(0)


@pytest.mark.parametrize(
    "other",
    [
        {"ensemble": "max"},
        {"threshold_": 0.3},
        {"detectors": dict(reversed(MEMBERS.items()))},
        {"detectors": {name: m.model_copy(update={"warmup": 9}) for name, m in MEMBERS.items() if name != "running"}},
    ],
    ids=lambda other: ", ".join(other),
)
def test_what_judges_otherwise_goes_on_as_if_it_had_always_done(with_library, other):
    """Scores and votes are those of a run that had the new settings from the beginning."""
    old, new = mixed(), Pipeline(detection(**{"window_points": 20, "detectors": MEMBERS, **other}))
    sources = new.sources()
    snapshot.loads(sources, snapshot.dumps(filled(old), 0, 9))
    later = vectors([{"p": 1.0, "t": 5.0}, {"p": 3.0}, {"t": 90.0}] * 9, "pump-ü", start=60)
    found, expected = new.run(sources, later), new.run(filled(new), later)
    for column in ("score", "votes", "expected", "status"):
        assert getattr(found, column).tobytes() == getattr(expected, column).tobytes(), column
    assert np.isfinite(found.votes).all() and found.score.max() > 0.5


def test_a_source_that_gets_settings_of_its_own_takes_along_what_they_share(with_library):
    data = snapshot.dumps(filled(mixed()), 0, 9)
    own = SourceOverride(match="pump-*", detectors={"whole": MEMBERS["whole"]})
    pipeline = Pipeline(detection(window_points=20, detectors=MEMBERS), [own])
    sources = pipeline.sources()
    snapshot.loads(sources, data)
    row = sources.cells[1].data[0]
    assert sources.profile[0] == 1 and row["d0"]["calibration"]["seen"] == 60 == sources.rows.data[0]["seen"]


def test_of_more_metrics_than_are_allowed_now_the_first_go_on(with_library):
    original = filled(mixed())
    pipeline = Pipeline(detection(window_points=20, detectors=MEMBERS), max_metrics=1)
    sources = pipeline.sources()
    snapshot.loads(sources, snapshot.dumps(original, 0, 9))
    assert list(sources.metrics(0)) == ["p"]
    assert sources.cells[0].dump(0) == original.cells[0].dump(0)
    assert len(snapshot.dumps(sources, 0, 9)) <= pipeline.max_snapshot_bytes()


def test_what_was_reset_is_forgotten_when_a_snapshot_of_the_present_settings_follows(with_library):
    old, new = mixed(), mixed(window_points=30)
    sources = new.sources()
    snapshot.loads(sources, snapshot.dumps(filled(old), 0, 9))
    assert sources.reset_sections == {key: {0} for key in ["window", "detector:average", "detector:whole"]}
    snapshot.loads(sources, snapshot.dumps(filled(new), 0, 10))
    assert not any(sources.reset_sections.values())


def test_another_window_resets_the_kernels_that_read_it(with_library):
    old, new = mixed(), mixed(window_points=30)
    original, sources = filled(old), new.sources()
    snapshot.loads(sources, snapshot.dumps(original, 0, 9))
    for name in ("window", "detector:average", "detector:whole"):
        assert not any(map(any, sections(new, sources, name)))
    assert sections(new, sources, "detector:running") == sections(old, original, "detector:running")
    new.run(sources, points(gaussian(100), "pump-ü", start=100))


def test_a_raised_version_resets_a_detector(with_library, monkeypatch):
    data = snapshot.dumps(filled(mixed()), 0, 9)
    monkeypatch.setattr(running_mean.Running, "version", 2)
    pipeline = mixed()
    sources = pipeline.sources()
    snapshot.loads(sources, data)
    assert sources.models[0][0] == [None, None] and any(sections(pipeline, sources, "window")[0])


# What this program did not write is refused; damage of every kind: test_damage.py


def test_a_later_format_is_refused_by_name():
    pipeline = alone("zscore")
    sources = pipeline.sources()
    pipeline.run(sources, points([1.0]))
    data = bytearray(snapshot.dumps(sources, 0, 9))
    data[4:6] = struct.pack("<H", 5)
    with pytest.raises(StateError, match="format 5: this release reads formats 1, 2, 3, 4;"):
        snapshot.loads(sources, rechecked(bytes(data)))


def test_bytes_of_another_kind_are_refused():
    with pytest.raises(StateError, match="must start with b'fasn', found b'PK"):
        snapshot.loads(alone("zscore").sources(), b"PK\x03\x04" + bytes(60))


def test_a_window_that_leads_outside_itself_is_refused():
    """Compiled code does not check bounds: what it would follow is checked before."""
    pipeline = alone("zscore")
    sources = pipeline.sources()
    pipeline.run(sources, points(gaussian(30)))
    for name, value in [("head", 20), ("head", -1)]:
        sources.cells[0].data[0]["window"][name] = value
        with pytest.raises(StateError, match="within its 20 points"):
            snapshot.loads(pipeline.sources(), snapshot.dumps(sources, 0, 9))
    with pytest.raises(StateError, match="within its 20 points"):
        sources.cells[0].data[0]["window"]["head"] = 0
        sources.cells[0].data[0]["window"]["order"][3] = 20
        snapshot.loads(pipeline.sources(), snapshot.dumps(sources, 0, 9))


def with_length(data):
    """The bytes with a length and a checksum that are right again."""
    return rechecked(data[:8] + struct.pack("<I", len(data)) + data[12:])


TABLE = len(b"fasn") + struct.calcsize("<HHIqH") + len("pump-ü".encode())  # where the number of sections stands
BY_HAND = {
    "a model too short": lambda data: data.replace(struct.pack("<I", 16), struct.pack("<I", 15), 1),
    "a byte too many": lambda data: data[:-4] + b"x" + data[-4:],
    "a byte too few": lambda data: data[:-5] + data[-4:],
    "no sections": lambda data: data[:TABLE] + bytes(2) + data[TABLE + 2 :],
    "one section less": lambda data: data[:TABLE] + struct.pack("<H", 4) + data[TABLE + 2 :],
    "one section more": lambda data: data[:TABLE] + struct.pack("<H", 6) + data[TABLE + 2 :],
    "a metric more": lambda data: data[:20] + struct.pack("<H", 5) + data[22:],
    "a metric less": lambda data: data[:20] + struct.pack("<H", 1) + data[22:],
    "a metric twice": lambda data: data.replace(b"\1\0t", b"\1\0p"),
    "a metric's name no UTF-8": lambda data: data.replace(b"\1\0t", b"\1\0\xff"),
    "the source's name no UTF-8": lambda data: data.replace("ü".encode(), b"\xff\xff"),
}


@pytest.mark.parametrize("how", BY_HAND)
def test_what_was_put_together_by_hand_is_refused_and_changes_nothing(with_library, how):
    """Under a right length and checksum."""
    pipeline = mixed()
    sources = filled(pipeline)
    before = states(sources)
    data = snapshot.dumps(sources, 0, 9)
    changed = with_length(BY_HAND[how](data))
    assert changed != data
    with pytest.raises(StateError):
        snapshot.loads(sources, changed)
    assert states(sources) == before and len(sources) == 1


# Size and time


def test_no_snapshot_is_larger_than_the_largest(with_library):
    pipeline = Pipeline(detection(detectors=dict(MEMBERS)), max_metrics=4)
    sources = pipeline.sources()
    name = "ü" * 128
    assert len(name.encode()) == 256
    pipeline.run(sources, vectors([{m * 128: 1.0 for m in "abcd"}] * 3, name))
    assert len(snapshot.dumps(sources, 0, 9)) < pipeline.max_snapshot_bytes()
    sources.cells[0].data.view(np.uint8)[:] = 1  # no word is left out
    assert len(snapshot.dumps(sources, 0, 9)) == pipeline.max_snapshot_bytes()


def test_a_source_of_plain_points_takes_little_room():
    pipeline = Pipeline(detection(window_points=100))
    sources = pipeline.sources()
    pipeline.run(sources, points(gaussian(200)))
    assert len(snapshot.dumps(sources, 0, 9)) < 1500


def calls(function, *args):
    """How many functions run, written in Python or in C."""
    count = 0

    def see(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return count


def test_a_snapshot_is_a_join_of_slices_however_long_the_window_and_whatever_it_holds():
    found = set()
    for window_points in (20, 3000):
        pipeline = Pipeline(detection(window_points=window_points))
        sources = pipeline.sources()
        for n in (3, 200, 5000):
            pipeline.run(sources, points(gaussian(n), [f"s{i % 50}" for i in range(n)]))
            snapshot.dumps(sources, 0, 9)  # the sections are packed once
            found.add(calls(snapshot.dumps, sources, 0, 9))
    assert len(found) == 1
    assert calls(lambda values: [abs(x) for x in values], [1.0] * 9) >= 9, "the counter sees a step for each value"

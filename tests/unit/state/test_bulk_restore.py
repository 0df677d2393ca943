"""Many snapshots at once come to what one at a time comes to, and nothing damaged passes."""

import random
import struct
from zlib import crc32

import numpy as np
import pytest
from sample_detectors import running_mean
from support.points import columns, detection, gaussian, points, states, vectors

from app import detectors
from app.compiled.byte_columns import RecordColumns
from app.errors import StateError
from app.pipeline import Pipeline
from app.scoring import episodes
from app.settings import DetectorSettings, SourceOverride
from app.state import bulk_restore, snapshot
from app.state.sources import Stored
from tables.sources import ChangelogSources, SourcesTable

MEMBERS = {
    "average": DetectorSettings(method="moving_average", window_size=8, warmup=5),
    "running": DetectorSettings(method="running"),
}
NAMES = [f"s{i}" for i in range(30)] + ["pump-1", "pump-22", "ä" * 9]


@pytest.fixture(autouse=True)
def with_library(monkeypatch):
    monkeypatch.setattr(detectors, "_libraries", [*detectors._libraries, running_mean])


def made(engine="numba", window_points=20):
    override = SourceOverride(match="pump-*", threshold=0.5, window_points=window_points)
    return Pipeline(detection(detectors=MEMBERS, window_points=window_points), [override], engine=engine)


def filled(pipeline):
    """Sources of one metric, of another, of several; some inside an episode; one that has but one point."""
    sources = pipeline.sources()
    pipeline.run(sources, points(gaussian(30 * len(NAMES)), NAMES * 30))
    pipeline.run(sources, vectors([{"value": 1.0, "t": 2.0}, {"t": 3.0}], ["s3", "named"], start=1000))
    pipeline.run(sources, points([900.0, 1.0, 900.0], ["s1", "once", "pump-1"], start=1002))
    assert len(sources.open) == 2
    return sources


def inside(sources):
    return {sources.names[slot] for slot in sources.open}


def changelog(sources, offset=2000):
    tag = b"\0" + bytes(8)
    return [(at, name.encode() + tag, data) for at, (name, data) in enumerate(states(sources, offset).items())]


@pytest.mark.parametrize("engine", ["numba", "python"])
@pytest.mark.parametrize("window_points", [20, 30])
def test_all_at_once_is_one_by_one(engine, window_points):
    original = filled(made())
    pipeline = made(engine, window_points)  # with 30, every section except the adapter's is reset
    single, owned = pipeline.sources(), SourcesTable(pipeline).take_over()
    records = changelog(original)
    for _, _, data in records:
        snapshot.loads(single, data)
    owned.load(RecordColumns.of(records[:20]))
    owned.load(RecordColumns.of(records[10:]))
    assert states(owned.rows, 2000) == states(single, 2000)
    assert inside(owned.rows) == inside(single) != set() and len(owned.rows) == len(original)
    assert owned.covered == dict.fromkeys(original.slots, 2000)
    lazy = sum(type(model) is Stored for of in owned.rows.models for models in of for model in models)
    assert (lazy > 30) == (engine == "numba" and window_points == 20)
    later = points(gaussian(4 * len(NAMES), seed=3), NAMES * 4, start=3000)
    assert columns([pipeline.run(owned.rows, later)]) == columns([pipeline.run(single, later)])
    assert states(owned.rows, 9) == states(single, 9)


def test_the_highest_snapshot_counts_in_whatever_order_and_tombstones_take_only_their_key():
    pipeline = made()
    sources = pipeline.sources()
    saved = []
    for i in range(4):
        pipeline.run(sources, points(gaussian(9, seed=i), "a", start=10 * i))
        saved.append(snapshot.dumps(sources, 0, 10 * i + 9))
    one, two = b"a\0" + b"1" * 8, b"a\0" + b"2" * 8
    owned = ChangelogSources(pipeline.sources())
    owned.load(RecordColumns.of([(0, one, saved[1]), (1, two, saved[3]), (2, one, saved[0])]))
    owned.load(RecordColumns.of([(3, one, saved[2]), (4, one, None)]))
    assert states(owned.rows, 39) == {"a": saved[3]} and owned.covers == 39
    assert owned.tombstones([0]) == [(two, None)] and owned.tombstones([0]) == []


@pytest.mark.parametrize("seed", range(8))
def test_any_history_of_the_changelog_comes_to_the_same_in_one_go_and_one_by_one(seed):
    """Ownerships that follow each other or write on as zombies, tombstones, sources of all kinds, in both engines."""
    draw = random.Random(seed)
    pipeline = made()
    sources, saved = filled(pipeline), []
    names = draw.sample([*NAMES, "named", "once"], 12)
    for i in range(3):
        pipeline.run(sources, points(gaussian(40, seed=i), [draw.choice(names) for _ in range(40)], start=2000 + i))
        saved += [one for one in states(sources, draw.randrange(3000)).items() if one[0] in names]
    tags = [bytes([i]) * 8 for i in range(1, 4)]
    records = []
    for at in range(150):
        name, data = draw.choice(saved)
        key = name.encode() + b"\0" + (tags[at // 60] if draw.random() < 0.8 else draw.choice(tags))
        records.append((at * 3, key, data if draw.random() < 0.85 else None))
    owners = [SourcesTable(made(engine)).take_over() for engine in ("numba", "numba", "numba", "python")]
    pieces = [150, 1, draw.randrange(2, 40), 150]
    for owned, size in zip(owners, pieces):
        for first in range(0, 150, size):
            owned.load(RecordColumns.of(records[first : first + size]))
    first, *others = [
        (states(owned.rows, 9), inside(owned.rows), owned.covered, owned._earlier, owned._holder, owned._unsaved)
        for owned in owners
    ]
    assert all(other == first for other in others) and first[4] and len(first[0]) == len(first[2])


def test_records_are_columns_over_what_they_were_read_in():
    given = [(7, b"key", b"value"), (8, None, b""), (9, b"", None), (30, b"k", b"v")]
    records = RecordColumns.of(given)
    assert [(at, records.key(i), records.value(i)) for i, at in enumerate(records.offsets.tolist())] == given
    assert len(RecordColumns.of([]).offsets) == 0


def test_nearly_all_are_found_by_compiled_code():
    pipeline = made()
    records = RecordColumns.of(changelog(filled(pipeline)))
    found = bulk_restore.examine(pipeline.sources(), records, 9)
    others = {(records.key(i) or b"")[:-9].decode() for i in np.flatnonzero(~found.plain)}
    assert others == {"s3", "named"} and found.begins.sum() == 5
    assert (found.covers[found.plain] == 2000).all()
    assert not bulk_restore.examine(made("python").sources(), records, 9).plain.any()


def test_a_source_that_is_no_text_is_refused():
    _, _, data = changelog(filled(made()))[0]
    data = data.replace(b"s0", b"\xff0", 1)[:-4]
    data += struct.pack("<I", crc32(data))
    with pytest.raises(StateError, match=r"^@7 .*must be UTF-8"):
        ChangelogSources(made().sources()).load(RecordColumns.of([(7, b"\xff0\0" + bytes(8), data)]))


def of_before(data, pipeline):
    """The snapshot as a program wrote it whose rows of sources lacked the last fields."""
    name, present, before = snapshot.peek(data)[0], snapshot._OWN, snapshot._OWN_BEFORE
    table = snapshot.table(pipeline.profiles[pipeline.profile_of(name)])
    first, second = (snapshot._SECTION.pack(s.version, s.digest, s.end, False) for s in (present, before))
    at = data.index(table)
    row = at + len(table)
    kept = data[row : row + before.end] + data[row + present.end : -4]
    changed = data[:at] + table.replace(first, second, 1) + kept
    changed = changed[:8] + struct.pack("<I", len(changed) + 4) + changed[12:]
    return changed + struct.pack("<I", crc32(changed))


def test_sources_of_the_version_before_are_restored_beside_those_of_this_one():
    pipeline, owned = made(), SourcesTable(made()).take_over()
    original = filled(pipeline)
    written = changelog(original)
    mixed = [(at, key, of_before(data, pipeline) if at % 2 else data) for at, key, data in written]
    owned.load(RecordColumns.of(mixed))
    assert not any(owned.rows.reset_sections.values()) and inside(owned.rows) == inside(original)
    for name, slot in original.slots.items():
        for added, *_ in episodes.FIELDS[-episodes.ADDED :]:
            original.rows.put(slot, added, owned.rows.rows.get(owned.rows.slots[name], added))
    assert states(owned.rows, 2000) == states(original, 2000)
    assert len(inside(original)) == 2 and any(len(a[2]) != len(b[2]) for a, b in zip(mixed, written))


def test_what_an_older_snapshot_lacked_is_not_told_of_a_source_with_a_present_one():
    older, present = filled(made(window_points=30)), filled(made())
    owned = SourcesTable(made()).take_over()
    owned.load(RecordColumns.of(changelog(older, 1500)))
    assert {len(slots) for slots in owned.rows.reset_sections.values()} == {len(older)}
    owned.load(RecordColumns.of(changelog(present)))
    assert not any(owned.rows.reset_sections.values())


def test_no_flipped_bit_passes():
    [(at, key, data), *_] = changelog(filled(made()))
    rng = np.random.default_rng(2)
    for bit in rng.integers(0, 8 * len(data), 3000).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StateError, match=r"^@0: "):
            ChangelogSources(made().sources()).load(RecordColumns.of([(at, key, bytes(damaged))]))
    for size in (0, 3, 20, 30, len(data) - 1):
        assert bulk_restore.peek(data[:size], b"s0") is None
    assert bulk_restore.peek(data, b"s0") == 2000 and bulk_restore.peek(data, b"s") is None


def test_bytes_under_a_right_checksum_that_lead_out_of_the_window_are_refused():
    pipeline = made()
    sources = filled(pipeline)
    sources.cells[0].data[sources.value_row[1]]["window"]["head"] = 20
    records = changelog(sources)
    with pytest.raises(StateError, match=r"^@1: snapshot's window must stay within its 20 points"):
        ChangelogSources(pipeline.sources()).load(RecordColumns.of(records))


def test_bytes_that_go_on_behind_the_snapshot_are_refused():
    pipeline = made()
    _, key, data = changelog(filled(pipeline))[0]
    longer = data[:-4] + bytes(4)
    longer = longer[:8] + struct.pack("<I", len(longer) + 4) + longer[12:]
    longer += struct.pack("<I", crc32(longer))
    with pytest.raises(StateError, match="must end at byte"):
        ChangelogSources(pipeline.sources()).load(RecordColumns.of([(5, key, longer)]))


def test_a_snapshot_under_the_key_of_another_source_is_refused():
    _, _, data = changelog(filled(made()))[0]
    with pytest.raises(StateError, match=r"^@7: the snapshot of source 's0' has the key b's1"):
        ChangelogSources(made().sources()).load(RecordColumns.of([(7, b"s1\0" + bytes(8), data)]))

"""The state of one source <-> bytes that name themselves. No pickle.

    magic, format, length of the name, length of it all, covered offset, number of metrics
    name of the series: see app/state/series.py
    sections: name, version, digest (of the settings they were computed with), length, has a model
    the source's row
    for each metric: its name, its row without words that are 0 (app/compiled/sparse.py), and for each section with a
    model: length, bytes
    format 4, of sources with several metrics: version of app/scoring/pairs.py, length of a row, number of rows, rows of
        pairs likewise: one for each metric, in their order
    CRC-32 of everything before

A section is restored when name, version and digest are those of the present settings; otherwise it is reset, and the
others are restored. So, when settings or program are not those that wrote the snapshot:

    a threshold, a warm-up (parameters that a detector declares          everything is restored
        not to affect its state), a weight, the ensemble,
        detection.threshold, another order
    any other parameter of a detector, its version, another River        that detector is reset
    a detector added or renamed                                          it is reset
    a detector removed                                                   its state is dropped
    window_points                                                        the window, and the kernels that read it, are
                                                                         reset; adapters are restored
    detection.timezone, detection.holidays                               detectors that use hours or weekdays are reset
    fewer max_metrics                                                    the metrics first seen are restored, and what
                                                                         they have to do with each other is reset
    another version of pairs                                             that is reset
    the version of app/scoring/episodes.py before                        everything is restored; added fields are 0
    a later version of app/scoring/episodes.py                           refused: without its row, a source has no
                                                                         episode, and is taken for forgotten
    format 1 or 2                                                        restored, see below
    another format                                                       refused, naming the format

In formats 1 and 2 rows of metrics are whole. Snapshots of format 1 are of sources only, with all their metrics, those
too that their points named one by one. Since format 2 each of those is a series, which starts without state; the
state of the source is used for its other points.

The restored state of a detector is the one it would have under the new settings too, bit for bit; an open episode
continues, and ends by the new threshold. A refused snapshot changes nothing.

The sections of a profile never change, so they are packed once; a snapshot is then a join of slices. All numbers are
little-endian, as on all machines this runs on.
"""

from __future__ import annotations

import struct
from functools import cache
from itertools import accumulate, islice
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from app.compiled import rows, sparse
from app.errors import StateError
from app.scoring import episodes, pairs
from app.scoring.profile import PAIR, SOURCE, Profile, StateSection
from app.state import series
from app.state.series import MAX_METRIC_BYTES, MAX_SERIES_BYTES, MAX_SOURCE_BYTES
from app.state.sources import JOINT, VALUE, Sources, Stored

MAGIC, FORMAT = b"fasn", 3
UNDIVIDED = 1  # the format of sources with all their metrics
WHOLE_ROWS = 2  # the last format with them
PAIRED = 4  # that of sources with several metrics, whose pairs are looked at
READ = (UNDIVIDED, WHOLE_ROWS, FORMAT, PAIRED)
PAIRS = "pairs"  # what is reset, where their rows do not fit
_HEAD = struct.Struct("<4sHHIqH")
_COUNT = struct.Struct("<H")
_SECTION = struct.Struct("<I8sI?")
_MODEL = struct.Struct("<I")
_PAIRS = struct.Struct("<HIH")
_CHECK = struct.Struct("<I")

_OWN = StateSection("source", episodes.VERSION, 0, SOURCE.itemsize, str(SOURCE))  # the source's row, the first section
_BEFORE = rows.dtype(episodes.FIELDS[: -episodes.ADDED])
_OWN_BEFORE = StateSection("source", episodes.VERSION - 1, 0, _BEFORE.itemsize, str(_BEFORE))


@cache
def table(profile: Profile) -> bytes:
    """The sections of a profile's rows, packed."""
    sections = [_OWN, *profile.sections]
    made = [_COUNT.pack(len(sections))]
    for s in sections:
        made += [_text(s.name), _SECTION.pack(s.version, s.digest, s.end - s.start, s.adapter)]
    return b"".join(made)


def _text(name: str) -> bytes:
    data = name.encode()
    return _COUNT.pack(len(data)) + data


def dumps(sources: Sources, slot: int, offset: int) -> bytes:
    """The source in ``slot``, with every record up to and including ``offset`` learned."""
    name = series.to_bytes(sources.names[slot])
    number = int(sources.profile[slot])
    profile, cells = sources.profiles[number], sources.cells[number]
    metrics = sources.metrics(slot)
    parts = [b"", name, table(profile), sources.rows.dump(slot)]
    for metric, row in metrics.items():
        parts += [_text(metric), sparse.pack(cells.dump(row))]
        for (_, adapter), models in zip(profile.adapters, sources.models[number]):
            model = models[row]
            model = b"" if model is None else model if type(model) is Stored else adapter.dumps(model)
            parts += [_MODEL.pack(len(model)), model]
    if of_pairs := sources.pair_rows(slot):
        parts += [
            _PAIRS.pack(pairs.VERSION, PAIR.itemsize, len(of_pairs)),
            *(sparse.pack(sources.pairs.dump(pair)) for pair in of_pairs),
        ]
    length = _HEAD.size + sum(map(len, parts)) + _CHECK.size
    parts[0] = _HEAD.pack(MAGIC, PAIRED if of_pairs else FORMAT, len(name), length, offset, len(metrics))
    data = b"".join(parts)
    return data + _CHECK.pack(crc32(data))


def peek(data: bytes) -> tuple[str, int]:
    """(series, covered offset) after checking the whole snapshot; StateError when damaged."""
    name, offset, *_ = _opened(data)
    return name, offset


def moved(data: bytes, covered: int, shift: int) -> tuple[bytes, bool]:
    """The same state for another log, and whether an episode was open in it, which ends here without an event.

    Parameters
    ----------
    covered
        Offset that the snapshot covers there; -1 or more.
    shift
        What is added to the offsets of points that the source remembers. Those that would lie before the log begins
        are set to its beginning, so that a silent source is forgotten later, not earlier.

    Raises
    ------
    StateError
        The snapshot is damaged.
    """
    _, _, metrics, reader = _opened(data)
    own, *_ = _sections(reader)
    _, version, size, length, _, _ = _HEAD.unpack_from(data)
    head = _HEAD.pack(MAGIC, version, size, length, covered, metrics)
    start, end = reader.at, reader.at + own.length
    row = reader.take(own.length)
    was_open = False
    if _is_own(own):  # else it is reset when it is loaded
        known = np.frombuffer(row, SOURCE if len(row) == SOURCE.itemsize else _BEFORE).copy()
        was_open = bool(known["open"][0])
        known["open"] = 0
        known["last"] = np.maximum(known["last"] + shift, 0)
        known["born"] = np.maximum(known["born"] + shift, -1)
        known["previous"] = np.where(known["previous"] > 0, np.maximum(known["previous"] + shift, 0), 0)
        row = known.tobytes()
    made = head + data[_HEAD.size : start] + row + data[end : -_CHECK.size]
    return made + _CHECK.pack(crc32(made)), was_open


def _opened(data: bytes) -> tuple[str, int, int, _SnapshotReader]:
    """Series, covered offset, number of metrics, and what follows the name."""
    if len(data) < _HEAD.size + _CHECK.size or data[:4] != MAGIC:
        raise StateError(f"snapshot of {len(data)} bytes: must start with {MAGIC!r}, found {bytes(data[:4])!r}")
    _, version, size, length, offset, metrics = _HEAD.unpack_from(data)
    if version not in READ:
        raise StateError(
            f"snapshot of format {version}: this release reads formats {', '.join(map(str, READ))}; run the release "
            "that wrote it"
        )
    if length != len(data):
        raise StateError(f"snapshot must have {length} bytes by its head, found {len(data)}: it is cut or damaged")
    (check,) = _CHECK.unpack_from(data, length - _CHECK.size)
    if (found := crc32(memoryview(data)[: -_CHECK.size])) != check:
        raise StateError(f"snapshot is damaged: its checksum must be {check:08x}, found {found:08x}")
    reader = _SnapshotReader(data, _HEAD.size, length - _CHECK.size, version <= WHOLE_ROWS)
    try:
        return series.from_bytes(reader.take(size)), offset, metrics, reader
    except UnicodeDecodeError as e:
        raise StateError(f"snapshot's names must be UTF-8: {e}") from e


class _SnapshotReader:
    """Slices in order; StateError rather than one too short."""

    def __init__(self, data: bytes, at: int, end: int, whole_rows: bool) -> None:
        self.data, self.at, self._end, self._whole_rows = data, at, end, whole_rows

    def take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > self._end:
            raise StateError(f"snapshot ends at byte {self._end}, inside a part of {size} bytes from {start}")
        return self.data[start : self.at]

    def row(self, size: int) -> bytes:
        """The next row, of ``size`` bytes."""
        if self._whole_rows:
            return self.take(size)
        row, after = sparse.unpack(self.data, self.at, self._end, size)
        if row is None:
            raise StateError(f"snapshot ends at byte {self._end}, inside a row of {size} bytes from {self.at}")
        self.at = after
        return row

    def skip(self, expected: bytes) -> bool:
        """Go on behind these bytes, if they come next."""
        found = self.data.startswith(expected, self.at)
        self.at += len(expected) if found else 0
        return found

    def unpack(self, form: struct.Struct) -> tuple:
        return form.unpack(self.take(form.size))

    def text(self) -> str:
        return self.take(*self.unpack(_COUNT)).decode()

    def end(self) -> None:
        if self.at != self._end:
            raise StateError(f"snapshot must end at byte {self.at}, found {self._end}: not written by this program")


class _StoredSection(NamedTuple):
    name: str
    version: int
    digest: bytes
    length: int
    model: bool


def _sections(reader: _SnapshotReader) -> list[_StoredSection]:
    """At least one: the source's own."""
    (count,) = reader.unpack(_COUNT)
    if not count:
        raise StateError("snapshot has no sections: it was not written by this program")
    return [_StoredSection(reader.text(), *reader.unpack(_SECTION)) for _ in range(count)]


def loads(sources: Sources, data: bytes) -> tuple[int, int]:
    """Put a snapshot into its source's slot (made when there is none): (slot, covered offset).

    Sections that the present settings do not have, or define differently, are reset. StateError when the snapshot is
    damaged; then nothing has changed.
    """
    name, offset, metrics, reader = _opened(data)
    number = sources.profile_of(name)
    profile, cells = sources.profiles[number], sources.cells[number]
    try:
        if reader.skip(table(profile)):  # written under the present settings, as nearly all are
            row = reader.take(SOURCE.itemsize)
            found = {reader.text(): _whole(profile, reader) for _ in range(metrics)}
            reset = []
        else:
            own, *stored = _sections(reader)
            if own.version > episodes.VERSION:
                raise StateError(
                    f"snapshot with a row of the source of version {own.version}: this release reads up to version "
                    f"{episodes.VERSION}; run the release that wrote it"
                )
            reset = _reset(profile, [own, *stored])
            row = reader.take(own.length)
            row = row.ljust(SOURCE.itemsize, b"\0") if _is_own(own) else bytes(SOURCE.itemsize)
            found = {reader.text(): _parts(profile, stored, reader) for _ in range(metrics)}
        of_pairs = _of_pairs(reader) if data[4] == PAIRED else []
    except UnicodeDecodeError as e:
        raise StateError(f"snapshot of {series.shown(name)}: names must be UTF-8: {e}") from e
    reader.end()
    if len(found) != metrics:
        raise StateError(f"snapshot of {series.shown(name)} must name each metric once: not written by this program")
    kept = _kept(found, sources.max_metrics, profile.joins)
    if profile.pairs and JOINT in kept and not len(of_pairs) + 1 == len(kept) == len(found):
        reset, of_pairs = [*reset, PAIRS], []
    slot = sources.slot(name)
    sources.rows.load(slot, row)
    for slots in sources.reset_sections.values():  # of an older snapshot
        slots.discard(slot)
    for section in reset:
        sources.reset_sections.setdefault(section, set()).add(slot)
    undivided = data[4] == UNDIVIDED and not found.keys() <= {VALUE}
    (sources.undivided.add if undivided else sources.undivided.discard)(slot)
    (sources.open.add if sources.rows.get(slot, "open") else sources.open.discard)(slot)
    for (cell, models), place in zip(kept.values(), sources.renew(slot, list(kept))):
        cells.load(place, cell)
        for of_adapter, model in zip(sources.models[number], models):
            of_adapter[place] = model
    for pair, of_pair in zip(sources.pair_rows(slot), of_pairs):
        sources.pairs.load(pair, of_pair)
    return slot, offset


def stored_pairs(reader: _SnapshotReader) -> tuple[int, int, list[bytes]]:
    """The version of the rows of pairs, their size, and they themselves."""
    version, size, number = reader.unpack(_PAIRS)
    return version, size, [reader.row(size) for _ in range(number)]


def _of_pairs(reader: _SnapshotReader) -> list[bytes]:
    """The rows of pairs; none if they are of another version."""
    version, size, found = stored_pairs(reader)
    if (version, size) != (pairs.VERSION, PAIR.itemsize):
        return []
    if [int(np.frombuffer(row, PAIR)[0]["place"]) for row in found] != list(range(len(found))):
        raise StateError("snapshot's pairs must be in the order of its metrics: it was not written by this program")
    return found


def _kept(found: dict[str, Any], max_metrics: int, joins: bool) -> dict[str, Any]:
    """The metrics first seen, and the joint row of several where the present settings need it."""
    kept = set(islice((metric for metric in found if metric != JOINT), max_metrics))
    if joins and len(kept) > 1:
        kept.add(JOINT)
    return {metric: of for metric, of in found.items() if metric in kept}


def _reset(profile: Profile, stored: list[_StoredSection]) -> list[str]:
    """Sections of the profile that are stored with another version or digest, or not at all."""
    known = {s.name: s for s in stored}
    reset = [s.name for s in profile.sections if s.name not in known or not _same(known[s.name], s)]
    return reset if _is_own(stored[0]) else [_OWN.name, *reset]


def _whole(profile: Profile, reader: _SnapshotReader) -> tuple[bytes, list[Any]]:
    """The row of one metric, and the models of the profile's adapters, as they are stored."""
    row = reader.row(profile.cell.itemsize)
    _check_window(profile, row)
    models = [(reader.take(*reader.unpack(_MODEL)), member, adapter) for member, adapter in profile.adapters]
    return row, [adapter.loads(data, member.params) if data else None for data, member, adapter in models]


def stored_parts(stored: list[_StoredSection], reader: _SnapshotReader) -> list[bytes]:
    """What the next row, of one metric, has of each of these sections."""
    row = reader.row(sum(section.length for section in stored))
    ends = [*accumulate(section.length for section in stored)]
    return [row[start:end] for start, end in zip([0, *ends], ends)]


def _parts(profile: Profile, stored: list[_StoredSection], reader: _SnapshotReader) -> tuple[bytes, list[Any]]:
    """The same, with the sections that fit the profile; the others are empty."""
    row = bytearray(profile.cell.itemsize)
    parts = stored_parts(stored, reader)
    bytes_of = {s.name: reader.take(*reader.unpack(_MODEL)) for s in stored if s.model}
    known = {s.name: (s, part) for s, part in zip(stored, parts)}
    models: dict[str, Any] = {}
    adapters = {member.section: (member, adapter) for member, adapter in profile.adapters}
    for section in profile.sections:
        if section.name not in known or not _same(known[section.name][0], section):
            continue
        row[section.start : section.end] = known[section.name][1]
        if section.adapter and bytes_of[section.name]:
            member, adapter = adapters[section.name]
            models[section.name] = adapter.loads(bytes_of[section.name], member.params)
    _check_window(profile, row)
    return bytes(row), [models.get(name) for name in adapters]


def _check_window(profile: Profile, row: bytes | bytearray) -> None:
    """Compiled code uses head, count and order as indices without checking them."""
    window = np.frombuffer(row, profile.cell)[0]["window"]
    size = profile.window_points
    if not (0 <= window["head"] < size and 0 <= window["moments"]["n"] <= size and window["order"].max() < size):
        raise StateError(f"snapshot's window must stay within its {size} points: it was not written by this program")


def _same(stored: _StoredSection, section: StateSection) -> bool:
    return stored[1:] == (section.version, section.digest, section.end - section.start, section.adapter)


def _is_own(stored: _StoredSection) -> bool:
    """Whether it is a source's row, of this version or of the one before."""
    return _same(stored, _OWN) or _same(stored, _OWN_BEFORE)


def largest(profile: Profile, max_metrics: int) -> int:
    """The largest possible snapshot of a series with this profile, in bytes."""
    models = sum(_MODEL.size + adapter.max_state_bytes(m.params) for m, adapter in profile.adapters)
    fixed = _HEAD.size + len(table(profile)) + SOURCE.itemsize + _CHECK.size
    row = _COUNT.size + sparse.most(profile.cell.itemsize) + models
    joint = 1 if profile.joins and max_metrics > 1 else 0
    of_source = MAX_SOURCE_BYTES + (max_metrics + joint) * row + max_metrics * MAX_METRIC_BYTES
    of_source += _PAIRS.size + max_metrics * sparse.most(PAIR.itemsize) if profile.pairs and joint else 0
    return fixed + max(of_source, MAX_SERIES_BYTES + row + len(VALUE))

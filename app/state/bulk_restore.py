"""Restores many snapshots at once, as a new owner of a partition reads them from the changelog.

Nearly all are of sources with the one metric "value", written with the present settings. Compiled code checks these
as ``snapshot.loads`` does and copies their rows, without holding the GIL; models of adapters are kept as bytes until
their source has its next point: 5 us for each source instead of 25, half of them without the GIL. All others go through
``snapshot.loads``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from app.compiled import rows
from app.compiled.byte_columns import Column, RecordColumns, put
from app.compiled.checksum import CRC32, crc, tables
from app.compiled.jit import compiled
from app.compiled.sparse import unpack_into
from app.errors import StateError
from app.scoring.profile import SOURCE, Profile
from app.state import series, snapshot
from app.state.snapshot import _CHECK, _HEAD, _MODEL, MAGIC, table
from app.state.sources import VALUE, Sources, Stored

# The CRC-32 of anything followed by its own CRC-32, little-endian, is always this.
CHECKED = 0x2144DF1C
_METRIC = snapshot._text(VALUE)
_START = _HEAD.pack(MAGIC, snapshot.FORMAT, 0, 0, 0, 0)[:6]
_NAME_AT, _LENGTH_AT, _OFFSET_AT, _METRICS_AT = 6, 8, 12, 20  # in the head: sizes of name and all, covered, metrics
_HEAD_BYTES, _MODEL_BYTES, _CHECK_BYTES = _HEAD.size, _MODEL.size, _CHECK.size
_CRC32 = tables(CRC32)


class ExaminedRecords(NamedTuple):
    """What n records hold. A plain record holds a whole snapshot under the key of its source, with the one metric
    "value" and every section of the present settings; ``covers`` and ``parts`` are filled in for plain records only.
    """

    plain: np.ndarray  # bool[n]
    begins: np.ndarray  # bool[n]: not plain, or the record before is not, or has another tag
    profile: np.ndarray  # i8[n]
    covers: np.ndarray  # i8[n]: covered offset
    parts: np.ndarray  # i8[n, 2 + adapters, 2]: where source's row, metric's packed row and models start and end


def peek(data: bytes, name: bytes) -> int | None:
    """The offset that a whole, undamaged snapshot of this series covers; None for other bytes: see snapshot.peek."""
    if crc32(data) != CHECKED or len(data) < _HEAD.size + _CHECK.size:
        return None
    magic, version, size, length, offset, _ = _HEAD.unpack_from(data)
    known = magic == MAGIC and version in snapshot.READ
    if not known or (size, length) != (len(name), len(data)):
        return None
    return offset if data.startswith(name, _HEAD.size) else None


def examine(sources: Sources, records: RecordColumns, tag: int) -> ExaminedRecords:
    """Find the plain snapshots. Keys are a series and ``tag`` more bytes. With rows of objects none is plain."""
    n, profiles = len(records.offsets), sources.profiles
    most = max(len(profile.adapters) for profile in profiles)
    of, covers, parts = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros((n, 2 + most, 2), np.int64)
    found = ExaminedRecords(np.zeros(n, np.bool_), np.ones(n, np.bool_), of, covers, parts)
    if isinstance(sources.rows, rows.ArrayRows):
        if len(profiles) > 1:
            names = records.slices(records.spans[:, 0], records.spans[:, 1] - tag)
            of[:] = [sources.profile_of(series.from_any_bytes(name)) for name in names]
        known = Column.of([_START, _METRIC, *map(table, profiles)])
        layouts = np.array([_layout(profile) for profile in profiles], np.int64)
        data = np.frombuffer(records.data, np.uint8)
        row = np.empty(max(profile.cell.itemsize for profile in profiles), np.uint8)
        _examine(data, records.spans, tag, _CRC32, known.data, known.ends, layouts, row, *found)
    return found


def _layout(profile: Profile) -> tuple[int, ...]:
    """What ``_is_plain`` needs of a profile: sizes of its rows, and where they hold indices into the window."""
    fields: Any = profile.cell.fields
    window, at = fields["window"][:2]
    moments, moments_at = window.fields["moments"][:2]
    order, order_at = window.fields["order"][:2]
    return (
        SOURCE.itemsize, profile.cell.itemsize, len(profile.adapters), profile.window_points,
        at + window.fields["head"][1], at + moments_at + moments.fields["n"][1], at + order_at, order.base.itemsize,
    )  # fmt: skip


def load(sources: Sources, records: RecordColumns, found: ExaminedRecords, highest: Mapping[str, int]) -> None:
    """Load the snapshots of sources into their slots. ``highest``: source -> position of its record.

    Raises StateError, with the offset, at a snapshot that this program did not write; some are loaded by then.
    """
    if not highest:
        return
    names, at = list(highest), np.fromiter(highest.values(), np.int64, len(highest))
    plain = found.plain[at]
    if sources._metrics:  # a source that has other metrics now loses them: one by one
        known = [sources.slots.get(name) for name in names]
        plain &= [slot is None or sources.metrics(slot).keys() <= {VALUE} for slot in known]
    for i in at[~plain].tolist():
        try:
            snapshot.loads(sources, records.value(i) or b"")
        except StateError as error:
            raise StateError(f"@{records.offsets[i]}: {error}") from error
    if not plain.all():
        names, at = list(compress(names, plain.tolist())), at[plain]
    for number in range(len(sources.profiles)):
        mine = found.profile[at] == number
        if mine.any():
            _load(sources, number, list(compress(names, mine.tolist())), at[mine], records, found.parts)


def _load(
    sources: Sources, number: int, names: list[str], at: np.ndarray, records: RecordColumns, parts: np.ndarray
) -> None:
    """Put plain snapshots of one profile into their slots."""
    slots = sources.slots_of(names, number)
    sources.add_values(slots)
    places = sources.value_row[slots]
    data = np.frombuffer(records.data, np.uint8)
    _copy(data, parts, at, sources.rows.data.view(np.uint8), slots)
    _unpack_all(data, parts, at, sources.cells[number].for_passes(), places)
    for part, models in enumerate(sources.models[number], 2):
        for place, model in zip(places.tolist(), records.slices(*parts[at, part].T)):
            models[place] = Stored(model) if model else None
    for changed in (sources.open, sources.undivided, *sources.reset_sections.values()):
        if changed:
            changed.difference_update(slots.tolist())
    sources.open.update(slots[sources.rows.column("open", slots) != 0].tolist())


def _little(data, i, size):
    """A little-endian number; signed when it has eight bytes."""
    value = 0
    for k in range(size):
        value |= data[i + k] << 8 * k
    return value


def _same(data, i, other, start, end):
    """data, from i on, agrees with other[start:end]."""
    for k in range(end - start):  # noqa: SIM110 - compiled
        if data[i + k] != other[start + k]:
            return False
    return True


@compiled
def _examine(data, spans, tag, tables, known, ends, layouts, row, plain, begins, profile, covers, parts):
    """Fill in what ``ExaminedRecords`` names. ``known``: how a snapshot begins, its metric, and the table of each
    profile; ``row``: room for the largest row of a metric.
    """
    for i in range(len(spans)):
        n = profile[i]
        table, table_end = ends[1 + n], ends[2 + n]
        plain[i] = _is_plain(data, spans[i], tag, tables, known, ends, table, table_end, layouts[n], row, parts[i])
        if plain[i]:
            covers[i] = _little(data, spans[i, 2] + _OFFSET_AT, 8)
            end = spans[i, 1]
            begins[i] = i == 0 or not plain[i - 1] or not _same(data, spans[i - 1, 1] - tag, data, end - tag, end)


def _is_plain(data, span, tag, tables, known, ends, table, table_end, layout, row, parts):
    """Whether the record of this span is plain; fills in where its parts are."""
    key, key_end, at, end = span
    own, cell, adapters, points, head, count, order, width = layout
    name = key_end - tag - key
    head_end = ends[0]
    metric_end = ends[1]
    least = _HEAD_BYTES + name + table_end - table + own + metric_end - head_end + _CHECK_BYTES
    if key < 0 or name < 1 or at < 0 or at + least > end:
        return False
    if not _same(data, at, known, 0, head_end) or _little(data, at + _NAME_AT, 2) != name:
        return False
    if _little(data, at + _LENGTH_AT, 4) != end - at or _little(data, at + _METRICS_AT, 2) != 1:
        return False
    if not _same(data, at + _HEAD_BYTES, data, key, key + name) or crc(tables, data, at, end) != CHECKED:
        return False
    at += _HEAD_BYTES + name
    if not _same(data, at, known, table, table_end):
        return False
    at += table_end - table
    parts[0, 0], parts[0, 1] = at, at + own
    at += own
    if not _same(data, at, known, head_end, metric_end):
        return False
    at += metric_end - head_end
    parts[1, 0] = at
    at = unpack_into(data, at, end, row[:cell])
    parts[1, 1] = at
    if at < 0:
        return False
    # Compiled code uses head, count and order as indices without checking them.
    if not (0 <= _little(row, head, 8) < points and 0 <= _little(row, count, 8) <= points):
        return False
    for k in range(points):
        if _little(row, order + k * width, width) >= points:
            return False
    for k in range(adapters):
        if at + _MODEL_BYTES > end:
            return False
        parts[2 + k, 0] = at + _MODEL_BYTES
        at += _MODEL_BYTES + _little(data, at, 4)
        parts[2 + k, 1] = at
    return at + _CHECK_BYTES == end  # else another metric follows


@compiled
def _copy(data, parts, chosen, rows, places):
    """Copy the sources' rows of the records chosen to the rows at these places."""
    for i in range(len(chosen)):
        start, end = parts[chosen[i], 0]
        put(rows, places[i] * (end - start), data, start, end)


@compiled
def _unpack_all(data, parts, chosen, rows, places):
    """Write the metrics' rows of the records chosen to the rows at these places."""
    for i in range(len(chosen)):
        start, end = parts[chosen[i], 1]
        unpack_into(data, start, end, rows[places[i]])

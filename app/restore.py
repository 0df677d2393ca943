"""Many snapshots at once, as a new owner of a partition finds them in the changelog.

Nearly all of them are of sources with the one metric "value", written under the present settings. Of those, what is
checked and found is the same as in ``snapshot.loads``, but rows are copied by numpy, all in one go, and models of
adapters stay the bytes they are until their source has its next point: 3 us a source instead of 25. All others take
that way.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import numpy as np

from app import rows, snapshot
from app.errors import StateError
from app.profile import SOURCE, Profile
from app.snapshot import _CHECK, _HEAD, _MODEL, MAGIC, table
from app.sources import VALUE, Sources, Stored

# The CRC-32 of anything followed by its own CRC-32, little-endian, is always this.
CHECKED = 0x2144DF1C
_METRIC = snapshot._text(VALUE)


def peek(data: bytes, source: bytes) -> int | None:
    """The offset a whole and undamaged snapshot of this source covers; None when it is not one: ask snapshot.peek."""
    if crc32(data) != CHECKED or len(data) < _HEAD.size + _CHECK.size:
        return None
    magic, version, size, length, offset, _ = _HEAD.unpack_from(data)
    if (magic, version, size, length) != (MAGIC, snapshot.FORMAT, len(source), len(data)):
        return None
    return offset if data.startswith(source, _HEAD.size) else None


def load(sources: Sources, found: Iterable[tuple[str, bytes]]) -> None:
    """Put snapshots, each of another source and checked by ``peek``, into their slots.

    Raises StateError when one was not written by this program; some are loaded by then.
    """
    plain: list[list[tuple[str, bytes, int]]] = [[] for _ in sources.profiles]
    bulk = isinstance(sources.rows, rows.ArrayRows)
    for source, data in found:
        number = sources.profile_of(source)
        at = _HEAD.size + len(source.encode())
        if bulk and _is_plain(sources, number, source, data, at):
            plain[number].append((source, data, at))
        else:
            snapshot.loads(sources, data)
    for number, some in enumerate(plain):
        if some:
            _load_plain(sources, number, some)


def _is_plain(sources: Sources, number: int, source: str, data: bytes, at: int) -> bool:
    """One metric called "value", and every section the present one; a slot that exists has no other metric."""
    sections = table(sources.profiles[number])
    one = data[_HEAD.size - 2 : _HEAD.size] == b"\1\0"
    after = at + len(sections) + SOURCE.itemsize
    if not (one and data.startswith(sections, at) and data.startswith(_METRIC, after)):
        return False
    slot = sources.slots.get(source)
    return slot is None or sources.metrics(slot).keys() <= {VALUE}


def _load_plain(sources: Sources, number: int, some: list[tuple[str, bytes, int]]) -> None:
    profile = sources.profiles[number]
    skip, own, cell = len(table(profile)), SOURCE.itemsize, profile.cell.itemsize
    to_cell = skip + own + len(_METRIC)
    cells = np.frombuffer(b"".join([data[at + to_cell : at + to_cell + cell] for _, data, at in some]), profile.cell)
    models = [_models(profile, data, at + to_cell + cell) for _, data, at in some]
    _check_windows(profile, cells, len(some))
    slots = np.array([sources.slot(source) for source, _, _ in some])
    sources.add_values(slots)
    kept = np.frombuffer(b"".join([data[at + skip : at + skip + own] for _, data, at in some]), SOURCE)
    sources.rows.data[slots] = kept
    places = sources.value_row[slots]
    sources.cells[number].data[places] = cells
    for of_adapter, stored in zip(sources.models[number], zip(*models)):
        for place, model in zip(places.tolist(), stored):
            of_adapter[place] = model
    sources.open.difference_update(slots.tolist())
    sources.open.update(slots[kept["open"] != 0].tolist())


def _models(profile: Profile, data: bytes, at: int) -> list[Stored | None]:
    found = []
    for _ in profile.adapters:
        (size,) = _MODEL.unpack_from(data, at)
        at += _MODEL.size
        found.append(Stored(data[at : at + size]) if size else None)
        at += size
    if at != (end := len(data) - _CHECK.size):
        raise StateError(f"snapshot must end at byte {at}, found {end}: it was not written by this program")
    return found


def _check_windows(profile: Profile, cells: np.ndarray, number: int) -> None:
    """Compiled code follows head, count and order without looking where they lead."""
    window, size = cells["window"], profile.window_points
    n = window["moments"]["n"]
    good = (window["head"] >= 0) & (window["head"] < size) & (n >= 0) & (n <= size)
    if len(cells) != number or not (good & (window["order"] < size).all(axis=1)).all():
        raise StateError(f"snapshot's window must stay within its {size} points: it was not written by this program")

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
    bulk = isinstance(sources.rows, rows.ArrayRows)
    plain = [_Plain(profile) for profile in sources.profiles]
    several = len(plain) > 1
    for source, data in found:
        slot = sources.slots.get(source)
        of = plain[sources.profile_of(source) if several else 0]
        if not bulk or (slot is not None and not sources.metrics(slot).keys() <= {VALUE}) or not of.take(source, data):
            snapshot.loads(sources, data)
    for number, of in enumerate(plain):
        if of.names:
            of.load(sources, number)


class _Plain:
    """Snapshots of one profile with one metric called "value" and every section the present one, and their parts."""

    def __init__(self, profile: Profile) -> None:
        self.names: list[str] = []
        self._profile = profile
        self._sections, self._own, self._cell = table(profile), SOURCE.itemsize, profile.cell.itemsize
        self._own_parts: list[bytes] = []
        self._cell_parts: list[bytes] = []
        self._models: list[list[Stored | None]] = [[] for _ in profile.adapters]

    def take(self, source: str, data: bytes) -> bool:
        """False, and nothing is kept, when it is of another kind."""
        at = _HEAD.size + (len(source) if source.isascii() else len(source.encode()))
        if not data.startswith(self._sections, at):
            return False
        own = at + len(self._sections)
        cell = own + self._own + len(_METRIC)
        if not data.startswith(_METRIC, own + self._own):
            return False
        at = cell + self._cell
        models: list[Stored | None] = []
        for _ in self._models:
            size = int.from_bytes(data[at : at + _MODEL.size], "little")
            at += _MODEL.size + size
            models.append(Stored(data[at - size : at]) if size else None)
        if at + _CHECK.size != len(data):  # another metric follows
            return False
        self.names.append(source)
        self._own_parts.append(data[own : own + self._own])
        self._cell_parts.append(data[cell : cell + self._cell])
        for of_adapter, model in zip(self._models, models):
            of_adapter.append(model)
        return True

    def load(self, sources: Sources, number: int) -> None:
        cells = np.frombuffer(b"".join(self._cell_parts), self._profile.cell)
        own = np.frombuffer(b"".join(self._own_parts), SOURCE)
        _check_windows(self._profile, cells)
        slots = sources.slots_of(self.names, number)
        sources.add_values(slots)
        places = sources.value_row[slots]
        sources.rows.data[slots] = own
        sources.cells[number].data[places] = cells
        for of_adapter, models in zip(sources.models[number], self._models):
            for place, model in zip(places.tolist(), models):
                of_adapter[place] = model
        for changed in (sources.open, *sources.anew.values()):
            changed.difference_update(slots.tolist())
        sources.open.update(slots[own["open"] != 0].tolist())


def _check_windows(profile: Profile, cells: np.ndarray) -> None:
    """Compiled code follows head, count and order without looking where they lead."""
    window, size = cells["window"], profile.window_points
    n = window["moments"]["n"]
    good = (window["head"] >= 0) & (window["head"] < size) & (n >= 0) & (n <= size)
    if not (good & (window["order"] < size).all(axis=1)).all():
        raise StateError(f"snapshot's window must stay within its {size} points: it was not written by this program")

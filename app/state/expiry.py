"""When a silent source is forgotten, and how many sources a partition has at one moment.

Both follow from the partition's records alone, so that a replay, another worker or a file read by ``detect`` come
to the same results. A source is *live* at an offset while its last point lies at most ``after`` offsets before. A
point that comes later than that starts it anew, as if it had never been seen: window, metrics, models, all of it.
Offsets stand in for time because the state may depend on nothing else: event times run backwards and the clock of
a replay is another one.

An episode that is open when its source falls silent ends with its last point; it is told to be closed at the first
point of the partition, of any source, that finds the source no longer live.

Rows of sources that are not live may be dropped from memory and changelog at any moment: nothing of them is read
again. One thing is: with ``max_sources``, a replay must know who was live at the offsets it passes, also of sources
that started anew since. So a row keeps ``previous``, the last offset of its life before if that is at most twice
``after`` back, and rows are dropped only when that can no longer matter (tables/sources.py). A replay that reads back
less than ``after`` offsets, which the settings see to, then counts exactly as the first reading did.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.state.sources import NONE, Sources

NEVER = 1 << 60  # more offsets than any partition has


class ExpiredEpisode(NamedTuple):
    """An episode that was open when its source was forgotten."""

    position: int  # in the batch: of the first point, of any source, that lies beyond the silence
    slot: int
    source: str
    timestamp: float  # of its last point
    opener: tuple[int, int]  # offset and index of the point that opened it
    opened_at: float
    peak: float
    length: int  # points


def late(sources: Sources, slots: np.ndarray, offsets: np.ndarray, after: int) -> np.ndarray | None:
    """bool[n]: points that come too long after what the row of their source saw last; None when there are none.

    Only the first point of a source can be one: a batch spans no more than ``after`` offsets.
    """
    if not len(offsets) or offsets[-1] <= after or not sources.rows.count:
        return None
    found = (slots != NONE) & (offsets - sources.rows.column("last", slots) > after)
    return found if found.any() else None


def previous(last: int, offset: int, after: int) -> int:
    """The field ``previous`` of a source that starts anew at ``offset``."""
    return last + 1 if offset - last <= 2 * after else 0


def end_episode(sources: Sources, slot: int, position: int) -> ExpiredEpisode:
    """What is to be told of the source's open episode, which ends with this."""
    sources.open.discard(slot)
    sources.rows.put(slot, "open", 0)
    get = sources.rows.get
    opener = get(slot, "offset"), get(slot, "index")
    told = (get(slot, name) for name in ("opened_at", "peak", "length"))
    return ExpiredEpisode(position, slot, sources.names[slot], get(slot, "time"), opener, *told)


def expired(sources: Sources, slots: np.ndarray, offsets: np.ndarray, after: int) -> list[ExpiredEpisode]:
    """Open episodes of sources that the last of these points finds forgotten and that have no point here."""
    if not sources.open or offsets[-1] <= after:
        return []
    open_ = np.array(sorted(sources.open))
    last = sources.rows.column("last", open_)
    gone = (last + after < offsets[-1]) & ~np.isin(open_, slots)
    positions = np.searchsorted(offsets, last[gone] + after, side="right")
    return [end_episode(sources, *at) for at in zip(open_[gone].tolist(), positions.tolist())]


class SourceQuota:
    """How many sources are live while the points of a batch pass, and whether one more may be.

    Counted from record to record: of a record that brings several new sources (an array, in a topic of one
    partition), all find the same number. So the count does not depend on which of them a replay skips because
    their snapshots hold the record already.

    Parameters
    ----------
    sources
        Rows as they were before the batch. After a recovery, some were saved later than the batch is.
    offsets
        Of the batch, ascending, not empty; they span at most ``after``.
    most
        Live sources allowed.
    """

    def __init__(self, sources: Sources, offsets: np.ndarray, after: int, most: int) -> None:
        self._most = most
        self._kept: set[int] = set()  # slots with a point in this batch: they stay live
        self._at, self._new = NONE, 0  # the record just passing, and the sources it brought
        first, end = int(offsets[0]), int(offsets[-1])
        used = np.array(sorted(sources.slots.values()), np.int64)
        born, last, before = (sources.rows.column(name, used) for name in ("born", "last", "previous"))
        later = born >= first  # saved by a reading that had come further
        until = np.where(later, np.where(before > 0, before - 1 + after, NONE), last + after)
        live = until >= first
        self._count = int(live.sum())
        # (offset from which it holds, change, slot whose point cancels it)
        leave = live & (until < end)
        self._changes = [
            *((at + 1, -1, NONE if of_old else slot)
              for at, slot, of_old in zip(until[leave].tolist(), used[leave].tolist(), later[leave].tolist())),
            *((at + 1, 1, NONE) for at in born[later & (born < end)].tolist()),
            *((at + after + 1, -1, slot)
              for at, slot in zip(last[later].tolist(), used[later].tolist()) if at + after < end),
        ]  # fmt: skip
        self._changes.sort(reverse=True)

    def take(self, offset: int) -> bool:
        """Whether a source may begin with the record at this offset; offsets ascend."""
        if offset > self._at:
            self._count += self._new
            self._at, self._new = offset, 0
        while self._changes and self._changes[-1][0] <= offset:
            _, change, slot = self._changes.pop()
            if slot == NONE or slot not in self._kept:
                self._count += change
        if self._count >= self._most:
            return False
        self._new += 1
        return True

    def keep(self, slot: int) -> None:
        """A source that is live had a point that was not refused."""
        self._kept.add(slot)

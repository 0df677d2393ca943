"""Decides when a silent source is forgotten, and how many sources a partition has at one moment.

Both depend on the partition's records alone, so that a replay, another worker or a file read by ``detect`` gives the
same results. A source is *live* at an offset if its last point is at most ``after`` offsets before it. A later
point resets the source, as if it had never been seen: window, metrics and models. Offsets are used in place of time
because the state may depend on nothing else: event times run backwards, and a replay has another clock.

An episode that is open when its source becomes silent ends with its last point; its closing event is sent at the first
point of the partition, of any source, at which the source is no longer live. A replay may skip that point, whose source
was saved later, and send the event at the next one; so the event's place is ``ended``: it depends on the source alone.

Rows of sources that are not live may be dropped from memory and changelog at any moment: they are not read again, with
one exception. With ``max_sources``, a replay must know which sources were live at the offsets it passes, also sources
that were reset since. So a row keeps ``previous``, its last offset before the reset if that is at most twice ``after``
back, and rows are dropped only when that can no longer matter (tables/sources.py). A replay that reads back less than
``after`` offsets, which the settings ensure, then counts exactly as the first reading did.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.state.series import parted
from app.state.sources import NONE, VALUE, Sources

NEVER = 1 << 60  # more offsets than any partition has


class ExpiredEpisode(NamedTuple):
    """An episode that was open when its source was forgotten."""

    position: int  # in the batch, of the first point of any source at which the source is no longer live
    slot: int
    source: str
    metric: str  # of its series; "" for a series that is a whole source
    timestamp: float  # of its last point
    opener: tuple[int, int]  # offset and index of the point that opened it
    kind: int  # index into KINDS of app/detectors/kinds.py
    opened_at: float
    peak: float
    length: int  # points
    ended: int  # first offset at which the source is no longer live
    only: str  # name of its only metric, "" where it has several, or names none


def late(sources: Sources, slots: np.ndarray, offsets: np.ndarray, after: int) -> np.ndarray | None:
    """bool[n]: points more than ``after`` offsets behind the last point of their source; None if there are none.

    Only the first point of a source can be late: a batch spans at most ``after`` offsets.
    """
    if not len(offsets) or offsets[-1] <= after or not sources.rows.count:
        return None
    found = (slots != NONE) & (offsets - sources.rows.column("last", slots) > after)
    return found if found.any() else None


def previous(last: int, offset: int, after: int) -> int:
    """The field ``previous`` of a source that is reset at ``offset``."""
    return last + 1 if offset - last <= 2 * after else 0


def end_episode(sources: Sources, slot: int, position: int, after: int) -> ExpiredEpisode:
    """Close the source's open episode and return it."""
    sources.open.discard(slot)
    sources.rows.put(slot, "open", 0)
    get = sources.rows.get
    opener = get(slot, "offset"), get(slot, "index")
    metrics = list(sources.metrics(slot))
    return ExpiredEpisode(
        position,
        slot,
        *parted(sources.names[slot]),
        timestamp=get(slot, "time"),
        opener=opener,
        kind=get(slot, "kind"),
        opened_at=get(slot, "opened_at"),
        peak=get(slot, "peak"),
        length=get(slot, "length"),
        ended=get(slot, "last") + after + 1,
        only=metrics[0] if len(metrics) == 1 and metrics != [VALUE] else "",
    )


def expired(sources: Sources, slots: np.ndarray, offsets: np.ndarray, after: int) -> list[ExpiredEpisode]:
    """Open episodes of sources that are no longer live at the last of these points, and have none of the points."""
    if not sources.open or offsets[-1] <= after:
        return []
    open_ = np.array(sorted(sources.open))
    last = sources.rows.column("last", open_)
    gone = (last + after < offsets[-1]) & ~np.isin(open_, slots)
    positions = np.searchsorted(offsets, last[gone] + after, side="right")
    return [end_episode(sources, *at, after) for at in zip(open_[gone].tolist(), positions.tolist())]


class SourceQuota:
    """Counts the live sources at each point of a batch, and decides whether one more is allowed.

    The count changes between records only: all new sources of one record (an array, in a topic of one partition)
    see the same count. So it does not depend on which of them a replay skips because their snapshots hold the
    record already.

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
        self._at, self._new = NONE, 0  # the current record, and its new sources
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
        """A live source had a point that was not rejected: it stays live."""
        self._kept.add(slot)

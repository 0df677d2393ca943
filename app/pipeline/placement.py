"""Which slot and rows each point of a batch belongs to, by its series; points that have none are rejected."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from app.compiled.numeric import MAX_VALUE, MAX_VALUE_TEXT
from app.pipeline.outcome import CELL, POINT, Rejected
from app.pipeline.points import Points
from app.scoring.profile import Profile
from app.state import expiry
from app.state.expiry import ExpiredEpisode, SourceQuota
from app.state.series import shown
from app.state.sources import JOINT, NONE, VALUE, Sources

Placed = tuple[np.ndarray, np.ndarray, list[Rejected], list[ExpiredEpisode]]


class Placement:
    """The limits that decide which points are rejected; ``Pipeline`` describes them."""

    def __init__(self, profiles: Sequence[Profile], max_metrics: int, forget_after: int, max_sources: int) -> None:
        self._profiles = profiles
        self._joins = any(profile.joins for profile in profiles)
        self._max_metrics = max_metrics
        self._forget_after, self._max_sources = forget_after, max_sources

    def place(self, sources: Sources, points: Points) -> Placed:
        """POINT of each point, CELL of each value, the rejected points, the episodes that expired.

        Sources and metrics seen for the first time get their rows; a rejected point has the slot NONE. Points span
        at most ``forget_after`` offsets.
        """
        n = len(points)
        p, cells = np.zeros(n, POINT), np.zeros(len(points.values), CELL)
        cells["x"] = points.values
        p["time"], p["own"], p["joint"] = points.timestamp, points.own_time, NONE
        p["maintenance"] = NONE
        p["arrived"] = points.timestamp if points.arrived is None else points.arrived
        p["offset"], p["index"] = points.offset, points.index
        p["named"] = points.offset if points.named is None else points.named
        if points.start is None:
            p["first"] = np.arange(n)
            p["last"] = p["first"] + 1
        else:
            p["first"], p["last"] = points.start[:-1], points.start[1:]
        allowed = np.count_nonzero(np.abs(cells["x"]) <= MAX_VALUE) == len(cells)
        if not allowed or np.count_nonzero(np.isfinite(p["time"])) < n:
            raise ValueError(f"points must be finite, values at most {MAX_VALUE_TEXT} in size")
        known, series = sources.slots.get, points.series()
        p["slot"] = [known(name, NONE) for name in series]
        late = expiry.late(sources, p["slot"], p["offset"], self._forget_after)
        new = int(np.count_nonzero(p["slot"] == NONE))  # points, so at least as many as sources
        full = (new > 0 or late is not None) and len(sources) + new > self._max_sources
        batch = _Batch(self, sources, points, series, p)
        if new == 0 and late is None and not full and batch.place_named():
            pass
        elif points.metrics is not None or late is not None or full:
            batch.place_each(late, full)
        else:
            if new:
                p["slot"] = [sources.slot(name) for name in series]
            if sources.add_values(p["slot"]):
                batch.rows = sources.value_row[p["slot"]]
                batch.joint_rows = sources.joint_row[p["slot"]]
            else:
                batch.place_each(None, False)
        cells["row"] = batch.rows
        expired = batch.expired
        if sources.open and n:
            expired += expiry.expired(sources, p["slot"], p["offset"], self._forget_after)
        expired.sort(key=lambda one: (one.position, one.source, one.metric))
        return p, _with_joint(p, cells, batch.joint_rows) if self._joins else cells, batch.rejected, expired


class _Batch:
    """The points of one batch on their way to their rows."""

    def __init__(self, limits: Placement, sources: Sources, points: Points, series: list[str], p: np.ndarray) -> None:
        self._limits, self._sources, self._points, self._series, self._p = limits, sources, points, series, p
        self.rows = np.full(len(points.values), NONE, np.int64)  # by value: row of its metric
        self.joint_rows = np.full(len(points), NONE, np.int64)  # by point: row of JOINT
        self.rejected: list[Rejected] = []
        self.expired: list[ExpiredEpisode] = []

    def place_named(self) -> bool:
        """All at once, if each point has one named value that is the only one of its source; False if not."""
        points = self._points
        if points.metrics is None or points.metric is not None or len(points.metrics) != len(points):
            return False
        known = list(map(self._sources.metrics, self._p["slot"].tolist()))
        if not known or max(map(len, known)) > 1:
            return False
        rows = [of.get(name, NONE) for of, name in zip(known, points.metrics)]
        if NONE in rows or points.start != list(range(len(points) + 1)):
            return False
        self.rows[:] = rows
        return True

    def place_each(self, late: np.ndarray | None, full: bool) -> None:
        """Point by point, by the names of the metrics; a rejected point changes nothing.

        ``late``: see expiry.late; ``full``: there may be as many sources as allowed.
        """
        limits, sources, points, p = self._limits, self._sources, self._points, self._p
        slots, lates = p["slot"].tolist(), None if late is None else late.tolist()
        placed: set[int] = set()  # slots of points placed so far
        quota = SourceQuota(sources, p["offset"], limits._forget_after, limits._max_sources) if full else None
        metric, metrics, bounds = points.metric, points.metrics, points.start or range(len(points) + 1)
        for i, source in enumerate(self._series):
            first, last = bounds[i], bounds[i + 1]
            # The one metric of a series has its name from the series; its row is where any only value is.
            names = [VALUE] if metrics is None or (metric is not None and metric[i]) else metrics[first:last]
            if slots[i] == NONE:  # unless an earlier point of this batch was its first
                slots[i] = sources.slots.get(source, NONE)
            reset = slots[i] == NONE or (lates is not None and lates[i] and slots[i] not in placed)
            known = {} if reset else sources.metrics(slots[i])
            missing = [name for name in names if name not in known]
            if missing and len(known) - (JOINT in known) + len(missing) > limits._max_metrics:
                self._reject(i, "too_many_metrics", self._too_many_metrics(source, known, missing))
                slots[i] = NONE
                continue
            if reset and quota and not quota.take(points.offset[i]):
                self._reject(i, "too_many_sources", self._too_many_sources(source))
                slots[i] = NONE
                continue
            if reset and slots[i] != NONE:
                self._reset(slots[i], i)
            elif quota and not reset:
                quota.keep(slots[i])
            if missing:
                slots[i] = sources.slot(source)
                for name in missing:
                    sources.add_metric(slots[i], name)
                known = sources.metrics(slots[i])
            if len(known) > 1 and JOINT not in known and limits._profiles[int(sources.profile[slots[i]])].joins:
                sources.add_metric(slots[i], JOINT)
                known = sources.metrics(slots[i])
            # As it is at this point: a later point of the batch may bring the second metric.
            self.joint_rows[i] = known.get(JOINT, NONE)
            placed.add(slots[i])
            self.rows[first:last] = [known[name] for name in names]
        p["slot"] = slots

    def _reset(self, slot: int, i: int) -> None:
        """Empty the row of a source that was silent for too long before point i."""
        sources, offsets, after = self._sources, self._points.offset, self._limits._forget_after
        last = sources.rows.get(slot, "last")
        if slot in sources.open:
            self.expired.append(expiry.end_episode(sources, slot, bisect_right(offsets, last + after), after))
        sources.restart(slot)
        sources.rows.put(slot, "previous", expiry.previous(last, offsets[i], after))

    def _reject(self, i: int, label: str, reason: str) -> None:
        self.rejected.append(Rejected(i, label, reason))

    def _too_many_sources(self, series: str) -> str:
        return (
            f"{shown(series)} is new, and its partition has as many live series as it may, "
            f"{self._limits._max_sources}; raise state.max_sources if the memory is there, or lower "
            "state.forget_after_records"
        )

    def _too_many_metrics(self, source: str, known: dict[str, int], missing: list[str]) -> str:
        has = len(known.keys() - {JOINT})
        return (
            f"source {source!r} may have {self._limits._max_metrics} metrics, has {has}, and this point brings "
            f"{len(missing)} more ({missing[0]!r} first); raise input.max_metrics, or send each as a point of its own "
            "that names it in the field metric"
        )


def _with_joint(p: np.ndarray, cells: np.ndarray, joint_rows: np.ndarray) -> np.ndarray:
    """The cells, followed by one for each point with a joint row; sets p["joint"] to its index."""
    (several,) = (joint_rows != NONE).nonzero()
    if not len(several):
        return cells
    more = np.zeros(len(several), CELL)
    more["row"] = joint_rows[several]
    p["joint"][several] = len(cells) + np.arange(len(several))
    return np.concatenate([cells, more])

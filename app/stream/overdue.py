"""Finds the series of a partition that stopped sending, by the clock and the pauses that each series usually makes.

A series is overdue when it has sent nothing for longer than ``after_s`` of the settings, and for longer than three
times its longest usual pause. Only time counts in which the worker had read the partition to its end: the count begins
at zero after an interruption. So neither a restart nor a backlog makes a series overdue.

Two pauses are known of each series. The pause in its state is measured by Kafka's timestamps and survives restarts.
But producers may set these timestamps, and deliver records by the hour: so the other pause is measured between
deliveries, by the worker's clock.

A series stays overdue until it has a point, also under the next owner of the partition, who reads the record
(app/wire/overdue.py) that the last owner wrote. Everything is in arrays by slot: a million series take a tenth of a
second, in slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from app.settings import SilentSettings
from app.state.series import joined, parted
from app.state.sources import Sources
from app.wire.overdue import AROUND, MOST, MOST_BYTES, Overdue, Quiet

SLICE = 20_000  # series checked before the event loop may do other work
FEWEST_POINTS = 20  # of a series that is checked
KNOWN_FOR = 4.0  # times the limit: how long a series must be known before it is checked
PAUSES = 3.0  # a series is overdue after so many of its usual pauses
LATE, LATE_S = 1.5, 10.0  # and late after so many, and so many seconds more
PAUSE_DECAY = 0.9  # factor of the pause by the worker's clock at each delivery
GIVEN_UP_S = 7 * 86_400.0  # after this time a series is not expected any more
FORGOTTEN_MOST = 20
INTERRUPTED_S = 60.0

_FIELDS = {  # by slot
    "met": "f8",  # of the series; if it differs, another series has the slot now
    "last": "i8",  # offset of its last point
    "arrived": "f8",
    "seen": "f8",  # when the worker saw its last point; -inf: not since it watches
    "pause": "f8",  # longest usual time between two deliveries
    "after": "f8",  # of the settings; inf: not reported
    "live": "?",  # its last points were written lately
    "since": "f8",  # epoch s, when it had its last point; nan: not overdue
    "found_at": "f8",  # epoch s, when it became overdue
}
Columns = dict[str, np.ndarray]


class OverdueDetector:
    """The series of one partition.

    Parameters
    ----------
    rules
        ``alerting.silent``.
    max_age_s
        Points that were written longer ago are a replay, or of a wrong clock: they are not checked.
    previous
        The last record of the partition, by its last owner.
    most_bytes
        Largest record.
    """

    def __init__(
        self,
        number: int,
        rules: Sequence[SilentSettings],
        max_age_s: float,
        previous: Overdue | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._most_bytes = most_bytes
        self.number = number
        self._rules, self._max_age_s = [*rules, SilentSettings()], max_age_s
        self.written = previous or Overdue(number, 0.0)  # the last record
        self._of: Columns = {name: np.zeros(0, kind) for name, kind in _FIELDS.items()}
        self._began = 0.0  # since when the partition has been read to its end at every check
        self._checked_at = float("-inf")
        self._first = True
        self._longest = float("inf")  # time after which one of the overdue series became so
        self._pause_s = self.written.pause_s
        self._forgotten = list(self.written.forgotten)
        self.count = self.written.count  # of those that are overdue

    def interrupted(self) -> None:
        """The partition is not read to its end, or that is not known."""
        self._checked_at = float("-inf")

    def check(self, sources: Sources, now: float, wall: float) -> Iterator[Overdue | None]:
        """Check all series, a slice with each step; the last step gives the record, if it differs from the last one.

        ``now``: s of a clock that is never set; ``wall``: epoch s.
        """
        since_s = now - self._checked_at
        learns = since_s <= INTERRUPTED_S
        if not learns:
            self._began = now
        self._checked_at = now
        self._grow(sources.rows.count)
        late = due = 0
        pause_s = 0.0
        for start in range(0, sources.rows.count, SLICE):
            at = slice(start, min(start + SLICE, sources.rows.count))
            more = self._slice(sources, at, now, wall, since_s if learns else None)
            late, due, pause_s = late + more[0], due + more[1], max(pause_s, more[2])
            yield None
        if pause_s > self._pause_s or now - self._began > self._pause_s:  # else such a long pause may still come
            self._pause_s = pause_s
        self._first = False
        yield self._changed_record(sources, wall, late, due)

    def _grow(self, count: int) -> None:
        held = len(self._of["met"])
        if count > held:
            size = max(count, held + held // 4, 64)
            for name, column in self._of.items():
                self._of[name] = np.full(size, np.nan if name == "since" else 0, column.dtype)
                self._of[name][:held] = column

    def _at(self, at: slice) -> Columns:
        return {name: column[at] for name, column in self._of.items()}

    def _slice(
        self, sources: Sources, at: slice, now: float, wall: float, since_s: float | None
    ) -> tuple[int, int, float]:
        """How many are late, of how many; the longest pause between deliveries.

        ``since_s``: time since the last check; None after an interruption, when pauses are not known.
        """
        of, rows = self._at(at), sources.rows
        met, arrived, last, gap = (rows.column(name, at) for name in ("met", "arrived", "last", "gap"))
        points = rows.column("seen", at)
        new = met != of["met"]
        if new.any():
            of["met"][new], of["last"][new], of["arrived"][new] = met[new], last[new], arrived[new]
            of["seen"][new] = -np.inf if self._first else now
            of["pause"][new] = self._pause_s if self._first else 0.0
            of["since"][new] = np.nan
            of["after"][new] = self._after(sources, np.flatnonzero(new) + at.start)
            limit = np.maximum(of["after"], PAUSES * np.maximum(gap, of["pause"]))[new]
            of["live"][new] = wall - arrived[new] <= self._max_age_s + (limit if self._first else 0.0)
        if self._first:
            self._take_over(sources, at, arrived, last, gap)
        pause, after = of["pause"], of["after"]
        came = ~new & ((last != of["last"]) | (arrived != of["arrived"]))
        if came.any():
            if since_s is not None:
                limit = np.maximum(after, PAUSES * np.maximum(gap, pause))
                by_clock = now - np.maximum(of["seen"], self._began) - since_s  # at least
                quiet_for = np.where(np.isinf(of["seen"]), arrived - of["arrived"], by_clock)
                pause[came] = np.maximum(PAUSE_DECAY * pause, np.minimum(quiet_for, limit))[came]
            of["last"][came], of["arrived"][came], of["seen"][came] = last[came], arrived[came], now
            of["live"][came] = wall - arrived[came] <= self._max_age_s
            of["since"][came] = np.nan
        usual = np.maximum(gap, pause)
        limit = np.maximum(after, PAUSES * usual)
        quiet_for = now - np.maximum(of["seen"], self._began)
        overdue = ~np.isnan(of["since"])
        over = overdue & ((wall - of["since"] > GIVEN_UP_S) | np.isinf(after))
        if over.any():
            slots = np.flatnonzero(over).tolist()
            self._forget([(*parted(sources.names[at.start + i]), round(float(of["since"][i]), 3)) for i in slots])
            of["since"][over], of["live"][over] = np.nan, False
            overdue &= ~over
        checked = of["live"] & (gap > 0.0) & (points >= FEWEST_POINTS) & (KNOWN_FOR * limit <= arrived - met)
        found = checked & ~overdue & (quiet_for > limit)
        if found.any():
            seen_at = np.where(np.isinf(of["seen"]), np.minimum(arrived, wall - quiet_for), wall - (now - of["seen"]))
            of["since"][found], of["found_at"][found] = seen_at[found], wall
            overdue |= found
        late_after = LATE * usual + LATE_S
        due = overdue | (checked & (late_after <= np.maximum(self._longest, after)) & ~np.isinf(after))
        late = overdue | (due & (quiet_for > late_after))
        slow = pause[checked & ~np.isinf(of["seen"]) & (pause > 2.0 * gap)]
        return int(late.sum()), int(due.sum()), float(slow.max(initial=0.0))

    def _after(self, sources: Sources, slots: np.ndarray) -> float | list[float]:
        """``after_s`` of these series by the settings; inf: not reported."""
        if len(self._rules) == 1:
            return self._rules[0].after_s
        names = (parted(sources.names[slot]) for slot in slots.tolist())
        rules = (next(rule for rule in self._rules if rule.applies_to(*name)) for name in names)
        return [rule.after_s if rule.enabled else float("inf") for rule in rules]

    def _take_over(self, sources: Sources, at: slice, arrived: Any, last: Any, gap: Any) -> None:
        """Mark what was overdue under the last owner and has had no point since."""
        previous, of = self.written, self._at(at)
        if previous.count > len(previous.series):  # all that were silent as long, and not before the first of them
            limit = np.maximum(of["after"], PAUSES * gap)
            lasting = of["live"] & (gap > 0.0) & (arrived >= previous.oldest - 60.0) & (arrived + limit <= previous.at)
            of["since"][lasting], of["found_at"][lasting] = arrived[lasting], previous.at
        for quiet in previous.series:
            slot = sources.slots.get(joined(quiet.source, quiet.metric), -1)
            if at.start <= slot < at.stop:
                lasts = last[slot - at.start] == quiet.last
                of["since"][slot - at.start] = quiet.since if lasts else np.nan
                of["found_at"][slot - at.start] = quiet.found_at

    def _forget(self, gone: list[tuple[str, str, float]]) -> None:
        self._forgotten = [*self._forgotten, *(one for one in gone if one not in self._forgotten)][-FORGOTTEN_MOST:]

    def _changed_record(self, sources: Sources, wall: float, late: int, due: int) -> Overdue | None:
        """The record, if it differs from the last one."""
        of = self._at(slice(0, sources.rows.count))
        slots = np.flatnonzero(~np.isnan(of["since"]))
        self.count = len(slots)
        since = of["since"][slots]
        self._longest = float((of["found_at"][slots] - since).max(initial=-np.inf)) if len(slots) else float("inf")
        first = slots[np.lexsort((slots, of["found_at"][slots]))[:MOST]] if len(slots) else slots
        series, size = [], 0
        for slot in first.tolist():
            name = sources.names[slot]
            size += AROUND + 6 * len(name)  # at most, in JSON
            if size > self._most_bytes:
                break
            usual = max(float(sources.rows.get(slot, "gap")), float(of["pause"][slot]))
            source, metric = parted(name)
            times = round(float(of["since"][slot]), 3), round(float(of["found_at"][slot]), 3)
            series.append(Quiet(source, *times, int(of["last"][slot]), round(usual, 3), metric))
        before = [(one, joined(one.source, one.metric)) for one in self.written.series]
        self._forget([(one.source, one.metric, one.since) for one, name in before if name not in sources.slots])
        found = Overdue(
            self.number, round(wall, 3), series, len(slots), round(float(since.min()), 3) if len(slots) else 0.0,
            late, due, self._forgotten, round(self._pause_s, 3),
        )  # fmt: skip
        return found if _differs(self.written, found) else None


def _differs(previous: Overdue, now: Overdue) -> bool:
    """Whether a record differs enough from the previous one to be written."""
    if [(one.source, one.metric, one.since) for one in previous.series] != [
        (one.source, one.metric, one.since) for one in now.series
    ]:
        return True
    return previous.forgotten != now.forgotten or any(
        abs(new - old) > max(least, 0.1 * max(new, old))
        for old, new, least in (
            (previous.count, now.count, 0.0),
            (previous.late, now.late, 1.0),
            (previous.due, now.due, 1.0),
            (previous.pause_s, now.pause_s, 60.0),
        )
    )

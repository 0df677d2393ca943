"""Makes episodes of series that have stopped sending, as events for the engine of one partition.

Workers report overdue series (app/stream/overdue.py). Here these become episodes of kind ``silent``: one for each
series, or a single one for the whole topic if at least half of the due points of the topic did not come. The episode of
a series waits up to ``HOLD_S``, so that a stopped topic is recognized before its first series is reported. When the
topic sends again, each series has as much time to return as it took to become overdue.

Which episodes are open follows from the notifications, which series are overdue from the records of the workers. So an
alerter that starts makes the same events as the one before it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from app.alerting.current_decisions import CurrentDecisions
from app.alerting.engine import brief
from app.alerting.message import duration, moment
from app.state.series import joined, to_bytes
from app.wire.episodes import CLOSED, OPENED, SILENT, Event
from app.wire.notifications import MUTED, Notification
from app.wire.overdue import Overdue, Quiet

HOLD_S, SHORT_HOLD_S = 30.0, 7.0  # of a series that is overdue after 5 min; the least, as workers check every 5 s
OF_SERIES, OF_TOPIC = ("high", 0.95), ("critical", 1.0)  # severity, and a score that has it
RETURNED: Final = "returned"
FORGOTTEN: Final = "forgotten"


class SilentTopic:
    """Whether the whole topic has stopped: at least half of the due series did not send, until three quarters do."""

    def __init__(self, decided: CurrentDecisions) -> None:
        self._decided = decided
        self._seen_version = -1
        self.stopped = False
        self.resumed_at = float("-inf")
        self.late = self.due = 0

    def update(self, now: float) -> None:
        """Take the latest records of the workers."""
        if self._seen_version == self._decided.overdue_version:
            return
        self._seen_version = self._decided.overdue_version
        records = self._decided.overdue.values()
        self.late, self.due = sum(one.late for one in records), sum(one.due for one in records)
        before = self.stopped
        if before:
            self.stopped = self.late > 0 and 4 * self.late >= self.due
        else:
            self.stopped = any(one.count for one in records) and self.late >= 2 and 2 * self.late >= self.due
        if before and not self.stopped:
            self.resumed_at = now


class SilentSources:
    """The silent episodes of one partition of the topic of anomalies.

    Parameters
    ----------
    name
        Of the topic of the points.
    number, count
        This partition of the topic of anomalies, and how many it has. It has the episodes of each ``count``-th
        partition of the points; the first partition also has that of the whole topic.
    """

    def __init__(self, name: str, number: int, count: int, decided: CurrentDecisions, topic: SilentTopic) -> None:
        self._name, self._number, self._count = name, number, count
        self._decided, self._topic = decided, topic
        self._open: dict[str, Event] = {}  # episode -> its opening event
        self._taken: set[str] = set()  # open episodes that the engine has
        self._seen_version = -1
        self._check_at = float("-inf")
        self._named: dict[
            int, tuple[Overdue, list[tuple[str, Quiet]]]
        ] = {}  # partition -> its record, and the episodes of that

    def remember(self, notification: Notification) -> None:
        """Restore from one notification: the oldest first, and all before the first call of ``events``."""
        for news in notification.news if notification.state != MUTED else ():
            event = news.event
            if event.kind != SILENT:
                continue
            if news.why == "closed":
                self._open.pop(event.episode, None)
            else:
                self._open[event.episode] = brief(event, OPENED)
            if event.episode.endswith(":silent"):
                self._topic.stopped = news.why != "closed"
                self._topic.resumed_at = notification.created_at if news.why == "closed" else float("-inf")

    def events(self, now: float) -> list[Event]:
        """New events for the engine."""
        if self._seen_version == self._decided.overdue_version and now < self._check_at:
            return []
        self._topic.update(now)
        self._seen_version, self._check_at = self._decided.overdue_version, float("inf")
        wanted = self._wanted(now)
        found = [self._ended(event, now) for episode, event in self._open.items() if episode not in wanted]
        found += [event for episode, event in wanted.items() if episode not in self._taken]
        self._open, self._taken = wanted, set(wanted)
        return found

    def _wanted(self, now: float) -> dict[str, Event]:
        """The episodes that must be open now, with their opening events."""
        wanted: dict[str, Event] = {}
        if self._number == 0 and self._topic.stopped:
            event = next((one for one in self._open.values() if one.episode.endswith(":silent")), None)
            event = event or self._of_topic(now)
            wanted[event.episode] = event
        for number, of in self._decided.overdue.items():
            if number % self._count != self._number:
                continue
            for episode, quiet in self._episodes(number, of):
                if episode in self._open:
                    wanted[episode] = self._open[episode]
                    continue
                again = self._topic.resumed_at + (quiet.found_at - quiet.since)
                if self._topic.stopped:
                    continue
                hold_s = min(HOLD_S, max(SHORT_HOLD_S, 0.1 * (quiet.found_at - quiet.since)))
                if now >= (at := max(quiet.found_at + hold_s, again)):
                    wanted[episode] = _of_series(episode, quiet, max(quiet.found_at, again))
                else:
                    self._check_at = min(self._check_at, at)
        return wanted

    def _episodes(self, number: int, of: Overdue) -> list[tuple[str, Quiet]]:
        if number not in self._named or self._named[number][0] is not of:
            self._named[number] = of, [(self._episode(number, quiet), quiet) for quiet in of.series]
        return self._named[number][1]

    def _episode(self, number: int, quiet: Quiet) -> str:
        """Its id, like those of points: topic:partition:offset:index. Every alerter makes the same."""
        series = sha256(to_bytes(joined(quiet.source, quiet.metric))).hexdigest()[:16]
        return f"{self._name}:{number}:{round(quiet.since * 1000)}:silent-{series}"

    def _of_topic(self, now: float) -> Event:
        quiet = [one for of in self._decided.overdue.values() for one in of.series]
        since = max((one.since for one in quiet), default=now)
        severity, score = OF_TOPIC
        return Event(
            event=OPENED, episode=f"{self._name}:0:{round(since * 1000)}:silent", kind=SILENT, severity=severity,
            source=self._name, timestamp=now, opened_at=since, points=0, peak_score=score,
            offset=round(since * 1000), index=0,
            explanation=f"{self._topic.late:,} of {self._topic.due:,} sources send nothing since {moment(since)}",
        )  # fmt: skip

    def _ended(self, opened: Event, now: float) -> Event:
        number = int(opened.episode.rsplit(":", 3)[1])
        of = self._decided.overdue.get(number)
        event = brief(opened, CLOSED)
        event.timestamp = max(of.at if of else now, event.opened_at)
        event.index = 1
        expired = of is not None and (event.source, event.metric, event.opened_at) in of.forgotten
        event.reason = FORGOTTEN if expired else RETURNED
        return event


def _of_series(episode: str, quiet: Quiet, at: float) -> Event:
    severity, score = OF_SERIES
    usual = f"; the longest usual pause is {duration(quiet.usual_s)}" if quiet.usual_s > 0.0 else ""
    return Event(
        event=OPENED, episode=episode, kind=SILENT, severity=severity, source=quiet.source, metric=quiet.metric,
        timestamp=at, opened_at=quiet.since, points=0, peak_score=score, offset=round(quiet.since * 1000), index=0,
        explanation=f"no point for {duration(at - quiet.since)}{usual}",
    )  # fmt: skip

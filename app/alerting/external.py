"""Makes episodes of the reports of other programs. No clock, no Kafka.

An episode belongs to one source, metric and type of anomaly. It opens with the first anomalous report, changes when its
severity rises or a minute has passed, and closes with the first normal report, or after an hour without a report. A
repeated report, or one older than the last, changes nothing: clients may repeat reports that were not acknowledged.

Its number is the minute of the report that opens it, or at least one more than the number of the episode before. So a
report that is repeated because its response was lost makes the same events again, and readers recognize them by their
places. If two servers take the first two reports of an anomaly at the same time, both mostly open the same episode.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from app.scoring.severity import severity
from app.wire.episodes import CHANGED, CLOSED, EXTERNAL, OPENED, Event
from app.wire.external import External

CHANGED_EVERY_S = 60.0
SILENCE_S = 3600.0
RETENTION_S = 86_400.0  # of the state of closed episodes
WRITE_EVERY_S = 300.0  # the stored state of an open episode is at most so old
RECOVERED: Final = "recovered"
SILENCE: Final = "silence"


class Report(NamedTuple):
    """One report. ``score``: 0..1; ``by``: who reports it, "" if unknown."""

    source: str
    metric: str
    anomaly_type: str
    timestamp: float
    value: float
    is_anomaly: bool
    score: float
    by: str = ""


class ReportOutcome(NamedTuple):
    """The new state, None: unchanged; the events to write before it; whether the state must be written."""

    state: External | None
    events: list[Event]
    write: bool = True


def apply_report(state: External | None, report: Report, now: float) -> ReportOutcome:
    """Apply a report. ``now``: epoch seconds by this server's clock."""
    if state and not state.closed and now - state.heard_at >= SILENCE_S and report.timestamp > state.timestamp:
        closed = close_silent(state, now)
        opened = apply_report(closed.state, report, now)
        return ReportOutcome(opened.state or closed.state, [*closed.events, *opened.events])
    if state is None or state.closed:
        return _open(state, report, now)
    if report.timestamp < state.timestamp or (report.is_anomaly and report.timestamp == state.timestamp):
        return ReportOutcome(None, [])
    after = msgspec.structs.replace(
        state, timestamp=report.timestamp, heard_at=now, points=state.points + report.is_anomaly,
        peak_score=max(state.peak_score, report.score) if report.is_anomaly else state.peak_score,
    )  # fmt: skip
    if not report.is_anomaly:
        after = msgspec.structs.replace(after, closed=True, told=state.told + 1, told_at=report.timestamp)
        return ReportOutcome(after, [_event(after, CLOSED, report, RECOVERED)])
    worse = severity(after.peak_score) != severity(state.peak_score)
    if worse or report.timestamp >= state.told_at + CHANGED_EVERY_S:
        after = msgspec.structs.replace(after, told=state.told + 1, told_at=report.timestamp)
        return ReportOutcome(after, [_event(after, CHANGED, report)])
    return ReportOutcome(after, [], write=now - state.heard_at >= WRITE_EVERY_S)


def close_silent(state: External, now: float) -> ReportOutcome:
    """Close an episode after ``SILENCE_S`` without a report: it ends at its last one."""
    after = msgspec.structs.replace(state, closed=True, told=state.told + 1, told_at=state.timestamp, heard_at=now)
    return ReportOutcome(after, [_event(after, CLOSED, None, SILENCE)])


def is_expired(state: External, now: float) -> bool:
    """Whether the state can be deleted: no later episode can have a lower number."""
    return state.closed and now >= max(state.heard_at, state.number * 60.0) + RETENTION_S


def _open(before: External | None, report: Report, now: float) -> ReportOutcome:
    if not report.is_anomaly or (before and report.timestamp <= before.timestamp):
        return ReportOutcome(None, [])
    number = int(report.timestamp // 60)
    state = External(
        source=report.source, metric=report.metric, anomaly_type=report.anomaly_type,
        number=max(number, before.number + 1) if before else number, opened_at=report.timestamp,
        timestamp=report.timestamp, heard_at=now, points=1, peak_score=report.score, told_at=report.timestamp,
        by=report.by,
    )  # fmt: skip
    return ReportOutcome(state, [_event(state, OPENED, report)])


def _event(state: External, what: str, report: Report | None, reason: str = "") -> Event:
    labels = {"anomaly_type": state.anomaly_type} | ({"reported_by": state.by} if state.by else {})
    sentence = "" if report is None or what == CLOSED else _sentence(state, report)
    return Event(
        event=what, episode=state.episode, kind=EXTERNAL, severity=severity(state.peak_score), source=state.source,
        metric=state.metric, labels=labels, timestamp=state.timestamp, opened_at=state.opened_at, points=state.points,
        peak_score=state.peak_score, offset=state.number, index=state.told - 1, reason=reason,
        value=report.value if report else None, explanation=sentence,
    )  # fmt: skip


def _sentence(state: External, report: Report) -> str:
    by = f" by {state.by}" if state.by else ""
    of = f" of {state.metric}" if state.metric else ""
    return f"{state.anomaly_type}: {report.value:.6g}{of}, reported{by} with a score of {report.score:.3g}"

"""From reports of other programs to episodes: reports of one anomaly are one episode. No clock, no Kafka.

An episode is of one source, metric and type of anomaly. It opens with the first anomalous report, changes when its
severity rises or a minute has passed, and closes with the first report that is normal, or after an hour without any. A
report that was taken before, or is older than one that was, changes nothing: clients may repeat what was not confirmed.

Its number is the minute of the report that opens it, or the one after that of the last episode. So a report that is
repeated because its answer was lost makes the same events again, which all readers know by their places; and of two
servers that take the first two reports of one anomaly at the same time, both mostly open the same episode.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from app.scoring.severity import severity
from app.wire.episodes import CHANGED, CLOSED, EXTERNAL, OPENED, Event
from app.wire.external import External

CHANGED_EVERY_S = 60.0
SILENCE_S = 3600.0
KEPT_S = 86_400.0  # what is known of episodes that are over
HEARD_EVERY_S = 300.0  # how old what is written of an open episode may be
RECOVERED: Final = "recovered"
SILENCE: Final = "silence"


class Report(NamedTuple):
    """One report. ``score``: 0..1; ``by``: who reports it, "" if that is not known."""

    source: str
    metric: str
    anomaly_type: str
    timestamp: float
    value: float
    is_anomaly: bool
    score: float
    by: str = ""


class Step(NamedTuple):
    """What is known then, None: as before; the events to be written before that; and whether it has to be written."""

    state: External | None
    events: list[Event]
    write: bool = True


def step(state: External | None, report: Report, now: float) -> Step:
    """Take a report. ``now``: epoch seconds by the clock of who takes it."""
    if state and not state.closed and now - state.heard_at >= SILENCE_S and report.timestamp > state.timestamp:
        ended = silent(state, now)
        begun = step(ended.state, report, now)
        return Step(begun.state or ended.state, [*ended.events, *begun.events])
    if state is None or state.closed:
        return _open(state, report, now)
    if report.timestamp < state.timestamp or (report.is_anomaly and report.timestamp == state.timestamp):
        return Step(None, [])
    after = msgspec.structs.replace(
        state, timestamp=report.timestamp, heard_at=now, points=state.points + report.is_anomaly,
        peak_score=max(state.peak_score, report.score) if report.is_anomaly else state.peak_score,
    )  # fmt: skip
    if not report.is_anomaly:
        after = msgspec.structs.replace(after, closed=True, told=state.told + 1, told_at=report.timestamp)
        return Step(after, [_event(after, CLOSED, report, RECOVERED)])
    worse = severity(after.peak_score) != severity(state.peak_score)
    if worse or report.timestamp >= state.told_at + CHANGED_EVERY_S:
        after = msgspec.structs.replace(after, told=state.told + 1, told_at=report.timestamp)
        return Step(after, [_event(after, CHANGED, report)])
    return Step(after, [], write=now - state.heard_at >= HEARD_EVERY_S)


def silent(state: External, now: float) -> Step:
    """After ``SILENCE_S`` without a report: it ends at its last one."""
    after = msgspec.structs.replace(state, closed=True, told=state.told + 1, told_at=state.timestamp, heard_at=now)
    return Step(after, [_event(after, CLOSED, None, SILENCE)])


def is_over(state: External, now: float) -> bool:
    """Whether nothing needs to be known of it any more: no later episode may have a lower number."""
    return state.closed and now >= max(state.heard_at, state.number * 60.0) + KEPT_S


def _open(before: External | None, report: Report, now: float) -> Step:
    if not report.is_anomaly or (before and report.timestamp <= before.timestamp):
        return Step(None, [])
    number = int(report.timestamp // 60)
    state = External(
        source=report.source, metric=report.metric, anomaly_type=report.anomaly_type,
        number=max(number, before.number + 1) if before else number, opened_at=report.timestamp,
        timestamp=report.timestamp, heard_at=now, points=1, peak_score=report.score, told_at=report.timestamp,
        by=report.by,
    )  # fmt: skip
    return Step(state, [_event(state, OPENED, report)])


def _event(state: External, what: str, report: Report | None, reason: str = "") -> Event:
    labels = {"anomaly_type": state.anomaly_type} | ({"reported_by": state.by} if state.by else {})
    told_of = "" if report is None or what == CLOSED else _sentence(state, report)
    return Event(
        event=what, episode=state.episode, kind=EXTERNAL, severity=severity(state.peak_score), source=state.source,
        metric=state.metric, labels=labels, timestamp=state.timestamp, opened_at=state.opened_at, points=state.points,
        peak_score=state.peak_score, offset=state.number, index=state.told - 1, reason=reason,
        value=report.value if report else None, explanation=told_of,
    )  # fmt: skip


def _sentence(state: External, report: Report) -> str:
    by = f" by {state.by}" if state.by else ""
    of = f" of {state.metric}" if state.metric else ""
    return f"{state.anomaly_type}: {report.value:.6g}{of}, reported{by} with a score of {report.score:.3g}"

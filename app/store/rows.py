"""Makes rows of records: pure functions, the same for every database.

A row is a dict by column. However the records of one partition are batched, and however often some are repeated, the
rows are the same as when they are read one by one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from app.errors import InvalidPoint, StateError
from app.metrics import SEVERITIES
from app.wire import decisions, episodes, notifications
from app.wire.decisions import Acknowledgement, Feedback, Silence
from app.wire.episodes import CLOSED, EVENTS, SILENT, Event
from app.wire.notifications import QUEUED

Row = dict[str, Any]

NAME_LENGTH, TEXT_LENGTH = 600, 10_000  # characters; PostgreSQL's indexes take 2,700 bytes
MOST_BYTES = 32 << 20  # of a record: one notification can have 1,000 episodes
INT64_END = 1 << 63
MAX_DEPTH = 50  # of labels


class UnreadableRecord(Exception):
    """A record that is not one of ours, or does not fit into a table: it is skipped."""


def read_event(value: bytes) -> Event:
    """Raises UnreadableRecord."""
    try:
        event = episodes.decode(_sized(value))
    except (InvalidPoint, OverflowError) as error:
        raise UnreadableRecord(str(error)) from error
    return _checked(event)


def _checked(event: Event) -> Event:
    event.labels = _clean(event.labels)
    _check_ids(event.episode)
    _check_lengths(event.source, event.metric, event.kind, event.severity)
    if not all(-INT64_END <= number < INT64_END for number in (event.points, *event.place)):
        raise UnreadableRecord(f"numbers of an episode's event must have 64 bits, got {event.points}, {event.place}")
    return event


def read_notification(value: bytes) -> notifications.Notification:
    """Raises UnreadableRecord."""
    try:
        notification = notifications.decode(_sized(value))
    except StateError as error:
        raise UnreadableRecord(str(error)) from error
    _check_ids(notification.id, *(one.event.episode for one in notification.news))
    _check_lengths(notification.channel)
    for event in silent_events(notification):
        _checked(event)
    if not 0 <= notification.attempts < INT64_END:
        raise UnreadableRecord(f"attempts of a notification must have 64 bits, got {notification.attempts}")
    return notification


def silent_events(notification: notifications.Notification) -> list[Event]:
    """Events of sources that stopped sending: these episodes are in no other topic."""
    return [one.event for one in notification.news if one.event.kind == SILENT]


def read_decision(value: bytes) -> decisions.Decision:
    """Raises UnreadableRecord."""
    try:
        decision = decisions.decode(_sized(value))
    except StateError as error:
        raise UnreadableRecord(str(error)) from error
    _check_ids(decision.key)
    _check_lengths(decision.by)
    return decision


def episode_row(before: Row | None, event: Event, recorded_at: float) -> Row:
    """The row of an episode after this event; ``before``: its row so far.

    The last event by place gives the state of the episode. Value, expected and sentence are those of the first event
    with the highest severity: the opening one, or one that raised it. The point that closes an episode is normal.
    """
    last = (*event.place, EVENTS.index(event.event))
    if before is None or last >= (before["last_offset"], before["last_index"], before["last_event"]):
        row = {
            "id": event.episode,
            "source": _text(event.source),
            "metric": _text(event.metric),
            "kind": _text(event.kind),
            "severity": _text(event.severity),
            "opened_at": event.opened_at,
            "ended_at": event.timestamp if event.event == CLOSED else None,
            "reason": _text(event.reason),
            "points": event.points,
            "peak_score": event.peak_score,
            "labels": event.labels,
            "last_offset": last[0],
            "last_index": last[1],
            "last_event": last[2],
        }
    else:
        row = dict(before)
    if before is None or _weight(event.event, event.severity, *event.place) > _weight_of(before["event"]):
        row["event"] = _clean(msgspec.to_builtins(event))
        row["value"], row["sentence"] = event.value, _text(event.explanation)
        row["expected"] = float(event.expected) if isinstance(event.expected, int | float) else None
    else:
        row |= {name: before[name] for name in ("event", "value", "expected", "sentence")}
    row["recorded_at"] = max(recorded_at, before["recorded_at"]) if before else recorded_at
    return row


def _weight(event: str, severity: str, offset: int, index: int) -> tuple[int, int, int]:
    """Of the events of an episode, the one with the greatest weight is shown."""
    rank = SEVERITIES.index(severity) + 1 if severity in SEVERITIES else 0
    return -1 if event == CLOSED else rank, -offset, -index


def _weight_of(event: Row) -> tuple[int, int, int]:
    return _weight(event["event"], event["severity"], event.get("offset", -1), event.get("index", -1))


def notification_row(before: Row | None, notification: notifications.Notification, recorded_at: float) -> Row:
    """The row of a notification after this record. Sent, failed or muted is never queued again."""
    if before and notification.state == QUEUED != before["state"]:
        return before | {"recorded_at": max(recorded_at, before["recorded_at"])}
    return {
        "id": notification.id,
        "channel": _text(notification.channel),
        "route": _text(notification.route),
        "about": notification.about,
        "state": notification.state,
        "text": _text(notification.text),
        "created_at": notification.created_at,
        "done_at": notification.done_at or None,
        "attempts": notification.attempts,
        "answer": _text(notification.answer),
        "recorded_at": max(recorded_at, before["recorded_at"]) if before else recorded_at,
    }


def news_rows(notification: notifications.Notification) -> list[Row]:
    """Rows of its episodes; of a repeated episode the first one counts."""
    first: dict[str, Row] = {}
    for place, one in enumerate(notification.news):
        row = {"notification": notification.id, "episode": one.event.episode, "place": place, "why": one.why}
        first.setdefault(one.event.episode, row)
    return list(first.values())


def decision_row(decision: decisions.Decision, recorded_at: float) -> Row:
    row: Row = {
        "key": decision.key,
        "decision": type(decision).__name__.lower(),
        "episode": None,
        "silence": None,
        "matchers": [],
        "verdict": "",
        "author": _text(decision.by),
        "comment": _text(decision.comment),
        "ends_at": None,
        "recorded_at": recorded_at,
    }
    match decision:
        case Silence():
            row |= {"silence": decision.id, "matchers": _clean(decision.matchers)}
            row |= {"at": decision.starts_at, "ends_at": decision.ends_at}
        case Feedback():
            row |= {"episode": decision.episode, "verdict": decision.verdict, "at": decision.at}
        case Acknowledgement():
            row |= {"episode": decision.episode, "at": decision.at}
    return row


def _sized(value: bytes) -> bytes:
    if len(value) > MOST_BYTES:
        raise UnreadableRecord(f"a record must have at most {MOST_BYTES} bytes, got {len(value)}")
    return value


def _check_ids(*ids: str) -> None:
    """Rows are found by ids, so ids are stored unchanged."""
    for one in ids:
        if "\0" in one:
            raise UnreadableRecord(f"an id must have no character 0, got {one[:80]!r}")
    _check_lengths(*ids)


def _check_lengths(*names: str) -> None:
    for name in names:
        if len(name) > NAME_LENGTH:
            raise UnreadableRecord(
                f"a name must have at most {NAME_LENGTH} characters, got {len(name)}: {name[:80]!r}.."
            )


def _text(text: str) -> str:
    """PostgreSQL stores every character except NUL."""
    return text[:TEXT_LENGTH].replace("\0", "\ufffd")


def _clean(value: Any, depth: int = 0) -> Any:
    """The same for JSON values; integers beyond 64 bits become floats, or None beyond those."""
    if depth > MAX_DEPTH:
        raise UnreadableRecord(f"labels must not be nested deeper than {MAX_DEPTH}")
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {_clean(name): _clean(one, depth + 1) for name, one in value.items()}
        case list() | tuple():
            return [_clean(one, depth + 1) for one in value]
        case int() if not -INT64_END <= value < INT64_END:
            try:
                return float(value)
            except OverflowError:
                return None
    return value


def from_key(key: bytes) -> str:
    """The key of a deleted decision, as text."""
    return key.decode("utf-8", "replace").replace("\0", "\ufffd")

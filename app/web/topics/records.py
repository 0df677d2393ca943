"""Records of the output topics as the view decodes and shows them.

Like any other reader, the view uses the fields that it knows and ignores the others, so it can show results of later
releases.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec

from app.scoring.severity import severity
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES

EVENTS = ("opened", "changed", "closed")
SILENT = "silent"  # kind of the episodes of sources that stopped sending
MAX_ID = 300  # of an episode: the name of a topic has 249
MAX_ANSWER = 200  # characters

# Records may have text; shown is the number.
Timestamp = Annotated[Any, msgspec.Meta(description="Unix seconds, UTC.", extra_json_schema={"type": "number"})]
PerMetric = float | dict[str, float | None] | None


class ShownResult(msgspec.Struct, omit_defaults=True):
    """The fields of one record of anomaly-results that the view shows; others are ignored."""

    id: str
    source: Annotated[str, msgspec.Meta(max_length=MAX_SOURCE_BYTES)]
    timestamp: Timestamp
    metric: Annotated[str, msgspec.Meta(max_length=MAX_METRIC_BYTES)] | None = None
    labels: dict[str, str | float | bool] | None = None
    value: float | None = None
    values: dict[str, float] | None = None
    expected: PerMetric = None
    expected_lower: PerMetric = None
    expected_upper: PerMetric = None
    anomaly_score: float | None = None
    alert_score: float | None = None
    is_anomaly: bool | None = None
    episode: str | None = None
    kind: str | None = None
    severity: str | None = None
    status: str | None = None
    direction: str | None = None
    maintenance: str | None = None
    drift: bool | None = None
    detectors: dict[str, float] | None = None
    weights: dict[str, float] | None = None
    attribution: dict[str, float] | None = None
    explanation: str | None = None
    figure: float | None = None
    usual: float | None = None

    def __post_init__(self) -> None:
        self.timestamp = _epoch(self.timestamp)


class EpisodeEvent(ShownResult, kw_only=True):
    """One record of the topic anomalies: `opened` and `changed` have a result's fields, all have the last."""

    id: str = ""
    event: str
    points: int | None = None
    peak_score: float | None = None
    opened_at: Any = None
    reason: str | None = None
    offset: int | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        self.timestamp = _epoch(self.timestamp)
        self.opened_at = None if self.opened_at is None else _epoch(self.opened_at)


class _EventReference(msgspec.Struct):
    episode: Annotated[str, msgspec.Meta(max_length=MAX_ID)]
    kind: str = ""


class _NewsReference(msgspec.Struct):
    event: msgspec.Raw
    why: str
    episode: str = ""
    kind: str = ""

    def __post_init__(self) -> None:
        reference = _decode_reference(self.event)
        self.episode, self.kind = reference.episode, reference.kind


_decode_reference = msgspec.json.Decoder(_EventReference).decode


class ShownNotification(msgspec.Struct):
    """The fields of one record of the topic of notifications that the view shows."""

    channel: str
    state: str
    created_at: float
    news: list[_NewsReference] = []
    done_at: float = 0.0
    answer: str = ""

    def by_episode(self) -> "list[tuple[str, LastNotification]]":
        """For each of its episodes, what the channel was sent."""
        at = self.done_at or self.created_at
        return [
            (one.episode, LastNotification(self.channel, self.state, one.why, at, self.answer[:MAX_ANSWER]))
            for one in self.news
        ]

    def silent(self) -> list[bytes]:
        """Events of sources that stopped sending: they are in no other topic."""
        return [bytes(one.event) for one in self.news if one.kind == SILENT]


def _epoch(time: Any) -> float:
    """Epoch seconds of a number or of ISO 8601 text. Raises ValueError."""
    if type(time) is str:
        return datetime.fromisoformat(time).timestamp()
    if type(time) not in (float, int):
        raise ValueError(f"must be a time, got {time!r}")
    return float(time)


decode_result = msgspec.json.Decoder(ShownResult).decode
decode_event = msgspec.json.Decoder(EpisodeEvent).decode
decode_notification = msgspec.json.Decoder(ShownNotification).decode


class LastNotification(NamedTuple):
    """The last notification of one channel about an episode, or why it got none: see app/wire/notifications.py."""

    channel: str
    state: str
    why: str
    at: float  # epoch s
    said: str  # the answer, or the reason for no notification


class ShownEpisode(NamedTuple):
    """One episode in memory. `opener` and `end` are raw records: no opener if only the end was read, no end while open.

    If the opener was not read, or was compacted away, the first `changed` is used instead; of later ones only
    ``points``, ``peak`` and the time are stored.

    ``first_event_at`` is Kafka's time of the first record: old series may be replayed beside live ones, so the newest
    episode need not have the latest event time.
    """

    opener: bytes | None
    end: bytes | None
    first_event_at: float
    source: str = ""
    opened_at: float = 0.0
    metric: str = ""
    points: int = 0
    peak: float = 0.0
    changed_at: float = 0.0
    notifications: tuple[LastNotification, ...] = ()  # the last one of each channel

    def with_notification(self, last: LastNotification) -> "ShownEpisode":
        """With a later notification of one channel."""
        others = tuple(one for one in self.notifications if one.channel != last.channel)
        before = next((one for one in self.notifications if one.channel == last.channel), None)
        return self if before and before.at > last.at else self._replace(notifications=(*others, last))

    def with_event(self, event: EpisodeEvent, raw: bytes) -> "ShownEpisode":
        """With one more of its records; what is already set stays."""
        series: dict[str, Any] = {"source": event.source, "metric": event.metric or ""}
        if event.event == "changed" and (event.points or 0) <= self.points:
            return self
        if event.event != "closed" and self.opener is None:
            opened_at = event.timestamp if event.opened_at is None else event.opened_at
            return self._replace(opener=raw, opened_at=opened_at, points=event.points or 0, **series)
        if event.event == "changed":
            known = {"points": event.points, "peak": event.peak_score or 0.0, "changed_at": event.timestamp}
            return self._replace(**known)
        if event.event == "closed" and self.end is None:
            if self.opener:
                return self._replace(end=raw)
            return self._replace(end=raw, opened_at=event.opened_at or event.timestamp, **series)
        return self

    def row(self, episode: str) -> dict[str, Any]:
        """What the API shows: the opener's fields, what has changed, and when and how it ended.

        The severity is that of its peak.
        """
        row = {"episode": episode, "source": self.source, "told_at": self.first_event_at, "opened_at": self.opened_at}
        row |= {"metric": self.metric} if self.metric else {}
        row |= {"state": "closed" if self.end else "open"}
        if self.opener:
            row |= msgspec.to_builtins(decode_event(self.opener))
            for name in ("event", "offset", "index"):
                row.pop(name, None)
        if self.changed_at:
            row |= {"changed_at": self.changed_at, "points": self.points, "peak_score": self.peak}
            row["severity"] = severity(self.peak)
        if self.end:
            end = decode_event(self.end)
            row |= {"closed_at": end.timestamp, "points": end.points, "peak_score": end.peak_score}
            row |= {"kind": end.kind, "reason": end.reason}
            if end.peak_score is not None:
                row["severity"] = severity(end.peak_score)
        if self.notifications:
            row["told"] = [one._asdict() for one in sorted(self.notifications)]
        return row


class Sorted(Protocol):
    """What series are sorted by."""

    source: str
    metric: str | None
    timestamp: float
    anomaly_score: float | None
    alert_score: float | None
    is_anomaly: bool | None


def _by_name(result: Sorted) -> tuple[str, str]:
    return result.source, result.metric or ""


def _by_alert(result: Sorted) -> tuple[bool, float, tuple[str, str]]:
    """In an episode first, then high alert scores; below that by name, or noise would shuffle the list."""
    score = result.alert_score or 0.0
    return not result.is_anomaly, -score if score >= 0.5 else 0.0, _by_name(result)


SORTS: dict[str, Callable[[Sorted], Any]] = {
    "score": lambda r: (-(r.anomaly_score or 0.0), _by_name(r)),
    "alert": _by_alert,
    "source": _by_name,
    "recent": lambda r: (-r.timestamp, _by_name(r)),
}


class SourceRow(msgspec.Struct, omit_defaults=True):
    """A result as a row of the table of sources: without explanation and detectors."""

    source: str
    timestamp: Timestamp
    metric: str | None = None
    value: float | None = None
    values: dict[str, float] | None = None
    anomaly_score: float | None = None
    alert_score: float | None = None
    is_anomaly: bool | None = None
    severity: str | None = None
    status: str | None = None
    direction: str | None = None


def row(result: ShownResult) -> SourceRow:
    return SourceRow(*(getattr(result, name) for name in SourceRow.__struct_fields__))

"""Records of the output topics as the view reads and shows them.

Like any other reader, the view uses the fields it knows and ignores the rest, so that a view of this release shows the
results of the next.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec

from app.scoring.severity import severity

EVENTS = ("opened", "changed", "closed")
SILENT = "silent"  # kind of the episodes of sources that send nothing
MAX_SOURCE, MAX_METRIC = 256, 128  # characters; a worker takes no name of more bytes
MAX_ID = 300  # of an episode: the name of a topic has 249
MOST_SAID = 200  # characters of an answer

# Records may have text; shown is the number.
Timestamp = Annotated[Any, msgspec.Meta(description="Unix seconds, UTC.", extra_json_schema={"type": "number"})]
PerMetric = float | dict[str, float | None] | None


class ShownResult(msgspec.Struct, omit_defaults=True):
    """The fields of one record of anomaly-results that the view shows; others are ignored."""

    id: str
    source: Annotated[str, msgspec.Meta(max_length=MAX_SOURCE)]
    timestamp: Timestamp
    metric: Annotated[str, msgspec.Meta(max_length=MAX_METRIC)] | None = None
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


class Event(ShownResult, kw_only=True):
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


class _EventRef(msgspec.Struct):
    episode: Annotated[str, msgspec.Meta(max_length=MAX_ID)]
    kind: str = ""


class _NewsRef(msgspec.Struct):
    event: msgspec.Raw
    why: str
    episode: str = ""
    kind: str = ""

    def __post_init__(self) -> None:
        of = _decode_ref(self.event)
        self.episode, self.kind = of.episode, of.kind


_decode_ref = msgspec.json.Decoder(_EventRef).decode


class ShownNotification(msgspec.Struct):
    """The fields of one record of the topic of notifications that the view shows."""

    channel: str
    state: str
    created_at: float
    news: list[_NewsRef] = []
    done_at: float = 0.0
    answer: str = ""

    def words(self) -> "list[tuple[str, Word]]":
        """Of each episode what its channel was told."""
        at = self.done_at or self.created_at
        return [
            (one.episode, Word(self.channel, self.state, one.why, at, self.answer[:MOST_SAID])) for one in self.news
        ]

    def silent(self) -> list[bytes]:
        """Events of sources that send nothing: they are in no other topic."""
        return [bytes(one.event) for one in self.news if one.kind == SILENT]


def _epoch(time: Any) -> float:
    """Epoch seconds of a number or of ISO 8601 text. Raises ValueError."""
    if type(time) is str:
        return datetime.fromisoformat(time).timestamp()
    if type(time) not in (float, int):
        raise ValueError(f"must be a time, got {time!r}")
    return float(time)


decode_result = msgspec.json.Decoder(ShownResult).decode
decode_event = msgspec.json.Decoder(Event).decode
decode_notification = msgspec.json.Decoder(ShownNotification).decode


class Word(NamedTuple):
    """What one channel was last told of an episode, or why it was not: see app/wire/notifications.py."""

    channel: str
    state: str
    why: str
    at: float  # epoch s
    said: str  # what it answered, or why it was not told


class ShownEpisode(NamedTuple):
    """`opener` and `end` are records as they came; no opener when only the end was read, no end while it is open.

    Where the opener was not read, or has been compacted away, the first `changed` takes its place; of others only what
    changes is kept: ``points``, ``peak`` and when it was.

    ``told_at`` is when the first of them was written, by Kafka's clock: old series may be replayed beside live ones,
    so the newest episode need not have the latest event time.
    """

    opener: bytes | None
    end: bytes | None
    told_at: float
    source: str = ""
    opened_at: float = 0.0
    metric: str = ""
    points: int = 0
    peak: float = 0.0
    changed_at: float = 0.0
    told: tuple[Word, ...] = ()  # the last word of each channel

    def with_word(self, word: Word) -> "ShownEpisode":
        """With a later word to one channel."""
        others = tuple(one for one in self.told if one.channel != word.channel)
        before = next((one for one in self.told if one.channel == word.channel), None)
        return self if before and before.at > word.at else self._replace(told=(*others, word))

    def with_event(self, event: Event, raw: bytes) -> "ShownEpisode":
        """With one more record of it; what is already set stays."""
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

        Severity is that of its peak.
        """
        row = {"episode": episode, "source": self.source, "told_at": self.told_at, "opened_at": self.opened_at}
        row |= {"metric": self.metric} if self.metric else {}
        row |= {"state": "closed" if self.end else "open"}
        if self.opener:
            row |= msgspec.to_builtins(decode_event(self.opener))
            for place in ("event", "offset", "index"):
                row.pop(place, None)
        if self.changed_at:
            row |= {"changed_at": self.changed_at, "points": self.points, "peak_score": self.peak}
            row["severity"] = severity(self.peak)
        if self.end:
            end = decode_event(self.end)
            row |= {"closed_at": end.timestamp, "points": end.points, "peak_score": end.peak_score}
            row |= {"kind": end.kind, "reason": end.reason}
            if end.peak_score is not None:
                row["severity"] = severity(end.peak_score)
        if self.told:
            row["told"] = [word._asdict() for word in sorted(self.told)]
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


class Row(msgspec.Struct, omit_defaults=True):
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


def row(result: ShownResult) -> Row:
    return Row(*(getattr(result, name) for name in Row.__struct_fields__))

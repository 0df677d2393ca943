"""Records of the topic of anomalies, as readers see them: the events of episodes.

An episode opened, changed (its severity rose, or a minute passed), or closed. The last event of a series says whether
an episode is open there. Events of one series at the same place of the log are the same event; ``Event.place`` orders
them, and shows which ones a crash has repeated.

app/wire/results.py writes them, in either shape of the settings (``output``); here both are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from app.errors import InvalidPoint
from app.state.series import joined
from app.state.sources import VALUE
from app.wire import external

OPENED, CHANGED, CLOSED = "opened", "changed", "closed"
EVENTS = (OPENED, CHANGED, CLOSED)
SILENT = "silent"  # kind of episodes without points: made by app/alerting/silent_sources.py
EXTERNAL = "external"  # kind of episodes that other programs report: app/alerting/external.py
LABELS = ("source", "metric", "severity", "kind")  # of an episode, in addition to those of its points

Time = float | str
Numbers = float | dict[str, float] | None


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event of an episode; numbers and sentence are of the point at which it happened. Times are epoch seconds."""

    event: str  # one of EVENTS
    episode: str  # id of the result that opened it
    kind: str  # docs/records.md: kinds of episodes
    severity: str  # by its highest alert score so far
    source: str
    metric: str = ""  # of the series; "" where that is a whole source
    labels: dict[str, Any] = {}
    timestamp: float  # of the point; of a closed one: of the first point after it, or of its last point
    opened_at: float
    points: int  # of the episode so far
    peak_score: float  # highest alert score so far, 0..1
    offset: int = -1  # place in the log at which it happened
    index: int = -1  # of the point in its record; -1: before its points, at the end of a series that fell silent
    reason: str = ""  # why it closed
    value: float | None = None
    values: dict[str, float] = {}  # of a vector, by metric
    expected: Numbers = None
    expected_lower: Numbers = None
    expected_upper: Numbers = None
    direction: str = ""
    explanation: str = ""
    figure: float | None = None
    usual: float | None = None
    detectors: dict[str, float] = {}  # votes, 0..1
    weights: dict[str, float] = {}
    attribution: dict[str, float] = {}

    @property
    def series(self) -> str:
        """The name of its series, as app/state/series.py joins it."""
        return joined(self.source, self.metric)

    @property
    def thread(self) -> str:
        """Events of one thread are in the order of their places. A thread is a series, or a single silent episode."""
        if self.kind == EXTERNAL:
            return external.thread(self.episode)
        return self.series if self.kind != SILENT else self.episode

    @property
    def place(self) -> tuple[int, int]:
        return self.offset, self.index

    def named(self) -> dict[str, str]:
        """Labels for routes and silences, as text."""
        of_points = {name: text(value) for name, value in self.labels.items()}
        return of_points | {name: getattr(self, name) for name in LABELS} | {"episode": self.episode}


class _Read(Event, kw_only=True, omit_defaults=True):
    timestamp: Time  # type: ignore[assignment]
    opened_at: Time  # type: ignore[assignment]


_decode = msgspec.json.Decoder(Event).decode
_decode_any_times = msgspec.json.Decoder(_Read).decode


def text(value: Any) -> str:
    """A label's value as text: true, 7, web-1."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def decode(record: bytes) -> Event:
    """An event from the value of a record. Raises InvalidPoint with the reason if it is not an event."""
    try:
        event = _decode(record)
    except msgspec.DecodeError:
        event = _with_times_as_text(record)
    except (UnicodeDecodeError, RecursionError) as error:  # the latter: labels nested 1,000 deep
        raise _not_one(record, error) from error
    if event.event not in EVENTS:
        raise InvalidPoint("no_event", f"event must be one of {', '.join(EVENTS)}, got {event.event!r}")
    if event.values.keys() == {event.metric or VALUE}:  # output.by_metric
        [event.value], event.values = event.values.values(), {}
        for band in ("expected", "expected_lower", "expected_upper"):
            if isinstance(numbers := getattr(event, band), Mapping):
                setattr(event, band, numbers.get(event.metric or VALUE))
    return event


def _with_times_as_text(record: bytes) -> Event:
    try:
        read = _decode_any_times(record)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_one(record, error) from error
    try:
        times = {"timestamp": seconds(read.timestamp), "opened_at": seconds(read.opened_at)}
    except ValueError as error:
        raise InvalidPoint("no_event", f"expected times as numbers or ISO 8601: {error}") from error
    return Event(**(msgspec.structs.asdict(read) | times))


def _not_one(record: bytes, error: Exception) -> InvalidPoint:
    return InvalidPoint("no_event", f"expected the event of an episode, got {record[:80]!r}: {error}")


def seconds(time: Time) -> float:
    """Epoch seconds of a time of either shape. Raises ValueError for other text."""
    return datetime.fromisoformat(time).timestamp() if isinstance(time, str) else float(time)

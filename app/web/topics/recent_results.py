"""Recent results in memory: the latest result of each series, recent points, recent episodes; all of it bounded.

A series is a source, or a source and a metric that its results name, under its name of app/state/series.py. Most series
are whole sources, so series are called sources here too.

Takes bytes of records and gives rows for pages; no Kafka, clock or network. Records are checked when they come, stored
as bytes and decoded when requested, so that memory can be bounded in bytes for any number of metrics (a decoded result
of many metrics takes ten times its bytes); decoding 500 points takes 1 ms. All sources share one budget: 100 sources
have hundreds of points each, 10,000 have a few. A source that was requested, or whose episode opened, has a full series
instead. (A plain ring of the last active sources was worse: with 2,000 sources in turn, none had a second point.)

Every size includes what Python adds, so the bound holds for the process:
tests/unit/web/topics/test_recent_results.py measures it.
"""

import sys
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

import msgspec

from app.state.series import joined
from app.web.topics.read_positions import ReadPositions
from app.web.topics.records import (
    EVENTS,
    SORTS,
    EpisodeEvent,
    LastNotification,
    ShownEpisode,
    ShownNotification,
    ShownResult,
    decode_event,
    decode_notification,
    decode_result,
)

RECORD_BYTES = 1 << 20  # Kafka's usual limit; a larger record is counted as unreadable
# What Python adds to a point: header, place in a list, rounding. A source without its points and name; the most with a
# name. An episode without its records and name. A notification without its text.
POINT_BYTES, SOURCE_OWN_BYTES, SOURCE_BYTES, EPISODE_BYTES, NOTIFICATION_BYTES = 56, 440, 520, 1060, 500
MOST_ANOMALOUS = 1_000  # points
EARLY, EARLY_NOTIFICATIONS = 1_000, 8  # episodes with notifications but without events so far; notifications of each


class RecentPoints:
    """The last points of one series, as bytes, and what series are sorted by: of the latest result."""

    __slots__ = ("alert_score", "anomaly_score", "is_anomaly", "metric", "nbytes", "points", "source", "timestamp")

    def __init__(self, source: str, metric: str | None = None) -> None:
        self.source, self.metric = source, metric
        self.points: list[bytes] = []
        self.nbytes = 0  # of the points
        self.timestamp = 0.0
        self.anomaly_score: float | None = None
        self.alert_score: float | None = None
        self.is_anomaly: bool | None = None

    def add(self, raw: bytes, result: ShownResult) -> int:
        """Add a point; returns the bytes that it takes."""
        self.points.append(raw)
        self.timestamp, self.is_anomaly = result.timestamp, result.is_anomaly
        self.anomaly_score, self.alert_score = result.anomaly_score, result.alert_score
        size = len(raw) + POINT_BYTES
        self.nbytes += size
        return size

    def last(self, limit: int) -> list[ShownResult]:
        """In order of arrival."""
        return [decode_result(raw) for raw in self.points[max(len(self.points) - limit, 0) :]]

    @property
    def search_text(self) -> str:
        """The text that a search looks in."""
        return f"{self.source} {self.metric}" if self.metric else self.source

    @property
    def own_bytes(self) -> int:
        """Bytes without its points."""
        size = SOURCE_OWN_BYTES + sys.getsizeof(self.source)
        if self.metric:  # and the name of the series, at most four bytes a character
            size += sys.getsizeof(self.metric) + sys.getsizeof(joined(self.source, self.metric))
        return size


class Anomalous(msgspec.Struct):
    """One anomalous point; of several metrics, the one with the largest share of its score."""

    source: str
    value: float | None
    timestamp: float  # epoch s
    mean: float | None  # the expected value
    std_dev: float | None  # the usual error of that

    @classmethod
    def of(cls, result: ShownResult) -> "Anomalous":
        value, mean = result.value, result.expected
        if result.values:
            shares = result.attribution or {}
            metric = max(result.values, key=lambda one: shares.get(one, 0.0))
            value = result.values[metric]
            mean = mean.get(metric) if isinstance(mean, dict) else mean
        return cls(result.source, value, result.timestamp, None if isinstance(mean, dict) else mean, result.usual)


@dataclass(slots=True)
class Changes:
    """Changes since the last call of drain(): series by name, episodes that opened, changed or closed by id."""

    sources: dict[str, RecentPoints] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)  # how many, of watched sources only
    episodes: dict[str, ShownEpisode] = field(default_factory=dict)


class RecentResults:
    """At most 71 MB: the largest sizes of points, sources and episodes, anomalous points, one record that is taken in.

    ``max_sources``, of SOURCE_BYTES: the least recently active is dropped. ``kept``: sources with a full series, of
    ``series_points`` or ``kept_bytes``. ``max_episodes``, of ``episode_bytes``: the oldest is dropped.
    """

    def __init__(
        self,
        max_sources: int = 10_000,
        kept: int = 100,
        series_points: int = 500,
        kept_bytes: int = 250_000,
        shared_bytes: int = 16 << 20,
        max_episodes: int = 1_000,
        episode_bytes: int = 4 << 20,
    ) -> None:
        self.results = self.unreadable = self.opened = 0
        self.watched: set[str] = set()  # series whose new points drain() counts
        self._max_sources, self._kept_sources, self._max_episodes = max_sources, kept, max_episodes
        self._points, self._kept_bytes, self._shared_bytes = series_points, kept_bytes, shared_bytes
        self._series: OrderedDict[str, RecentPoints] = OrderedDict()  # least recently active first
        self._kept: OrderedDict[str, None] = OrderedDict()
        self._episodes: OrderedDict[str, ShownEpisode] = OrderedDict()
        self.events, self.notifications = ReadPositions(), ReadPositions()
        self._anomalous: deque[Anomalous] = deque(maxlen=MOST_ANOMALOUS)
        self._early: OrderedDict[str, tuple[LastNotification, ...]] = OrderedDict()  # by episodes without events so far
        self.nbytes = self.source_bytes = self.episode_bytes = 0  # of all points, of sources without them, of episodes
        self._max_bytes, self._max_source_bytes = 2 * shared_bytes + kept * kept_bytes, max_sources * SOURCE_BYTES
        self._max_episode_bytes = episode_bytes
        self._rung = 128  # sources that the shared budget is divided by: the next power of two
        self._changes = Changes()

    def __len__(self) -> int:
        """Series known."""
        return len(self._series)

    @property
    def open_episodes(self) -> int:
        """Episodes that opened and did not close, among the remembered ones."""
        return sum(episode.end is None for episode in self._episodes.values())

    def take_result(self, raw: bytes, written_at: float = 0.0) -> None:
        """Take the value of one record of anomaly-results, and Kafka's time of it (epoch s)."""
        result = self._decoded(decode_result, raw)
        if result is None:
            return
        name = joined(result.source, result.metric or "")
        self.results += 1
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = RecentPoints(result.source, result.metric)
            self.source_bytes += series.own_bytes
            self._make_room()
        self._series.move_to_end(name)
        self.nbytes += series.add(raw, result)
        self._changes.sources[name] = series
        if result.is_anomaly:
            self._anomalous.append(Anomalous.of(result))
        if name in self.watched:
            self._changes.points[name] = self._changes.points.get(name, 0) + 1
        self._trim(name)
        while self.nbytes > self._max_bytes and len(self._series) > 1:  # results of hundreds of metrics
            self._forget_oldest()

    def take_event(self, raw: bytes | None, written_at: float = 0.0, place: tuple[int, int] | None = None) -> None:
        """Take the value of one record of anomalies; a repeated one (sent at least once) changes nothing.

        ``place``: its partition and offset. ``raw`` None is a tombstone; episodes in memory stay.
        """
        if raw is None:
            return
        event: EpisodeEvent | None = self._decoded(decode_event, raw)
        if event is None or event.event not in EVENTS:
            return
        name = event.episode or event.id
        before = self._episodes.get(name)
        after = (before or ShownEpisode(None, None, written_at)).with_event(event, raw)
        if after == before:
            return
        for last in self._early.pop(name, ()):
            after = after.with_notification(last)
        if event.event == "opened":
            self.opened += 1
            self._keep(joined(event.source, event.metric or ""))
        self._put(name, before, after)
        if place and name in self._episodes:
            self.events.record_read(name, place)

    def take_notification(
        self, raw: bytes | None, written_at: float = 0.0, place: tuple[int, int] | None = None
    ) -> None:
        """Take the value of one record of notifications: who was notified of which episodes, or why not."""
        notification: ShownNotification | None = None if raw is None else self._decoded(decode_notification, raw)
        if notification is None:
            return
        for event in notification.silent():
            self.take_event(event, written_at)
        for name, last in notification.by_episode():
            before = self._episodes.get(name)
            if before is None:  # its event comes from another reader
                self._early[name] = (*self._early.pop(name, ()), last)[-EARLY_NOTIFICATIONS:]
                if len(self._early) > EARLY:
                    self._early.popitem(last=False)
                continue
            if (after := before.with_notification(last)) != before:
                self._put(name, before, after)
            if place and name in self._episodes:
                self.notifications.record_read(name, place)

    def _put(self, name: str, before: ShownEpisode | None, after: ShownEpisode) -> None:
        self._episodes[name] = self._changes.episodes[name] = after
        self.episode_bytes += _size(name, after) - (_size(name, before) if before else 0)
        while len(self._episodes) > 1 and (
            len(self._episodes) > self._max_episodes or self.episode_bytes > self._max_episode_bytes
        ):
            oldest, episode = self._episodes.popitem(last=False)
            self.episode_bytes -= _size(oldest, episode)
            self.events.forget(oldest)
            self.notifications.forget(oldest)
            self._changes.episodes.pop(oldest, None)

    def sources(self, search: str = "", sort: str = "score", limit: int = 200) -> tuple[int, list[ShownResult]]:
        """How many series match, and the first of them in one of the orders `SORTS`: their latest results.

        ``search`` is a part of a source's name, of a metric's, or of both with a space between.
        """
        needle = search.casefold()
        found = [series for series in self._series.values() if needle in series.search_text.casefold()]
        return len(found), [series.last(1)[0] for series in nsmallest(limit, found, key=SORTS[sort])]

    def series(self, name: str, limit: int = 500) -> list[ShownResult] | None:
        """The last points of the series of this name, in order of arrival; None when it is unknown.

        From now on it has a full series, until `kept` others were requested.
        """
        series = self._series.get(name)
        if series is None:
            return None
        self._keep(name)
        return series.last(limit)

    def anomalies(self, limit: int = 100, source: str | None = None, metric: str | None = None) -> list[dict[str, Any]]:
        """The newest episodes, latest change first, of one source or of all.

        ``metric``: only those of that metric's series, or with "" of that of the whole source.
        """
        found = [
            (e.first_event_at, e.opened_at, name, e)
            for name, e in self._episodes.items()
            if source in (None, e.source) and metric in (None, e.metric)
        ]
        found.sort(reverse=True)
        return [episode.row(name) for *_, name, episode in found[:limit]]

    def episode(self, name: str) -> ShownEpisode | None:
        """The episode with this id; None if it is not in memory."""
        return self._episodes.get(name)

    def episodes(self) -> Iterable[tuple[str, ShownEpisode]]:
        """All episodes in memory with their ids, oldest first."""
        return self._episodes.items()

    def anomalous(self, limit: int) -> list[Anomalous]:
        """The last anomalous points of all series, newest first."""
        return sorted(self._anomalous, key=lambda one: one.timestamp, reverse=True)[:limit]

    def drain(self) -> Changes:
        """The changes since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    @property
    def _share(self) -> int:
        return self._shared_bytes // self._rung

    def _decoded(self, decode: Any, raw: bytes) -> Any:
        """None, and counted, if it is not one of our records: anybody can write to a topic."""
        if raw is None or len(raw) > RECORD_BYTES:
            self.unreadable += 1
            return None
        try:
            return decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested 1,000 deep
            self.unreadable += 1
            return None

    def _keep(self, name: str) -> None:
        self._kept[name] = None
        self._kept.move_to_end(name)
        if len(self._kept) > self._kept_sources:
            dropped, _ = self._kept.popitem(last=False)
            self._trim(dropped)

    def _make_room(self) -> None:
        while len(self._series) > self._max_sources or self.source_bytes > self._max_source_bytes:
            self._forget_oldest()
        if len(self._series) > self._rung:
            # Doubling, not dividing by the exact number: every series is trimmed at once only 7 times.
            self._rung *= 2
            for name in self._series:
                self._trim(name)

    def _trim(self, name: str) -> None:
        """Drop its oldest points while they are more than its share; the newest stays."""
        series = self._series.get(name)
        if series is None:
            return
        most = self._kept_bytes if name in self._kept else self._share
        points, dropped, size = series.points, 0, series.nbytes
        while len(points) - dropped > 1 and (len(points) - dropped > self._points or size > most):
            size -= len(points[dropped]) + POINT_BYTES
            dropped += 1
        del points[:dropped]
        self.nbytes -= series.nbytes - size
        series.nbytes = size

    def _forget_oldest(self) -> None:
        name, series = self._series.popitem(last=False)
        self.nbytes -= series.nbytes
        self.source_bytes -= series.own_bytes
        self._kept.pop(name, None)
        self._changes.sources.pop(name, None)
        self._changes.points.pop(name, None)


def _size(name: str, episode: ShownEpisode) -> int:
    return (
        EPISODE_BYTES
        + sys.getsizeof(name)
        + sys.getsizeof(episode.metric)
        + len(episode.opener or b"")
        + len(episode.end or b"")
        + sum(NOTIFICATION_BYTES + len(one.said) for one in episode.notifications)
    )

"""What the web view knows: latest result of each source, recent points, recent episodes; all of it bounded.

Bytes of records in, rows for the page out; no Kafka, clock or network. Points are kept as the bytes they came
in and decoded when somebody looks: memory can be bounded in bytes, whatever the number of metrics, and 500
points take 1 ms. All sources share one budget, so that with 100 sources each has 500 points and with 10,000
each has a few; a source somebody looked at, or whose episode opened, is among the `kept` ones with a full
series of its own. (A plain "last active sources" ring was worse: with 2,000 sources in turn none had a second
point.)
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from typing import Any

import msgspec

from app.web.shown import SORTS, Episode, Event, Result

RECORD_BYTES = 1 << 20  # Kafka's usual limit; a larger record is counted as unreadable


@dataclass(slots=True)
class Changes:
    """What is new since the last look: sources by name, ids of episodes that opened or closed."""

    sources: dict[str, Result] = field(default_factory=dict)
    points: dict[str, deque[Result]] = field(default_factory=dict)  # of watched sources only
    episodes: dict[str, Episode] = field(default_factory=dict)


class Series:
    """The last points of one source, as bytes."""

    __slots__ = ("nbytes", "points")

    def __init__(self) -> None:
        self.points: deque[bytes] = deque()
        self.nbytes = 0


class Feed:
    """Series of at most 2 x `shared_bytes` + `kept` x `kept_bytes` (58 MB), and 1 KB a source besides.

    ``max_sources``: the least recently active is forgotten. ``kept``: sources with a full series, of
    ``series_points`` or ``kept_bytes``. ``max_episodes``: the first that came is forgotten.
    """

    def __init__(
        self,
        max_sources: int = 10_000,
        kept: int = 100,
        series_points: int = 500,
        kept_bytes: int = 250_000,
        shared_bytes: int = 16 << 20,
        max_episodes: int = 1_000,
    ) -> None:
        self.results = self.unreadable = self.opened = 0
        self.watched: set[str] = set()  # sources whose new points drain() hands out
        self._max_sources, self._kept_sources, self._max_episodes = max_sources, kept, max_episodes
        self._points, self._kept_bytes, self._shared_bytes = series_points, kept_bytes, shared_bytes
        self._latest: OrderedDict[str, Result] = OrderedDict()  # least recently active first
        self._series: dict[str, Series] = {}
        self._kept: OrderedDict[str, None] = OrderedDict()
        self._episodes: OrderedDict[str, Episode] = OrderedDict()
        self.nbytes, self._max_bytes = 0, 2 * shared_bytes + kept * kept_bytes  # of all series
        self._rung = 128  # sources that the shared budget is divided by: the next power of two
        self._changes = Changes()
        self._decode_result = msgspec.json.Decoder(Result).decode
        self._decode_event = msgspec.json.Decoder(Event).decode

    def __len__(self) -> int:
        """Sources known."""
        return len(self._latest)

    @property
    def open_episodes(self) -> int:
        """Episodes that opened and did not close, among the remembered ones."""
        return sum(episode.end is None for episode in self._episodes.values())

    def take_result(self, raw: bytes, written_at: float = 0.0) -> None:
        """Take the value of one record of anomaly-results, and Kafka's time of it (epoch s)."""
        result = self._decoded(self._decode_result, raw)
        if result is None:
            return
        source = result.source
        self.results += 1
        self._latest[source] = self._changes.sources[source] = result
        self._latest.move_to_end(source)
        series = self._series.get(source)
        if series is None:
            series = self._series[source] = Series()
            self._make_room()
        series.points.append(raw)
        series.nbytes += len(raw)
        self.nbytes += len(raw)
        self._trim(source)
        while self.nbytes > self._max_bytes and len(self._latest) > 1:  # results of hundreds of metrics
            self._forget_oldest()
        if source in self.watched:
            self._changes.points.setdefault(source, deque(maxlen=self._points)).append(result)

    def take_event(self, raw: bytes, written_at: float = 0.0) -> None:
        """Take the value of one record of anomalies; a repeated one (sent at least once) changes nothing."""
        event = self._decoded(self._decode_event, raw)
        if event is None or event.event not in ("opened", "closed"):
            return
        name = event.episode or event.id
        opener, end, told_at = before = self._episodes.get(name, Episode(None, None, written_at))
        if event.event == "opened" and opener is None:
            self.opened += 1
            opener = event
            self._keep(event.source)
        elif event.event == "closed":
            end = end or event
        after = Episode(opener, end, told_at)
        if after != before:
            self._episodes[name] = self._changes.episodes[name] = after
            if len(self._episodes) > self._max_episodes:
                self._episodes.popitem(last=False)

    def sources(self, search: str = "", sort: str = "alert", limit: int = 200) -> tuple[int, list[Result]]:
        """How many sources match, and the first of them in one of the orders `SORTS`."""
        needle = search.casefold()
        found = [result for name, result in self._latest.items() if needle in name.casefold()]
        return len(found), nsmallest(limit, found, key=SORTS[sort])

    def series(self, source: str, limit: int = 500) -> list[Result] | None:
        """The last points of a source, in order of arrival; None when it is unknown.

        The source has a full series of its own from now on, until `kept` others were looked at.
        """
        series = self._series.get(source)
        if series is None:
            return None
        self._keep(source)
        return [self._decode_result(raw) for raw in islice(series.points, max(len(series.points) - limit, 0), None)]

    def anomalies(self, limit: int = 100, source: str | None = None) -> list[dict[str, Any]]:
        """The newest episodes, newest news first, of one source or of all."""
        found = [(e.told_at, e.opened_at, name, e) for name, e in self._episodes.items() if source in (None, e.source)]
        found.sort(reverse=True)
        return [episode.row(name) for *_, name, episode in found[:limit]]

    def drain(self) -> Changes:
        """What changed since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    @property
    def _share(self) -> int:
        return self._shared_bytes // self._rung

    def _decoded(self, decode: Any, raw: bytes) -> Any:
        """None, and counted, when it is not JSON of ours: a topic can be written by anybody."""
        if raw is None or len(raw) > RECORD_BYTES:
            self.unreadable += 1
            return None
        try:
            return decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the last: nested 1,000 deep
            self.unreadable += 1
            return None

    def _keep(self, source: str) -> None:
        self._kept[source] = None
        self._kept.move_to_end(source)
        if len(self._kept) > self._kept_sources:
            dropped, _ = self._kept.popitem(last=False)
            self._trim(dropped)

    def _make_room(self) -> None:
        if len(self._latest) > self._max_sources:
            self._forget_oldest()
        if len(self._latest) > self._rung:
            # Doubling, not dividing by the exact number: every series is trimmed at once only 7 times.
            self._rung *= 2
            for source in self._series:
                self._trim(source)

    def _trim(self, source: str) -> None:
        """Drop its oldest points while they are more than its share; the newest stays."""
        series = self._series.get(source)
        most = self._kept_bytes if source in self._kept else self._share
        while series and len(series.points) > 1 and (len(series.points) > self._points or series.nbytes > most):
            dropped = len(series.points.popleft())
            series.nbytes -= dropped
            self.nbytes -= dropped

    def _forget_oldest(self) -> None:
        oldest, _ = self._latest.popitem(last=False)
        self.nbytes -= self._series.pop(oldest).nbytes
        self._kept.pop(oldest, None)

"""Episodes as the API shows them: from the history and from recent events, with the decisions on them.

The history has all of them, but may be off, down or behind. The recent events in memory are newer, but few. A page
joins both: of an episode that both have, the later state counts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from app.errors import StoreError
from app.scoring.severity import NAMES as SEVERITIES
from app.store import cursor as cursors
from app.web.topics.decisions import DecisionsMirror
from app.web.topics.recent_results import RecentResults
from app.web.topics.records import ShownEpisode
from app.wire.episodes import LABELS, text

if TYPE_CHECKING:
    from app.store import queries
    from app.store.history import History

log = logging.getLogger(__name__)

State = Literal["open", "closed"]
Place = tuple[float, str]
Numbers = float | dict[str, float | None] | None
BEHIND = 100  # records
ANSWER_S = 5.0  # a history that needs longer counts as one that is not there
SAY_S = 30.0


class ShownAcknowledgement(msgspec.Struct, omit_defaults=True):
    """An acknowledgement. Times are epoch seconds."""

    by: str
    at: float
    comment: str = ""


class ShownFeedback(ShownAcknowledgement, omit_defaults=True):
    """What somebody said that an episode was: anomaly, expected, new_normal, not_useful."""

    verdict: str = ""


class ShownDecisions(msgspec.Struct):
    """What people have decided on an episode."""

    episode: str
    acknowledged: ShownAcknowledgement | None
    feedback: ShownFeedback | None


class CoveringSilence(msgspec.Struct):
    """The silence that covers an episode now."""

    silence: str
    why: str
    until: float
    by: str


class ChannelNotification(msgspec.Struct):
    """The last notification of one channel about an episode, or why it got none."""

    channel: str
    state: str  # queued, sent, failed, muted
    why: str  # opened, raised, repeated, closed
    at: float
    said: str  # the answer, or why nothing was sent


class Episode(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One episode; what is not known, or empty, is left out. Times are epoch seconds.

    Value, expected and sentence are of the point that opened it, or at which it reached its severity.
    """

    episode: str  # its id: that of the result that opened it
    source: str
    metric: str = ""
    state: State
    kind: str | None = None
    severity: str | None = None
    opened_at: float
    changed_at: float | None = None
    closed_at: float | None = None
    told_at: float | None = None  # when its first event was written
    timestamp: float | None = None  # of the point that value and sentence are of
    reason: str | None = None  # why it ended
    points: int | None = None
    peak_score: float | None = None
    value: float | None = None
    values: dict[str, float] | None = None
    expected: Numbers = None
    expected_lower: Numbers = None
    expected_upper: Numbers = None
    direction: str | None = None
    explanation: str | None = None
    figure: float | None = None
    usual: float | None = None
    anomaly_score: float | None = None
    alert_score: float | None = None
    is_anomaly: bool | None = None
    status: str | None = None
    maintenance: str | None = None
    drift: bool | None = None
    detectors: dict[str, float] | None = None  # votes, 0..1
    weights: dict[str, float] | None = None
    attribution: dict[str, float] | None = None
    labels: dict[str, Any] = {}
    id: str = ""
    config_hash: str | None = None
    told: list[ChannelNotification] = []
    acknowledged: ShownAcknowledgement | None = None
    feedback: ShownFeedback | None = None
    muted: CoveringSilence | None = None

    @property
    def place(self) -> Place:
        """Pages are in the falling order of this."""
        return self.opened_at, self.episode

    def named(self) -> dict[str, str]:
        """Labels that silences are matched with, as app.wire.episodes.Event has them."""
        of_points = {name: text(value) for name, value in self.labels.items()}
        return of_points | {name: getattr(self, name) or "" for name in LABELS} | {"episode": self.episode}


@dataclass(frozen=True)
class EpisodeFilter:
    """Which episodes are asked for. ``source``: a pattern with * and ?, or a name if it is ``exact``."""

    limit: int = 100
    since: float | None = None
    until: float | None = None
    severity: tuple[str, ...] = ()
    source: str | None = None
    exact: bool = False
    metric: str | None = None
    kind: str | None = None
    state: State | None = None
    cursor: str = ""

    def fits(self, one: Episode) -> bool:
        return not (
            (self.since is not None and one.opened_at < self.since)
            or (self.until is not None and one.opened_at >= self.until)
            or (self.severity and one.severity not in self.severity)
            or (self.metric is not None and one.metric != self.metric)
            or (self.kind and one.kind != self.kind)
            or (self.state and one.state != self.state)
            or not self.takes(one.source)
        )

    def may_fit(self, shown: ShownEpisode) -> bool:
        """As ``fits``, as far as that can be said without decoding its records."""
        if self.state and (shown.end is None) != (self.state == "open"):
            return False
        return self.metric in (None, shown.metric) and self.takes(shown.source)

    def takes(self, source: str) -> bool:
        """Whether the source is as asked for."""
        if self.source is None:
            return True
        return source == self.source if self.exact else like(self.source, source)


def like(pattern: str, name: str) -> bool:
    """Whether a name is as a pattern with * and ? says; capital letters count.

    >>> [like("pump-*", name) for name in ("pump-7", "Pump-7", "a pump-7")], like("*[a]?*", "x[a]b")
    ([True, False, False], True)
    """
    if not set("*?") & set(pattern):
        return name == pattern
    return _compiled(pattern).search(name) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """With RE2 the time is linear in the length of the name, for any pattern."""
    import re2  # here: 20 ms, for those who have patterns

    signs = {"*": ".*", "?": "."}
    return re2.compile("(?s)^" + "".join(signs.get(one) or re2.escape(one) for one in pattern) + "$")


class EpisodePage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The last opened first. ``cursor`` goes on where these end; without it there are no more."""

    anomalies: list[Episode]
    source: Literal["history", "recent"] = msgspec.field(name="from")
    note: str = ""  # what is missing, or not yet known
    cursor: str = ""


class Episodes:
    """What this process knows of episodes. ``mirror``: None where alerting is off."""

    def __init__(
        self,
        recent: RecentResults,
        history: Callable[[], History | None],
        mirror: DecisionsMirror | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._recent, self._history, self.mirror, self._clock = recent, history, mirror, clock
        self._said_at = float("-inf")

    async def page(self, wanted: EpisodeFilter) -> EpisodePage:
        """The next of those that are asked for. Raises BadCursor."""
        before = cursors.decode(wanted.cursor) if wanted.cursor else None
        recent = dict(self._recent_ones(wanted, before))
        stored = await self._asked(lambda history: self._stored(history, wanted, recent))
        if stored is None:
            found, after = _first(recent.items(), wanted), None
        else:
            found, after = stored
        found = sorted(filter(wanted.fits, found), key=lambda one: one.place, reverse=True)
        cursor = ""
        if len(found) > wanted.limit:
            found = found[: wanted.limit]
            cursor = cursors.encode(*found[-1].place) if found else ""
        elif after:
            cursor = cursors.encode(*after)
        return EpisodePage(
            anomalies=[self.decided(one) for one in found],
            source="recent" if stored is None else "history",
            note=self._note(self._history(), stored is not None),
            cursor=cursor,
        )

    async def _stored(
        self, history: History, wanted: EpisodeFilter, recent: dict[str, ShownEpisode]
    ) -> tuple[list[Episode], Place | None]:
        """The next page of the history, with recent ones that belong there; its last place, if there are more."""
        page = await history.episodes(
            wanted.limit, wanted.since, wanted.until, wanted.severity, wanted.source or "", wanted.kind or "",
            wanted.state, wanted.cursor, wanted.metric, wanted.exact, whole=True,
        )  # fmt: skip
        found = {one.id: of_history(one) for one in page.episodes}
        after = cursors.decode(page.cursor) if page.cursor else None
        others = {
            one.episode: one
            for one in _first(((name, shown) for name, shown in recent.items() if name not in found), wanted)
            if after is None or one.place >= after
        }
        if others:  # it has not read them yet, or knows better that they are not what is asked for
            known = await history.episodes(len(others), whole=True, names=list(others))
            found |= {one.id: of_history(one) for one in known.episodes}
        await self._add_notifications(history, found)
        return [
            *(self._joined(one) for one in found.values()),
            *(one for name, one in others.items() if name not in found),
        ], after

    def _joined(self, stored: Episode) -> Episode:
        shown = self._recent.episode(stored.episode)
        return joined(stored, of_recent(stored.episode, shown)) if shown else stored

    async def _add_notifications(self, history: History, found: dict[str, Episode]) -> None:
        for one in await history.notifications(*found) if found else ():
            at = one.done_at or one.created_at
            found[one.episode].told.append(ChannelNotification(one.channel, one.state, one.why, at, one.answer))

    def _recent_ones(self, wanted: EpisodeFilter, before: Place | None) -> Iterable[tuple[str, ShownEpisode]]:
        """Those that may be meant, the last opened first."""
        found = []
        for name, shown in self._recent.episodes():
            place = shown.opened_at, name
            if (before is None or place < before) and wanted.may_fit(shown):
                found.append((place, name, shown))
        found.sort(reverse=True)
        return ((name, shown) for _, name, shown in found)

    async def one(self, name: str) -> Episode | None:
        """That with this id; None if nobody knows it."""

        async def ask(history: History) -> Episode | None:
            if (stored := await history.episode(name)) is None:
                return None
            found = {name: of_history(stored)}
            await self._add_notifications(history, found)
            return found[name]

        stored = await self._asked(ask)
        if stored:
            return self.decided(self._joined(stored))
        shown = self._recent.episode(name)
        return self.decided(of_recent(name, shown)) if shown else None

    async def messages(self, name: str) -> list[queries.StoredNotification] | None:
        """All messages about an episode, the first first; None while the history cannot be asked."""
        return await self._asked(lambda history: history.notifications(name))

    @property
    def complete(self) -> bool:
        """Whether what is not known to it does not exist: the history can be asked."""
        history = self._history()
        return history is not None and history.status()["state"] in READABLE

    def decided(self, one: Episode) -> Episode:
        """With what people have decided on it."""
        if not (mirror := self.mirror):
            return one
        said = decisions_on(mirror, one.episode)
        one.acknowledged, one.feedback = said.acknowledged, said.feedback
        if one.state == "open" and (silence := mirror.silence(one.named(), self._clock())):
            one.muted = CoveringSilence(silence.id, silence.comment, silence.ends_at, silence.by)
        return one

    async def _asked(self, question: Callable[[History], Any]) -> Any:
        """The answer of the history; None if it has none now."""
        history = self._history()
        if history is None or history.status()["state"] in ABSENT:
            return None
        try:
            async with asyncio.timeout(ANSWER_S):
                return await question(history)
        except (StoreError, TimeoutError) as error:
            if time.monotonic() - self._said_at > SAY_S:
                self._said_at = time.monotonic()
                log.warning("web view: no answer of the history: %s", error or type(error).__name__)
            return None

    def _note(self, history: History | None, asked: bool) -> str:
        if history is None:
            return "only what this process has read since its start: there is no history (storage.enabled)"
        status = history.status()
        if not asked:
            return f"only what this process has read since its start: the history is {status['state']}"
        if status["state"] != "reading" and not status["state"].startswith("waiting"):
            return f"the history is {status['state']}: what is older than this process may be out of date"
        behind = status["lag"] > BEHIND  # less is remembered here
        return f"the history has {status['lag']} records to read yet" if behind else ""


ABSENT = ("off", "starting", "stopped")
READABLE = ("reading", "waiting: another process writes")


def decisions_on(mirror: DecisionsMirror, name: str) -> ShownDecisions:
    said, what = mirror.acknowledged(name), mirror.feedback(name)
    return ShownDecisions(
        name,
        ShownAcknowledgement(said.by, said.at, said.comment) if said else None,
        ShownFeedback(what.by, what.at, what.comment, what.verdict) if what else None,
    )


def _first(recent: Iterable[tuple[str, ShownEpisode]], wanted: EpisodeFilter) -> list[Episode]:
    """One more than asked for, if there are so many."""
    fitting = (one for name, shown in recent if wanted.fits(one := of_recent(name, shown)))
    return list(islice(fitting, wanted.limit + 1))


def of_recent(name: str, shown: ShownEpisode) -> Episode:
    return msgspec.convert(shown.row(name), Episode)


def of_history(stored: queries.StoredEpisode) -> Episode:
    event = stored.event if isinstance(stored.event, dict) else {}
    kept = {field: event[field] for field in FIELDS if event.get(field) is not None}
    try:
        one = msgspec.convert(kept, _Numbers)
    except msgspec.ValidationError:  # of another version
        one = _Numbers()
    return Episode(
        episode=stored.id, source=stored.source, metric=stored.metric, state=stored.state, kind=stored.kind,
        severity=stored.severity, opened_at=stored.opened_at, closed_at=stored.ended_at, reason=stored.reason or None,
        points=stored.points, peak_score=stored.peak_score, explanation=stored.sentence or None, labels=stored.labels,
        **msgspec.structs.asdict(one),
    )  # fmt: skip


class _Numbers(msgspec.Struct):
    timestamp: float | None = None
    value: float | None = None
    values: dict[str, float] | None = None
    expected: Numbers = None
    expected_lower: Numbers = None
    expected_upper: Numbers = None
    direction: str | None = None
    figure: float | None = None
    usual: float | None = None
    detectors: dict[str, float] | None = None
    weights: dict[str, float] | None = None
    attribution: dict[str, float] | None = None


FIELDS = _Numbers.__struct_fields__
_RANK: dict[str | None, int] = {name: rank for rank, name in enumerate(SEVERITIES)}


def joined(stored: Episode, recent: Episode) -> Episode:
    """What both know of one episode."""
    later = (recent.state == "closed", recent.points or 0) >= (stored.state == "closed", stored.points or 0)
    words: dict[str, ChannelNotification] = {}
    for word in sorted([*stored.told, *recent.told], key=lambda one: one.at):
        words[word.channel] = word
    one = msgspec.structs.replace(stored, told=[words[channel] for channel in sorted(words)], told_at=recent.told_at)
    if later:
        for field in ("state", "kind", "closed_at", "changed_at", "reason", "points", "peak_score"):
            setattr(one, field, getattr(recent, field))
        if _RANK.get(recent.severity, -1) > _RANK.get(one.severity, -1):
            one.severity = recent.severity
    for field in ("id", "anomaly_score", "alert_score", "is_anomaly", "status", "maintenance", "drift"):
        setattr(one, field, getattr(recent, field))
    return one

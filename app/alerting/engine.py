"""What is to be told of the episodes of one partition, to which channel, and why not. No clock, no Kafka, no network.

Events go in, notifications come out. All that is kept follows from three topics: events say what is open, notifications
what was told, decisions what people want. So an alerter that starts reads them and knows as much as the one before it.

An episode is told to a channel once when it opens, when its severity rises, each ``repeat_interval`` while nobody has
acknowledged it, and when it closes, if it was told before. What cannot be told at once waits and is looked at again: a
group's time, a silence's end, a turn of the channel. What is over meanwhile is told as something that is over, so that
a message never says open of what an earlier one called closed.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import msgspec

from app.alerting.decided import Decided
from app.alerting.pace import Pace
from app.alerting.routes import Route, Routes
from app.scoring import severity
from app.settings import AlertingSettings
from app.wire.episodes import CLOSED, OPENED, SILENT, Event
from app.wire.notifications import MUTED, QUEUED, News, Notification

MOST_NEWS, MOST_BYTES = 1000, 500_000  # in one message, and of its record
TOLD_WHOLE = 10  # the worst of a digest are kept with all they say
LOOK_AGAIN_S = 30.0  # at what a time interval mutes
MOST_OVER = 20_000  # episodes that closed lately, by which late repeats are known
KEPT_S = 8 * 86_400.0  # what was told of episodes that are over: longer than events are kept uncompacted

encode = msgspec.json.Encoder().encode
RANK = {name: rank for rank, name in enumerate(severity.NAMES)}
Why = Literal["opened", "raised", "repeated", "closed"]


@dataclass(slots=True)
class Told:
    """What a channel knows of an episode."""

    severity: int = -1  # the highest it was told; -1: nothing
    at: float = 0.0  # last time
    times: int = 0
    closed: bool = False
    muted: str = ""  # why it was last not told: what the reason begins with


@dataclass(slots=True, eq=False)
class Subscription:
    """One open episode, and one channel that is told of it."""

    channel: str
    route: Route | None  # None: by a rule that there is no longer
    told: Told
    event: Event  # the last one
    began: Event  # the first one
    waits: bool = False  # for its message
    looks_at: float = 0.0


@dataclass(slots=True)
class Group:
    """What one message will tell."""

    due_at: float
    members: dict[str, Subscription] = field(default_factory=dict)  # by episode


class Engine:
    """The episodes of one partition.

    Parameters
    ----------
    paces
        channel -> its pace, which all partitions of a process share.
    """

    def __init__(self, settings: AlertingSettings, routes: Routes, decided: Decided, paces: Mapping[str, Pace]) -> None:
        self._settings, self._routes, self._decided, self._paces = settings, routes, decided, paces
        self._decisions = decided.version  # that was looked at
        self._seen: dict[str, Event] = {}  # thread (a series, mostly) -> its last event, in brief
        self._over: OrderedDict[str, None] = OrderedDict()  # the last episodes that closed
        self._episode: dict[str, str] = {}  # thread -> the one that is open
        self._open: dict[str, dict[str, Subscription]] = {}  # episode -> channel -> ..
        self._told: dict[tuple[str, str], Told] = {}  # (episode, channel), of what was told before it was seen open
        self._spoken: dict[tuple[str, str, int], float] = {}  # (thread, channel, severity) -> when it opened or rose
        self._groups: dict[tuple[str, ...], Group] = {}  # (channel, route, ..), with members
        self._flushed: dict[tuple[str, ...], float] = {}  # groups with open members -> time of their last message
        self._in_group: dict[tuple[str, ...], set[str]] = {}  # such groups -> episodes that were told and are open
        self._busy: dict[str, int] = {}  # channel -> messages on their way
        self._muted: list[Notification] = []  # not told, to be noted
        self._timers: list[tuple[float, int, Subscription]] = []
        self._number = count()
        self._kept: dict[str, tuple[float, tuple[str, ...]]] = {}  # notification -> when it was made, its episodes

    # --- what was told

    def remember(self, notification: Notification) -> None:
        """Take in the last record of one notification; the older ones first, and all before any event."""
        self._keep(notification)
        for news in notification.news:
            told = self._told.setdefault((news.event.episode, notification.channel), Told())
            if notification.state == MUTED:
                told.muted = beginning(notification.answer)
            else:
                self._note(told, notification, news)
        if notification.state == QUEUED:
            self._busy[notification.channel] = self._busy.get(notification.channel, 0) + 1

    def _keep(self, notification: Notification) -> None:
        self._kept[notification.id] = notification.created_at, tuple(one.event.episode for one in notification.news)

    def _note(self, told: Told, notification: Notification, news: News) -> None:
        event, rank = news.event, RANK.get(news.event.severity, 0)
        told.severity, told.at, told.muted = max(told.severity, rank), notification.created_at, ""
        told.times += 1
        told.closed = news.why == "closed"
        if news.why in ("opened", "raised"):
            self._spoken[event.thread, notification.channel, rank] = notification.created_at

    def done(self, notification: Notification) -> None:
        """It was sent or given up."""
        self._busy[notification.channel] -= 1

    def forgotten(self, now: float) -> list[str]:
        """Notifications that are needed no longer; they are dropped here, and are to be taken out of the topic."""
        old = [
            id
            for id, (at, episodes) in self._kept.items()
            if at < now - KEPT_S and not any(episode in self._open for episode in episodes)
        ]
        for id in old:
            for episode in self._kept.pop(id)[1]:
                for channel in self._paces:
                    self._told.pop((episode, channel), None)
        since = now - self._settings.min_interval_s
        self._spoken = {spoken: at for spoken, at in self._spoken.items() if at > since}
        return old

    # --- what happens

    def take(self, event: Event, now: float, live: bool = True) -> None:
        """One event, in the order of the topic; one that was seen before changes nothing.

        ``live``: it was written lately, so that it is worth a note if it is not told.
        """
        thread, episode = event.thread, event.episode
        if self._is_repeat(event):
            return
        self._seen[thread] = brief(event)
        if (before := self._episode.get(thread, episode)) != episode:
            self._end(before, now)
        subscriptions = self._subscribe(event, now, live)
        if event.event == CLOSED:
            self._episode.pop(thread, None)
            if event.kind == SILENT:
                del self._seen[thread]
            self._over[episode] = None
            if len(self._over) > MOST_OVER:
                self._over.popitem(last=False)
        elif subscriptions:
            self._episode[thread] = episode
        for one in list(subscriptions.values()):
            one.event = event
            if event.event == OPENED:
                one.began = event
            self._look(one, now)

    def _is_repeat(self, event: Event) -> bool:
        """It came before, and comes again after a worker's crash.

        A series that has moved to another partition, or a topic that was made again, begins at low places with later
        times.
        """
        if event.episode in self._over:
            return True
        seen = self._seen.get(event.thread)
        if seen is None or event.place > seen.place:
            return False
        return event.timestamp <= seen.timestamp and origin(event) == origin(seen)

    def _subscribe(self, event: Event, now: float, live: bool) -> dict[str, Subscription]:
        """Who is told of this episode."""
        found = self._open.get(event.episode, {})
        for channel in self._paces:
            if channel not in found and (told := self._told.pop((event.episode, channel), None)):
                found[channel] = Subscription(channel, None, told, event, event)
        for route in self._routes.taking(event.named()) if event.event != CLOSED else ():
            for channel in route.channels:
                one = found.get(channel)
                if one is not None:
                    one.route = one.route or route
                    continue
                one = Subscription(channel, route, Told(), event, event)
                if event.timestamp >= now - self._settings.max_age_s:
                    found[channel] = one
                elif live:
                    self._mute(one, "too old: the episode's last point is older than alerting.max_age_s", now)
        if found:
            self._open[event.episode] = found
        return found

    def _end(self, episode: str, now: float) -> None:
        """The series has another episode: the end of this one is no longer in the topic."""
        for one in list(self._open.get(episode, {}).values()):
            last = one.event
            one.event = brief(last, CLOSED)
            self._look(one, now)

    # --- what is wanted

    def _look(self, one: Subscription, now: float) -> None:
        """Let it wait for its message if it is to be told; else note why not, and look again when that may change."""
        if one.waits:
            return
        why = self._why(one, now)
        if why is None:
            self._settle(one, now)
            return
        reason, until = self._hindrance(one, why, now)
        if not reason:
            self._wait(one, now)
            return
        if one.told.muted != beginning(reason):
            self._mute(one, reason, now)
        self._look_at(one, until)

    def _settle(self, one: Subscription, now: float) -> None:
        """Nothing is to be told now."""
        if one.event.event == CLOSED:
            self._drop(one)
        elif one.route and one.route.repeat_interval_s and one.event.episode not in self._decided.acknowledged:
            self._look_at(one, one.told.at + one.route.repeat_interval_s)

    def _why(self, one: Subscription, now: float) -> Why | None:
        """Why a channel is to be told of the episode now; None: nothing is new."""
        told, event = one.told, one.event
        if event.event == CLOSED:
            return "closed" if one.waits or (told.times and not told.closed) else None
        if one.route is None or told.closed:
            return None
        if not told.times:
            return "opened"
        if RANK.get(event.severity, 0) > told.severity:
            return "raised"
        repeats = one.route.repeat_interval_s
        due = repeats and now >= told.at + repeats and event.episode not in self._decided.acknowledged
        return "repeated" if due else None

    def _hindrance(self, one: Subscription, why: Why, now: float) -> tuple[str, float]:
        """(why it is not told now, when to look again); ("", 0.0) without."""
        event = one.event
        if why == "closed":
            return "", 0.0
        assert one.route is not None
        if silence := self._decided.silence(event.named(), now, one.channel):
            comment = f": {silence.comment}" if silence.comment else ""
            return f"silenced: by {silence.by}, silence {silence.id}{comment}", silence.ends_at
        if interval := one.route.muted(now):
            return f"muted: by {interval} of {one.route.name}", now + LOOK_AGAIN_S
        if event.timestamp < now - self._settings.max_age_s and not (event.kind == SILENT and one.told.times):
            return "too old: the episode's last point is older than alerting.max_age_s", now + KEPT_S
        if why != "repeated":
            spoken = self._spoken.get((event.thread, one.channel, RANK.get(event.severity, 0)), float("-inf"))
            if now < (until := spoken + self._settings.min_interval_s):
                return "told lately: this series and severity, less than alerting.min_interval_s ago", until
        return "", 0.0

    def _look_at(self, one: Subscription, at: float) -> None:
        one.looks_at = at
        heapq.heappush(self._timers, (at, next(self._number), one))

    def _mute(self, one: Subscription, reason: str, now: float) -> None:
        one.told.muted = beginning(reason)
        news = News(brief(one.event), "opened" if not one.told.times else "raised")
        parts = [one.channel, one.event.episode, "muted", one.told.muted, str(one.told.times)]
        self._muted.append(
            Notification(
                id=identified(parts), state=MUTED, channel=one.channel, route=one.route.name if one.route else "",
                news=[news], created_at=now, done_at=now, answer=reason,
            )
        )  # fmt: skip

    def _drop(self, one: Subscription) -> None:
        episode = one.event.episode
        subscriptions = self._open.get(episode, {})
        subscriptions.pop(one.channel, None)
        one.looks_at = -1.0
        if not subscriptions:
            self._open.pop(episode, None)
        key = self._group_key(one)
        if episodes := self._in_group.get(key):
            episodes.discard(episode)
            if not episodes:
                del self._in_group[key]
                self._flushed.pop(key, None)

    # --- groups

    def _group_key(self, one: Subscription) -> tuple[str, ...]:
        route = one.route
        if route is None or not route.group_by or route.group_by == ("...",):
            return one.channel, route.name if route else "", "", one.event.episode
        labels = one.began.named()
        return one.channel, route.name, *(labels.get(name, "") for name in route.group_by)

    def _wait(self, one: Subscription, now: float) -> None:
        one.waits = True
        key = self._group_key(one)
        if key not in self._groups:
            route = one.route
            due_at = now + (route.group_wait_s if route and one.event.event != CLOSED else 0.0)
            if route and key in self._flushed:
                grouped = key[2:] != ("", one.event.episode)
                due_at = self._flushed[key] + (route.group_interval_s if grouped else 0.0)
            self._groups[key] = Group(due_at)
        self._groups[key].members[one.event.episode] = one

    # --- what goes out

    def poll(self, now: float) -> list[Notification]:
        """What is to be written to the topic of notifications; the queued ones are then to be sent."""
        if self._decisions != self._decided.version:
            self._decisions = self._decided.version
            for one in [one for of in self._open.values() for one in of.values()]:
                self._look(one, now)
        while self._timers and self._timers[0][0] <= now:
            at, _, one = heapq.heappop(self._timers)
            if one.looks_at == at:
                self._look(one, now)
        made: list[Notification] = []
        if self._groups:
            due: dict[str, list[tuple[str, ...]]] = {}
            for key, group in self._groups.items():
                if group.due_at <= now and not self._busy.get(key[0]):
                    due.setdefault(key[0], []).append(key)
            for channel, keys in due.items():
                made += self._messages(channel, keys, now)
        made, self._muted = [*self._muted, *made], []
        for notification in made:
            self._keep(notification)
        return made

    def _messages(self, channel: str, keys: list[tuple[str, ...]], now: float) -> list[Notification]:
        """One message for each group while the channel's pace allows, else one for all of them."""
        pace = self._paces[channel]
        if not (left := pace.left(now)):
            return []
        made = []
        for some in [[key] for key in keys] if len(keys) <= left else [keys]:
            if notification := self._message(channel, some, now):
                pace.take(now)
                made.append(notification)
        if made:
            self._busy[channel] = len(made)
        return made

    def _message(self, channel: str, keys: Iterable[tuple[str, ...]], now: float) -> Notification | None:
        """The message of these groups, with the worst of them if there are very many. None: nothing is left to tell."""
        members = [(key, one) for key in keys for one in self._groups[key].members.values()]
        members.sort(key=lambda of: badness(of[1].event), reverse=True)
        news: list[News] = []
        size = 0
        parts, routes = [channel], dict[str, None]()
        told: list[Subscription] = []
        for key, one in members[:MOST_NEWS]:
            why = self._why(one, now)
            to_tell = why is not None and not self._hindrance(one, why, now)[0]
            if why and to_tell:
                told_of = News(one.event, why, one.began if one.began is not one.event else None)
                if len(news) >= TOLD_WHOLE or len(encode(told_of)) > MOST_BYTES // TOLD_WHOLE:
                    told_of = News(brief(one.event), why)
                size += len(encode(told_of))
                if news and size > MOST_BYTES:
                    break  # the others are for the next message
                news.append(told_of)
            del self._groups[key].members[one.event.episode]
            if not self._groups[key].members:
                del self._groups[key]
            one.waits = False
            if not why or not to_tell:
                self._look(one, now)
                continue
            parts += [one.event.episode, why, one.event.severity, str(one.told.times)]
            if one.route:
                routes[one.route.name] = None
            told.append(one)
        if not news:
            return None
        notification = Notification(
            id=identified(parts), state=QUEUED, channel=channel, route=", ".join(sorted(routes)), news=news,
            created_at=now,
        )  # fmt: skip
        for one, of in zip(told, news):
            self._note(one.told, notification, of)
            if of.why != "closed":
                key = self._group_key(one)
                self._flushed[key] = now
                self._in_group.setdefault(key, set()).add(one.event.episode)
            self._settle(one, now)
        return notification

    def waits_since(self) -> float:
        """Since when something waits for its message; infinite if nothing does. Who waits longest comes first."""
        return min((group.due_at for group in self._groups.values()), default=float("inf"))

    # --- what there is

    def open_count(self) -> int:
        """Episodes that are open and of interest to somebody; not those whose end waits for a channel."""
        return len(self._open.keys() & set(self._episode.values()))

    def open_for(self, channel: str) -> list[Event]:
        """The last events of all open episodes that a channel was told of."""
        return [
            one.event
            for of in self._open.values()
            if (one := of.get(channel)) and one.told.times and not one.told.closed and one.event.event != CLOSED
        ]


def origin(event: Event) -> str:
    """Topic and partition of the point that opened the episode."""
    return event.episode.rsplit(":", 2)[0]


def beginning(reason: str) -> str:
    """What a reason for not telling begins with: silenced, muted, too old, told lately."""
    return reason.partition(":")[0]


def badness(event: Event) -> tuple[bool, int, float]:
    """Sorts episodes: open before closed, by severity, by score."""
    return event.event != CLOSED, RANK.get(event.severity, 0), event.peak_score


def brief(event: Event, what: str = "") -> Event:
    """The event, or another one of its episode, without numbers, sentence and votes."""
    return Event(
        event=what or event.event, episode=event.episode, kind=event.kind, severity=event.severity,
        source=event.source, metric=event.metric, labels=event.labels, timestamp=event.timestamp,
        opened_at=event.opened_at, points=event.points, peak_score=event.peak_score, offset=event.offset,
        index=event.index, reason=event.reason,
    )  # fmt: skip


def identified(parts: Iterable[str]) -> str:
    """The id of a notification: the same for the same news to the same channel."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]

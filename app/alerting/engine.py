"""Decides which notifications the episodes of one partition cause, on which channels. No clock, no Kafka, no network.

Events go in, notifications come out. The whole state follows from three topics: anomalies (which episodes are open),
notifications (what was sent) and decisions (acknowledgements, silences). So an alerter that starts reads them and has
the same state as the one before it.

A channel is notified of an episode when it opens, when its severity rises, every ``repeat_interval`` while nobody has
acknowledged it, and when it closes, if the channel was notified before. If a notification must wait (for its group, for
the end of a silence, for the channel), the engine checks it again later. If the episode closes meanwhile, the
notification says closed, so that no message says open after an earlier one said closed.
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

from app.alerting.current_decisions import CurrentDecisions
from app.alerting.rate_limit import RateLimit
from app.alerting.routes import Route, Routes
from app.scoring import severity
from app.settings import AlertingSettings
from app.wire.episodes import CLOSED, OPENED, SILENT, Event
from app.wire.notifications import MUTED, QUEUED, News, Notification

MOST_NEWS, MOST_BYTES = 1000, 500_000  # episodes of one notification, and bytes of its record
FULL_EVENTS = 10  # of a digest: the worst episodes have full events, the others short ones
RECHECK_S = 30.0  # of an episode that a time interval mutes
MAX_CLOSED = 20_000  # last closed episodes, to recognize late repeated events
RETENTION_S = 8 * 86_400.0  # of notifications of closed episodes: longer than events stay uncompacted

encode = msgspec.json.Encoder().encode
RANK = {name: rank for rank, name in enumerate(severity.NAMES)}
Why = Literal["opened", "raised", "repeated", "closed"]


@dataclass(slots=True)
class SentState:
    """What was sent to a channel about an episode."""

    severity: int = -1  # the highest one; -1: nothing was sent
    at: float = 0.0  # time of the last notification
    times: int = 0  # notifications
    closed: bool = False  # the last one said closed
    muted: str = ""  # kind of reason of the last muted notification since then


@dataclass(slots=True, eq=False)
class Subscription:
    """One open episode, and one channel that gets its notifications."""

    channel: str
    route: Route | None  # None: of a rule that no longer exists
    sent: SentState
    event: Event  # the last one
    opened: Event  # the first one
    waits: bool = False  # in a group, for the group's message
    check_at: float = 0.0


@dataclass(slots=True)
class MessageGroup:
    """The episodes of one future message."""

    due_at: float
    members: dict[str, Subscription] = field(default_factory=dict)  # by episode


class Engine:
    """The episodes of one partition.

    Parameters
    ----------
    rate_limits
        channel -> its rate limit, which all partitions of a process share.
    """

    def __init__(
        self,
        settings: AlertingSettings,
        routes: Routes,
        decisions: CurrentDecisions,
        rate_limits: Mapping[str, RateLimit],
    ) -> None:
        self._settings, self._routes, self._decisions, self._rate_limits = settings, routes, decisions, rate_limits
        self._checked_version = decisions.version
        self._last_events: dict[str, Event] = {}  # thread (mostly a series) -> its last event, short
        self._closed: OrderedDict[str, None] = OrderedDict()  # the last closed episodes
        self._episode: dict[str, str] = {}  # thread -> its open episode
        self._open: dict[str, dict[str, Subscription]] = {}  # episode -> channel -> subscription
        self._sent: dict[tuple[str, str], SentState] = {}  # (episode, channel), before its events are read
        self._last_sent: dict[tuple[str, str, int], float] = {}  # (thread, channel, severity) -> time: opened or raised
        self._groups: dict[tuple[str, ...], MessageGroup] = {}  # (channel, route, ..), with members
        self._flushed: dict[tuple[str, ...], float] = {}  # groups with open episodes -> time of their last message
        self._notified: dict[tuple[str, ...], set[str]] = {}  # such groups -> open episodes that were notified
        self._busy: dict[str, int] = {}  # channel -> queued messages
        self._muted: list[Notification] = []  # to be recorded, not sent
        self._timers: list[tuple[float, int, Subscription]] = []
        self._number = count()
        self._stored: dict[str, tuple[float, tuple[str, ...]]] = {}  # notification -> created_at, its episodes

    # --- notifications

    def remember(self, notification: Notification) -> None:
        """Restore from the last record of a notification. Call it for the oldest first, and before any event."""
        self._store(notification)
        for news in notification.news:
            sent = self._sent.setdefault((news.event.episode, notification.channel), SentState())
            if notification.state == MUTED:
                sent.muted = reason_kind(notification.answer)
            else:
                self._record_sent(sent, notification, news)
        if notification.state == QUEUED:
            self._busy[notification.channel] = self._busy.get(notification.channel, 0) + 1

    def _store(self, notification: Notification) -> None:
        self._stored[notification.id] = notification.created_at, tuple(one.event.episode for one in notification.news)

    def _record_sent(self, sent: SentState, notification: Notification, news: News) -> None:
        event, rank = news.event, RANK.get(news.event.severity, 0)
        sent.severity, sent.at, sent.muted = max(sent.severity, rank), notification.created_at, ""
        sent.times += 1
        sent.closed = news.why == "closed"
        if news.why in ("opened", "raised"):
            self._last_sent[event.thread, notification.channel, rank] = notification.created_at

    def done(self, notification: Notification) -> None:
        """A notification was sent or given up."""
        self._busy[notification.channel] -= 1

    def expire(self, now: float) -> list[str]:
        """Drop notifications older than RETENTION_S of closed episodes. Returns their ids, to delete their records."""
        old = [
            id
            for id, (at, episodes) in self._stored.items()
            if at < now - RETENTION_S and not any(episode in self._open for episode in episodes)
        ]
        for id in old:
            for episode in self._stored.pop(id)[1]:
                for channel in self._rate_limits:
                    self._sent.pop((episode, channel), None)
        since = now - self._settings.min_interval_s
        self._last_sent = {key: at for key, at in self._last_sent.items() if at > since}
        return old

    # --- events

    def take(self, event: Event, now: float, live: bool = True) -> None:
        """Take one event, in the order of the topic. A repeated event changes nothing.

        ``live``: it was written recently, so record it as muted if nobody is notified.
        """
        thread, episode = event.thread, event.episode
        if self._is_repeat(event):
            return
        self._last_events[thread] = brief(event)
        if (before := self._episode.get(thread, episode)) != episode:
            self._close(before, now)
        subscriptions = self._subscribe(event, now, live)
        if event.event == CLOSED:
            self._episode.pop(thread, None)
            if event.kind == SILENT:
                del self._last_events[thread]
            self._closed[episode] = None
            if len(self._closed) > MAX_CLOSED:
                self._closed.popitem(last=False)
        elif subscriptions:
            self._episode[thread] = episode
        for one in list(subscriptions.values()):
            one.event = event
            if event.event == OPENED:
                one.opened = event
            self._check(one, now)

    def _is_repeat(self, event: Event) -> bool:
        """Whether the event was taken before, and comes again after a worker's crash.

        After a series has moved to another partition, or the topic was created again, offsets are lower but times are
        later.
        """
        if event.episode in self._closed:
            return True
        last = self._last_events.get(event.thread)
        if last is None or event.place > last.place:
            return False
        return event.timestamp <= last.timestamp and origin(event) == origin(last)

    def _subscribe(self, event: Event, now: float, live: bool) -> dict[str, Subscription]:
        """The channels that get notifications of this episode."""
        found = self._open.get(event.episode, {})
        for channel in self._rate_limits:
            if channel not in found and (sent := self._sent.pop((event.episode, channel), None)):
                found[channel] = Subscription(channel, None, sent, event, event)
        for route in self._routes.taking(event.named()) if event.event != CLOSED else ():
            for channel in route.channels:
                one = found.get(channel)
                if one is not None:
                    one.route = one.route or route
                    continue
                one = Subscription(channel, route, SentState(), event, event)
                if event.timestamp >= now - self._settings.max_age_s:
                    found[channel] = one
                elif live:
                    self._mute(one, "too old: the episode's last point is older than alerting.max_age_s", now)
        if found:
            self._open[event.episode] = found
        return found

    def _close(self, episode: str, now: float) -> None:
        """Close an episode whose end was compacted away: its series has a later episode."""
        for one in list(self._open.get(episode, {}).values()):
            last = one.event
            one.event = brief(last, CLOSED)
            self._check(one, now)

    # --- subscriptions

    def _check(self, one: Subscription, now: float) -> None:
        """Group it if the channel must be notified; else record why not, and check again when that may change."""
        if one.waits:
            return
        why = self._why(one, now)
        if why is None:
            self._await_repeat(one)
            return
        reason, until = self._mute_reason(one, why, now)
        if not reason:
            self._group(one, now)
            return
        if one.sent.muted != reason_kind(reason):
            self._mute(one, reason, now)
        self._check_later(one, until)

    def _await_repeat(self, one: Subscription) -> None:
        """Nothing to send now: drop it if the episode is closed, else check again when a repetition is due."""
        if one.event.event == CLOSED:
            self._drop(one)
        elif one.route and one.route.repeat_interval_s and one.event.episode not in self._decisions.acknowledged:
            self._check_later(one, one.sent.at + one.route.repeat_interval_s)

    def _why(self, one: Subscription, now: float) -> Why | None:
        """Why the channel must be notified of the episode now; None: it need not be."""
        sent, event = one.sent, one.event
        if event.event == CLOSED:
            return "closed" if one.waits or (sent.times and not sent.closed) else None
        if one.route is None or sent.closed:
            return None
        if not sent.times:
            return "opened"
        if RANK.get(event.severity, 0) > sent.severity:
            return "raised"
        repeats = one.route.repeat_interval_s
        due = repeats and now >= sent.at + repeats and event.episode not in self._decisions.acknowledged
        return "repeated" if due else None

    def _mute_reason(self, one: Subscription, why: Why, now: float) -> tuple[str, float]:
        """(why the channel must not be notified now, when to check again); ("", 0.0): it may be notified."""
        event = one.event
        if why == "closed":
            return "", 0.0
        assert one.route is not None
        if silence := self._decisions.silence(event.named(), now, one.channel):
            comment = f": {silence.comment}" if silence.comment else ""
            return f"silenced: by {silence.by}, silence {silence.id}{comment}", silence.ends_at
        if interval := one.route.muted(now):
            return f"muted: by {interval} of {one.route.name}", now + RECHECK_S
        if event.timestamp < now - self._settings.max_age_s and not (event.kind == SILENT and one.sent.times):
            return "too old: the episode's last point is older than alerting.max_age_s", now + RETENTION_S
        if why != "repeated":
            last = self._last_sent.get((event.thread, one.channel, RANK.get(event.severity, 0)), float("-inf"))
            if now < (until := last + self._settings.min_interval_s):
                return "sent recently: this series and severity, less than alerting.min_interval_s ago", until
        return "", 0.0

    def _check_later(self, one: Subscription, at: float) -> None:
        one.check_at = at
        heapq.heappush(self._timers, (at, next(self._number), one))

    def _mute(self, one: Subscription, reason: str, now: float) -> None:
        one.sent.muted = reason_kind(reason)
        news = News(brief(one.event), "opened" if not one.sent.times else "raised")
        parts = [one.channel, one.event.episode, "muted", one.sent.muted, str(one.sent.times)]
        self._muted.append(
            Notification(
                id=notification_id(parts), state=MUTED, channel=one.channel, route=one.route.name if one.route else "",
                news=[news], created_at=now, done_at=now, answer=reason,
            )
        )  # fmt: skip

    def _drop(self, one: Subscription) -> None:
        episode = one.event.episode
        subscriptions = self._open.get(episode, {})
        subscriptions.pop(one.channel, None)
        one.check_at = -1.0
        if not subscriptions:
            self._open.pop(episode, None)
        key = self._group_key(one)
        if episodes := self._notified.get(key):
            episodes.discard(episode)
            if not episodes:
                del self._notified[key]
                self._flushed.pop(key, None)

    # --- groups

    def _group_key(self, one: Subscription) -> tuple[str, ...]:
        route = one.route
        if route is None or not route.group_by or route.group_by == ("...",):
            return one.channel, route.name if route else "", "", one.event.episode
        labels = one.opened.named()
        return one.channel, route.name, *(labels.get(name, "") for name in route.group_by)

    def _group(self, one: Subscription, now: float) -> None:
        one.waits = True
        key = self._group_key(one)
        if key not in self._groups:
            route = one.route
            due_at = now + (route.group_wait_s if route and one.event.event != CLOSED else 0.0)
            if route and key in self._flushed:
                grouped = key[2:] != ("", one.event.episode)
                due_at = self._flushed[key] + (route.group_interval_s if grouped else 0.0)
            self._groups[key] = MessageGroup(due_at)
        self._groups[key].members[one.event.episode] = one

    # --- messages

    def poll(self, now: float) -> list[Notification]:
        """New notifications. Write all to the topic of notifications, then send the queued ones."""
        if self._checked_version != self._decisions.version:
            self._checked_version = self._decisions.version
            for one in [one for of in self._open.values() for one in of.values()]:
                self._check(one, now)
        while self._timers and self._timers[0][0] <= now:
            at, _, one = heapq.heappop(self._timers)
            if one.check_at == at:
                self._check(one, now)
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
            self._store(notification)
        return made

    def _messages(self, channel: str, keys: list[tuple[str, ...]], now: float) -> list[Notification]:
        """One message for each group if the rate limit allows so many, else one for all of them."""
        limit = self._rate_limits[channel]
        if not (left := limit.left(now)):
            return []
        made = []
        for some in [[key] for key in keys] if len(keys) <= left else [keys]:
            if notification := self._message(channel, some, now):
                limit.take(now)
                made.append(notification)
        if made:
            self._busy[channel] = len(made)
        return made

    def _message(self, channel: str, keys: Iterable[tuple[str, ...]], now: float) -> Notification | None:
        """The message of these groups; of very many episodes, the worst. None: nothing is left to send."""
        members = [(key, one) for key in keys for one in self._groups[key].members.values()]
        members.sort(key=lambda member: rank_of(member[1].event), reverse=True)
        news: list[News] = []
        size = 0
        parts, routes = [channel], dict[str, None]()
        notified: list[Subscription] = []
        for key, one in members[:MOST_NEWS]:
            why = self._why(one, now)
            allowed = why is not None and not self._mute_reason(one, why, now)[0]
            if why and allowed:
                item = News(one.event, why, one.opened if one.opened is not one.event else None)
                if len(news) >= FULL_EVENTS or len(encode(item)) > MOST_BYTES // FULL_EVENTS:
                    item = News(brief(one.event), why)
                size += len(encode(item))
                if news and size > MOST_BYTES:
                    break  # the others go into the next message
                news.append(item)
            del self._groups[key].members[one.event.episode]
            if not self._groups[key].members:
                del self._groups[key]
            one.waits = False
            if not why or not allowed:
                self._check(one, now)
                continue
            parts += [one.event.episode, why, one.event.severity, str(one.sent.times)]
            if one.route:
                routes[one.route.name] = None
            notified.append(one)
        if not news:
            return None
        notification = Notification(
            id=notification_id(parts), state=QUEUED, channel=channel, route=", ".join(sorted(routes)), news=news,
            created_at=now,
        )  # fmt: skip
        for one, item in zip(notified, news):
            self._record_sent(one.sent, notification, item)
            if item.why != "closed":
                key = self._group_key(one)
                self._flushed[key] = now
                self._notified.setdefault(key, set()).add(one.event.episode)
            self._await_repeat(one)
        return notification

    def waiting_since(self) -> float:
        """Since when a group waits for its message; infinite if none does."""
        return min((group.due_at for group in self._groups.values()), default=float("inf"))

    # --- open episodes

    def open_count(self) -> int:
        """Open episodes with a channel; not closed ones whose last notification waits."""
        return len(self._open.keys() & set(self._episode.values()))

    def open_for(self, channel: str) -> list[Event]:
        """The last events of all open episodes that the channel was notified of."""
        return [
            one.event
            for of in self._open.values()
            if (one := of.get(channel)) and one.sent.times and not one.sent.closed and one.event.event != CLOSED
        ]


def origin(event: Event) -> str:
    """Topic and partition of the point that opened the episode."""
    return event.episode.rsplit(":", 2)[0]


def reason_kind(reason: str) -> str:
    """The first words of a reason for muting: silenced, muted, too old, sent recently."""
    return reason.partition(":")[0]


def rank_of(event: Event) -> tuple[bool, int, float]:
    """To sort episodes: open before closed, then by severity, then by score."""
    return event.event != CLOSED, RANK.get(event.severity, 0), event.peak_score


def brief(event: Event, what: str = "") -> Event:
    """A short event: without numbers, sentence and votes. ``what``: another kind of event of the same episode."""
    return Event(
        event=what or event.event, episode=event.episode, kind=event.kind, severity=event.severity,
        source=event.source, metric=event.metric, labels=event.labels, timestamp=event.timestamp,
        opened_at=event.opened_at, points=event.points, peak_score=event.peak_score, offset=event.offset,
        index=event.index, reason=event.reason,
    )  # fmt: skip


def notification_id(parts: Iterable[str]) -> str:
    """The same for the same news on the same channel."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]

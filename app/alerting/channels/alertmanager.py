"""Alertmanager: episodes as alerts of its v2 API, at every instance.

What is open is said again each minute, with an end four minutes ahead: if nobody says it any more, it resolves by
itself. What is over is said for five minutes, so that an instance that was away learns it. Severity is a label, and
labels are what an alert is: when it rises, the alert with the old one resolves and another one fires.

An instance that does not answer is left out until everything is said again, so that the others hear in time. Instances
that form a cluster agree among themselves about who notifies.

An episode that was acknowledged is silenced there, at the severity that it has. Just before its end is said the silence
is expired, or else nobody would hear of the end; so is one that somebody set with the one matcher ``episode="..."``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
from pydantic import SecretStr

from app.alerting.channels.api import (
    Answer,
    BaseChannel,
    ChannelOptions,
    Context,
    MessageRejected,
    Retry,
    UrlList,
    exchange,
    setting,
)
from app.alerting.matchers import Matcher, Matchers
from app.alerting.message import Message, headline, number
from app.errors import ConfigurationError
from app.wire.decisions import Silence
from app.wire.episodes import Event, text
from app.wire.notifications import News, Notification

AHEAD_S = 240.0  # end of an alert that fires: four times the time until it is said again, as Prometheus does it
RESOLVED_FOR_S = 300.0
SILENCED_FOR_S = 30 * 86_400.0  # by an acknowledgement, unless the episode ends before
US = "faust-anomaly"  # who made such silences
MOST_RESOLVED = 20_000  # that are said again
MOST_ALERTS = 500  # of a request
REQUEST_S = 5.0
MOST_BYTES = 4_000_000  # of an answer: silences
DOWN_FOR_S = 86_400.0  # end of the alert about another channel, if it is never said to be back

log = logging.getLogger(__name__)


class Options(ChannelOptions):
    urls: UrlList = setting(
        ..., "every instance, not a load balancer", expected="http(s)://host[:port][/path], a list", min_length=1
    )
    alertname: str = setting("Anomaly", "label alertname of the alerts", min_length=1)
    username: str | None = setting(None, "for basic authentication", expected="text")
    password: SecretStr | None = setting(None, "for basic authentication", expected="text")
    password_file: str | None = setting(None, "file with the password", expected="the path of a file")
    bearer_token: SecretStr | None = setting(None, "for the header Authorization", expected="text")
    bearer_token_file: str | None = setting(None, "file with the bearer token", expected="the path of a file")


class Fired(NamedTuple):
    """What the instances know of an episode."""

    labels: dict[str, str]  # without its severity
    severity: str


class Channel(BaseChannel):
    """``clock``: epoch seconds."""

    MESSAGES_PER_MINUTE = 600.0  # grouping and pace are Alertmanager's
    REFRESH_S = 60.0
    options: Options

    def __init__(self, name: str, options: Options, context: Context, clock: Any = time.time) -> None:
        super().__init__(name, options, context)
        if options.username and options.bearer_token:
            raise ConfigurationError("expected username and password, or bearer_token, got both")
        if options.secret("password") is not None and not options.username:
            raise ConfigurationError("expected a username with the password")
        self._headers()  # its files can be read
        self._clock = clock
        self._fired: dict[str, Fired] = {}  # by episode
        self._resolved: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}  # (episode, severity) -> until, alert
        self._failing: dict[str, str] = {}  # url -> why
        self._acknowledged: set[tuple[str, str]] = set()  # (episode, severity) that are silenced
        self._lock = asyncio.Lock()  # what is said again must not overtake the end of it

    async def send(self, notification: Notification) -> Answer:
        now = self._clock()
        async with self._lock:
            if notification.about != "episodes":
                return Answer(await self._post([self._notice(notification, now)]))
            changes: dict[str, Fired | None] = {}
            alerts = [alert for news in notification.news for alert in self._alerts(news, now, changes)]
            if ended := {episode for episode, fired in changes.items() if fired is None}:
                await self._end_acknowledgements(ended)
            said = ""
            for start in range(0, len(alerts), MOST_ALERTS):
                said = await self._post(alerts[start : start + MOST_ALERTS])
            self._learn(changes, alerts, now)
            return Answer(said)

    async def refresh(self, episodes: Sequence[Event]) -> None:
        self._failing.clear()
        now = self._clock()
        known = {event.episode for event in episodes}
        self._fired = {episode: fired for episode, fired in self._fired.items() if episode in known}
        for start in range(0, len(episodes), MOST_ALERTS):
            async with self._lock:
                ended = {episode for episode, severity in self._resolved if episode not in self._fired}
                changes: dict[str, Fired | None] = {}
                alerts = [
                    alert
                    for event in episodes[start : start + MOST_ALERTS]
                    if event.episode not in ended
                    for alert in self._alerts(News(event, "opened"), now, changes)
                ]
                if alerts:
                    await self._post(alerts)
                    self._learn(changes, alerts, now)
        async with self._lock:
            self._resolved = {key: kept for key, kept in self._resolved.items() if kept[0] > now}
            over = [alert for _, alert in self._resolved.values()]
            for start in range(0, len(over), MOST_ALERTS):
                await self._post(over[start : start + MOST_ALERTS])
        async with self._lock:
            await self._acknowledge([event for event in episodes if event.episode in self._fired], now)

    async def silences(self) -> Sequence[Silence]:
        """Those that are active, without our own and those that are about other alerts."""
        found = []
        for one in (await self._get_silences())[1]:
            if one.createdBy != US and _matches(one, self.options.alertname):
                ours = [str(each) for each in one.matchers if each.name != "alertname"] or ['source=~".*"']
                times = one.startsAt.timestamp(), one.endsAt.timestamp()
                found.append(Silence(f"{self.name}/{one.id}", ours, *times, one.createdBy, one.comment))
        return found

    # --- alerts

    def _alerts(self, news: News, now: float, changes: dict[str, Fired | None]) -> list[dict[str, Any]]:
        """What is to be said of one episode; notes in ``changes`` what the instances then know."""
        event = news.event
        known = changes[event.episode] if event.episode in changes else self._fired.get(event.episode)
        before = known
        if before is None and news.began:  # sent by another process, or before a restart
            before = Fired(self._labels(news.began), news.began.severity)
        labels = before.labels if before else self._labels(event)
        over = {before.severity} if before else set()
        alerts = []
        if news.why == "closed":
            changes[event.episode] = None
            over |= set() if known else {event.severity}
            ends_at = min(event.timestamp, now)
        else:
            changes[event.episode] = Fired(labels, event.severity)
            over -= {event.severity}
            ends_at = now
        for severity in sorted(over):
            alerts.append(self._alert(labels, severity, news, min(event.opened_at, ends_at), ends_at))
        if news.why != "closed":
            alerts.append(self._alert(labels, event.severity, news, min(event.opened_at, now), now + AHEAD_S))
        return alerts

    def _alert(
        self, labels: Mapping[str, str], severity: str, news: News, starts_at: float, ends_at: float
    ) -> dict[str, Any]:
        event = news.event
        about = (news.began or event) if news.why == "closed" else event
        words = Message.of(Notification(id="", state="queued", channel="", news=[news], created_at=0.0), self.context)
        annotations = {
            "summary": words.text or headline(news),
            "description": "\n".join([words.title, *(f"{label}: {said}" for label, said in words.lines)]),
            "value": "" if about.value is None else number(about.value),
            "expected": number(about.expected) if isinstance(about.expected, float | int) else "",
        }
        alert = {
            "labels": {**labels, "severity": severity},
            "annotations": {name: said for name, said in annotations.items() if said},
            "startsAt": _time(starts_at),
            "endsAt": _time(ends_at),
        }
        return alert | ({"generatorURL": words.link} if words.link else {})

    def _labels(self, event: Event) -> dict[str, str]:
        """All but the severity. Names of labels of points are made legal, and make way for ours."""
        named = event.named()
        found = {"alertname": self.options.alertname}
        found |= {name: named[name] for name in ("source", "metric", "kind", "episode") if named[name]}
        taken = {*found, "metric", "severity"}
        for name, value in sorted(event.labels.items()):
            name = re.sub(r"[^a-zA-Z0-9_]|^(?=[0-9])", "_", name)
            while name in taken or name.startswith("__"):  # two underscores: Prometheus' own
                name = f"exported_{name}"
            taken.add(name)
            if said := text(value):
                found[name] = said
        return found

    def _notice(self, notification: Notification, now: float) -> dict[str, Any]:
        """About ourselves: a test, or another channel that is down or back."""
        words = Message.of(notification, self.context)
        test = notification.about == "test"
        ends_at = now + (AHEAD_S if test else DOWN_FOR_S) if notification.about != "channel_up" else now
        return {
            "labels": {"alertname": self.options.alertname + ("Test" if test else "ChannelDown")},
            "annotations": {"summary": words.title, "description": words.text or words.title},
            "startsAt": _time(now),
            "endsAt": _time(ends_at),
        }

    def _learn(self, changes: Mapping[str, Fired | None], alerts: Iterable[dict[str, Any]], now: float) -> None:
        """They have been taken."""
        for episode, fired in changes.items():
            if fired is None:
                self._fired.pop(episode, None)
            else:
                self._fired[episode] = fired
        for alert in alerts:
            labels = alert["labels"]
            key = labels["episode"], labels["severity"]
            self._resolved.pop(key, None)
            if alert["endsAt"] <= _time(now):
                self._resolved[key] = now + RESOLVED_FOR_S, alert
        while len(self._resolved) > MOST_RESOLVED:
            del self._resolved[next(iter(self._resolved))]

    # --- instances

    async def _post(self, alerts: Sequence[Mapping[str, Any]]) -> str:
        """How many instances took them, and why others did not. Raises Retry or MessageRejected if none did."""
        body = msgspec.json.encode(alerts)
        every = list(dict.fromkeys(self.options.urls))
        answers: list[bytes | Retry | MessageRejected] = []
        for urls in [url for url in every if url not in self._failing], [url for url in every if url in self._failing]:
            some = await asyncio.gather(*(self._request("POST", url, "alerts", body) for url in urls))
            answers += some
            for url, answer in zip(urls, some):
                self._failing.pop(url, None)
                if not isinstance(answer, bytes):
                    self._failing[url] = str(answer)
            if len(self._failing) < len(every):
                took = f"{len(every) - len(self._failing)} of {len(every)} instances took it"
                return "; ".join([took, *self._failing.values()])
        reasons = "; ".join(self._failing.values())
        if all(isinstance(answer, MessageRejected) for answer in answers):
            raise MessageRejected(reasons)
        waits = [answer.after_s for answer in answers if isinstance(answer, Retry) and answer.after_s is not None]
        raise Retry(reasons, min(waits, default=None))

    async def _request(
        self, method: str, url: str, path: str, body: bytes | None = None
    ) -> bytes | Retry | MessageRejected:
        headers = self._headers()
        try:
            reply = await exchange(
                self.session,
                method,
                f"{url.rstrip('/')}/api/v2/{path}",
                body=body,
                headers=headers | ({"Content-Type": "application/json"} if body is not None else {}),
                timeout_s=REQUEST_S,
                hide=headers.values(),
                most=MOST_BYTES,
            )
        except (Retry, MessageRejected) as error:
            return error
        return reply.body

    async def _get_silences(self) -> tuple[str, list[_Silence]]:
        """(URL of an instance that answers, the silences that are active there); raises Retry if none does."""
        why = []
        for url in sorted(self.options.urls, key=lambda url: url in self._failing):
            answer = await self._request("GET", url, "silences")
            if isinstance(answer, bytes):
                try:
                    return url, [one for one in _decode_silences(answer) if one.status.state == "active"]
                except msgspec.DecodeError as error:
                    why.append(f"{url}: expected silences: {error}")
            else:
                why.append(str(answer))
        raise Retry("; ".join(why))

    async def _acknowledge(self, episodes: Sequence[Event], now: float) -> None:
        """Silence what somebody takes care of; and no longer what nobody does any more."""
        wanted = {
            (event.episode, event.severity): by
            for event in episodes
            if (by := self.context.acknowledgement(event.episode))
        }
        silenced = {episode for episode, _ in self._acknowledged}
        if taken_back := silenced & {event.episode for event in episodes} - {episode for episode, _ in wanted}:
            await self._end_acknowledgements(taken_back)
        self._acknowledged &= wanted.keys()
        new = wanted.keys() - self._acknowledged
        if not new:
            return
        url, silences = await self._get_silences()
        there = {frozenset(one.matchers) for one in silences}
        for key in sorted(new):
            matchers = [_Matcher(name, value, False) for name, value in zip(("episode", "severity"), key)]
            if frozenset(matchers) not in there:
                by = wanted[key]
                silence = {
                    "matchers": matchers,
                    "startsAt": _time(now),
                    "endsAt": _time(now + SILENCED_FOR_S),
                    "createdBy": US,
                    "comment": f"acknowledged by {by.by}" + (f": {by.comment}" if by.comment else ""),
                }
                answer = await self._request("POST", url, "silences", msgspec.json.encode(silence))
                if not isinstance(answer, bytes):
                    raise answer
            self._acknowledged.add(key)

    async def _end_acknowledgements(self, episodes: set[str]) -> None:
        """Expire the silences that are about one of these episodes and nothing else."""
        try:
            url, silences = await self._get_silences()
        except Retry:
            return  # what follows says so
        for one in silences:
            about = {matcher.value for matcher in one.matchers if matcher == _Matcher("episode", matcher.value, False)}
            if about & episodes and (len(one.matchers) == 1 or one.createdBy == US):
                answer = await self._request("DELETE", url, f"silence/{quote(one.id, safe='')}")
                if not isinstance(answer, bytes):
                    log.warning("channel %s: silence %s could not be expired: %s", self.name, one.id, answer)

    def _headers(self) -> dict[str, str]:
        if token := self.options.secret("bearer_token"):
            return {"Authorization": f"Bearer {token}"}
        if self.options.username:
            password = self.options.secret("password") or ""
            return {"Authorization": aiohttp.encode_basic_auth(self.options.username, password, "utf-8")}
        return {}


class _Matcher(msgspec.Struct, frozen=True):
    """As the API has it, and so the next ones."""

    name: str
    value: str
    isRegex: bool
    isEqual: bool = True

    def __str__(self) -> str:
        operator = ("=~" if self.isEqual else "!~") if self.isRegex else ("=" if self.isEqual else "!=")
        return str(Matcher(self.name, operator, self.value))


class _Status(msgspec.Struct):
    state: str


class _Silence(msgspec.Struct):
    id: str
    matchers: list[_Matcher]
    status: _Status
    startsAt: datetime
    endsAt: datetime
    createdBy: str
    comment: str


_decode_silences = msgspec.json.Decoder(list[_Silence]).decode


def _matches(silence: _Silence, alertname: str) -> bool:
    try:
        matchers = Matchers.of([str(each) for each in silence.matchers if each.name == "alertname"])
    except ConfigurationError:
        return False  # of a later version: it silences there
    return matchers.matches({"alertname": alertname})


def _time(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")

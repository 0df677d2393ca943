"""What is told of episodes: laws over random lives of them, with crashes at any step; and the rules one by one.

What a channel was told is judged from the messages alone, with the events as the other side.
"""

import random
from collections import defaultdict
from copy import deepcopy
from itertools import pairwise

import pytest

from app.alerting.current_decisions import CurrentDecisions
from app.alerting.engine import MOST_NEWS, RANK, Engine
from app.alerting.rate_limit import RateLimit
from app.alerting.routes import Routes
from app.settings import load
from app.wire import decisions, notifications
from app.wire.decisions import Acknowledgement, Silence
from app.wire.episodes import CHANGED, CLOSED, OPENED, Event
from app.wire.notifications import FAILED, MUTED, QUEUED, SENT

SEVERITIES = list(RANK)
START = 1_700_000_000.0


def an_event(what=OPENED, episode="raw-data:0:1:0", severity="high", source="pump-7", at=START, offset=1, **more):
    fields = {"kind": "value", "points": 1, "peak_score": 0.9, "opened_at": at, "timestamp": at, "index": 0} | more
    return Event(event=what, episode=episode, severity=severity, source=source, offset=offset, **fields)


class Alerting:
    """An engine, the topic of notifications, and channels that take what they are sent."""

    def __init__(self, engine=Engine, **alerting):
        alerting = {"channels": {"ops": {"type": "webhook", "url": "https://ops.example/"}}, **alerting}
        alerting = {"rules": [{"channels": ["ops"]}], **alerting}
        self.settings = load(None, {}, alerting=alerting)
        self.decided = CurrentDecisions()
        self.now = START
        self.log = []  # events
        self.topic = {}  # id -> the last record of a notification
        self.told = []  # notifications in the order in which channels got them
        self._make = engine
        self.restart()

    def restart(self):
        """A crash, and a new alerter: only topics are left."""
        rate_limits = {name: RateLimit(60.0) for name in ("log", *self.settings.alerting.channels)}
        self.engine = self._make(self.settings.alerting, Routes.of(self.settings.alerting), self.decided, rate_limits)
        self.waiting = []
        known = sorted(map(notifications.decode, self.topic.values()), key=lambda one: one.created_at)
        for one in known:
            self.engine.remember(one)
            if one.state == QUEUED:
                self.waiting.append(one)
        for event in self.log:
            self.engine.take(deepcopy(event), self.now)

    def take(self, *events):
        for event in events:
            self.log.append(event)
            self.engine.take(deepcopy(event), self.now)

    def poll(self):
        for one in self.engine.poll(self.now):
            self.topic[one.id] = notifications.encode(one)
            if one.state == QUEUED:
                self.waiting.append(one)
            else:
                assert one.state == MUTED

    def deliver(self, noted=True, state=SENT):
        """The channel takes the next message; without ``noted`` the process ends before it can say so."""
        if self.waiting:
            one = self.waiting.pop(0)
            self.told.append(deepcopy(one))
            if noted:
                one.state = state
                self.topic[one.id] = notifications.encode(one)
                self.engine.done(one)

    def settle(self, seconds=0.0):
        self.now += seconds
        for _ in range(50):
            self.poll()
            while self.waiting:
                self.deliver()

    def news(self, channel="ops"):
        return [(one.why, one.event.severity) for of in self.told if of.channel == channel for one in of.news]

    def muted(self):
        return [one.answer for one in map(notifications.decode, self.topic.values()) if one.state == MUTED]


# --- laws


def a_life(seed, engine=Engine, crashes=True, min_interval_s=0.0):
    """Episodes of some series, steps of the alerter and crashes in random order; then time enough for all."""
    chance = random.Random(seed)
    rule = {
        "channels": ["ops"], "group_by": chance.choice([[], ["source"], ["kind"]]), "repeat_interval": "1h",
        "group_wait": chance.choice(["0s", "10s"]), "group_interval": "30s",
    }  # fmt: skip
    of = Alerting(
        engine,
        min_interval_s=min_interval_s,
        channels={name: {"type": "webhook", "url": f"https://{name}.example/"} for name in ("ops", "boss")},
        rules=[{"channels": ["boss"], "severity": "critical", "continue": True}, rule],
    )
    open_, offset = {}, 0
    for _ in range(chance.randrange(5, 120)):
        step = chance.random()
        of.now += chance.choice([0.0, 0.1, 3.0, 40.0])
        if step < 0.5:
            offset += 1
            source = f"pump-{chance.randrange(4)}"
            last = open_.get(source)
            if last is None:
                episode = f"raw-data:0:{offset}:0"
                event = an_event(OPENED, episode, chance.choice(SEVERITIES), source, of.now, offset, points=1)
            else:
                what = chance.choice([CHANGED, CLOSED])
                rank = max(RANK[last.severity], chance.randrange(4) if what == CHANGED else 0)
                event = an_event(
                    what, last.episode, SEVERITIES[rank], source, of.now, offset, points=last.points + 1,
                    opened_at=last.opened_at,
                )  # fmt: skip
            open_[source] = None if event.event == CLOSED else event
            of.take(event)
        elif step < 0.55 and of.log:
            begin = chance.randrange(len(of.log))
            of.take(*of.log[begin : begin + 5])  # a worker's crash repeats some
        elif step < 0.75:
            of.poll()
        elif step < 0.95 or not crashes:
            of.deliver()
        elif step < 0.98:
            of.restart()
        else:
            of.deliver(noted=False)
            of.restart()
    of.restart()
    for _ in range(60):
        of.settle(10.0)
    return of


def breaches(of, min_interval_s=0.0):
    """What a person would complain of: sentences."""
    found = []
    first = {}  # id -> what was sent under it
    spoken = defaultdict(list)
    told = defaultdict(list)  # (channel, episode) -> news in order
    for one in of.told:
        words = [(news.event.episode, news.why, news.event.severity) for news in one.news]
        if first.setdefault(one.id, words) != words:
            found.append(f"{one.id} has other words")
        elif sum(other.id == one.id for other in of.told) > 1 and one is not next(o for o in of.told if o.id == one.id):
            continue  # the same message once more: its receiver knows the id
        for news in one.news:
            told[one.channel, news.event.episode].append((news.why, RANK[news.event.severity]))
            if news.why in ("opened", "raised"):
                spoken[one.channel, news.event.source, news.event.severity].append(one.created_at)
    for (channel, episode), news in told.items():
        whys = [why for why, _ in news]
        if whys.count("opened") > 1 or whys.count("closed") > 1:
            found.append(f"{channel}: {episode} was told twice: {whys}")
        if "closed" in whys[:-1]:
            found.append(f"{channel}: {episode} goes on after its end: {whys}")
        raised = [rank for why, rank in news if why in ("opened", "raised")]
        if raised != sorted(set(raised)):
            found.append(f"{channel}: {episode} rose to {raised}")
    for times in spoken.values():
        if any(b - a < min_interval_s for a, b in pairwise(times)):
            found.append(f"told at {times}")
    last = {event.episode: event for event in sorted(of.log, key=lambda one: one.place)}
    for episode, event in last.items():
        wanted = {"ops"} | ({"boss"} if event.severity == "critical" else set())
        for channel in wanted:
            whys = [why for why, _ in told[channel, episode]]
            if not min_interval_s and not whys:
                found.append(f"{channel} never heard of {episode}")
            if whys and (whys[-1] == "closed") != (event.event == CLOSED):
                found.append(f"{channel}: {episode} is {event.event}, and the last word was {whys}")
    return found


@pytest.mark.parametrize("part", range(6))
def test_each_episode_is_told_once_and_in_order_whatever_crashes(part):
    for seed in range(part * 50, part * 50 + 50):
        min_interval_s = (0.0, 300.0)[seed % 2]
        of = a_life(seed, min_interval_s=min_interval_s)
        # An episode may end as critical while the message that said so first says that it is over: boss hears that.
        assert breaches(of, min_interval_s) == [], seed


class Forgetful(Engine):
    """Does not read the earlier notifications."""

    def remember(self, notification):
        self._busy[notification.channel] = self._busy.get(notification.channel, 0) + (notification.state == QUEUED)


class Lossy(Engine):
    """Never notifies of an episode that closed before its first notification."""

    def _why(self, one, now):
        return None if one.event.event == CLOSED and not one.sent.times else super()._why(one, now)


class Talkative(Engine):
    """Takes repeated events for new ones."""

    def take(self, event, now, live=True):
        self._last_events.pop(event.thread, None)
        self._closed.clear()
        super().take(event, now, live)


@pytest.mark.parametrize("broken", [Forgetful, Lossy, Talkative])
def test_the_laws_catch_a_broken_engine(broken):
    assert any(breaches(a_life(seed, broken)) for seed in range(60))


# --- one by one


def test_the_end_is_told_with_how_it_began():
    of = Alerting()
    of.take(an_event(severity="high"))
    of.settle()
    of.take(an_event(CHANGED, severity="critical", offset=2), an_event(CLOSED, severity="critical", offset=3))
    of.settle()
    assert of.news() == [("opened", "high"), ("closed", "critical")]
    assert of.told[-1].news[0].began.severity == "high"


def test_a_rise_is_told():
    of = Alerting()
    for severity, offset in (("medium", 1), ("critical", 2), ("critical", 3)):
        of.take(an_event(OPENED if offset == 1 else CHANGED, severity=severity, offset=offset))
        of.settle()
    assert of.news() == [("opened", "medium"), ("raised", "critical")]


def test_the_same_series_and_severity_is_told_once_in_the_interval_and_then_if_it_lasts():
    of = Alerting(min_interval_s=300.0)
    of.take(an_event())
    of.settle()
    of.take(an_event(CLOSED, offset=2, at=of.now + 20))
    of.settle(20.0)
    of.take(an_event(OPENED, "raw-data:0:3:0", offset=3, at=of.now))
    of.settle(10.0)
    assert of.news() == [("opened", "high"), ("closed", "high")]
    assert of.muted() == ["sent recently: this series and severity, less than alerting.min_interval_s ago"]
    of.settle(260.0)
    assert of.news() == [("opened", "high"), ("closed", "high")]
    of.settle(20.0)
    assert of.news()[2:] == [("opened", "high")]


def test_an_acknowledged_episode_is_not_repeated_and_its_end_is_told():
    of = Alerting(rules=[{"channels": ["ops"], "repeat_interval": "30m"}])
    of.take(an_event())
    of.settle()
    of.settle(1801.0)
    assert of.news() == [("opened", "high"), ("repeated", "high")]
    decision = Acknowledgement("raw-data:0:1:0", "ann", of.now)
    of.decided.take(decision.key.encode(), decisions.encode(decision))
    of.settle(1801.0)
    of.settle(1801.0)
    of.take(an_event(CLOSED, offset=2))
    of.settle()
    assert of.news() == [("opened", "high"), ("repeated", "high"), ("closed", "high")]


def test_what_is_silenced_is_noted_and_told_when_the_silence_ends_if_it_lasts():
    of = Alerting()
    silence = Silence("s1", ['source=~"pump-.*"'], START, START + 100.0, "ann", "works")
    of.decided.take(silence.key.encode(), decisions.encode(silence))
    of.take(an_event(), an_event(source="fan", episode="raw-data:0:2:0", offset=2))
    of.settle()
    assert [one.news[0].event.source for one in of.told] == ["fan"]
    assert of.muted() == ["silenced: by ann, silence s1: works"]
    of.settle(90.0)
    assert len(of.told) == 1
    of.settle(11.0)
    assert [one.news[0].event.source for one in of.told] == ["fan", "pump-7"]


def test_a_silence_does_not_hold_back_the_end_of_what_was_told():
    of = Alerting()
    of.take(an_event())
    of.settle()
    silence = Silence("s1", ["source=pump-7"], START, START + 100.0, "ann")
    of.decided.take(silence.key.encode(), decisions.encode(silence))
    of.take(an_event(CLOSED, offset=2))
    of.settle()
    assert of.news() == [("opened", "high"), ("closed", "high")]


def test_a_silence_that_is_taken_back_holds_no_longer():
    of = Alerting()
    silence = Silence("s1", ["source=pump-7"], START, START + 1000.0, "ann")
    of.decided.take(silence.key.encode(), decisions.encode(silence))
    of.take(an_event())
    of.settle()
    of.decided.take(silence.key.encode(), None)
    of.settle()
    assert of.news() == [("opened", "high")]


def test_old_news_does_not_page_and_is_noted_where_it_came_lately():
    of = Alerting(max_age_s=3600.0)
    of.engine.take(an_event(at=START - 4000.0), of.now, live=True)
    of.engine.take(an_event(at=START - 4000.0, source="fan", episode="raw-data:0:2:0", offset=2), of.now, live=False)
    of.settle()
    assert of.told == [] and len(of.muted()) == 1 and of.muted()[0].startswith("too old")


def test_a_burst_is_a_handful_of_messages_the_worst_first():
    of = Alerting()
    chance = random.Random(1)
    for offset in range(2000):
        severity = "critical" if offset % 100 == 0 else chance.choice(["low", "high"])
        of.take(an_event(OPENED, f"raw-data:0:{offset}:0", severity, f"pump-{offset}", offset=offset))
        if offset % 10 == 0:
            of.poll()
            of.deliver()
    for _ in range(10):
        of.settle(1.0)
    assert sum(len(one.news) for one in of.told) == 2000
    assert len(of.told) <= 9
    assert all(len(one.news) <= MOST_NEWS and len(notifications.encode(one)) < 900_000 for one in of.told)
    largest = max(of.told, key=lambda one: len(one.news))
    ranks = [RANK[news.event.severity] for news in largest.news]
    assert ranks == sorted(ranks, reverse=True)


def test_while_a_channel_is_busy_what_begins_and_ends_is_one_message():
    of = Alerting()
    of.take(an_event(source="fan"))
    of.poll()  # on its way
    for offset in range(10, 20):
        episode = f"raw-data:0:{offset}:0"
        of.take(an_event(OPENED, episode, offset=offset), an_event(CLOSED, episode, offset=offset, index=1))
    of.poll()
    assert len(of.waiting) == 1
    of.deliver()
    of.settle(1.0)
    assert [len(one.news) for one in of.told] == [1, 10]
    assert {why for why, _ in of.news()[1:]} == {"closed"}


def test_a_group_shares_messages_in_its_interval():
    of = Alerting(rules=[{"channels": ["ops"], "group_by": ["source"], "group_wait": "10s", "group_interval": "1m"}])
    first, second, third = (
        an_event(OPENED, f"raw-data:0:{i}:0", offset=i, metric=f"m{i}") for i in (1, 2, 3)
    )  # fmt: skip
    of.take(first)
    of.settle(5.0)
    of.take(second)
    of.settle(4.0)
    assert of.told == []
    of.settle(1.0)
    assert [len(one.news) for one in of.told] == [2]
    of.take(third)
    of.settle(30.0)
    assert len(of.told) == 1
    of.settle(31.0)
    assert [len(one.news) for one in of.told] == [2, 1]


def test_a_given_up_message_is_not_sent_again_after_a_restart():
    of = Alerting()
    of.take(an_event())
    of.poll()
    of.deliver(state=FAILED)
    of.restart()
    of.settle(1.0)
    assert len(of.told) == 1


def test_what_is_over_for_long_is_taken_out_of_the_topic():
    of = Alerting()
    of.take(an_event(), an_event(source="fan", episode="raw-data:0:2:0", offset=2))
    of.settle()
    of.take(an_event(CLOSED, offset=3))
    of.settle(1.0)
    assert of.engine.expire(of.now + 7 * 86400) == []
    gone = of.engine.expire(of.now + 9 * 86400)
    kept = [one for one in map(notifications.decode, of.topic.values()) if one.id not in gone]
    assert {news.event.source for one in kept for news in one.news} == {"fan"}


def test_new_rules_do_not_tell_again_what_is_open():
    of = Alerting(rules=[{"channels": ["ops"], "severity": "high"}, {"channels": ["log"]}])
    of.take(an_event())
    of.settle()
    of.settings = load(None, {}, alerting={"channels": {"ops": {"type": "webhook", "url": "https://ops.example/"}},
                                           "rules": [{"channels": ["log"]}, {"channels": ["ops"]}]})  # fmt: skip
    of.restart()
    of.settle()
    assert of.news("ops") == [("opened", "high")]
    of.take(an_event(CLOSED, offset=2))
    of.settle()
    assert of.news("ops") == [("opened", "high"), ("closed", "high")]


def test_a_series_that_moves_or_whose_topic_was_made_again_is_told_of_again():
    of = Alerting(min_interval_s=0.0)
    of.take(an_event(OPENED, "raw-data:0:5000:0", offset=5000), an_event(CLOSED, "raw-data:0:5000:0", offset=5010))
    of.settle()
    of.take(an_event(OPENED, "raw-data:3:7:0", offset=7, at=START))  # another partition
    of.settle(1.0)
    of.take(an_event(CLOSED, "raw-data:3:7:0", offset=9, at=START + 1))
    of.settle(1.0)
    of.take(an_event(OPENED, "raw-data:3:2:0", offset=2, at=START + 60))  # another topic of this name
    of.settle(1.0)
    opened = [news.event.episode for one in of.told for news in one.news if news.why != "closed"]
    assert opened == ["raw-data:3:7:0", "raw-data:3:2:0"]
    before = len(of.told)
    of.take(*of.log)
    of.settle(1.0)
    assert len(of.told) == before


def test_a_message_stays_as_small_as_its_record_must_be():
    of = Alerting()
    labels = {f"label-{i}": "x" * 250 for i in range(20)}
    for offset in range(300):
        of.take(an_event(OPENED, f"raw-data:0:{offset}:0", source=f"pump-{offset}", offset=offset, labels=labels))
    of.take(an_event(OPENED, "raw-data:0:999:0", source="huge", severity="critical", offset=999, labels=labels,
                     values={f"metric-{i}": 1.5 for i in range(5000)}))  # fmt: skip
    of.settle()
    for _ in range(9):
        of.settle(1.0)
    assert sum(len(one.news) for one in of.told) == 301 and len(of.told) > 2
    assert max(len(notifications.encode(one)) for one in of.told) < 550_000
    [huge] = [news for one in of.told for news in one.news if news.event.source == "huge"]
    assert huge.event.values == {} and huge.event.labels == labels


def test_an_episode_whose_end_waits_for_its_channel_is_not_open_any_more():
    of = Alerting()
    of.take(an_event())
    assert of.engine.open_count() == 1
    of.poll()
    of.take(an_event(CLOSED, offset=2, at=START + 5.0, reason="recovered"))
    assert of.engine.open_count() == 0

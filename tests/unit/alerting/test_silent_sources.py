"""What alerters tell of sources that have stopped: each once, with its end, over crashes; a whole topic as one."""

import random

from app.alerting.silent_sources import HOLD_S, SilentSources, SilentTopic
from app.wire import notifications, overdue
from app.wire.overdue import Overdue, Quiet
from tests.unit.alerting.test_engine import START, Alerting


class Stopping(Alerting):
    """An alerter of one partition of anomalies, and the records that workers write."""

    partition, partitions = 0, 1

    def restart(self):
        super().restart()
        self.stopped = SilentSources(
            "raw-data", self.partition, self.partitions, self.decided, SilentTopic(self.decided)
        )
        for one in sorted(map(notifications.decode, self.topic.values()), key=lambda one: one.created_at):
            self.stopped.remember(one)

    def poll(self):
        for event in self.stopped.events(self.now):
            self.engine.take(event, self.now)
        super().poll()

    def write(self, *series, partition=0, late=None, due=100, **more):
        """A worker says that these are overdue."""
        late = len(series) if late is None else late
        one = Overdue(partition, self.now, list(series), len(series), late=late, due=due, **more)
        self.decided.take(one.key.encode(), overdue.encode(one))

    def quiet(self, source="pump-7", for_s=300.0, **more):
        return Quiet(source, self.now - for_s, self.now, **more)

    def titles(self):
        return [(one.why, one.event.source, one.event.severity) for of in self.told for one in of.news]


def test_a_source_that_stops_is_told_of_once_and_its_end_too():
    of = Stopping()
    quiet = of.quiet(usual_s=60.0)
    of.write(quiet)
    of.settle(HOLD_S - 1.0)
    assert of.told == []
    of.settle(1.0)
    assert of.titles() == [("opened", "pump-7", "high")]
    event = of.told[0].news[0].event
    assert (event.kind, event.opened_at) == ("silent", START - 300.0)
    assert event.explanation == "no point for 5 min; the longest usual pause is 1 min"
    assert event.episode.startswith(f"raw-data:0:{round(quiet.since * 1000)}:silent-")
    of.restart()
    of.write(quiet, of.quiet("pump-8"))
    of.settle(HOLD_S)
    of.write(of.quiet("pump-8", 330.0))
    of.settle(1200.0)
    assert of.titles()[1:] == [("opened", "pump-8", "high"), ("closed", "pump-7", "high")]
    assert of.told[-1].news[0].event.reason == "returned"


def test_the_second_time_is_another_episode_whatever_clock_the_worker_has():
    of = Stopping(min_interval_s=0.0)
    for for_s in (300.0, 900.0, 300.0):
        of.write(of.quiet(for_s=for_s))
        of.settle(HOLD_S)
        of.write()
        of.settle(10.0)
    assert [why for why, *_ in of.titles()] == ["opened", "closed"] * 3
    assert len({one.event.episode for told in of.told for one in told.news}) == 3


def test_what_ended_while_no_alerter_ran_is_said_once():
    of = Stopping()
    of.write(of.quiet())
    of.settle(HOLD_S)
    of.write(forgotten=[("pump-7", "", START - 300.0)])
    for _ in range(3):
        of.restart()
        of.settle(10.0)
    assert [why for why, *_ in of.titles()] == ["opened", "closed"]
    assert of.told[-1].news[0].event.reason == "forgotten"


def test_a_source_that_comes_back_within_the_hold_is_not_told_of():
    of = Stopping()
    of.write(of.quiet())
    of.settle(HOLD_S / 2)
    of.write()
    of.settle(10 * HOLD_S)
    assert of.told == []


def test_a_topic_that_stops_is_one_alert_and_what_does_not_come_back_is_told_of_later():
    of = Stopping()
    of.write(of.quiet("pump-0"), due=10_000)
    of.settle(10.0)
    quiet = [of.quiet(f"pump-{i}") for i in range(1000)]
    of.write(*quiet, late=9_998, due=10_000)
    of.settle(5 * HOLD_S)
    of.restart()
    of.settle(HOLD_S)
    assert of.titles() == [("opened", "raw-data", "critical")]
    assert of.told[0].news[0].event.explanation.startswith("9,998 of 10,000 sources send nothing since 2023-")
    of.write(*quiet[:300], late=3_000, due=10_000)
    of.settle(5 * HOLD_S)
    assert len(of.told) == 1  # most are still away
    of.write(quiet[0], quiet[1], late=2, due=10_000)
    of.settle(HOLD_S)
    assert of.titles()[1:] == [("closed", "raw-data", "critical")]
    of.settle(299.0)
    assert len(of.told) == 2
    of.write(quiet[1], late=1, due=10_000)
    of.settle(1.0)
    assert of.titles()[2:] == [("opened", "pump-1", "high")]


def test_the_partitions_of_a_topic_count_together_and_each_has_its_alerter():
    of = Stopping()
    of.partitions = 2
    of.restart()
    of.write(of.quiet("pump-1"), of.quiet("pump-3"), partition=1, due=2)
    of.write(due=100)
    of.settle(HOLD_S)
    assert of.told == []  # half of what is due in one partition, and told by the other's alerter
    of.write(of.quiet("pump-2"), partition=2, due=2)
    of.settle(HOLD_S)
    assert of.titles() == [("opened", "pump-2", "high")]


def test_laws_of_random_stops_and_crashes():
    """Each stop that is told of ends, in this order; what is over before its turn is told as that."""
    for seed in range(20):
        chance = random.Random(seed)
        of = Stopping(min_interval_s=0.0)
        away = {}
        for _ in range(80):
            of.now += chance.choice([1.0, 5.0, 31.0])
            source = f"pump-{chance.randrange(5)}"
            if source in away:
                del away[source]
            else:
                away[source] = of.quiet(source)
            of.write(*away.values())
            if chance.random() < 0.3:
                of.restart()
            of.poll()
            while of.waiting and chance.random() < 0.8:
                of.deliver(noted=chance.random() < 0.8)
        of.restart()
        of.settle(HOLD_S)
        of.write()
        of.settle(61.0)
        seen = {}
        for one in of.told:
            for news in one.news:
                seen.setdefault(news.event.episode, {})[one.id, news.why] = None
        assert seen
        for episode in seen.values():
            assert [why for _, why in episode] in (["opened", "closed"], ["closed"])

"""Which series are overdue: each that stops, each time, soon; and none because of a restart, a backlog or a clock."""

import math

import numpy as np
import pytest

from app.pipeline import Pipeline
from app.scoring.episodes import pause
from app.settings import Detection, SilentSettings
from app.stream.overdue import GIVEN_UP_S, OverdueDetector
from app.wire import overdue

START, EVERY_S = 1_700_000_000.0, 5.0
PIPELINE = Pipeline(Detection(), engine="python")


class World:
    """Sources with rows as workers keep them, and workers that watch them. ``lag`` of Kafka's timestamps, s."""

    def __init__(self, *rules):
        self.rules, self.now, self.lag = rules, 0.0, 0.0
        self.sources = PIPELINE.sources()
        self.sends = {}  # source -> (period, s; next time)
        self.record, self.found, self.offset = None, [], 0
        self.restart()

    def restart(self):
        """Another owner, which has read everything."""
        self.watch = OverdueDetector(0, self.rules, 3600.0, self.record)

    def point(self, source, written=None):
        slot, self.offset = self.sources.slot(source), self.offset + 1
        row = self.sources.rows.data[slot]
        written = START + self.now - self.lag if written is None else written
        if row.met == 0.0:
            row.met = row.arrived = written
        else:
            pause(row, written)
        row.last, row.seen = self.offset, row.seen + 1

    def add(self, *names, every_s=60.0, known_s=100_000.0, phase=0.0):
        """Sources that have sent each ``every_s`` for long."""
        for i, name in enumerate(names):
            self.point(name, START + self.now - known_s)
            row = self.sources.rows.data[self.sources.slots[name]]
            row.gap, row.arrived, row.seen = every_s, START + self.now - self.lag, 100
            self.sends[name] = [every_s, self.now + every_s * ((i + 1) / len(names) + phase)]

    def go(self, seconds, look=True):
        for _ in range(math.ceil(seconds / EVERY_S)):
            self.now += EVERY_S
            for name, of in self.sends.items():
                while of[1] <= self.now:
                    self.point(name)
                    of[1] += of[0]
            if look:
                self.check()
        return self

    def check(self):
        *_, found = self.watch.check(self.sources, self.now + 7.0, START + self.now)
        if found:
            self.record = self.watch.written = overdue.decode(overdue.encode(found))
            self.found.append(self.record)
            assert self.watch.count == found.count

    @property
    def silent(self):
        return {one.source for one in self.record.series} if self.record else set()

    @property
    def ever(self):
        return {one.source for of in self.found for one in of.series}


def test_a_source_that_stops_is_overdue_until_its_next_point_and_each_time():
    of = World()
    of.add(*"abcdefgh")
    of.go(600.0)
    for _ in range(3):
        stopped_at = START + of.sends["a"][1] - 60.0
        del of.sends["a"]
        of.go(235.0)
        assert of.silent == set()
        of.go(600.0)
        [quiet] = of.record.series
        assert abs(quiet.since - stopped_at) <= EVERY_S
        assert 300.0 < quiet.found_at - quiet.since <= max(300.0, 4.0 * quiet.usual_s) + 2 * EVERY_S
        of.sends["a"] = [60.0, of.now]
        of.go(EVERY_S)
        assert of.silent == set()
        of.go(7200.0)
    assert of.ever == {"a"}


def test_a_slow_source_has_three_times_its_usual_pause():
    of = World()
    of.add("slow", every_s=3600.0)
    of.add(*"abcd")
    of.go(3 * 3600.0)
    del of.sends["slow"]
    of.go(3 * 3600.0)
    assert of.silent == set()
    of.go(3600.0)
    assert of.silent == {"slow"}


def test_a_restart_ends_nothing_and_opens_nothing():
    of = World()
    of.add(*"abcdefgh")
    of.go(600.0)
    del of.sends["a"]
    of.go(400.0)
    [before] = of.record.series
    del of.sends["b"]
    for _ in range(4):  # and each time it is read for 4 minutes
        of.restart()
        of.go(240.0)
        assert of.record.series == [before]
    of.go(100.0)
    assert of.silent == {"a", "b"}
    of.restart()
    of.point("a")  # before it looks
    of.go(EVERY_S)
    assert of.silent == {"b"}


def test_a_worker_that_was_away_or_behind_tells_of_nothing_that_goes_on():
    of = World()
    of.add(*"abcdefgh")
    of.go(600.0)
    del of.sends["a"]
    of.go(3000.0, look=False)  # suspended, or its brokers were away
    of.watch.interrupted()
    of.go(290.0)
    assert of.ever == set()
    of.go(20.0)
    assert of.ever == {"a"}


def test_batches_by_the_hour_that_bear_the_times_of_their_points():
    of = World()
    names = "abcdefgh"
    of.add(*names, every_s=10.0, known_s=10 * 86_400.0)
    of.sends.clear()
    of.check()
    for hour in range(12):
        for name in names:
            for i in range(360):
                of.point(name, START + of.now - 3600.0 + 10.0 * i)
        of.go(EVERY_S)
        if hour % 3 == 2:
            of.restart()
        of.go(3600.0 - EVERY_S)
        if hour == 0:
            first = of.ever
            of.found.clear()
    assert first <= set(names) and of.ever <= set(names)
    of.found.clear()
    for _ in range(6):
        for name in names:
            for i in range(360):
                of.point(name, START + of.now - 3600.0 + 10.0 * i)
        of.go(3600.0)
        of.restart()
    assert of.ever == set()
    of.go(4 * 3600.0)
    assert of.silent == set(names)


def test_batches_by_the_hour_with_the_times_of_their_delivery():
    of = World()
    for _ in range(24):
        for name in "abcd":
            for _ in range(30):
                of.point(name)
        of.go(3600.0)
    assert of.ever == set()


def test_a_replay_of_old_data_is_silent():
    of = World()
    of.lag = 7 * 86_400.0
    of.add(*"abcd", every_s=1.0)
    of.go(600.0)
    of.sends.clear()
    of.go(7200.0)
    assert of.ever == set()


@pytest.mark.parametrize("lag", [-86_400.0, -600.0, 1800.0])
def test_clocks_of_producers_that_are_wrong(lag):
    of = World()
    of.lag = lag
    of.add(*"abcdefgh")
    of.go(3600.0)
    assert of.ever == set()
    del of.sends["a"]
    of.go(400.0)
    assert of.silent == {"a"}
    assert abs(of.record.series[0].since - (START + of.now - 400.0)) < 70.0


def test_rules_say_who_is_told_of_and_after_how_long():
    of = World(
        SilentSettings(match="pod-*", enabled=False), SilentSettings(match="pump-*", metric="rpm", after_s=10.0),
        SilentSettings(match="pump-*", after_s=60.0),
    )  # fmt: skip
    of.add("pod-1", "pump-1", "pump-2\udcffrpm", "valve-1", every_s=1.0)
    of.go(60.0)
    of.sends.clear()
    expected = {("pump-2", "rpm"): 10.0, ("pump-1", ""): 60.0, ("valve-1", ""): 300.0}
    of.go(400.0)
    found = {(one.source, one.metric): one.found_at - one.since for one in of.record.series}
    assert found.keys() == expected.keys()
    for name, after_s in expected.items():
        assert after_s < found[name] <= max(after_s, 30.0) + 3 * EVERY_S
    of.rules = [SilentSettings(enabled=False)]
    of.restart()
    of.go(10.0)
    assert of.silent == set() and of.record.count == 0


def test_a_new_source_is_not_judged_before_it_is_known_for_a_while():
    of = World()
    of.go(10.0)
    for _ in range(30):
        of.point("new")
        of.go(5.0)
    of.go(3000.0)
    assert of.ever == set()


def test_of_a_topic_that_stops_all_are_late_when_the_first_is_overdue_also_after_a_restart():
    of = World()
    of.add(*(f"s-{i}" for i in range(3000)))
    of.go(600.0)
    assert (of.record.late, of.record.due) == (0, 3000)
    of.sends.clear()
    of.go(250.0)
    while not of.record.count:
        of.go(EVERY_S)
    assert of.record.count < 600 and of.record.late == of.record.due == 3000
    of.go(100.0)
    assert of.record.count >= 2700 and len(of.record.series) == 1000
    listed = of.record.series
    of.restart()
    of.go(20.0)
    assert of.record.count >= 2700 and of.record.late >= 2700 and of.record.series == listed
    of.add(*(f"s-{i}" for i in range(3000)))
    of.go(60.0)
    assert (of.record.count, of.record.late, of.record.due) == (0, 0, 3000)


def test_what_is_forgotten_or_silent_for_a_week_is_not_expected_any_more():
    of = World()
    of.add(*"abcd")
    of.go(600.0)
    del of.sends["a"], of.sends["b"]
    of.go(400.0)
    since = {one.source: one.since for one in of.record.series}
    of.sources.drop(of.sources.slots["a"])
    of.go(EVERY_S)
    assert of.silent == {"b"} and of.record.forgotten == [("a", "", since["a"])]
    of.sends.clear()
    of.now += GIVEN_UP_S
    of.go(EVERY_S)
    assert "b" not in of.silent and ("b", "", since["b"]) in of.record.forgotten


def test_steady_sources_cost_no_records():
    of = World()
    rng = np.random.default_rng(1)
    for i in range(200):
        of.add(f"s-{i}", every_s=float(rng.choice([1.0, 10.0, 60.0])), phase=float(rng.random()))
    of.go(3600.0)
    assert len(of.found) <= 5

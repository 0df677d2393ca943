"""When records go: time is a value passed in."""

import asyncio
import io
import json

import pytest

from app.cli.feed import FileOutput, SendSchedule, Totals, encode, feed
from app.cli.generate import live, summary
from app.cli.parameters import RateType, TimeType
from generators.api import GeneratedRecord, Remark


class Clock:
    """Goes on by what is slept, and by ``busy`` a record sent."""

    def __init__(self, busy=0.0):
        self.now, self.busy, self.sent, self.idles = 1000.0, busy, [], 0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        assert seconds > 0.0
        self.now += seconds

    async def send(self, record):
        self.sent.append((round(self.now - 1000.0, 6), record.timestamp))
        self.now += self.busy

    async def idle(self):
        self.idles += 1


def sent(times, pace, busy=0.0):
    """[(seconds after the beginning, event time)] of each record."""
    clock = Clock(busy)
    records = [GeneratedRecord("a", t, {"value": 1.0}) for t in times]
    asyncio.run(feed(records, clock, pace, Totals(), clock=clock, sleep=clock.sleep))
    return [when for when, _ in clock.sent]


def test_full_speed_does_not_wait():
    assert sent([0.0, 10.0, 500.0], SendSchedule()) == [0.0, 0.0, 0.0]


def test_speed_keeps_the_distances_of_event_time():
    assert sent([100.0, 160.0, 160.0, 700.0], SendSchedule(speed=60.0)) == [0.0, 1.0, 1.0, 10.0]


def test_times_that_go_backwards_do_not_wait():
    assert sent([100.0, 160.0, 40.0, 220.0], SendSchedule(speed=60.0)) == [0.0, 1.0, 1.0, 2.0]


def test_a_rate_does_not_look_at_event_time():
    assert sent([5.0, 5.0, 9000.0, 1.0], SendSchedule(rate=4.0)) == [0.0, 0.25, 0.5, 0.75]


def test_time_lost_is_made_up_for():
    assert sent([0.0] * 4, SendSchedule(rate=10.0), busy=0.04) == [0.0, 0.1, 0.2, 0.3]
    assert sent([0.0] * 4, SendSchedule(rate=10.0), busy=0.15) == [0.0, 0.15, 0.3, 0.45]


def test_the_output_is_told_before_a_wait():
    clock = Clock()
    records = [GeneratedRecord("a", t, {"value": 1.0}) for t in (0.0, 0.0, 1.0, 1.0, 2.0)]
    asyncio.run(feed(records, clock, SendSchedule(speed=1.0), Totals(), clock=clock, sleep=clock.sleep))
    assert clock.idles == 2


def test_totals_count_points_labels_sources_and_what_is_unreadable():
    out, totals, remarks = io.BytesIO(), Totals(), []
    records = [
        GeneratedRecord("a", 1.0, {"value": 1.0}),
        Remark("x.csv:3: bad", unreadable=True),
        Remark("a note"),
        GeneratedRecord("b", 2.0, {"x": 1.0, "y": 2.0}, "spike"),
    ]
    asyncio.run(feed(records, FileOutput(out, labels=True), SendSchedule(), totals, remark=remarks.append))
    assert (totals.points, totals.anomalies, totals.unreadable, totals.sources) == (2, 1, 1, {"a", "b"})
    assert [remark.text for remark in remarks] == ["x.csv:3: bad", "a note"]
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"source": "a", "timestamp": 1.0, "value": 1.0},
        {"source": "b", "timestamp": 2.0, "values": {"x": 1.0, "y": 2.0}, "label": "spike"},
    ]
    assert summary(totals, 2.0) == "2 points of 2 sources in 2.0 s (1/s), 1 labelled anomalous, 1 row unreadable"


def test_labels_are_written_on_request_only():
    assert b"label" not in encode(GeneratedRecord("a", 1.0, {"value": 1.0}, "spike"), labels=False)


def test_an_endless_feed_can_be_stopped():
    async def stopped():
        forever = (GeneratedRecord("a", float(i), {"value": 1.0}) for i in iter(int, 1))
        totals = Totals()
        task = asyncio.ensure_future(feed(forever, FileOutput(io.BytesIO(), labels=False), SendSchedule(), totals))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        return task.cancelled() and totals.points > 0

    assert asyncio.run(stopped())


def test_a_series_that_goes_by_the_clock_begins_now():
    options = {"start": 5.0, "interval": 1.0, "sources": 10}
    assert live(options, set(options), None, None) == {}
    assert set(live(options, set(options), 60.0, None)) == {"start"}
    at_a_rate = live(options, set(options), None, 1000.0)
    assert at_a_rate["interval"] == 0.01 and at_a_rate["start"] > 1.7e9
    assert live(options, set(), None, 1000.0) == {}  # as the user said
    assert live({"start": None}, {"start"}, 60.0, None) == {}  # times of their own


@pytest.mark.parametrize(("text", "rate"), [("1000/s", 1000.0), ("5", 5.0), ("60/min", 1.0), ("1800/h", 0.5)])
def test_a_rate_is_a_number_per_time(text, rate):
    assert RateType()(text) == rate


@pytest.mark.parametrize("text", ["0/s", "-1", "fast", "1/day", "nan", "inf", ""])
def test_a_rate_is_above_zero(text):
    with pytest.raises(Exception, match="expected records above 0 per s, min or h"):
        RateType()(text)


def test_a_time_is_iso_or_a_number_or_now():
    assert TimeType()("1970-01-01T00:01:00Z") == 60.0
    assert TimeType()("60") == 60.0
    assert TimeType()("now") > 1.7e9
    with pytest.raises(Exception, match="expected now, an ISO 8601 time or a number, got 'soon'"):
        TimeType()("soon")

"""The reader against a fake consumer in simulated time: no broker, no sleeping."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from app.kafka.log_reader import stopped
from app.web.topics import topic_reader as module
from app.web.topics.read_positions import ReadPositions
from app.web.topics.topic_reader import TopicReader


class Broker:
    """A topic that grows at `per_s` records a second, and the time; hands out consumers of itself."""

    def __init__(self, partitions=4, per_s=0.0, before=0, begin=0):
        self.partitions, self.per_s, self.before, self.begin = partitions, per_s, before, begin
        self.now, self.end_of_time = 0.0, 10.0
        self.down_until, self.created_at, self.starts = 0.0, 0.0, 0
        self.fetched = defaultdict(list)  # partition -> offsets handed over

    def end(self):
        return self.before + int(self.now * self.per_s / self.partitions)

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.now += max(seconds, 1e-3)
        if self.now > self.end_of_time:
            raise asyncio.CancelledError

    def consumer(self):
        return Consumer(self)


class Consumer:
    def __init__(self, broker):
        self.broker, self.at, self.stopped = broker, {}, False

    async def start(self):
        self.broker.starts += 1
        if self.broker.now < self.broker.down_until:
            raise KafkaConnectionError("nobody there")

    async def stop(self):
        self.stopped = True

    async def topics(self):
        return {topic for topic in ["t"] if self.broker.now >= self.broker.created_at}

    def partitions_for_topic(self, topic):
        """As aiokafka: unknown before something of the topic was assigned, which would create a missing topic."""
        assert self.broker.now >= self.broker.created_at
        return set(range(self.broker.partitions)) if self.at else None

    def assign(self, partitions):
        self.at = {tp: None for tp in partitions}

    async def beginning_offsets(self, partitions):
        return {tp: self.broker.begin for tp in partitions}

    async def end_offsets(self, partitions):
        return {tp: self.broker.end() for tp in partitions}

    def seek(self, tp, offset):
        assert self.broker.begin <= offset <= self.broker.end()
        self.at[tp] = offset

    async def position(self, tp):
        return self.at[tp]

    async def getmany(self, *wanted, max_records):
        """As aiokafka: the first partition that has records is served first, up to the limit."""
        fetched = {}
        for tp in wanted or self.at:
            first = self.at[tp]
            last = min(self.broker.end(), first + max_records)
            if last > first:
                fetched[tp] = [
                    SimpleNamespace(offset=o, value=b"%d" % o, timestamp=1000 * o) for o in range(first, last)
                ]
                self.broker.fetched[tp.partition] += range(first, last)
                self.at[tp] = last
                max_records -= last - first
            if not max_records:
                break
        return fetched


def watch(broker, start_records=200, per_s=2_000):
    """Run the reader until the end of time; returns it, and what it handed over."""
    taken = []
    reader = TopicReader(
        "t",
        lambda value, at: taken.append((value, at)),
        broker.consumer,
        start_records,
        per_s,
        broker.clock,
        broker.sleep,
    )
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(reader.run())
    return reader, taken


def test_what_was_aborted_is_not_counted_as_skipped():
    """aiokafka gives no records of it, and its position moves on."""

    class Aborted(Consumer):
        async def getmany(self, *wanted, max_records):
            self.at = {tp: self.broker.end() if tp in wanted or not wanted else at for tp, at in self.at.items()}
            return {}

    broker = Broker(4, 4000)
    broker.consumer = lambda: Aborted(broker)
    reader, taken = watch(broker)
    assert (reader.skipped, taken, reader.state) == (0, [], "reading")


@pytest.mark.parametrize("partitions", [1, 4, 12, 700])
@pytest.mark.parametrize("per_s", [10_000, 100_000, 1_000_000])
def test_a_busy_worker_pays_for_no_more_than_the_budget(per_s, partitions):
    broker = Broker(partitions, per_s)
    reader, taken = watch(broker, start_records=0)
    assert len(taken) <= 2_000 * broker.end_of_time * 1.03
    assert reader.skipped > 0
    assert reader.produced_per_s == pytest.approx(per_s, rel=0.1)


@pytest.mark.parametrize("per_s", [200, 40_000])
def test_read_positions_know_from_where_on_every_record_was_read(per_s):
    """So that who comes back from before that place is told that something was missed."""
    broker, feed, taken = Broker(4, per_s, before=1_000), ReadPositions(), []
    reader = TopicReader(
        "t",
        lambda *record: taken.append(record),
        broker.consumer,
        100,
        2_000,
        broker.clock,
        broker.sleep,
        read_positions=feed,
    )
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(reader.run())
    read = [{offset for *_, (number, offset) in taken if number == partition} for partition in range(4)]
    ends = [feed.positions[number] for number in range(4)]
    begins = [next(at for at in range(end, -2, -1) if at - 1 not in read[number]) for number, end in enumerate(ends)]
    assert feed.since(begins) is not None and (feed.gaps > 0) == (reader.skipped > 0) == (per_s > 2_000)
    for number in range(4):
        before = [at - (partition == number) for partition, at in enumerate(begins)]
        assert feed.since(before) is None


@pytest.mark.parametrize("partitions", [1, 4, 12])
def test_a_busy_view_still_shows_something_fresh_of_every_partition(partitions):
    broker = Broker(partitions, per_s=100_000)
    watch(broker)
    for partition in range(partitions):
        age = (broker.end() - broker.fetched[partition][-1]) / (broker.per_s / partitions)
        assert age < 2.5, "seconds behind the end"


@pytest.mark.parametrize("per_s", [0, 7, 900, 1_900])
def test_a_quiet_topic_is_read_whole_and_once(per_s):
    broker = Broker(per_s=per_s, before=50)
    reader, _ = watch(broker)
    assert reader.skipped == 0
    for partition in range(4):
        offsets = broker.fetched[partition]
        assert offsets == list(range(len(offsets)))
        assert len(offsets) >= broker.end() - per_s


def test_it_starts_with_the_last_records_of_each_partition():
    broker = Broker(before=10_000, begin=9_950)
    _, taken = watch(broker)
    assert taken[0] == (b"9950", 9950.0), "value, and Kafka's time in seconds"
    assert all(broker.fetched[partition] == list(range(9_950, 10_000)) for partition in range(4))
    broker = Broker(before=10_000)
    watch(broker)
    assert all(broker.fetched[partition] == list(range(9_800, 10_000)) for partition in range(4))


def test_a_topic_that_does_not_exist_yet_is_waited_for():
    broker = Broker(before=3)
    broker.created_at = 5.0
    reader, taken = watch(broker)
    assert taken and reader.state == "reading"
    broker.created_at = 50.0
    assert watch(broker)[0].state == "waiting for topic t"


def test_a_broker_that_comes_back_is_read_from_where_it_was_left(monkeypatch):
    broker = Broker(per_s=400)
    broken = []

    async def breaks_once(self, partitions):
        if not broken and broker.now > 4.0:
            broken.append(True)
            broker.down_until = 8.5
            raise KafkaConnectionError("gone")
        return {tp: broker.end() for tp in partitions}

    monkeypatch.setattr(Consumer, "end_offsets", breaks_once)
    reader, _ = watch(broker)
    assert broken and broker.starts > 2 and reader.state == "reading"
    for offsets in broker.fetched.values():
        assert offsets == list(range(len(offsets))), "nothing shown twice, nothing left out"


def test_our_own_faults_are_not_hidden():
    def fails(value, at):
        raise ZeroDivisionError

    broker = Broker(before=1)
    reader = TopicReader("t", fails, broker.consumer, 10, 100, broker.clock, broker.sleep)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(reader.run())


def test_a_cancellation_that_leaks_out_of_aiokafka_does_not_end_the_tail(monkeypatch):
    closed = []

    class Client:
        async def close(self):
            closed.append(True)

    async def leaks(self):
        raise asyncio.CancelledError

    monkeypatch.setattr(Consumer, "stop", leaks)
    monkeypatch.setattr(Consumer, "_client", Client(), raising=False)
    broker = Broker()
    broker.down_until = 100.0
    watch(broker)
    assert broker.starts > 2 and len(closed) == broker.starts


def test_a_real_cancellation_ends_the_tail():
    async def run():
        forever = TopicReader("t", print, broker.consumer, 10, 100, broker.clock, lambda seconds: asyncio.sleep(0))
        task = asyncio.create_task(forever.run())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()

    broker = Broker()
    asyncio.run(run())


def test_aiokafka_has_what_stopping_relies_on():
    async def run():
        consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
        assert asyncio.iscoroutinefunction(consumer._client.close)
        await stopped(consumer)

    asyncio.run(run())


def test_the_consumer_belongs_to_no_group_and_fetches_little():
    assert module.CONSUMER["group_id"] is None
    assert module.CONSUMER["enable_auto_commit"] is False
    assert module.CONSUMER["max_partition_fetch_bytes"] <= 65_536


def test_a_consumer_is_stopped_even_when_it_never_started():
    broker, made = Broker(), []
    broker.down_until = 100.0

    def connect():
        made.append(broker.consumer())
        return made[-1]

    reader = TopicReader("t", print, connect, 10, 100, broker.clock, broker.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(reader.run())
    assert len(made) > 2 and all(consumer.stopped for consumer in made)
    assert reader.state.startswith("reconnecting")

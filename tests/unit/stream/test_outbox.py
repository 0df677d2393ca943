"""Record batches that go out: as large as their topic takes, and what is said when it takes less."""

import asyncio

import pytest
from aiokafka.errors import MessageSizeTooLargeError, RequestTimedOutError
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from app.compiled.byte_columns import Encoded
from app.errors import DeliveryError
from app.kafka.record_batch import CODECS
from app.stream import outbox as module
from app.stream.outbox import Outbox, stop_at_lost_batch
from app.wire.dead_letters import DeadLetter

RECORDS = [(b"pump-1", b"%03d" % i * 100) for i in range(200)]


class Producer:
    """Takes record batches as aiokafka's does."""

    def __init__(self):
        self.sent = []

    async def send_batch(self, batch, topic, partition):
        batch._set_producer_state(7, 0, 0)
        self.sent.append(bytes(batch._build()))
        return asyncio.get_running_loop().create_future()


def sent(records, limits, most=20_000, codec="none"):
    """The record batches that are made of these."""
    producer = Producer()
    asyncio.run(Outbox(lambda: producer, 1.0, most, limits, codec).send("t", 0, records))
    return producer.sent


def read(batches):
    return [(record.key, record.value) for data in batches for record in MemoryRecords(data).next_batch()]


@pytest.mark.parametrize("records", [RECORDS, Encoded.of(RECORDS)], ids=["records", "columns"])
def test_batches_are_as_large_as_their_topic_takes(records):
    for limits, most in (({}, 20_061), ({"t": 5000}, 5000), ({"t": 10**6}, 20_061), ({"another": 10}, 20_061)):
        batches = sent(records, limits)
        assert read(batches) == RECORDS
        assert 0.8 * most < max(map(len, batches)) <= most


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("records", [RECORDS, Encoded.of(RECORDS)], ids=["records", "columns"])
def test_batches_are_packed_and_fit_also_where_a_broker_unpacks_them(records, codec):
    batches = sent(records, {"t": 5000}, codec=codec)
    assert {data[22] for data in batches} == {CODECS[codec]}
    assert read(batches) == RECORDS and len(batches) == len(sent(records, {"t": 5000}))


def test_limits_that_change_are_followed():
    limits = {"t": 10_000}
    producer = Producer()
    outbox = Outbox(lambda: producer, 1.0, 20_000, limits)
    for limit in (10_000, 2000, 10_000):
        producer.sent.clear()
        limits["t"] = limit
        asyncio.run(outbox.send("t", 0, Encoded.of(RECORDS)))
        assert limit / 2 < max(map(len, producer.sent)) <= limit


def test_a_record_that_its_topic_does_not_take_is_named_before_it_is_sent():
    with pytest.raises(
        DeliveryError, match=r"t: a record makes a batch of \d+ bytes, .* accepts 5000: .*max.message.bytes=\d+"
    ):
        sent(Encoded.of([*RECORDS, (b"k", bytes(6000))]), {"t": 5000})


@pytest.mark.parametrize("limit", [4096, 10_000, 100_000, 1_048_588])
def test_a_dead_letter_fits_into_what_its_topic_takes(limit):
    """However large the record is, and its headers; with a usual limit it is as it was."""
    letter = DeadLetter(7, 0, "r" * 5000, "empty", bytes(700_000), bytes(900_000), [("h", bytes(50_000))] * 9)
    record = letter.record("t" * 249, 10**6, limit)
    assert record == letter.record("t" * 249, 10**6, limit)
    [batch] = sent([record], {"t": limit}, most=900_000)
    assert 0.5 * min(limit, 900_000) < len(batch) <= limit
    assert (limit >= 2**20) == (record == letter.record("t" * 249, 10**6))
    headers = dict(record[2])
    assert headers["value-length"] == b"900000" and headers["headers-dropped"]


def test_a_refused_size_says_what_happens_next(monkeypatch):
    said = []
    monkeypatch.setattr(module, "stop_process", lambda error: said.append(str(error)))
    stop_at_lost_batch(TopicPartition("anomaly-results", 3), MessageSizeTooLargeError())
    assert "anomaly-results: the broker accepts no record batch" in said[0] and "DescribeConfigs" in said[0]
    stop_at_lost_batch(TopicPartition("anomaly-results", 3), RequestTimedOutError())
    assert "anomaly-results[3]: a record batch was lost" in said[-1]


def test_one_caller_at_a_time_waits_for_a_partition_and_others_do_not_wait_for_it():
    """aiokafka counts the time of each wait again for all before it: ten callers gave up after seconds, not thirty."""

    class Slow(Producer):
        waiting, most, order = 0, 0, []

        async def send_batch(self, batch, topic, partition):
            if partition == 0:
                self.waiting += 1
                self.most = max(self.most, self.waiting)
                await asyncio.sleep(0.002)
                self.waiting -= 1
            self.order.append(partition)
            return await super().send_batch(batch, topic, partition)

    async def run():
        outbox = Outbox(lambda: producer, 10.0, 5000)
        await asyncio.gather(*(outbox.send("t", partition, RECORDS) for partition in (0, 0, 0, 0, 1)))

    producer = Slow()
    asyncio.run(run())
    assert producer.most == 1
    assert producer.order.index(1) < 3 and producer.order[-1] == 0
    keys = [record.value for data in producer.sent for record in MemoryRecords(data).next_batch()]
    assert len(keys) == 5 * len(RECORDS)

"""Results out of a real broker, written as a worker writes them: by id, by source and time, and as they come."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer
from integration import load
from support import kafka_tools
from support.made_log import result

from app.compiled.byte_columns import Encoded
from app.errors import Unreadable
from app.kafka.record_batch import framed
from app.web.stored_results.queries import StoredResults

POINTS, SOURCES = 3_000, 30


async def write(servers, topic, number, values, written):
    """In batches of some kB, packed, all of this time (epoch s)."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        batches = framed(Encoded.of([(b"k", value) for value in values]), 8_000, int(written * 1000), "zstd")
        for one in [await producer.send_batch(batch, topic, partition=number) for batch in batches]:
            await one
    finally:
        await producer.stop()


def test_results_of_a_real_broker(job):
    settings, servers = job.settings(), job.servers
    kafka = settings.kafka
    for topic in (kafka.input_topic, kafka.output_topic):
        kafka_tools.create_topic(servers, topic, 2)
    now = time.time() - 7200.0
    raw = [b'{"source":"pump-%d","timestamp":%f,"value":1}' % (n % SOURCES, now + n) for n in range(POINTS + 2)]
    load.produce(servers, kafka.input_topic, [(1, b"pump-%d" % (n % SOURCES), raw[n]) for n in range(POINTS + 2)])
    made = [result(1, n, f"pump-{n % SOURCES}", now + n) for n in range(POINTS + 2)]
    made = [one.replace(b'"id":"raw-data:', b'"id":"%b:' % kafka.input_topic.encode()) for one in made]

    def of(n):
        return f"{kafka.input_topic}:1:{n}:0"

    async def ask():
        for at in range(0, POINTS, 300):
            await write(servers, kafka.output_topic, 1, made[at : at + 300], now + at + 300)
        kept = StoredResults(settings)
        try:
            found = [await kept.result(of(n)) for n in (0, 1_234, POINTS - 1, POINTS, POINTS + 2)]
            begin, end = now + 1_000, now + 1_900
            pages = [await kept.series("pump-7", None, begin, end, partitions=[1], limit=20)]
            pages.append(await kept.series("pump-7", None, begin, end, limit=20, cursor=pages[0].cursor))
            async with kept.expecting([1]) as expected:
                waiting = asyncio.create_task(expected.wait({of(POINTS): 1, of(POINTS + 1): 1}, 240.0))
                await write(servers, kafka.output_topic, 1, made[POINTS:], time.time())
                return found, pages, await waiting
        finally:
            await kept.stop()

    (first, some, last, pending, never), (page, rest), awaited = asyncio.run(ask())
    assert [first, some, last] == [made[0], made[1_234], made[POINTS - 1]]
    assert (pending.state, never.state) == ("pending", "never")
    assert page.results + rest.results == [made[n] for n in range(1_000, 1_900) if n % SOURCES == 7]
    assert rest.complete and not page.complete
    assert awaited == {of(POINTS): made[POINTS], of(POINTS + 1): made[POINTS + 1]}


def test_a_missing_topic_is_not_made(job):
    async def ask():
        kept = StoredResults(job.settings())
        try:
            await kept.result(f"{job.kafka['input_topic']}:0:0:0")
        finally:
            await kept.stop()

    with pytest.raises(Unreadable, match=job.kafka["output_topic"]):
        asyncio.run(ask())
    assert job.kafka["output_topic"] not in kafka_tools.topics(job.servers)

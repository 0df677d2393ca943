"""The history and the decisions of people on a real broker."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer
from support import kafka_tools
from support.kafka_tools import HANG_S

from app.errors import TopicError
from app.kafka import decisions
from app.metrics import Metrics
from app.store import history as module
from app.store.history import History
from app.wire.decisions import Acknowledgement, Silence
from tests.unit.store.logs import Topics, event, notification


async def until(true):
    async with asyncio.timeout(HANG_S):
        while not await true():
            await asyncio.sleep(0.05)


async def produce(kafka, topics):
    """What was written to the topics of a test goes to those of the job; nothing is left of it."""
    names = {"anomalies": kafka.anomalies_topic, "group-notifications": kafka.notifications_topic}
    for (topic, partition), log in topics.logs.items():
        records = [(record.key, record.value) for record in log]
        if records:
            await kafka_tools.aproduce(kafka.bootstrap_servers[0], names[topic], records, partition)
        log.clear()


async def abort(kafka):
    """A transaction that wrote an episode and was aborted."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id="aborts")
    await producer.start()
    await producer.begin_transaction()
    topics = Topics()
    topics.write(event("aborted"))
    [record] = topics.of("anomalies")
    await producer.send_and_wait(kafka.anomalies_topic, record.value, record.key, partition=0)
    await producer.abort_transaction()
    await producer.stop()


def test_the_history_follows_its_topics_whatever_happens_to_them(job, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECK_S", 0.2)
    settings = job.settings(storage={"url": f"sqlite:///{tmp_path / 'history.db'}"})
    kafka, [servers] = settings.kafka, settings.kafka.bootstrap_servers
    now = time.time()

    async def lived():
        metrics = Metrics("python")
        history = History(settings, metrics)

        def holds(*names):
            async def asked():
                return {one.id for one in (await history.episodes()).episodes} == set(names)

            return asked

        topics = Topics()
        await history.start()  # there are no topics
        await until(lambda: asyncio.sleep(0, history.status()["state"] == "reading"))
        for name in (kafka.anomalies_topic, kafka.notifications_topic):
            await kafka_tools.acreate_topic(servers, name, 2)
        with pytest.raises(TopicError, match=f"topic {kafka.decisions_topic} is missing.*topics --create"):
            await decisions.write(kafka, Acknowledgement("a", "ann", now))
        await kafka_tools.acreate_topic(servers, kafka.decisions_topic, 1, cleanup_policy="compact")

        topics.write(event("a"))
        topics.write(event("b"), partition=1)
        topics.write(notification("n", "sent", event("a")), partition=1)
        await produce(kafka, topics)
        await abort(kafka)
        await decisions.write(kafka, Acknowledgement("a", "ann", now, "on it"))
        await until(holds("a", "b"))
        await until(lambda: asyncio.sleep(0, history.status()["lag"] == 0))
        await until(lambda: history.decisions("a"))
        assert [one.id for one in await history.notifications("a")] == ["n"]

        silence = Silence("s", ["source=a"], now, now + 60, "ann")
        await decisions.write(kafka, silence)
        assert await decisions.silences(kafka) == {"s": silence}

        await kafka_tools.aadd_partitions(servers, kafka.anomalies_topic, 3)
        topics.logs["anomalies", 2] = []
        topics.write(event("c"), partition=2)
        await produce(kafka, topics)
        await until(holds("a", "b", "c"))

        await kafka_tools.adelete_topics(servers, kafka.anomalies_topic)
        await until(lambda: asyncio.sleep(0, history.status()["state"] == "reading"))
        await kafka_tools.acreate_topic(servers, kafka.anomalies_topic, 2)
        for number in range(5):  # as long as the first one was
            topics.write(event(f"d{number}"))
        await produce(kafka, topics)
        await until(holds(*(f"d{number}" for number in range(5))))
        assert [one.id for one in await history.notifications("a")] == ["n"]
        await history.stop()

    asyncio.run(lived())

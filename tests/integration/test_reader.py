"""What recovery reads the logs with, against a real broker."""

import asyncio

import pytest
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition
from integration import load
from integration.run import Run

from app.kafka import patches
from app.kafka.fetched import Fetched
from app.stream.recovery import reader_of
from app.stream.takeover import Logs

RAW = [b'{"source":"p","value":%d}' % i for i in range(50)]


@pytest.fixture
def kafka_of_a_job(job, tmp_path):
    run = Run(job, tmp_path).make_topics(2)
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, [(1, b"p", value) for value in RAW])
    return run.kafka


def test_it_knows_where_its_topics_are_when_it_has_started(kafka_of_a_job):
    """Else each of them costs the waiting time between two looks, at every rebalance."""
    kafka = kafka_of_a_job

    async def leaders():
        reader = reader_of(kafka)
        await reader.start()
        try:
            topics = (kafka.input_topic, kafka.output_topic, kafka.changelog_topic)
            return [reader._client.cluster.leader_for_partition(TopicPartition(topic, 1)) for topic in topics]
        finally:
            await asyncio.sleep(0)  # aiokafka 0.14: stop() raises where its tasks have not begun
            await reader.stop()

    assert None not in asyncio.run(leaders())


def test_it_reads_each_log_from_where_it_is_told_to_its_end(kafka_of_a_job, monkeypatch):
    for owner, name in [(fetcher, "MemoryRecords"), (fetcher.PartitionRecords, "_unpack_records")]:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    patches.unpack_fetches(partly_read=(kafka_of_a_job.output_topic,), whole_fetches=True)

    async def read():
        reader = reader_of(kafka_of_a_job)
        await reader.start()
        try:
            logs = await Logs.of(reader, kafka_of_a_job, [0, 1])
            begin = {logs.raw(0): 0, logs.raw(1): 20}
            return [fetches async for fetched in logs.read(reader, begin) for fetches in fetched.items()]
        finally:
            await reader.stop()

    found = asyncio.run(read())
    assert {log.partition for log, _ in found} == {1}
    fetches = [fetch for _, fetches in found for fetch in fetches]
    assert all(isinstance(fetch, Fetched) for fetch in fetches)
    records = [fetch.records() for fetch in fetches]
    assert [one.value(i) for one in records for i in range(len(one.offsets))] == RAW[20:]

"""Plain aiokafka for tests: make topics, produce, read everything. Independent of the program's own clients.

Every function opens and closes its own client, takes ``servers`` ("127.0.0.1:20001") first and may be called
from a test without a running loop; those called from a loop are the coroutines with ``a`` before their name.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.new_partitions import NewPartitions
from aiokafka.errors import for_code

Record = tuple[Any, ...]  # key, value, and maybe its time, ms
HANG_S = 240.0  # ends a wait that never would; nothing here is about speed


@asynccontextmanager
async def administration(servers: str | list[str]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def acreate_topic(servers: str, name: str, partitions: int = 1, **configs: str) -> None:
    """``configs``: names with ``_`` for ``.``; returns when the topic can be used."""
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    async with administration(servers) as admin:
        [(_, code, message)] = (
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        ).topic_errors
        if code:
            raise for_code(code)(message)
        while name not in await admin.list_topics():
            await asyncio.sleep(0.02)


async def atopics(servers: str) -> dict[str, int]:
    """Topic -> number of partitions."""
    async with administration(servers) as admin:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def aconfigs(servers: str, topic: str) -> dict[str, str]:
    async with administration(servers) as admin:
        [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}


async def aset_configs(servers: str, topic: str, **configs: str) -> None:
    """All that the topic has of its own from here on: what is not named goes back to the broker's default."""
    wanted = {name.replace("_", "."): value for name, value in configs.items()}
    async with administration(servers) as admin:
        [answer] = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
        assert all(resource[0] == 0 for resource in answer.resources), answer


async def aadd_partitions(servers: str, topic: str, partitions: int) -> None:
    """Until the topic has so many."""
    async with administration(servers) as admin:
        await admin.create_partitions({topic: NewPartitions(partitions)})


async def adelete_topics(servers: str, *names: str) -> None:
    async with administration(servers) as admin:
        await admin.delete_topics(list(names))


async def aproduce(
    servers: str, topic: str, records: Iterable[Record], partition: int | None = None
) -> list[tuple[int, int]]:
    """(partition, offset) of each record, acked by the broker (acks=all); the default partitioner unless told."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5)
    await producer.start()
    try:
        futures = [await producer.send(topic, value, key, partition, *at) for key, value, *at in records]
        return [(ack.partition, ack.offset) for ack in await asyncio.gather(*futures)]
    finally:
        await producer.stop()


async def aend_offsets(servers: str, topic: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers)
    await consumer.start()
    try:
        partitions = await _partitions(consumer, topic)
        return {tp.partition: end for tp, end in (await consumer.end_offsets(partitions)).items()}
    finally:
        await consumer.stop()


async def aconsume(servers: str, topic: str, timeout_s: float = HANG_S) -> list[ConsumerRecord]:
    """Every record up to the present end of the topic, as committed: by partition, then offset."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        partitions = await _partitions(consumer, topic)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(timeout_s):
            for tp in partitions:
                while await consumer.position(tp) < ends[tp]:
                    for batch in (await consumer.getmany(timeout_ms=200)).values():
                        records += batch
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def await_records(servers: str, topic: str, count: int, timeout_s: float = HANG_S) -> list[ConsumerRecord]:
    """Every record of the topic, as soon as there are ``count`` in all of its partitions."""
    async with asyncio.timeout(timeout_s):
        while sum((await aend_offsets(servers, topic)).values()) < count:
            await asyncio.sleep(0.1)
    return await aconsume(servers, topic)


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    async with asyncio.timeout(HANG_S):
        while not (numbers := consumer.partitions_for_topic(topic)):
            consumer._client.add_topic(topic)
            await consumer._client.force_metadata_update()
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def create_topic(servers: str, name: str, partitions: int = 1, **configs: str) -> None:
    asyncio.run(acreate_topic(servers, name, partitions, **configs))


def topics(servers: str) -> Mapping[str, int]:
    return asyncio.run(atopics(servers))


def configs(servers: str, topic: str) -> Mapping[str, str]:
    return asyncio.run(aconfigs(servers, topic))


def set_configs(servers: str, topic: str, **configs: str) -> None:
    asyncio.run(aset_configs(servers, topic, **configs))


def add_partitions(servers: str, topic: str, partitions: int) -> None:
    asyncio.run(aadd_partitions(servers, topic, partitions))


def delete_topics(servers: str, *names: str) -> None:
    asyncio.run(adelete_topics(servers, *names))


def produce(
    servers: str, topic: str, records: Iterable[Record], partition: int | None = None
) -> Sequence[tuple[int, int]]:
    return asyncio.run(aproduce(servers, topic, records, partition))


def end_offsets(servers: str, topic: str) -> Mapping[int, int]:
    return asyncio.run(aend_offsets(servers, topic))


def consume(servers: str, topic: str, timeout_s: float = HANG_S) -> Sequence[ConsumerRecord]:
    return asyncio.run(aconsume(servers, topic, timeout_s))


def wait_for_records(servers: str, topic: str, count: int, timeout_s: float = HANG_S) -> Sequence[ConsumerRecord]:
    return asyncio.run(await_records(servers, topic, count, timeout_s))

"""What the harness asks of the broker: topics, waiting records, end offsets, lag, all answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import DefaultPartitioner

from tests.bench.job import PARTITIONS

PARTITION_IDS = list(range(PARTITIONS))


class Cluster:
    """One broker; used as an asynchronous context. ``codec`` packs what it writes; "none" leaves it as it is."""

    def __init__(self, broker: str, codec: str = "none") -> None:
        self.broker = broker
        self.admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        self.reader = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
        packs = None if codec == "none" else codec
        self.producer = AIOKafkaProducer(
            bootstrap_servers=broker, acks="all", max_batch_size=262_144, compression_type=packs
        )

    async def __aenter__(self) -> "Cluster":
        for client in (self.admin, self.reader, self.producer):
            await client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()
        await self.reader.stop()
        await self.admin.close()

    async def create(self, topic: str, stamp_on_append: bool = False, **config: str) -> None:
        """``stamp_on_append``: the broker's clock at append becomes each record's time."""
        if stamp_on_append:
            config["message.timestamp.type"] = "LogAppendTime"
        await self.admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=config)])
        while len(await self.producer.partitions_for(topic)) < PARTITIONS:
            await asyncio.sleep(0.05)

    async def fill(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Writes (key, value) pairs in large batches and returns when the broker has them."""
        batches = {p: self.producer.create_batch() for p in PARTITION_IDS}
        acks = []
        for key, value in records:
            p = partition_of(key)
            if batches[p].append(key=key, value=value, timestamp=None) is None:
                acks.append(await self.producer.send_batch(batches[p], topic, partition=p))
                batches[p] = self.producer.create_batch()
                batches[p].append(key=key, value=value, timestamp=None)
        for p, batch in batches.items():
            acks.append(await self.producer.send_batch(batch, topic, partition=p))
        await asyncio.gather(*acks)

    async def ends(self, topic: str) -> list[int]:
        """End offset of each partition."""
        ends = await self.reader.end_offsets([TopicPartition(topic, p) for p in PARTITION_IDS])
        return [ends[TopicPartition(topic, p)] for p in PARTITION_IDS]

    async def lag(self, group: str, topic: str) -> int:
        """Records past the group's committed offsets, as any lag tool counts them."""
        committed = await self.admin.list_consumer_group_offsets(group)
        offsets = [committed.get(TopicPartition(topic, p)) for p in PARTITION_IDS]
        ends = await self.ends(topic)
        return sum(end - (max(said.offset, 0) if said else 0) for end, said in zip(ends, offsets))

    async def lag_after(self, group: str, topic: str, patience_s: float = 10.0) -> int:
        """The lag once it is 0, or what is left of it after the wait."""
        deadline = time.monotonic() + patience_s
        while (lag := await self.lag(group, topic)) and time.monotonic() < deadline:
            await asyncio.sleep(0.25)
        return lag

    async def members(self, group: str) -> int:
        """Members of the group while it is stable, else 0."""
        [response] = await self.admin.describe_consumer_groups([group])
        _, _, state, _, _, members, *_ = response.groups[0]
        return len(members) if state == "Stable" else 0

    async def read(self, topic: str) -> AsyncIterator[tuple[int, list[ConsumerRecord]]]:
        """All records there are now as (partition, records), each partition's oldest first."""
        ends = await self.ends(topic)
        async with AIOKafkaConsumer(bootstrap_servers=self.broker, enable_auto_commit=False) as consumer:
            partitions = [TopicPartition(topic, p) for p in PARTITION_IDS]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            while any([await consumer.position(tp) < end for tp, end in zip(partitions, ends)]):
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    yield tp.partition, records


_partition = DefaultPartitioner()
_known: dict[bytes, int] = {}


def partition_of(key: bytes) -> int:
    """Where Kafka's own clients put the key (murmur2)."""
    if key not in _known:
        _known[key] = _partition(key, PARTITION_IDS, PARTITION_IDS)
    return _known[key]

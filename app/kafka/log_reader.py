"""A consumer without a group that gives both end offsets of a partition, and can fetch at any offset.

aiokafka's ``end_offsets`` gives a ``read_committed`` consumer the last stable offset: where the first open transaction
begins, or the end of the log without one. Only the end of the log shows whether an offset was ever in it.

``fetch`` requests one piece of a log and nothing more. A consumer with an assignment reads ahead, which is wasted in a
search, and after a seek the fetch for the old position comes first.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.errors import KafkaError, KafkaTimeoutError, NodeNotReadyError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from app.kafka.patches import with_isolation_level

LATEST = -1
AGAIN_S = 0.1
# Of a partition in the answer, from version 5 of the protocol on (Kafka 1.0) with the offset at which the log begins.
NUMBER, ERROR, STABLE, ABORTED, DATA = 0, 1, 3, -2, -1
FOLLOWERS_FROM = 11  # the version whose answers name a replica to read from, before the data


class PartitionData(NamedTuple):
    """The response of a broker to one fetch from one partition."""

    data: bytes  # record batches as they were written, the last one maybe cut off: see app/kafka/fetched.py
    first: int  # offset asked for; the first batch may begin before it
    aborted: list[tuple[int, int]]  # (producer, first offset) of aborted transactions in it
    stable: int  # last stable offset: a read_committed consumer can read up to it


class LogReader(AIOKafkaConsumer):
    """aiokafka's consumer; what is added raises KafkaError when there is no answer in time."""

    async def count(self, topic: str) -> int:
        """How many partitions the topic has; asking does not create it.

        UnknownTopicOrPartitionError when it does not exist, or this user may not see it.
        """
        if known := self.partitions_for_topic(topic):
            return len(known)
        if topic not in await self.topics():
            raise UnknownTopicOrPartitionError(topic)
        return len(await self._client._wait_on_metadata(topic))

    def leader(self, partition: TopicPartition) -> int | None:
        """The broker that leads it; None while that is not known."""
        node = self._client.cluster.leader_for_partition(partition)
        return None if node in (None, -1) else node

    async def fetch(self, partition: TopicPartition, offset: int, size: int, wait_ms: int = 0) -> PartitionData:
        """A piece of this partition.

        Parameters
        ----------
        offset
            Of the first record wanted. OffsetOutOfRangeError when it is beyond the end of the log, or before its start.
        size
            Bytes; the broker sends at least one whole batch, when there is one.
        wait_ms
            How long the broker waits for a record, when there is none.
        """
        try:
            async with asyncio.timeout(self._request_timeout_ms / 1000):
                while True:
                    answer = await self.fetch_of_leader({partition: offset}, size, wait_ms)
                    found = answer.get(partition, NodeNotReadyError(partition))
                    if isinstance(found, PartitionData):
                        return found
                    if not found.retriable:
                        raise found
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise KafkaTimeoutError(f"no answer to a fetch from {partition} in {self._request_timeout_ms} ms") from None

    async def fetch_of_leader(
        self, offsets: Mapping[TopicPartition, int], size: int, wait_ms: int, most: int = 1 << 30
    ) -> dict[TopicPartition, PartitionData | KafkaError]:
        """Pieces of partitions that one broker leads; empty when that broker is not known or cannot be reached.

        ``size``: bytes of each; ``most``: of all, so that the last ones may get nothing. Where the response says that
        another broker leads, the metadata is updated.
        """
        node = self.leader(next(iter(offsets)))
        by_topic: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for (topic, number), offset in offsets.items():
            by_topic[topic].append((number, offset, size))
        request = FetchRequest(wait_ms, 1, min(size * len(offsets), most), READ_COMMITTED, list(by_topic.items()))
        try:
            if node is None:
                raise NodeNotReadyError(offsets)
            answer = await self._client.send(node, request)
        except KafkaError as error:
            if not error.retriable:
                raise
            self._client.force_metadata_update()
            return {}
        found: dict[TopicPartition, PartitionData | KafkaError] = {}
        for topic, parts in answer.topics:
            for part in parts:
                partition = TopicPartition(topic, part[NUMBER])
                found[partition] = self._partition_data(answer.API_VERSION, offsets[partition], part)
        return found

    def _partition_data(self, version: int, first: int, part: Any) -> PartitionData | KafkaError:
        if part[ERROR]:
            error: KafkaError = for_code(part[ERROR])(part)
            if error.invalid_metadata:
                self._client.force_metadata_update()
            return error
        aborted = part[ABORTED - 1 if version >= FOLLOWERS_FROM else ABORTED]
        return PartitionData(part[DATA], first, list(aborted or ()), part[STABLE])

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last record of each, with open and aborted transactions."""
        return await self._ends(partitions, READ_UNCOMMITTED)

    async def last_stable_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset up to which a read_committed consumer can read: at most that of ``end_offsets``."""
        return await self._ends(partitions, READ_COMMITTED)

    async def _ends(self, partitions: Iterable[TopicPartition], isolation_level: int) -> dict[TopicPartition, int]:
        fetcher = with_isolation_level(self._fetcher, isolation_level)
        found = await fetcher._retrieve_offsets(dict.fromkeys(partitions, LATEST), self._request_timeout_ms)
        return {partition: offset for partition, (offset, _) in found.items()}


async def stopped(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, also when its broker is away.

    aiokafka 0.14: while a fetch waits for such a broker, stop() raises the CancelledError of that fetch, as if the
    caller had been cancelled (the reader then ended silently), and leaves the client's tasks running.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        await consumer._client.close()

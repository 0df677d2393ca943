"""A consumer without a group that knows both ends of a partition, and reads at any offset.

aiokafka's ``end_offsets`` gives a reader of what is committed the last stable offset: where the first open transaction
begins, or the end of the log without one. Whether an offset was ever in the log is only to be seen by the end itself.

``fetch`` asks for one piece of a log and for nothing more. What a consumer does with an assignment is made for reading
on and on: it fetches ahead, which a search throws away, and after a seek the fetch for the old place comes first.
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


class Chunk(NamedTuple):
    """What a broker answered to one fetch from one partition."""

    data: bytes  # record batches as they were written, the last one maybe cut off: see app/kafka/fetched.py
    first: int  # offset asked for; the first batch may begin before it
    aborted: list[tuple[int, int]]  # (producer, first offset) of aborted transactions in it
    stable: int  # offset up to which a reader of what is committed can come


class LogReader(AIOKafkaConsumer):
    """aiokafka's consumer; what is added raises KafkaError when there is no answer in time."""

    async def count(self, topic: str) -> int:
        """How many partitions the topic has; it is not made by asking.

        UnknownTopicOrPartitionError when it is not there, or this user may not see it.
        """
        if known := self.partitions_for_topic(topic):
            return len(known)
        if topic not in await self.topics():
            raise UnknownTopicOrPartitionError(topic)
        return len(await self._client._wait_on_metadata(topic))

    def leader(self, partition: TopicPartition) -> int | None:
        """The broker that is asked for it; None while that is not known."""
        node = self._client.cluster.leader_for_partition(partition)
        return None if node in (None, -1) else node

    async def fetch(self, partition: TopicPartition, offset: int, size: int, wait_ms: int = 0) -> Chunk:
        """A piece of this partition.

        Parameters
        ----------
        offset
            Of the first record wanted. OffsetOutOfRangeError when the log does not reach so far, or not so far back.
        size
            Bytes; the broker gives one whole batch at least, when there is one.
        wait_ms
            How long it waits for a record, when there is none.
        """
        try:
            async with asyncio.timeout(self._request_timeout_ms / 1000):
                while True:
                    answer = await self.fetch_of_leader({partition: offset}, size, wait_ms)
                    found = answer.get(partition, NodeNotReadyError(partition))
                    if isinstance(found, Chunk):
                        return found
                    if not found.retriable:
                        raise found
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise KafkaTimeoutError(f"no answer to a fetch from {partition} in {self._request_timeout_ms} ms") from None

    async def fetch_of_leader(
        self, offsets: Mapping[TopicPartition, int], size: int, wait_ms: int, most: int = 1 << 30
    ) -> dict[TopicPartition, Chunk | KafkaError]:
        """Pieces of partitions that one broker leads; empty when it is not known or cannot be reached.

        ``size``: of each of them; ``most``: of all, so that the last ones may get nothing. Where the answer is an error
        of that kind, the leader is looked up anew.
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
        found: dict[TopicPartition, Chunk | KafkaError] = {}
        for topic, parts in answer.topics:
            for part in parts:
                partition = TopicPartition(topic, part[NUMBER])
                found[partition] = self._chunk(answer.API_VERSION, offsets[partition], part)
        return found

    def _chunk(self, version: int, first: int, part: Any) -> Chunk | KafkaError:
        if part[ERROR]:
            error: KafkaError = for_code(part[ERROR])(part)
            if error.invalid_metadata:
                self._client.force_metadata_update()
            return error
        aborted = part[ABORTED - 1 if version >= FOLLOWERS_FROM else ABORTED]
        return Chunk(part[DATA], first, list(aborted or ()), part[STABLE])

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last record of each, whatever transaction it is of."""
        return await self._ends(partitions, READ_UNCOMMITTED)

    async def last_stable_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset up to which a reader of what is committed comes: at most that of ``end_offsets``."""
        return await self._ends(partitions, READ_COMMITTED)

    async def _ends(self, partitions: Iterable[TopicPartition], isolation_level: int) -> dict[TopicPartition, int]:
        fetcher = with_isolation_level(self._fetcher, isolation_level)
        found = await fetcher._retrieve_offsets(dict.fromkeys(partitions, LATEST), self._request_timeout_ms)
        return {partition: offset for partition, (offset, _) in found.items()}


async def stopped(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, whatever state its broker is in.

    aiokafka 0.14: while a fetch waits for a broker that is away, stop() lets the cancellation of that fetch out, as
    if the caller had been cancelled (the reader then ended silently), and leaves the client's tasks running.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        await consumer._client.close()

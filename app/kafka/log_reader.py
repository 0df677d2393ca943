"""A consumer without a group that knows both ends of a partition.

aiokafka's ``end_offsets`` gives a reader of what is committed the last stable offset: where the first open transaction
begins, or the end of the log without one. Whether an offset was ever in the log is only to be seen by the end itself.
"""

import asyncio
import copy
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.structs import TopicPartition

LATEST = -1


class LogReader(AIOKafkaConsumer):
    """aiokafka's consumer; both methods raise KafkaError when there is no answer in time."""

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last record of each, whatever transaction it is of."""
        return await self._ends(partitions, READ_UNCOMMITTED)

    async def last_stable_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset up to which a reader of what is committed comes: at most that of ``end_offsets``."""
        return await self._ends(partitions, READ_COMMITTED)

    async def _ends(self, partitions: Iterable[TopicPartition], isolation_level: int) -> dict[TopicPartition, int]:
        asking = copy.copy(self._fetcher)  # it knows one level
        asking._isolation_level = isolation_level
        found = await asking._retrieve_offsets(dict.fromkeys(partitions, LATEST), self._request_timeout_ms)
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

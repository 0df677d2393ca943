"""Sends records in order and waits for their acknowledgements until a deadline.

Record batches are built here and handed to the producer whole (``send_batch``): one future for hundreds of records.
The producer is idempotent and retries without end, so the deadline is here. When the producer gives up a batch, the
process ends inside aiokafka's own failure path, before the next batch of the partition can be sent: results must have
no gaps.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import TopicPartition

from app.compiled.byte_columns import Encoded
from app.errors import DeliveryError
from app.kafka.record_batch import CODECS, framed
from app.stream.crash import describe, stop_process

Header = tuple[str, bytes]
Record = tuple[bytes | None, bytes | None] | tuple[bytes | None, bytes | None, Sequence[Header]]  # key, value, headers


ROOM = 100  # bytes around the records of a batch


class Sent(NamedTuple):
    """One record batch that was sent: the future of its acknowledgement, and its number of records."""

    acknowledged: asyncio.Future[Any]
    records: int


class Outbox:
    """Sends to any topic.

    Parameters
    ----------
    producer
        Gives the started aiokafka producer.
    timeout_s
        The deadline of an acknowledgement.
    batch_bytes
        Largest record batch, unless its topic accepts less.
    limits
        topic -> bytes of the largest record batch that it accepts, where known; may change.
    codec
        One of app.kafka.record_batch.CODECS. Limits hold for the uncompressed batch: a topic may store it so.
    """

    def __init__(
        self,
        producer: Callable[[], AIOKafkaProducer],
        timeout_s: float,
        batch_bytes: int,
        limits: Mapping[str, int] | None = None,
        codec: str = "none",
    ) -> None:
        self._started = producer
        self._timeout_s = timeout_s
        self._batch_bytes = batch_bytes
        self._limits = limits if limits is not None else {}
        self._codec = codec
        self._locks: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def _producer(self) -> AIOKafkaProducer:
        return self._started()

    async def send(self, topic: str, partition: int, records: Sequence[Record] | Encoded) -> list[Sent]:
        """Hand over records (key, value) or (key, value, headers), in order; does not wait for acknowledgements.

        One caller at a time for each partition: while several wait for aiokafka to accept a batch, it adds up their
        waiting times, and gives up after a part of its timeout.

        Raises DeliveryError when the producer accepts nothing more within the deadline.
        """
        sent: list[Sent] = []
        if not records:
            return sent
        batches = self._framed(topic, records) if isinstance(records, Encoded) else self._batches(topic, records)
        try:
            async with asyncio.timeout(self._timeout_s), self._locks[topic, partition]:
                for batch in batches:
                    future = await self._producer.send_batch(batch, topic, partition=partition)
                    sent.append(Sent(future, batch.record_count()))
        except TimeoutError as error:
            raise self._too_late() from error
        return sent

    async def acknowledged(self, sent: Sequence[Sent]) -> int | None:
        """Wait for the acknowledgements. Returns the offset after the last record, None if nothing was sent.

        Raises DeliveryError when one fails or the deadline passes.
        """
        if not sent:
            return None
        end = None
        try:
            async with asyncio.timeout(self._timeout_s):
                for future, records in sent:
                    end = (await asyncio.shield(future)).offset + records
        except TimeoutError as error:
            raise self._too_late() from error
        return end

    def _too_late(self) -> DeliveryError:
        return DeliveryError(
            f"no acknowledgement within {self._timeout_s:g} s (kafka.ack_timeout_s): is the broker reachable?"
        )

    def _max_batch_bytes(self, topic: str) -> int:
        """Bytes of a record batch to this topic; a broker that compresses it again may make it a little larger."""
        limit = self._limits.get(topic)
        return self._batch_bytes if limit is None else min(self._batch_bytes, limit - limit // 1000 - ROOM)

    def _framed(self, topic: str, records: Encoded) -> Iterable[Any]:
        for batch in framed(records, self._max_batch_bytes(topic), int(time.time() * 1000), self._codec):
            if (size := batch.size()) > self._limits.get(topic, size):
                raise DeliveryError(
                    f"{topic}: a record makes a batch of {size} bytes, and the topic accepts {self._limits[topic]}: "
                    f"`kafka-configs.sh --alter --topic {topic} --add-config max.message.bytes={size}`"
                )
            yield batch

    def _batches(self, topic: str, records: Iterable[Record]) -> Iterable[Any]:
        now_ms = int(time.time() * 1000)
        batch = None
        for key, value, *headers in records:
            attached = headers[0] if headers else []
            if batch is not None and batch.append(key=key, value=value, timestamp=now_ms, headers=attached) is None:
                batch.close()
                yield batch
                batch = None
            if batch is None:
                batch = BatchBuilder(self._max_batch_bytes(topic), CODECS[self._codec])
                batch.append(key=key, value=value, timestamp=now_ms, headers=attached)  # the first is always taken
        if batch is not None:
            batch.close()
            yield batch


def stop_at_lost_batch(partition: TopicPartition, error: Exception) -> NoReturn:
    """End this process when the producer gives up a record batch: no later batch may be sent."""
    if isinstance(error, MessageSizeTooLargeError):
        stop_process(
            DeliveryError(
                f"{partition.topic}: the broker accepts no record batch as large as ours. If its max.message.bytes was "
                "lowered: the next start reads it and sends smaller batches. If this user may not see it "
                "(DescribeConfigs on the topic): batches have up to 900000 bytes; grant the permission, or raise it"
            )
        )
    stop_process(DeliveryError(f"{partition.topic}[{partition.partition}]: a record batch was lost: {describe(error)}"))

"""What follows a topic without a consumer group, for as long as it runs; nothing here ever ends the worker."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.kafka.log_reader import stopped

log = logging.getLogger(__name__)

RETRY_S = 2.0


class Follower:
    """``connect`` makes a consumer (aiokafka's, or a test's); ``sleep`` takes seconds. Subclasses have ``_read``."""

    def __init__(self, topic: str, connect: Callable[[], Any], sleep: Callable[[float], Awaitable[None]]) -> None:
        self.topic, self.state = topic, "connecting"
        self._connect, self._sleep = connect, sleep

    async def run(self) -> None:
        """Read until cancelled; a missing topic, a broker that is away: connect again after a while."""
        while True:
            consumer = self._connect()
            try:
                await consumer.start()
                if partitions := await self._partitions(consumer):
                    await self._read(consumer, partitions)
                self._now(f"waiting for topic {self.topic}")
            except (KafkaError, OSError) as error:
                self._now(f"reconnecting: {error!r}")
            finally:
                await stopped(consumer)
            await self._sleep(RETRY_S)

    async def _read(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Read all of these on and on, and say ``_now("reading")`` when it is so."""
        raise NotImplementedError

    async def _partitions(self, consumer: Any) -> list[TopicPartition]:
        """Empty while the topic does not exist. All topics are listed first: asking for one topic could create it."""
        if self.topic not in await consumer.topics():
            return []
        consumer.assign([TopicPartition(self.topic, 0)])  # has the client fetch what it needs to know
        for _ in range(200):
            if found := consumer.partitions_for_topic(self.topic):
                return [TopicPartition(self.topic, number) for number in sorted(found)]
            await self._sleep(0.05)
        return []

    def _now(self, state: str) -> None:
        if state != self.state:
            log.log(logging.INFO if state == "reading" else logging.WARNING, "web view: %s: %s", self.topic, state)
        self.state = state

"""Base of what reads a topic without a consumer group until cancelled. Its failures never end the worker."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.kafka.log_reader import stopped

log = logging.getLogger(__name__)

RETRY_S = 2.0


class TopicFollower:
    """``connect`` makes a consumer (aiokafka's, or a fake); ``sleep`` takes seconds. Subclasses implement ``_read``."""

    def __init__(self, topic: str, connect: Callable[[], Any], sleep: Callable[[float], Awaitable[None]]) -> None:
        self.topic, self.state = topic, "connecting"
        self._connect, self._sleep = connect, sleep

    async def run(self) -> None:
        """Read until cancelled. If the topic is missing or no broker answers, connect again after RETRY_S."""
        while True:
            consumer = self._connect()
            try:
                await consumer.start()
                if partitions := await self._partitions(consumer):
                    await self._read(consumer, partitions)
                self._set_state(f"waiting for topic {self.topic}")
            except (KafkaError, OSError) as error:
                self._set_state(f"reconnecting: {error!r}")
            finally:
                await stopped(consumer)
            await self._sleep(RETRY_S)

    async def _read(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Read these partitions until something fails; call ``_set_state("reading")`` once that works."""
        raise NotImplementedError

    async def _partitions(self, consumer: Any) -> list[TopicPartition]:
        """Its partitions; none while it does not exist. Lists all topics, because asking for one could create it."""
        if self.topic not in await consumer.topics():
            return []
        consumer.assign([TopicPartition(self.topic, 0)])  # has the client fetch what it needs to know
        for _ in range(200):
            if found := consumer.partitions_for_topic(self.topic):
                return [TopicPartition(self.topic, number) for number in sorted(found)]
            await self._sleep(0.05)
        return []

    def _set_state(self, state: str) -> None:
        if state != self.state:
            log.log(logging.INFO if state == "reading" else logging.WARNING, "web view: %s: %s", self.topic, state)
        self.state = state

"""Reads the topics of the history from given positions, without a consumer group; notices when one is recreated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from app.kafka.admin import AnyBroker
from app.kafka.client import client_options
from app.kafka.log_reader import LogReader, stopped
from app.kafka.topic_ids import TopicsWithIds
from app.settings import KafkaSettings
from app.store.projection import PartitionRange, Place, TopicRecord

ANSWER_S = 10.0
DENIED = TopicAuthorizationFailedError.errno
CONSUMER = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "none",  # a position outside the log is checked by the projection, not reset
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": 256 << 10,
    "fetch_max_bytes": 4 << 20,
    "request_timeout_ms": 10_000,
}


class HistoryReader:
    """Reads those topics that exist. All methods raise KafkaError, OSError or TimeoutError if no broker answers."""

    def __init__(self, kafka: KafkaSettings, topics: list[str]) -> None:
        self._options, self._topics = client_options(kafka), topics
        self._admin: Any = None
        self._consumer: LogReader | None = None
        self._known: dict[str, tuple[str, int]] = {}
        self._positions: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self.denied: list[str] = []  # topics that this user may not read

    async def start(self) -> dict[Place, PartitionRange]:
        """Connect; returns all partitions as they are now. Does not create topics."""
        self._admin = AnyBroker(**self._options, request_timeout_ms=int(ANSWER_S * 1000))
        async with asyncio.timeout(2 * ANSWER_S):
            await self._admin.start()
            self._known = await self._topics_now()
            places = [TopicPartition(topic, one) for topic, (_, count) in self._known.items() for one in range(count)]
            if not places:
                return {}
            self._consumer = LogReader(**self._options, **CONSUMER)
            self._consumer.assign(places)
            self._consumer.pause(*places)
            await self._consumer.start()
            begins = await self._consumer.beginning_offsets(places)
            ends = await self._consumer.end_offsets(places)
        self._ends = {(place.topic, place.partition): ends[place] for place in places}
        return {
            (place.topic, place.partition): PartitionRange(self._known[place.topic][0], begins[place], ends[place])
            for place in places
        }

    async def changed(self) -> bool:
        """Whether a topic was created, recreated or got partitions since the start."""
        async with asyncio.timeout(ANSWER_S):
            return await self._topics_now() != self._known

    def seek(self, positions: Mapping[Place, int]) -> None:
        self._positions = dict(positions)
        if self._consumer:
            for place, at in positions.items():
                self._consumer.seek(TopicPartition(*place), at)
            self._consumer.resume(*self._consumer.assignment())

    async def read(self, most: int, wait_s: float) -> tuple[list[TopicRecord], dict[Place, int]]:
        """The next records (none after ``wait_s``), and the positions that moved, also over aborted records."""
        if self._consumer is None:
            await asyncio.sleep(wait_s)
            return [], {}
        fetched = await self._consumer.getmany(timeout_ms=int(wait_s * 1000), max_records=most)
        records = [
            TopicRecord(one.topic, one.partition, one.key, one.value, one.timestamp / 1000)
            for of_partition in fetched.values()
            for one in of_partition
        ]
        moved = {}
        for place, before in self._positions.items():
            at = await self._consumer.position(TopicPartition(*place))
            if at != before:
                moved[place] = at
        self._positions |= moved
        return records, moved

    def lag(self) -> int:
        """Records not read yet."""
        if self._consumer is None:
            return 0
        for place in self._ends:
            self._ends[place] = self._consumer.highwater(TopicPartition(*place)) or self._ends[place]
        return sum(max(self._ends[place] - at, 0) for place, at in self._positions.items())

    async def stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer:
            await stopped(consumer)
        if self._admin:
            await self._admin.close()

    async def _topics_now(self) -> dict[str, tuple[str, int]]:
        """topic -> (id, number of partitions), of those that exist."""
        answer = (await self._admin._send_request(TopicsWithIds(self._topics))).to_object()
        self.denied = [topic["topic"] for topic in answer["topics"] if topic["error_code"] == DENIED]
        return {
            topic["topic"]: (str(topic.get("topic_id", "")), len(topic["partitions"]))
            for topic in answer["topics"]
            if topic["error_code"] == 0 and topic["partitions"]
        }

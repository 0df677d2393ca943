"""What stands in the broker after a run: every log of a job, whole, and what its group committed."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import GroupCoordinatorNotAvailableError
from support import kafka_tools

from app.settings import KafkaSettings

READ_S = 300.0  # longest for a topic; 100,000 records/s are usual


@dataclass
class Logs:
    """By partition, in the log's order: aiokafka records. ``committed``: partition -> (offset, metadata)."""

    raw: list[list[Any]]
    results: list[list[Any]]
    letters: list[list[Any]]
    episodes: list[list[Any]]
    changelog: list[list[Any]]
    committed: dict[int, tuple[int, str]]  # of what is scored
    raw_ends: list[int] = field(default_factory=list)  # where others than records are at the end
    by_source: list[list[Any]] | None = None  # with input.rekey
    rekeyed: dict[int, tuple[int, str]] = field(default_factory=dict)  # committed of raw-data, then

    @property
    def ends(self) -> list[int]:
        """End offset of each partition of what is scored; no test deletes records."""
        if self.by_source is not None:
            return _ends(self.by_source)
        return self.raw_ends or _ends(self.raw)


def _ends(partitions: list[list[Any]]) -> list[int]:
    return [records[-1].offset + 1 if records else 0 for records in partitions]


def read(kafka: KafkaSettings) -> Logs:
    """Every log of a job, up to its present end."""
    return Logs(
        raw=records(kafka, kafka.input_topic),
        results=records(kafka, kafka.output_topic),
        letters=records(kafka, kafka.dead_letters_topic),
        episodes=records(kafka, kafka.anomalies_topic),
        changelog=records(kafka, kafka.changelog_topic),
        committed=committed(kafka),
        raw_ends=ends(kafka, kafka.input_topic),
        by_source=records(kafka, kafka.by_source_topic) if kafka.rekeys else None,
        rekeyed=committed(kafka, kafka.input_topic) if kafka.rekeys else {},
    )


def records(kafka: KafkaSettings, topic: str) -> list[list[Any]]:
    """All records of one topic, by partition."""
    by_partition: list[list[Any]] = [[] for _ in ends(kafka, topic)]
    for record in kafka_tools.consume(kafka.bootstrap_servers[0], topic, READ_S):
        by_partition[record.partition].append(record)
    return by_partition


def ends(kafka: KafkaSettings, topic: str) -> list[int]:
    """End offset of each partition."""
    return [end for _, end in sorted(kafka_tools.end_offsets(kafka.bootstrap_servers[0], topic).items())]


def committed(kafka: KafkaSettings, topic: str | None = None) -> dict[int, tuple[int, str]]:
    """What the group committed for a topic, that which is scored unless given: partition -> (offset, metadata)."""

    async def ask() -> dict[Any, Any]:
        async with kafka_tools.administration(kafka.bootstrap_servers) as admin, asyncio.timeout(kafka_tools.HANG_S):
            while True:
                try:
                    return await admin.list_consumer_group_offsets(kafka.group_id)
                except GroupCoordinatorNotAvailableError:  # the first question about a group makes its topic
                    await asyncio.sleep(0.1)

    return {
        partition.partition: (commit.offset, commit.metadata)
        for partition, commit in asyncio.run(ask()).items()
        if partition.topic == (topic or kafka.log_topic)
    }


def replay_point(commit: tuple[int, str]) -> int:
    """What travels in the metadata of a commit."""
    return json.loads(commit[1])["replay"]

"""Reads and writes topics, records, commits and members of a group, for backup and restore."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from app.errors import StateError, TopicError
from app.kafka.admin import connected
from app.kafka.client import client_options
from app.kafka.groups import describe_groups
from app.kafka.log_reader import LogReader, stopped
from app.kafka.topics import Topic
from app.settings import KafkaSettings
from app.stream.committer import REKEYS, read_metadata
from app.stream.copies.file import CopyRecord

READ_AT_ONCE, WAIT_MS = 5_000, 200
REQUEST_BYTES, BATCH_BYTES = 100 << 20, 256 << 10
COORDINATOR_S = 8.0  # for the group's coordinator
SENT_AT_ONCE = 5_000  # records whose acknowledgements are out

Commits = dict[TopicPartition, OffsetAndMetadata]


@dataclass
class CopyResult:
    """What was copied or restored. ``remarks``: sentences for the user."""

    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # by topic
    bytes: int = 0
    remarks: list[str] = field(default_factory=list)


def of_alerting(kafka: KafkaSettings) -> list[str]:
    return [kafka.anomalies_topic, kafka.notifications_topic, kafka.decisions_topic]


def of_alerting_of(names: list[str], group: str) -> dict[str, int]:
    """Name in the copy -> place in ``of_alerting``."""
    ends = {"-notifications": 1, "-decisions": 2}
    return {name: next((role for end, role in ends.items() if name == group + end), 0) for name in names}


def partitions(topic: str, found: Mapping[str, Topic]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(found[topic].partitions)]


@asynccontextmanager
async def reader(kafka: KafkaSettings) -> AsyncIterator[LogReader]:
    reader = LogReader(
        **client_options(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await reader.start()
    try:
        yield reader
    except KafkaError as error:
        raise TopicError(f"Kafka: {type(error).__name__}: {error}") from error
    finally:
        await stopped(reader)


async def ends_of(reader: LogReader, tp: TopicPartition) -> tuple[int, int]:
    return (await reader.beginning_offsets([tp]))[tp], (await reader.end_offsets([tp]))[tp]


async def whole(
    reader: LogReader, logs: list[TopicPartition], begin: Mapping[TopicPartition, int] | None = None
) -> AsyncIterator[Any]:
    """Every record of these partitions, from their beginnings until there are no more.

    Reading to an end that was known before is not enough: while others write, compaction may remove a record that was
    not read yet, because of a newer one of the same key beyond that end.
    """
    reader.assign(logs)
    at = dict(begin or await reader.beginning_offsets(logs))
    for tp in logs:
        reader.seek(tp, at[tp])
    while left := [tp for tp, end in (await reader.last_stable_offsets(logs)).items() if at[tp] < end]:
        reader.pause(*(set(logs) - set(left)))
        reader.resume(*left)
        for records in (await reader.getmany(timeout_ms=WAIT_MS, max_records=READ_AT_ONCE)).values():
            for record in records:
                yield record
        for tp in left:
            at[tp] = await reader.position(tp)


async def send(kafka: KafkaSettings, records: Iterable[tuple[str, CopyRecord]], result: CopyResult) -> None:
    """Write records to their partitions, with their timestamps; returns when all are acknowledged."""
    codec = kafka.compression
    producer = AIOKafkaProducer(
        **client_options(kafka), acks="all", enable_idempotence=True, linger_ms=5, max_request_size=REQUEST_BYTES,
        max_batch_size=BATCH_BYTES, compression_type=None if codec == "none" else codec,
    )  # fmt: skip
    await producer.start()
    try:
        acks: list[Any] = []
        for topic, one in records:
            acks.append(await producer.send(topic, one.value, one.key, one.partition, one.timestamp))
            result.records[topic] += 1
            result.bytes += len(one.value or b"")
            if len(acks) >= SENT_AT_ONCE:
                for ack in acks:
                    await ack
                acks.clear()
        for ack in acks:
            await ack
    except KafkaError as error:
        raise TopicError(f"not all could be written: {type(error).__name__}: {error}") from error
    finally:
        await producer.stop()


async def members(kafka: KafkaSettings) -> str:
    """1 worker, 3 workers; "" when none is in the group."""
    await commits(kafka)  # waits for the coordinator
    group = (await describe_groups(kafka, {kafka.group_id: []}))[kafka.group_id]
    if isinstance(group, str):
        raise TopicError(group)
    count = len(group.members)
    return f"{count} worker{'s' if count > 1 else ''}" if count else ""


async def commits(kafka: KafkaSettings) -> Commits:
    """What the group has committed of the topics that it reads."""
    until = time.monotonic() + COORDINATOR_S
    async with connected(kafka) as admin:
        while True:
            try:
                found = await admin.list_consumer_group_offsets(kafka.group_id)
                break
            except GroupCoordinatorNotAvailableError:  # on a new cluster the first question makes the topic of groups
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)
    mine = {kafka.log_topic, kafka.input_topic}
    return {tp: of for tp, of in found.items() if tp.topic in mine and of.offset >= 0}


async def commit(kafka: KafkaSettings, commits: Commits) -> None:
    """Commit for the group, which must have no members."""
    if not commits:
        return
    consumer = AIOKafkaConsumer(**client_options(kafka), group_id=kafka.group_id, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(commits))
        await consumer.commit(commits)
    except KafkaError as error:
        raise TopicError(f"group {kafka.group_id}: no commit: {type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()


def is_ours(commit: OffsetAndMetadata) -> bool:
    try:
        metadata = read_metadata(commit.metadata)
    except ValueError:
        return False
    return "replay" in metadata or REKEYS in metadata


def ids(commit: OffsetAndMetadata) -> dict[str, str]:
    metadata = read_metadata(commit.metadata)
    return {role: metadata[role] for role in ("input", "changelog") if metadata.get(role)}


def replay_point(commit: Any) -> int:
    """StateError for a commit that is not ours."""
    try:
        return int(read_metadata(commit.metadata)["replay"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"a commit of the group at offset {commit.offset} is not a worker's: its metadata is {commit.metadata!r}"
        ) from error

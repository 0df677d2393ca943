"""Writes and reads records of the topic of decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from app.errors import DeliveryError, StateError, TopicError
from app.kafka.admin import connected, where
from app.kafka.authorized_operations import lacking
from app.kafka.client import client_options
from app.kafka.log_reader import LogReader, stopped
from app.kafka.permissions import Right
from app.kafka.topic_ids import TopicsWithIds
from app.wire import decisions, overdue
from app.wire.decisions import Decision, Silence
from app.wire.overdue import Overdue

if TYPE_CHECKING:
    from app.settings import KafkaSettings

ANSWER_S = 30.0


async def write(kafka: KafkaSettings, decision: Decision) -> None:
    """Return when all in-sync replicas have it. Raises as ``DecisionProducer.write`` does."""
    writer = DecisionProducer(kafka)
    try:
        await writer.write(kafka.decisions_topic, decision.key.encode(), decisions.encode(decision))
    finally:
        await writer.stop()


class DecisionProducer:
    """Writes single records, each acknowledged when ``write`` returns. Connects when the first is written.

    ``answer_s``: how long the brokers may take, for one record.
    """

    def __init__(self, kafka: KafkaSettings, answer_s: float = ANSWER_S) -> None:
        self._kafka, self._answer_s = kafka, answer_s
        self._producer: AIOKafkaProducer | None = None
        self._known: set[str] = set()  # topics that exist
        self._connecting = asyncio.Lock()

    async def write(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Return when all in-sync replicas have it.

        Raises
        ------
        TopicError
            The topic is missing, or no broker can be reached.
        DeliveryError
            The brokers did not acknowledge it in time, or refused it. It may still be written.
        """
        try:
            async with asyncio.timeout(self._answer_s):
                async with self._connecting:
                    if topic not in self._known:
                        await _partitions(self._kafka, topic)
                        self._known.add(topic)
                    if self._producer is None:
                        producer = AIOKafkaProducer(**client_options(self._kafka), acks="all")
                        try:
                            await producer.start()
                        except BaseException:
                            await producer.stop()
                            raise
                        self._producer = producer
                await self._producer.send_and_wait(topic, value, key)
        except (KafkaError, OSError, TimeoutError) as error:
            raise DeliveryError(
                f"{where(self._kafka)}: topic {topic}: not written: {type(error).__name__} {error}"
            ) from error

    async def stop(self) -> None:
        """Also when nothing was written."""
        producer, self._producer = self._producer, None
        if producer:
            try:
                async with asyncio.timeout(self._answer_s):
                    await producer.stop()
            except TimeoutError:
                await producer.client.close()


async def silences(kafka: KafkaSettings) -> dict[str, Silence]:
    """All silences of the topic, by id, also ended ones. Raises TopicError, as ``write`` does."""
    found: dict[str, Silence] = {}
    await _read(kafka, await _partitions(kafka, kafka.decisions_topic), lambda key, value: _take(found, key, value))
    return found


async def all_overdue(kafka: KafkaSettings) -> dict[int, Overdue]:
    """Overdue series, by partition of the scored topic. Raises TopicError, also without the right Write on it."""
    partitions = await _partitions(kafka, kafka.decisions_topic)
    async with connected(kafka) as admin:
        needed = [Right(what, "topic", kafka.decisions_topic, "") for what in ("Read", "Write")]
        if missing := await lacking(admin, needed):
            may_not = " and ".join(right.operation for right in missing)
            raise TopicError(f"{where(kafka)}: topic {kafka.decisions_topic}: this user may not {may_not} it")
    found: dict[int, Overdue] = {}

    def take(key: bytes | None, value: bytes | None) -> None:
        if not overdue.is_key(key) or value is None:
            return
        try:
            of = overdue.decode(value)
        except StateError:
            return
        found[of.partition] = of

    await _read(kafka, partitions, take)
    return found


async def _read(kafka: KafkaSettings, partitions: int, take: Callable[[bytes | None, bytes | None], None]) -> None:
    """Every record of the topic, in its order."""
    places = [TopicPartition(kafka.decisions_topic, one) for one in range(partitions)]
    reader = LogReader(
        **client_options(kafka), group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            await reader.start()
            reader.assign(places)
            await reader.seek_to_beginning(*places)
            ends = await reader.last_stable_offsets(places)
            while any([await reader.position(one) < ends[one] for one in places]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    for record in records:
                        take(record.key, record.value)
    except (KafkaError, TimeoutError) as error:
        raise TopicError(f"{where(kafka)}: topic {kafka.decisions_topic}: {type(error).__name__} {error}") from error
    finally:
        await stopped(reader)


def _take(found: dict[str, Silence], key: bytes | None, value: bytes | None) -> None:
    if value is None:
        found.pop((key or b"").decode("utf-8", "replace").removeprefix("silence/"), None)
        return
    try:
        decision = decisions.decode(value)
    except StateError:
        return  # not ours: alerters skip it, too
    if isinstance(decision, Silence):
        found[decision.id] = decision


async def _partitions(kafka: KafkaSettings, topic: str) -> int:
    """The number of partitions; asking does not create the topic."""
    async with connected(kafka) as admin:
        answer = (await admin._send_request(TopicsWithIds([topic]))).to_object()
    [found] = answer["topics"]
    if found["error_code"] or not found["partitions"]:
        raise TopicError(
            f"{where(kafka)}: topic {topic} is missing, or this user may not see it: "
            "make it with `faust-anomaly topics --create`"
        )
    return len(found["partitions"])

"""Writing decisions of people to their topic, from which every alerter and the history take them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from app.errors import DeliveryError, StateError, TopicError
from app.kafka.admin import connected, where
from app.kafka.client import client_options
from app.kafka.log_reader import LogReader, stopped
from app.kafka.topic_ids import TopicsWithIds
from app.wire import decisions
from app.wire.decisions import Decision, Silence

if TYPE_CHECKING:
    from app.settings import KafkaSettings

ANSWER_S = 30.0


async def write(kafka: KafkaSettings, decision: Decision) -> None:
    """Return when every copy of the topic that is in sync has it.

    Raises
    ------
    TopicError
        The topic is missing, or no broker can be reached.
    DeliveryError
        The brokers did not take it in time, or refused it.
    """
    await _partitions(kafka)
    producer = AIOKafkaProducer(**client_options(kafka), acks="all")
    try:
        async with asyncio.timeout(ANSWER_S):
            await producer.start()
            await producer.send_and_wait(kafka.decisions_topic, decisions.encode(decision), decision.key.encode())
    except (KafkaError, TimeoutError) as error:
        raise DeliveryError(
            f"{where(kafka)}: topic {kafka.decisions_topic}: not written: {type(error).__name__} {error}"
        ) from error
    finally:
        await producer.stop()


async def silences(kafka: KafkaSettings) -> dict[str, Silence]:
    """All that the topic holds, by id, also those that have ended. Raises TopicError, as ``write`` does."""
    places = [TopicPartition(kafka.decisions_topic, one) for one in range(await _partitions(kafka))]
    reader = LogReader(
        **client_options(kafka), group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    )
    found: dict[str, Silence] = {}
    try:
        async with asyncio.timeout(ANSWER_S):
            await reader.start()
            reader.assign(places)
            await reader.seek_to_beginning(*places)
            ends = await reader.last_stable_offsets(places)
            while any([await reader.position(one) < ends[one] for one in places]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    for record in records:
                        _take(found, record.key, record.value)
    except (KafkaError, TimeoutError) as error:
        raise TopicError(f"{where(kafka)}: topic {kafka.decisions_topic}: {type(error).__name__} {error}") from error
    finally:
        await stopped(reader)
    return found


def _take(found: dict[str, Silence], key: bytes | None, value: bytes | None) -> None:
    if value is None:
        found.pop((key or b"").decode("utf-8", "replace").removeprefix("silence/"), None)
        return
    try:
        decision = decisions.decode(value)
    except StateError:
        return  # of somebody else: alerters pass it over, too
    if isinstance(decision, Silence):
        found[decision.id] = decision


async def _partitions(kafka: KafkaSettings) -> int:
    """How many the topic has; it is not made by asking."""
    async with connected(kafka) as admin:
        answer = (await admin._send_request(TopicsWithIds([kafka.decisions_topic]))).to_object()
    [topic] = answer["topics"]
    if topic["error_code"] or not topic["partitions"]:
        raise TopicError(
            f"{where(kafka)}: topic {kafka.decisions_topic} is missing, or this user may not see it: "
            "make it with `faust-anomaly topics --create`"
        )
    return len(topic["partitions"])

"""Describes consumer groups: members, their partitions, and the lag of each partition.

Asks the group's coordinator, and the brokers for the ends of the partitions. Whoever may read a topic in the group may
ask this too; where the permission Describe is missing, a sentence names the group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError, for_code
from aiokafka.structs import TopicPartition

from app.errors import TopicError
from app.kafka.admin import connected
from app.kafka.client import client_options
from app.kafka.log_reader import LogReader, stopped

if TYPE_CHECKING:
    from app.settings import KafkaSettings


class MemberDescription(NamedTuple):
    """One consumer of a group. ``topics``: partitions assigned to it, by topic; ``host``: where it connects from."""

    id: str
    client: str
    host: str
    topics: dict[str, list[int]]


class GroupDescription(NamedTuple):
    """``state`` is Kafka's: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead.

    ``lag``: topic -> partition -> records after the last one that is committed, None where nothing is committed yet;
    without topics that this user may not see.
    """

    name: str
    state: str
    members: list[MemberDescription]
    lag: dict[str, dict[int, int | None]]


async def describe_groups(
    kafka: KafkaSettings, topics: Mapping[str, Sequence[str]]
) -> dict[str, GroupDescription | str]:
    """Groups by name, or a sentence about why one cannot be seen. ``topics``: those that members of each group read.

    Raises
    ------
    TopicError
        The brokers cannot be reached.
    """
    found: dict[str, GroupDescription | str] = {}
    async with connected(kafka) as admin:
        for name, read in topics.items():
            try:
                found[name] = await _describe(admin, kafka, name, read)
            except GroupAuthorizationFailedError:
                found[name] = f"this user may not see the group {name} (Describe)"
            except TopicAuthorizationFailedError as error:
                found[name] = f"this user may not see a topic of the group {name} (Describe): {error}"
            except KafkaError as error:
                raise TopicError(f"group {name}: {type(error).__name__}: {error}") from error
    return found


async def _describe(admin: Any, kafka: KafkaSettings, name: str, read: Sequence[str]) -> GroupDescription:
    [answer] = await admin.describe_consumer_groups([name])
    code, _, state, _, _, rows, *_ = answer.groups[0]
    if code:
        raise for_code(code)(name)
    members = sorted(map(_member, rows))
    committed = await admin.list_consumer_group_offsets(name)
    ends = await _ends(kafka, read)
    lag: dict[str, dict[int, int | None]] = {}
    for partition, end in sorted(ends.items()):
        at = committed.get(partition)
        known = at is not None and at.offset >= 0
        lag.setdefault(partition.topic, {})[partition.partition] = max(end - at.offset, 0) if known and at else None
    return GroupDescription(name, state, members, lag)


def _member(row: Sequence[Any]) -> MemberDescription:
    id, client, host, _, assignment = row
    topics: dict[str, list[int]] = {}
    if assignment:
        for topic, partitions in ConsumerProtocolMemberAssignment.decode(assignment).assignment:
            topics[topic] = sorted(partitions)
    return MemberDescription(id, client, host.removeprefix("/"), topics)


async def _ends(kafka: KafkaSettings, topics: Sequence[str]) -> dict[TopicPartition, int]:
    reader = LogReader(**client_options(kafka), enable_auto_commit=False)
    await reader.start()
    try:
        seen = await reader.topics() & set(topics)
        partitions = [TopicPartition(topic, number) for topic in seen for number in range(await reader.count(topic))]
        committed = kafka.isolation_level == "read_committed"
        return await (reader.last_stable_offsets if committed else reader.end_offsets)(partitions)
    finally:
        await stopped(reader)

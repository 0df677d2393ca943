"""The consumer groups of workers and alerters, as their coordinator describes them.

Asked for on request only, and at most once in ``CACHE_S``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from app.errors import TopicError
from app.kafka.groups import GroupDescription, MemberDescription, describe_groups
from app.settings import KafkaSettings, Settings
from app.web.status.probes import Check

CACHE_S = 5.0


class GroupMember(Struct):
    """A member of the group. ``partitions``: by topic; ``lag``: records of them that are not committed yet; None where
    that is not known. ``this``: the process that answers, where its partitions show it."""

    id: str
    client: str
    host: str
    partitions: dict[str, list[int]]
    lag: int | None
    this: bool


class GroupState(Struct):
    """``does``: scores, or tells (sends notifications). ``state``: Kafka's; "" if ``problem`` says why not.
    ``unassigned``: partitions that nobody has, by topic. ``lag``: by topic and partition."""

    name: str
    does: str
    state: str
    problem: str
    members: list[GroupMember]
    unassigned: dict[str, list[int]]
    lag: dict[str, dict[str, int | None]]


class ConsumerGroupsState(Struct):
    """``at``: when Kafka was asked, epoch seconds."""

    at: float
    groups: list[GroupState]


Describe = Callable[[KafkaSettings, Mapping[str, Sequence[str]]], Awaitable[dict[str, GroupDescription | str]]]


class ConsumerGroups:
    """Of one process."""

    def __init__(self, settings: Settings, health: Check, describe: Describe = describe_groups) -> None:
        self._settings, self._health, self._describe = settings, health, describe
        self._asking = asyncio.Lock()
        self._found: ConsumerGroupsState | None = None
        self._asked = float("-inf")

    async def now(self) -> ConsumerGroupsState:
        """At most ``CACHE_S`` old, also when Kafka does not answer."""
        async with self._asking:
            if self._found is None or time.monotonic() - self._asked >= CACHE_S:
                self._found, self._asked = await self._ask(), time.monotonic()
            return self._found

    async def _ask(self) -> ConsumerGroupsState:
        kafka = self._settings.kafka
        scoring = [kafka.input_topic, kafka.by_source_topic] if kafka.rekeys else [kafka.input_topic]
        topics = {kafka.group_id: scoring} | ({kafka.alerter_group: [kafka.anomalies_topic]} if kafka.alerts else {})
        found: Mapping[str, GroupDescription | str]
        try:
            found = await self._describe(kafka, topics)
        except TopicError as error:
            found = dict.fromkeys(topics, str(error))
        own = self._own()
        groups = [_shown(name, "scores" if name == kafka.group_id else "tells", of, own) for name, of in found.items()]
        return ConsumerGroupsState(time.time(), groups)

    def _own(self) -> list[tuple[str, list[int]]]:
        """(topic, partitions) that this process has now."""
        details, kafka = self._health().details, self._settings.kafka
        alerter_partitions = details.get("alerter", {}).get("partitions", [])
        return [(kafka.log_topic, details.get("partitions", [])), (kafka.anomalies_topic, alerter_partitions)]


def _shown(name: str, does: str, found: GroupDescription | str, own: Sequence[tuple[str, list[int]]]) -> GroupState:
    if isinstance(found, str):
        return GroupState(name, does, "", found, [], {}, {})
    members = [_worker(member, found, own) for member in found.members]
    unassigned = {}
    for topic, numbers in found.lag.items():
        taken = {number for member in found.members for number in member.topics.get(topic, ())}
        if free := [number for number in numbers if number not in taken]:
            unassigned[topic] = free
    lag = {topic: {str(number): behind for number, behind in of.items()} for topic, of in found.lag.items()}
    return GroupState(name, does, found.state, "", members, unassigned, lag)


def _worker(member: MemberDescription, group: GroupDescription, own: Sequence[tuple[str, list[int]]]) -> GroupMember:
    behind = [group.lag.get(topic, {}).get(number) for topic, numbers in member.topics.items() for number in numbers]
    known = [one for one in behind if one is not None]
    is_this = any(numbers and member.topics.get(topic) == numbers for topic, numbers in own)
    lag = sum(known) if len(known) == len(behind) else None
    return GroupMember(member.id, member.client, member.host, member.topics, lag, is_this)

"""A broker that the commit protocol cannot distinguish from a real one: logs, a cleaner, retention and a group.

It takes records from whoever sends them, a zombie too; a commit only from a member of the group's present
generation, or from nobody's member while the group is empty. It deletes what compaction and retention allow.
"""

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, NamedTuple

from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from simulation.world import World

SETTLING_S = 0.05  # that a round of the group waits for more members
Reply = Callable[[Any], None]


class Record(NamedTuple):
    """What is read of an aiokafka record."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0  # ms


class Log:
    """One partition of a topic."""

    def __init__(self) -> None:
        self.begin = self.end = 0
        self.records: list[Record] = []

    def append(self, records: Iterable[tuple[Any, ...]]) -> int:
        """Add (key, value, headers, timestamp); the offset of the first."""
        first = self.end
        for record in records:
            self.records.append(Record(self.end, *record))
            self.end += 1
        return first

    def read(self, offset: int, most: int) -> list[Record]:
        at = bisect_left(self.records, offset, key=lambda record: record.offset)
        return self.records[at : at + most]

    def fetch(self, offset: int, most: int) -> tuple[list[Record], int]:
        """Records, and the offset up to which they are all: beyond the last one where only marks follow."""
        records = self.read(offset, most)
        return records, self.end if len(records) < most else records[-1].offset + 1

    def delete_below(self, offset: int) -> None:
        """What retention does."""
        self.begin = max(self.begin, min(offset, self.end))
        self.records = [record for record in self.records if record.offset >= self.begin]

    def compact(self, below: int, tombstones: bool) -> None:
        """Of the records below an offset keep the last of each key; tombstones go too when they are old enough."""
        last = {record.key: record.offset for record in self.records if record.offset < below}
        self.records = [
            record
            for record in self.records
            if record.offset >= below
            or (last[record.key] == record.offset and not (tombstones and record.value is None))
        ]


class Member:
    """Of the group."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner  # a simulation.worker.Worker
        self.seen = 0.0
        self.reply: Reply | None = None  # to its request to join


class Group:
    """The coordinator's side of the consumer group, with the eager protocol that Faust uses.

    ``partitions`` are what its members share.
    """

    def __init__(self, world: World, partitions: Sequence[TopicPartition], session_s: float, seed: int) -> None:
        self.world = world
        self.generation = 0
        self.members: dict[int, Member] = {}
        self.partitions = partitions
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self.evicted_alive = 0  # members put out while their process lived: zombies
        self.on_commit: Callable[[dict[TopicPartition, OffsetAndMetadata]], None] = lambda offsets: None
        self._session_s = session_s
        self._round: float | None = None  # when the present round began
        self._ids = count(1)
        self._draw = random.Random(seed)

    def join(self, member: int, owner: Any, reply: Reply) -> None:
        """Replies (member, generation, partitions) when the round is complete."""
        if member not in self.members:
            member = next(self._ids)
            self.members[member] = Member(owner)
        self.members[member].reply = reply
        self.rebalance()
        self._complete()

    def rebalance(self) -> None:
        """Begin a round, in which every member has to join again."""
        if self._round is None:
            self._round = self.world.now
            self.world.at(self._round + SETTLING_S, self._complete)
            longest = self._round + max(2.0, self._session_s)
            self.world.at(longest, lambda: self._complete(anyway=True))

    def _complete(self, anyway: bool = False) -> None:
        now = self.world.now
        if self._round is None or now < self._round + SETTLING_S:
            return
        if anyway and now >= self._round + max(2.0, self._session_s):
            for number in [number for number, member in self.members.items() if not member.reply]:
                self._put_out(number)
        if not all(member.reply for member in self.members.values()):
            return
        self._round = None
        self.generation += 1
        numbers = sorted(self.members)
        if self._draw.random() < 0.5:
            self._draw.shuffle(numbers)
        for at, number in enumerate(numbers):
            member = self.members[number]
            reply, member.reply = member.reply, None
            self._touch(number)
            if reply:
                reply((number, self.generation, self.partitions[at :: len(numbers)]))

    def _touch(self, number: int) -> None:
        self.members[number].seen = self.world.now
        self.world.at(self.world.now + self._session_s, lambda: self._expire(number))

    def _expire(self, number: int) -> None:
        member = self.members.get(number)
        if member and not member.reply and self.world.now >= member.seen + self._session_s:
            self._put_out(number)

    def _put_out(self, number: int) -> None:
        member = self.members.pop(number)
        self.evicted_alive += member.owner.alive
        self._lost_one()

    def leave(self, number: int) -> None:
        if self.members.pop(number, None):
            self._lost_one()

    def _lost_one(self) -> None:
        if self.members:
            self.rebalance()
            self._complete()
        else:
            self._round = None

    def heartbeat(self, number: int, generation: int) -> str:
        """ "ok", "rebalance" or "unknown"."""
        if number not in self.members or generation != self.generation:
            return "unknown"
        self._touch(number)
        return "ok" if self._round is None else "rebalance"

    def knows(self, owner: Any) -> bool:
        """It is a member, and knows the present generation."""
        return owner.generation == self.generation and any(m.owner is owner for m in self.members.values())

    def commit(self, number: int, generation: int, offsets: dict[TopicPartition, OffsetAndMetadata]) -> Any:
        """None, or the error of a group that has moved on."""
        if number in self.members and generation == self.generation:
            self._touch(number)
        elif self.members or number >= 0:
            return CommitFailedError()
        self.on_commit(offsets)
        self.committed.update(offsets)
        return None


class Broker:
    """All logs, by (topic, partition), and the group."""

    def __init__(self, group: Group) -> None:
        self.logs: defaultdict[tuple[str, int], Log] = defaultdict(Log)
        self.group = group
        self.on_append: Callable[[str, int, int, Any], None] = lambda topic, number, first, sender: None

    def append(self, topic: str, number: int, records: Iterable[tuple[Any, ...]], sender: Any) -> int:
        first = self.logs[topic, number].append(records)
        self.on_append(topic, number, first, sender)
        return first

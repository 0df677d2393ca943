"""The hop of ``input.rekey``: copies points of the input topic to the topic by source, at least once and in order.

It is for topics whose key is not the source: scoring needs all points of a source in one partition. An input record
gives one record for each point (app/wire/by_source.py), and dead letters for what cannot be read. The position is
committed when all of them are acknowledged; there is no other state. A successor begins at the committed position, so
records written beyond it are written again; app/stream/origins.py drops these duplicates, and says why that is exact.

Where the position is not known, the program stops instead of guessing: records that are written a second time are
dropped, and those of a recreated topic have low offsets, so they would be dropped too.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.structs import TopicPartition

from app.compiled.byte_columns import Encoded
from app.errors import HistoryLost, StateError, TopicError
from app.stream import failpoints
from app.stream.assignment import Assignment
from app.stream.committer import REKEYS, CommitPoint, CommittedOffset, FetchCommitted, read_metadata, topic_ids
from app.stream.crash import guard
from app.stream.job import Job
from app.stream.outbox import Sent
from app.stream.partition import AssignedPartition, joined
from app.stream.stall_detector import recreated
from app.stream.takeover import PartitionReader, check_topics, commits_of, other_rekey
from app.wire.by_source import PARTITIONS, Times, encoded
from app.wire.dead_letters import DeadLetter
from app.wire.reader import Reader, Record


@dataclass
class RekeyBatch:
    """The points by source of some records, sent and not acknowledged yet."""

    end: int  # offset up to which the input was read
    sent: list[Sent]
    records: int  # to the topic by source
    began: float


class RekeyPartition(AssignedPartition):
    """One assigned partition of the input topic. Every offset below ``position`` is written by source."""

    def __init__(self, number: int, position: int, job: Job) -> None:
        kafka = job.settings.kafka
        super().__init__(TopicPartition(kafka.input_topic, number), job)
        self.next = self.position = position
        self._topic = kafka.by_source_topic
        self._reader = Reader(job.settings.input, kafka.input_topic, number, keyed=False)
        self._unsettled: asyncio.Queue[RekeyBatch] = asyncio.Queue()

    def start(self) -> None:
        """Start its two tasks: read and send; wait for acknowledgements."""
        steps = {"rekey": self._send_all(), "settle-rekey": self._settle_all()}
        self._tasks = [guard(step, f"{name}-{self.number}") for name, step in steps.items()]

    def to_commit(self) -> CommitPoint:
        return CommitPoint(self.position, {REKEYS: True})

    def committed(self, point: CommitPoint) -> None:
        pass  # nothing here depends on it

    async def _send_all(self) -> None:
        while True:
            records, end = joined(await self._next_fetches())
            self._settled.clear()
            self.next = end
            began = time.monotonic()
            dead_letters, by_source = self._read(records) if records else ([], {})
            failpoints.reach("rekey_read")
            sent = [*await self._send_dead_letters(dead_letters), *await self._send(by_source)]
            if sent:
                failpoints.reach("rekey_sent")
            self._unsettled.put_nowait(RekeyBatch(end, sent, sum(map(len, by_source.values())), began))

    def _read(self, records: list[Record]) -> tuple[list[DeadLetter], dict[int, Encoded]]:
        """Dead letters, and partition by source -> its records."""
        metrics = self._job.metrics
        points, dead_letters, _, skipped = self._reader.read(records)
        by_source = encoded(points, self.number, Times.of(records), self._job.partitions_of[self._topic])
        metrics.records_consumed.inc(len(records))
        metrics.invalid(Counter(one.label for one in dead_letters))
        self._job.dead_letter_log.add(dead_letters)
        metrics.skipped(Counter(one.why for one in skipped))
        self._log_time_units(self._reader.units, records[0].offset)
        return dead_letters, by_source

    async def _send(self, by_source: Mapping[int, Encoded]) -> list[Sent]:
        sent: list[Sent] = []
        for i, (number, records) in enumerate(by_source.items(), 1):
            sent += await self._outbox.send(self._topic, number, records)
            if 2 * i >= len(by_source) and failpoints.due("rekey_half_sent"):
                await self._outbox.acknowledged(sent)
                failpoints.reach("rekey_half_sent")
        if by_source:
            failpoints.reach("rekey_half_sent")
        return sent

    async def _settle_all(self) -> None:
        metrics = self._job.metrics
        while True:
            batch = await self._unsettled.get()
            await self._outbox.acknowledged(batch.sent)
            failpoints.reach("rekey_acked")
            self.position = batch.end
            metrics.rekeyed_records.inc(batch.records)
            metrics.stage_duration["rekey"].observe(time.monotonic() - batch.began)
            self._free_slots.release()
            if self.position == self.next:
                self._settled.set()


class RekeyPartitions(Assignment[RekeyPartition]):
    """Those of the input topic, with ``input.rekey``; without it there are none."""

    async def take_over(self, reader: PartitionReader, committed: FetchCommitted, wanted: list[int]) -> None:
        """Replace all by these partitions, from the offsets that the group has committed; not active yet.

        ``reader``: a started consumer without a group; ``committed`` gives what the group committed. Raises HistoryLost
        where records are gone that were not written by source, StateError for a commit that is not of this hop,
        TopicError for too many partitions.
        """
        self.clear()
        if not wanted:
            return
        if max(wanted) >= PARTITIONS:
            topic, count = self._job.settings.kafka.input_topic, max(wanted) + 1
            raise TopicError(f"input.rekey reads {PARTITIONS} partitions at most, and {topic} has {count} or more")
        for number, position in (await self._positions(reader, committed, wanted)).items():
            self[number] = RekeyPartition(number, position, self._job)
            self[number].start()

    async def _positions(self, reader: PartitionReader, committed: FetchCommitted, wanted: list[int]) -> dict[int, int]:
        kafka = self._job.settings.kafka
        logs = {number: TopicPartition(kafka.input_topic, number) for number in wanted}
        begin, end = await reader.beginning_offsets(list(logs.values())), await reader.end_offsets(list(logs.values()))
        count = max(self._job.partitions_of[kafka.input_topic], max(wanted) + 1)  # some may have been added
        every = [TopicPartition(kafka.input_topic, number) for number in range(count)]
        count = self._job.partitions_of[kafka.by_source_topic]
        by_source = [TopicPartition(kafka.by_source_topic, number) for number in range(count)]
        written = any((await reader.end_offsets(by_source)).values())
        commits = await commits_of(committed, dict.fromkeys(every, False))
        if written and not commits:
            commits = await commits_of(committed, dict.fromkeys(every, True))
        if written and not commits:
            raise HistoryLost(
                f"{kafka.input_topic}: the group {kafka.group_id!r} has no committed offsets, but "
                f"{kafka.by_source_topic} holds points of this topic: it was deleted and made again (Kafka then "
                "forgets the offsets), or they expired. Use another kafka.group_id and output_topic."
            )
        return {number: self._position(begin[tp], end[tp], commits.get(tp), tp) for number, tp in logs.items()}

    def _position(self, begin: int, end: int, commit: CommittedOffset | None, tp: TopicPartition) -> int:
        """The first offset that is not known to be written by source."""
        name, kafka = f"{tp.topic}[{tp.partition}]", self._job.settings.kafka
        if commit is None:
            return begin  # the group is new, or the partition is
        if commit.metadata:
            try:
                metadata = read_metadata(commit.metadata)
                if REKEYS not in metadata:
                    raise ValueError
            except ValueError as error:
                raise StateError(other_rekey(name, "without")) from error
            check_topics(name, kafka, topic_ids(kafka, self._job.topic_ids, kafka.input_topic), metadata)
        if commit.offset > end:
            raise HistoryLost(recreated(f"{name} ends at {end}", commit.offset - 1))
        if commit.offset < begin:
            raise HistoryLost(
                f"{name}: the next offset is {commit.offset}, and the log starts at {begin}: {begin - commit.offset} "
                "records were deleted before they were read. Raise the topic's retention."
            )
        return commit.offset

    def drop(self, number: int) -> None:
        super().drop(number)
        self._job.metrics.forget_rekeyed([number])

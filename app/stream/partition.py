"""One partition from its fetched records to their acknowledgements, in three tasks that overlap.

compute   scores the waiting records as one batch (app/stream/compute.py) and queues its output, without an await
deliver   sends dead letters and episodes, waits for their acknowledgements, then sends the results
settle    waits for the acknowledgements of the results, sends the snapshots, waits for theirs, closes the batch

Each task keeps the batches in order, and several batches may be in flight. Results are sent last because the last
result is the watermark that shows a successor which points are done: see app/stream/takeover.py.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka.structs import TopicPartition

from app.compiled.byte_columns import Encoded
from app.errors import HistoryLost
from app.stream import failpoints
from app.stream.committer import CommitPoint
from app.stream.compute import BatchOutput, PartitionState
from app.stream.crash import guard
from app.stream.job import Job
from app.stream.ledger import Ledger
from app.stream.outbox import Record as OutgoingRecord
from app.stream.outbox import Sent
from app.stream.stall_detector import deleted, recreated
from app.wire import times
from app.wire.dead_letters import DeadLetter
from app.wire.reader import Record

log = logging.getLogger(__name__)

IN_FLIGHT = 4  # batches that were computed and are not acknowledged yet
QUEUED = 8  # fetched batches that may wait to be computed


class FetchedRecords(Protocol):
    """The records of one partition from one fetch; none where it held only control records or aborted transactions."""

    @property
    def partition(self) -> int: ...

    @property
    def records(self) -> list[Record]: ...

    @property
    def end(self) -> int:
        """Offset up to which it was read: after the last record, or beyond."""

    @property
    def generation_id(self) -> int:
        """Generation of the group in which they were fetched."""


@dataclass
class InFlight:
    """One batch that was computed and is not acknowledged yet."""

    output: BatchOutput
    began: float
    sent: list[Sent] = field(default_factory=list)  # its results


class AssignedPartition:
    """One partition of a topic, from the end of recovery to its revocation.

    ``next`` is the first offset that was not taken yet; every offset below ``position`` is answered.
    """

    next: int
    position: int

    def __init__(self, log: TopicPartition, job: Job) -> None:
        self.log = log
        self.number = log.partition
        self.active = False  # records are taken only while it is assigned here and recovered
        self.generation = -1  # of the group, when it last confirmed the assignment
        self._job = job
        self._outbox = job.outbox
        self._queue: asyncio.Queue[FetchedRecords] = asyncio.Queue(QUEUED)
        self._free_slots = asyncio.Semaphore(IN_FLIGHT)
        self._settled = asyncio.Event()
        self._settled.set()
        self._tasks: list[asyncio.Task[None]] = []

    def to_commit(self) -> CommitPoint:
        """The position, and what a successor begins with."""
        raise NotImplementedError

    def committed(self, point: CommitPoint) -> None:
        """The group has accepted this commit."""
        raise NotImplementedError

    async def take(self, fetched: FetchedRecords) -> None:
        """Queue one fetched batch; waits while too many are queued."""
        await self._queue.put(fetched)

    def close(self) -> None:
        """End the tasks; what is in flight stays unconfirmed."""
        for task in self._tasks:
            task.cancel()

    async def settled(self) -> None:
        """Wait until nothing is in flight."""
        await self._settled.wait()

    @property
    def queued(self) -> bool:
        """Fetched records wait to be computed."""
        return not self._queue.empty()

    async def _next_fetches(self) -> list[FetchedRecords]:
        """All queued fetches of the present assignment, at least one; to be used before the next await.

        Waits for a fetch, for a free slot, and until the group has confirmed the assignment.
        """
        most = self._job.settings.kafka.max_poll_records
        while True:
            fetches = [await self._queue.get()]
            count = len(fetches[0].records)
            while count < most and not self._queue.empty():
                fetches.append(self._queue.get_nowait())
                count += len(fetches[-1].records)
            await self._free_slots.acquire()
            await self._job.committer.confirm()
            for expected, got in self._gaps(fetches):
                await self._check_gap(expected, got)
            if current := self._current(fetches):
                return current
            self._free_slots.release()

    def _current(self, fetches: list[FetchedRecords]) -> list[FetchedRecords]:
        """Those that were fetched in the present generation of the group."""
        return [one for one in fetches if self.active and one.generation_id == self.generation]

    def _gaps(self, fetches: list[FetchedRecords]) -> list[tuple[int, int]]:
        """(expected, got) where a fetch does not begin at the next offset, or has no record at its end.

        Offsets without a record inside a fetch are no gap: the broker has read that part of the log.
        """
        gaps, expected = [], self.next
        for one in fetches:
            if not self.active or one.generation_id != self.generation:
                continue
            if one.records:
                if (got := one.records[0].offset) != expected:
                    gaps.append((expected, got))
                expected = one.records[-1].offset + 1
            if one.end != expected:
                gaps.append((expected, one.end))
                expected = one.end
        return gaps

    async def _check_gap(self, expected: int, got: int) -> None:
        """Raise HistoryLost where a gap is of lost records: compaction and transactions leave gaps, too.

        A log that goes back was recreated: aiokafka then resets to its start without an error.
        """
        name = f"{self.log.topic}[{self.number}]"
        if got < expected:
            raise HistoryLost(recreated(f"{name} goes back to {got}", expected - 1))
        begin = await self._job.log_start(self.log)
        if begin > expected:
            raise HistoryLost(deleted(name, expected, got, begin))

    def _log_time_units(self, found: set[str], offset: int) -> None:
        """Log the units of numeric timestamps once in a worker, and again when another unit is found."""
        known = self._job.time_units
        if found <= known:
            return
        known |= found
        units = " and ".join(text for name, text in times.WORDS.items() if name in known)
        level = logging.INFO if len(known) == 1 else logging.WARNING
        where = f"{self.log.topic}[{self.number}]@{offset}"
        log.log(level, "%s: numeric timestamps are %s, by their size; input.timestamp_unit sets the unit", where, units)

    async def _send_dead_letters(self, dead_letters: list[DeadLetter]) -> list[Sent]:
        kafka = self._job.settings.kafka
        limit = self._job.limits.get(kafka.dead_letters_topic)
        records = [one.record(self.log.topic, self.number, limit) for one in dead_letters]
        return await self._send_to_other(kafka.dead_letters_topic, records)

    async def _send_to_other(self, topic: str, records: Sequence[OutgoingRecord]) -> list[Sent]:
        """Send to a topic that may have another number of partitions than the input."""
        if not records:
            return []
        return await self._outbox.send(topic, self.number % self._job.partitions_of[topic], records)


def joined(fetches: list[FetchedRecords]) -> tuple[list[Record], int]:
    """All records, and the offset up to which they were read."""
    fetched = [one.records for one in fetches]
    records = fetched[0] if len(fetched) == 1 else [record for of in fetched for record in of]
    return records, fetches[-1].end


class Partition(AssignedPartition):
    """One assigned partition of the topic that is scored. ``start`` begins its tasks."""

    def __init__(self, state: PartitionState, job: Job) -> None:
        super().__init__(TopicPartition(job.settings.kafka.log_topic, state.number), job)
        self.state = state
        self.results_end: int | None = None  # offset after our last result, by its acknowledgement
        self.changelog_end: int | None = None
        self._outgoing: asyncio.Queue[InFlight] = asyncio.Queue()
        self._unsettled: asyncio.Queue[InFlight] = asyncio.Queue()
        self._last_record_at = time.monotonic()

    def start(self) -> None:
        """Begin to compute, deliver and settle."""
        steps = {"compute": self._compute_all(), "deliver": self._deliver_all(), "settle": self._settle_all()}
        self._tasks = [guard(step, f"{name}-{self.number}") for name, step in steps.items()]

    async def save(self, limit: int) -> int:
        """Send snapshots of the oldest dirty sources, as a batch without points; returns how many."""
        if not self.ledger.oldest(1):
            return 0
        await self._free_slots.acquire()
        began = time.monotonic()
        output = self.state.save(limit)
        self._put(InFlight(output, began))
        return len(output.snapshots)

    async def forget(self) -> None:
        """Drop sources that have been silent for a long time, as a batch without points."""
        if slots := self.state.silent():
            await self._free_slots.acquire()
            began = time.monotonic()
            self._put(InFlight(self.state.forget(slots), began))

    @property
    def ledger(self) -> Ledger:
        return self.state.ledger

    @property
    def next(self) -> int:  # type: ignore[override]
        return self.ledger.next

    @property
    def position(self) -> int:  # type: ignore[override]
        return self.ledger.position

    def to_commit(self) -> CommitPoint:
        return CommitPoint(self.ledger.position, self.state.begin())

    def committed(self, point: CommitPoint) -> None:
        self.replay_committed = point.metadata["replay"]

    @property
    def replay_committed(self) -> int:
        """Where a successor would begin to read."""
        return self.state.replay_committed

    @replay_committed.setter
    def replay_committed(self, offset: int) -> None:
        self.state.replay_committed = offset

    @property
    def silent_s(self) -> float:
        """Seconds since the last record."""
        return time.monotonic() - self._last_record_at

    def _put(self, batch: InFlight) -> None:
        self._settled.clear()
        self._outgoing.put_nowait(batch)

    # --- compute

    async def _compute_all(self) -> None:
        while True:
            fetches = await self._next_fetches()
            # No await from here to the queue: state, open batches and snapshots must always belong to the same offset.
            self._compute(*joined(fetches))

    def _compute(self, records: list[Record], end: int) -> None:
        began = time.monotonic()
        if not records:
            self._put(InFlight(self.state.pass_over(end), began))
            return
        output = self.state.compute_batch(records, end)
        output.counts.add_to(self._job.metrics, time.time())
        self._job.dead_letter_log.add(output.dead_letters)
        self._log_time_units(output.counts.time_units, records[0].offset)
        self._last_record_at = time.monotonic()
        if output.counts.suppressed:
            failpoints.reach("suppressing")
        failpoints.reach("computed")
        self._put(InFlight(output, began))

    # --- deliver

    async def _deliver_all(self) -> None:
        kafka = self._job.settings.kafka
        while True:
            batch = await self._outgoing.get()
            output = batch.output
            before = [
                *await self._send_dead_letters(output.dead_letters),
                *await self._send_to_other(kafka.anomalies_topic, output.episodes),
            ]
            await self._outbox.acknowledged(before)
            if before:
                failpoints.reach("dead_letters_acked")
            batch.sent = await self._send(kafka.output_topic, output.results, "results_half_sent")
            if batch.sent:
                failpoints.reach("results_sent")
            self._unsettled.put_nowait(batch)

    async def _send(self, topic: str, records: Encoded, halfway: str) -> list[Sent]:
        """Send to the partition with this number; ``halfway``: the failpoint after half of them are acknowledged."""
        if len(records) > 1:
            if failpoints.due(halfway):
                all_, half = records.records(), len(records) // 2
                await self._outbox.acknowledged(await self._outbox.send(topic, self.number, all_[:half]))
                failpoints.reach(halfway)
                return await self._outbox.send(topic, self.number, all_[half:])
            failpoints.reach(halfway)
        return await self._outbox.send(topic, self.number, records)

    # --- settle

    async def _settle_all(self) -> None:
        metrics = self._job.metrics
        while True:
            batch = await self._unsettled.get()
            output = batch.output
            began = time.monotonic()
            end = await self._outbox.acknowledged(batch.sent)
            now = time.monotonic()
            if end is not None:
                self.results_end = end
                metrics.results_delivered.inc(len(output.results))
                if output.produced_at is not None:
                    metrics.end_to_end_latency.observe_many(time.time() - output.produced_at)
                metrics.batch_duration.observe(now - batch.began)
                metrics.stage_duration["results_ack"].observe(now - began)
                failpoints.reach("results_acked")
            await self._settle_snapshots(output)
            self.ledger.close(output.batch)
            self._free_slots.release()
            if self.ledger.idle:
                self._settled.set()

    async def _settle_snapshots(self, output: BatchOutput) -> None:
        snapshots = output.snapshots
        if not snapshots and not output.tombstones:
            return
        began = time.monotonic()
        topic = self._job.settings.kafka.changelog_topic
        sent = await self._send(topic, snapshots, "snapshots_half_sent")
        if snapshots:
            failpoints.reach("snapshots_sent")
        sent += await self._outbox.send(topic, self.number, output.tombstones)
        self.changelog_end = await self._outbox.acknowledged(sent)
        metrics = self._job.metrics
        metrics.sources_forgotten.inc(output.forgotten)
        metrics.snapshots.inc(len(snapshots))
        metrics.snapshot_bytes.inc(len(snapshots.values.data))
        metrics.stage_duration["snapshot_ack"].observe(time.monotonic() - began)
        failpoints.reach("snapshots_acked")

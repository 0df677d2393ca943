"""One partition from its raw records to its committed offset, in three steps that overlap.

compute   waiting records are scored as one batch and the snapshots that are due are taken, without a pause in
          between, so that state, open batches and snapshots always speak of the same offset
deliver   dead letters and episodes go out and are acknowledged; then the results go out
settle    the results' acks come in; then the snapshots go out; their acks close the batch

Each step keeps the batches in order, and a few may be on the way at once. Results come last because they are the
mark by which a successor knows that a point is done: see app/stream/takeover.py.
"""

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.compiled.byte_columns import Encoded
from app.errors import HistoryLost
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.pipeline.outcome import Outcome
from app.pipeline.points import Points
from app.scoring.severity import severity
from app.settings import Settings
from app.stream import failpoints
from app.stream.crash import guard
from app.stream.ledger import Batch, Ledger
from app.stream.outbox import Outbox, Sent
from app.stream.stall_detector import deleted, recreated
from app.wire.dead_letters import DeadLetter
from app.wire.reader import Reader
from app.wire.results import encode_columns, encode_episodes

NOTHING = Encoded.of([])
IN_FLIGHT = 4  # batches computed whose acks are still out
WAITING = 8  # fetched batches that may wait for their turn
# What snapshots may take of one batch. Common sources come nowhere near it: 4,000 are 6 MB and .1 s. One of 32 metrics
# with trees each takes .2 s; a hundred of them due at once would hold up the partition for 20 s.
SNAPSHOT_BYTES, SNAPSHOT_S = 16 << 20, 0.25
WALKED = 1000  # sources looked at with a batch, and as many again for each quarter of them that the batch may bring


@dataclass
class Job:
    """What every partition of one worker shares."""

    settings: Settings
    pipeline: Pipeline
    metrics: Metrics
    table: Any  # tables.sources.SourcesTable
    outbox: Outbox
    log_start: Callable[[int], Awaitable[int]]  # partition -> first offset still in the input topic
    confirm: Callable[[], Awaitable[None]]  # returns once what is active is ours: see Partitions.confirm
    partitions_of: dict[str, int] = field(default_factory=dict)  # topic -> its number of partitions
    topic_ids: dict[str, str] = field(default_factory=dict)  # topic -> its id at the start, "" when unknown

    @property
    def history(self) -> dict[str, str]:
        """Ids of the topics that a commit speaks of, where they are known: of the input, and of the changelog."""
        kafka = self.settings.kafka
        ids = {"input": self.topic_ids.get(kafka.input_topic), "changelog": self.topic_ids.get(kafka.changelog_topic)}
        return {role: topic_id for role, topic_id in ids.items() if topic_id}


@dataclass
class Answer:
    """All that one computed batch gives, on its way out."""

    batch: Batch
    began: float
    letters: list[DeadLetter] = field(default_factory=list)
    episodes: list[tuple[bytes, bytes]] = field(default_factory=list)
    results: Encoded = NOTHING
    produced_at: Any = None  # Kafka timestamps of the answered records, seconds
    snapshots: Encoded = NOTHING
    tombstones: list[tuple[bytes, None]] = field(default_factory=list)
    forgotten: int = 0  # sources
    sent: list[Sent] = field(default_factory=list)


class Partition:
    """The owner's side of one partition of the input topic, from the end of recovery to its revocation."""

    def __init__(self, number: int, job: Job, owned: Any, ledger: Ledger, mark: tuple[int, int]) -> None:
        self.number = number
        self.owned = owned
        self.ledger = ledger
        self.active = False  # records are taken only while we are the owner and recovered
        self.generation = -1  # of the group, when last confirmed as ours
        self.results_end: int | None = None  # offset after our last result, by its ack
        self.changelog_end: int | None = None
        self._job = job
        self._outbox = job.outbox
        self._covers = owned.covers
        self._mark = mark  # (offset, index): everything up to it has been emitted before
        self.replay_committed = ledger.next  # where a successor would begin to read
        self._left: list[int] = []  # slots that were due for a snapshot when the budget was spent
        settings = job.settings
        self._reader = Reader(
            settings.input,
            settings.kafka.input_topic,
            number,
            job.partitions_of[settings.kafka.input_topic] > 1,
        )
        self._waiting: asyncio.Queue[Any] = asyncio.Queue(WAITING)
        self._outgoing: asyncio.Queue[Answer] = asyncio.Queue()
        self._unsettled: asyncio.Queue[Answer] = asyncio.Queue()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._settled = asyncio.Event()
        self._settled.set()
        self._touched = time.monotonic()
        steps = {"compute": self._compute_all(), "deliver": self._deliver_all(), "settle": self._settle_all()}
        self._tasks = [guard(step, f"{name}-{number}") for name, step in steps.items()]

    async def take(self, message: Any) -> None:
        """Queue one fetched batch; waits while too many are queued."""
        await self._waiting.put(message)

    def close(self) -> None:
        """Forget the partition; what is in flight stays unconfirmed."""
        for task in self._tasks:
            task.cancel()

    async def settled(self) -> None:
        """Wait until nothing is in flight."""
        await self._settled.wait()

    async def save(self, limit: int) -> int:
        """Take snapshots of the oldest dirty sources, as a batch without points; returns how many."""
        if not self.ledger.oldest(1):
            return 0
        await self._room.acquire()
        answer = Answer(self._open(self.ledger.next, self.ledger.next), time.monotonic())
        saved = self._save(answer, self.ledger.oldest(limit))
        self._outgoing.put_nowait(answer)
        return saved

    async def forget(self) -> None:
        """Drop some sources that were silent for long, as a batch without points."""
        if found := self._outlived(WALKED):
            await self._room.acquire()
            answer = Answer(self._open(self.ledger.next, self.ledger.next), time.monotonic())
            self._forget(answer, found)
            self._outgoing.put_nowait(answer)

    @property
    def queued(self) -> bool:
        """Fetched records wait to be taken."""
        return not self._waiting.empty()

    @property
    def silent_s(self) -> float:
        """Seconds since the last record."""
        return time.monotonic() - self._touched

    # --- compute

    async def _compute_all(self) -> None:
        most = self._job.settings.kafka.max_poll_records
        while True:
            messages = [await self._waiting.get()]
            count = len(messages[0].records)
            while count < most and not self._waiting.empty():
                messages.append(self._waiting.get_nowait())
                count += len(messages[-1].records)
            await self._room.acquire()
            await self._job.confirm()
            for expected, got in self._jumps(messages):
                await self._explain(expected, got)
            records = self._still_ours(messages)
            # From here to the queue no await: nobody may see state, open batches and snapshots disagree.
            if records:
                self._outgoing.put_nowait(self._compute(records))
            else:
                self._room.release()

    def _still_ours(self, messages: list[Any]) -> list[Any]:
        """The records that were fetched since we became the owner and are not computed yet."""
        if not self.active:
            return []
        fetched = [message.records for message in messages if message.generation_id == self.generation]
        return fetched[0] if len(fetched) == 1 else [record for batch in fetched for record in batch]

    def _jumps(self, messages: list[Any]) -> list[tuple[int, int]]:
        """(expected, got) where a fetch does not begin at the offset after the last one."""
        jumps, expected = [], self.ledger.next
        for message in messages:
            if self.active and message.generation_id == self.generation:
                if (got := message.records[0].offset) != expected:
                    jumps.append((expected, got))
                expected = message.records[-1].offset + 1
        return jumps

    async def _explain(self, expected: int, got: int) -> None:
        """Compaction and transaction markers leave gaps; retention and a reset of offsets lose records.

        A log that goes back is another one: aiokafka resets to its start without a word.
        """
        name = f"{self._job.settings.kafka.input_topic}[{self.number}]"
        if got < expected:
            raise HistoryLost(recreated(f"{name} goes back to {got}", expected - 1))
        begin = await self._job.log_start(self.number)
        if begin > expected:
            raise HistoryLost(deleted(name, expected, got, begin))

    def _compute(self, records: list[Any]) -> Answer:
        began = time.monotonic()
        first, end = records[0].offset, records[-1].offset + 1
        answer = Answer(self._open(first, end), began)
        metrics = self._job.metrics
        metrics.records_consumed.inc(len(records))
        metrics.batch_size.observe(len(records))
        points, letters, elements = self._reader.read(records)
        decoded = time.monotonic()
        metrics.stage_duration["decode"].observe(decoded - began)
        points = self._not_yet_learned(points)
        outcome = self._job.pipeline.run(self.owned.rows, points)
        if outcome.rejected:
            letters += self._reader.rejected(records, elements, points, outcome.rejected)
        scored = time.monotonic()
        metrics.stage_duration["score"].observe(scored - decoded)
        touched = self.ledger.learned(*_changed(outcome))
        self._save(answer, self.ledger.due(touched))
        self._forget(answer, self._outlived(WALKED + 4 * len(points)))
        self._encode(answer, records, points, outcome, letters)
        metrics.stage_duration["encode"].observe(time.monotonic() - scored)
        self._touched = time.monotonic()
        failpoints.reach("computed")
        return answer

    def _open(self, first: int, end: int) -> Batch:
        self._settled.clear()
        return self.ledger.open(first, end)

    def _not_yet_learned(self, points: Points) -> Points:
        """Without the points that a recovered snapshot holds: all of them, once replay has passed the last."""
        if not len(points):
            return points  # dead letters alone say nothing of where replay is
        if points.offset[0] > self._covers:
            self.owned.covered.clear()  # of no use any more
            return points
        covered = self.owned.covered
        keep = [i for i, (s, o) in enumerate(zip(points.source, points.offset)) if o > covered.get(s, -1)]
        self._job.metrics.replayed_points.inc(len(keep))
        return points if len(keep) == len(points) else points.select(keep)

    def _encode(
        self, answer: Answer, records: list[Any], points: Points, outcome: Outcome, letters: list[DeadLetter]
    ) -> None:
        """Fill in what lies beyond the mark; what lies before it was emitted by an earlier owner."""
        start = 0
        mark = self._mark
        answered = records
        if records[0].offset <= mark[0]:
            answered = [record for record in records if record.offset > mark[0]]
            start = bisect_right(range(len(points)), mark, key=lambda i: (points.offset[i], points.index[i]))
            letters = [letter for letter in letters if (letter.offset, letter.index) > mark]
            self._job.metrics.results_suppressed.inc(start)
            if start:
                failpoints.reach("suppressing")
        topic = self._job.settings.kafka.input_topic
        answer.letters = letters
        answer.results = encode_columns(points, outcome, topic, self.number, start)
        answer.episodes = encode_episodes(points, outcome, topic, self.number, start)
        answer.produced_at = np.array([record.timestamp for record in answered], np.float64) / 1000.0
        self._count(points, outcome, letters, start)

    def _count(self, points: Points, outcome: Outcome, letters: list[DeadLetter], start: int) -> None:
        metrics = self._job.metrics
        if letters:
            metrics.invalid(Counter(letter.label for letter in letters))
        if not len(outcome):
            return
        votes = outcome.votes[start:] == outcome.votes[start:]  # nan: left out
        for number, profile in enumerate(outcome.profiles):
            of = votes if len(outcome.profiles) == 1 else votes[outcome.profile[start:] == number]
            if len(of):
                metrics.scored(dict(zip(profile.detectors, of.sum(axis=0).tolist())))
        if anomalous := int(outcome.anomaly[start:].sum()):
            metrics.anomalous_points.inc(anomalous)
            opened = outcome.alert[start:][outcome.opened[start:]].tolist()
            metrics.opened(Counter(map(severity, opened)))
        if drifts := int(outcome.drift[start:].sum()):
            metrics.drifts.inc(drifts)
        metrics.event_time_lag.set(time.time() - max(points.timestamp))

    def _save(self, answer: Answer, due: list[int]) -> int:
        """Snapshots of these slots, as they stand at the end of the batch: at least one, and what the budget allows.

        The others come first with the next batch; until then they hold the replay point. Returns how many were taken.
        """
        if self._left:
            due = list(dict.fromkeys([*filter(self.ledger.dirty, self._left), *due]))
        until = time.monotonic() + SNAPSHOT_S
        taken: list[tuple[bytes, bytes]] = []
        size = 0
        for record in self.owned.snapshots(due, answer.batch.end - 1):
            taken.append(record)
            size += len(record[1])
            if size >= SNAPSHOT_BYTES or time.monotonic() >= until:
                break
        slots, self._left = due[: len(taken)], due[len(taken) :]
        self.ledger.take(answer.batch, slots)
        if slots:
            answer.snapshots = Encoded.of(taken)
            answer.tombstones = self.owned.tombstones(slots)
        return len(slots)

    @property
    def _needless_below(self) -> int:
        """No reader of the log needs a source whose last point lies below this offset: see app/state/expiry.py."""
        return self.replay_committed - 2 * self._job.settings.state.forget_after_records

    def _outlived(self, number: int) -> list[int]:
        """Slots, among the next so many, of sources that no reader of the log needs."""
        below = self._needless_below
        return self.owned.silent(below, number) if below > 0 else []

    def _forget(self, answer: Answer, slots: list[int]) -> None:
        """Drop these sources; their tombstones follow whatever was sent of them before."""
        if slots := [slot for slot in slots if not self.ledger.dirty(slot)]:
            before = len(self.owned.rows)
            answer.tombstones += self.owned.forget(slots, self._needless_below)
            answer.forgotten = before - len(self.owned.rows)

    # --- deliver

    async def _deliver_all(self) -> None:
        kafka = self._job.settings.kafka
        while True:
            answer = await self._outgoing.get()
            letters = [letter.record(kafka.input_topic, self.number) for letter in answer.letters]
            before = [
                *await self._send_beside(kafka.dead_letters_topic, letters),
                *await self._send_beside(kafka.anomalies_topic, answer.episodes),
            ]
            await self._outbox.acknowledged(before)
            if before:
                failpoints.reach("letters_acked")
            answer.sent = await self._send(kafka.output_topic, answer.results, "results_half_sent")
            if answer.sent:
                failpoints.reach("results_sent")
            self._unsettled.put_nowait(answer)

    async def _send(self, topic: str, records: Encoded, halfway: str) -> list[Sent]:
        """To the partition of our number; ``halfway`` names the failpoint at which half of them are there."""
        if len(records) > 1:
            if failpoints.due(halfway):
                pairs, half = records.pairs(), len(records) // 2
                await self._outbox.acknowledged(await self._outbox.send(topic, self.number, pairs[:half]))
                failpoints.reach(halfway)
                return await self._outbox.send(topic, self.number, pairs[half:])
            failpoints.reach(halfway)
        return await self._outbox.send(topic, self.number, records)

    async def _send_beside(self, topic: str, records: list[Any]) -> list[Sent]:
        if not records:
            return []
        return await self._outbox.send(topic, self.number % self._job.partitions_of[topic], records)

    # --- settle

    async def _settle_all(self) -> None:
        metrics = self._job.metrics
        while True:
            answer = await self._unsettled.get()
            began = time.monotonic()
            end = await self._outbox.acknowledged(answer.sent)
            now = time.monotonic()
            if end is not None:
                self.results_end = end
                metrics.results_delivered.inc(len(answer.results))
                metrics.end_to_end_latency.observe_many(time.time() - answer.produced_at)
                metrics.batch_duration.observe(now - answer.began)
                metrics.stage_duration["results_ack"].observe(now - began)
                failpoints.reach("results_acked")
            await self._settle_snapshots(answer)
            self.ledger.close(answer.batch)
            self._room.release()
            if self.ledger.idle:
                self._settled.set()

    async def _settle_snapshots(self, answer: Answer) -> None:
        snapshots = answer.snapshots
        if not snapshots and not answer.tombstones:
            return
        began = time.monotonic()
        topic = self._job.settings.kafka.changelog_topic
        sent = await self._send(topic, snapshots, "snapshots_half_sent")
        if snapshots:
            failpoints.reach("snapshots_sent")
        sent += await self._outbox.send(topic, self.number, answer.tombstones)
        self.changelog_end = await self._outbox.acknowledged(sent)
        metrics = self._job.metrics
        metrics.sources_forgotten.inc(answer.forgotten)
        metrics.snapshots.inc(len(snapshots))
        metrics.snapshot_bytes.inc(len(snapshots.values.data))
        metrics.stage_duration["snapshot_ack"].observe(time.monotonic() - began)
        failpoints.reach("snapshots_acked")


def _changed(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Slot and offset of every change of state, in offset order: points learned, episodes that expired."""
    learned = outcome.slot >= 0
    slots, offsets = outcome.slot[learned], outcome.offset[learned]
    if outcome.expired:
        slots = np.append(slots, [one.slot for one in outcome.expired])
        offsets = np.append(offsets, outcome.offset[[one.position for one in outcome.expired]])
        order = np.argsort(offsets, kind="stable")
        slots, offsets = slots[order], offsets[order]
    return slots, offsets

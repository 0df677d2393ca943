"""A worker process of the simulation: the program's own code, from a fetched batch to the accepted commit.

Real are the partition with its three steps, the ledger, reader, pipeline, snapshots, table, outbox, record batches,
hand-over, take-over, the committer with its lease, and the hop of ``input.rekey``. Made up are what Faust and aiokafka
do: the rounds of the group, fetching, and a producer that sends one request a partition at a time and in order, as an
idempotent one does.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from simulation.broker import Broker, Reply
from simulation.load import PARTITIONS
from simulation.world import Clock, Ended, Net, Process, World

import app.stream.assignment
import app.stream.committer
import app.stream.crash
import app.stream.outbox
import app.stream.partition
import app.stream.rekey
import app.stream.takeover
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import Settings
from app.stream.assignment import Partitions
from app.stream.committer import Committer
from app.stream.crash import guard
from app.stream.dead_letter_log import DeadLetterLog
from app.stream.job import Job
from app.stream.outbox import Outbox
from app.stream.partition import AssignedPartition
from app.stream.rekey import RekeyPartitions
from app.stream.takeover import take_over
from tables.sources import SourcesTable

HEARTBEAT_S = 0.5
COMMIT_EVERY_S = 1.0
SAVE_IDLE_EVERY_S = 0.4
LONG_POLL_S = 0.3
BATCH_BYTES = 1000  # about three results: so that batches of results arrive in parts
MODULES = (
    app.stream.crash,
    app.stream.outbox,
    app.stream.assignment,
    app.stream.partition,
    app.stream.rekey,
    app.stream.takeover,
    app.stream.committer,
)


class Fetched(NamedTuple):
    partition: int
    records: list[Any]
    end: int
    generation_id: int


class Ack(NamedTuple):
    offset: int


class Producer:
    """aiokafka's, idempotent: of each partition one request is under way, and one batch waits behind it."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._waiting: dict[tuple[str, int], tuple[list[Any], asyncio.Future[Ack], asyncio.Future[None]]] = {}
        self._under_way: set[tuple[str, int]] = set()

    async def send_batch(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Ack]:
        log = topic, partition
        await asyncio.sleep(0)
        while log in self._waiting:
            await asyncio.shield(self._waiting[log][2])
        loop = self._worker.loop
        acknowledged, drained = loop.create_future(), loop.create_future()
        self._waiting[log] = records_of(batch), acknowledged, drained
        self._drain(log)
        return acknowledged

    def _drain(self, log: tuple[str, int]) -> None:
        if log in self._under_way or log not in self._waiting:
            return
        records, acknowledged, drained = self._waiting.pop(log)
        self._under_way.add(log)
        drained.set_result(None)
        acknowledged.add_done_callback(lambda _: self._sent(log))
        self._worker.produce(*log, records, acknowledged)

    def _sent(self, log: tuple[str, int]) -> None:
        self._under_way.discard(log)
        self._drain(log)


def records_of(batch: Any) -> list[tuple[Any, ...]]:
    """(key, value, headers, timestamp) of a record batch, from its bytes."""
    found = MemoryRecords(bytes(batch._build())).next_batch()
    assert found.validate_crc()
    return [(record.key, record.value, tuple(record.headers), record.timestamp) for record in found]


class Reader:
    """The part of an aiokafka consumer without a group that recovery uses."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._at: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._worker.asked(lambda logs: {tp: logs[tp].begin for tp in partitions})

    async def last_stable_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """At once, so that schedules stay what they were: there are no transactions here."""
        return {tp: self._worker.broker.logs[tp].end for tp in partitions}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._worker.asked(lambda logs: {tp: logs[tp].end for tp in partitions})

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._at = dict.fromkeys(partitions, 0)
        self._paused.clear()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._at[partition] = offset

    def pause(self, partition: TopicPartition) -> None:
        self._paused.add(partition)

    async def position(self, partition: TopicPartition) -> int:
        return self._at[partition]

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        most = self._worker.net.fetch_records()
        wanted = {tp: at for tp, at in self._at.items() if tp not in self._paused}
        found = await self._worker.asked(lambda logs: {tp: (logs[tp].read(at, most)) for tp, at in wanted.items()})
        ends = await self._worker.asked(lambda logs: {tp: logs[tp].end for tp in wanted})
        for tp, records in found.items():
            self._at[tp] = records[-1].offset + 1 if records else ends[tp]
        return {tp: records for tp, records in found.items() if records}


class Worker(Process):
    """One worker, from its request to join the group to its end."""

    def __init__(
        self, world: World, broker: Broker, net: Net, settings: Settings, pipeline: Pipeline, metrics: Metrics
    ) -> None:
        super().__init__(world)
        self.broker, self.net = broker, net
        self.why: BaseException | None = None  # it ended, if it ended by itself
        self.buried = False  # the run has seen that it ended
        kafka = settings.kafka
        self._scored = kafka.log_topic
        self.producer = Producer(self)
        outbox = Outbox(lambda: self.producer, kafka.ack_timeout_s, BATCH_BYTES)  # type: ignore[arg-type,return-value]
        table = SourcesTable(pipeline)
        self.committer = Committer(kafka, metrics, {}, self.active, self._send_commit)
        dead_letter_log = DeadLetterLog(kafka.dead_letters_topic, lambda: 0.0)
        self.job = Job(settings, pipeline, metrics, table, outbox, self.committer, dead_letter_log, self._log_start)
        self.job.partitions_of.update(Counter(log.topic for log in broker.group.partitions))
        self.job.partitions_of.update(dict.fromkeys((kafka.dead_letters_topic, kafka.anomalies_topic), PARTITIONS))
        self.partitions, self.rekey_partitions = Partitions(self.job), RekeyPartitions(self.job)
        self.generation = -1  # of the group, as the consumer knows it
        self._member = -1
        self._at: dict[TopicPartition, int] = {}  # next offset to fetch
        self._flows = False
        self._seeks = 0
        self._recovery: asyncio.Task[None] | None = None
        topics = {log.topic for log in broker.group.partitions}
        self._fetched: dict[str, asyncio.Queue[Fetched]] = {topic: asyncio.Queue(16) for topic in sorted(topics)}
        self._stopping = False
        self._tasks = [self.loop.create_task(self._begin())]
        world.processes.append(self)

    def end(self, error: BaseException | None = None) -> None:
        if self.alive:
            self.why = error.__cause__ if isinstance(error, Ended) and error.__cause__ else error
        super().end(error)

    def of(self, topic: str) -> Partitions | RekeyPartitions:
        return self.partitions if topic == self._scored else self.rekey_partitions

    def active(self) -> list[AssignedPartition]:
        return [*self.rekey_partitions.active(), *self.partitions.active()]

    # --- what the broker is asked

    def produce(self, topic: str, number: int, records: list[Any], acknowledged: asyncio.Future[Ack]) -> None:
        def append(reply: Reply) -> None:
            reply(Ack(self.broker.append(topic, number, records, sender=self)))

        self.send(append, self.net.ack_s(), self.net.ack_s(), acknowledged)

    async def ask(self, what: Callable[[Reply], None]) -> Any:
        """Send a request and wait for its answer."""
        answered = self.loop.create_future()
        self.send(what, self.net.other_s(), self.net.other_s(), answered)
        return await answered

    async def asked(self, what: Callable[[Any], Any]) -> Any:
        """What a function of the logs gives."""
        return await self.ask(lambda reply: reply(what(self.broker.logs)))

    async def _log_start(self, log: TopicPartition) -> int:
        return (await Reader(self).beginning_offsets([log]))[log]

    async def _send_commit(self, offsets: dict[TopicPartition, Any]) -> None:
        member, generation = self._member, self.generation
        await self.ask(lambda reply: reply(self.broker.group.commit(member, generation, offsets)))

    async def _committed(self, partitions: list[TopicPartition]) -> dict[TopicPartition, Any]:
        found = await self.ask(lambda reply: reply(dict(self.broker.group.committed)))
        return {tp: found[tp] for tp in partitions if tp in found}

    # --- what Faust does

    async def _begin(self) -> None:
        agents = [self._agent(topic) for topic in self._fetched]
        for number, step in enumerate((self._belong(), self._fetch(), *agents, self._timers())):
            guard(step, f"worker-{number}")

    def stop(self) -> None:
        """SIGTERM."""
        if not self._stopping:
            self._stopping = True
            self.loop.call_soon(lambda: guard(self._stop(), "stop"))

    async def _stop(self) -> None:
        if self._recovery:
            self._recovery.cancel()
        self._flows = False
        await self._hand_over("stopping")
        self.partitions.clear()
        self.rekey_partitions.clear()
        await self.ask(lambda reply: reply(self.broker.group.leave(self._member)))
        raise Ended from Stopped()

    async def _belong(self) -> None:
        while not self._stopping:
            self._member, self.generation, assigned = await self._join()
            if self._stopping:
                return
            self._recovery = guard(self._recover(self.generation, assigned), "recovery")
            while (status := await self._heartbeat()) == "ok":
                pass
            if self._stopping:
                return
            if status == "unknown":
                self._member = self.generation = -1
            self._recovery.cancel()
            self._flows = False
            await self._hand_over("revoked")

    async def _hand_over(self, why: str) -> None:
        if self.rekey_partitions:
            await asyncio.gather(self.rekey_partitions.hand_over(why), self.partitions.hand_over(why))
        else:  # in fewer turns: most schedules are without the hop
            await self.partitions.hand_over(why)

    async def _join(self) -> Any:
        member = self._member
        return await self.ask(lambda reply: self.broker.group.join(member, self, reply))

    async def _heartbeat(self) -> str:
        await asyncio.sleep(HEARTBEAT_S)
        member, generation = self._member, self.generation
        return await self.ask(lambda reply: reply(self.broker.group.heartbeat(member, generation)))

    async def _recover(self, generation: int, assigned: list[TopicPartition]) -> None:
        """As app.stream.recovery."""
        wanted = [log.partition for log in assigned if log.topic == self._scored]
        to_rekey = [log.partition for log in assigned if log.topic != self._scored]
        for number in set(self.partitions) - set(wanted):
            self.partitions.drop(number)
        await self.rekey_partitions.take_over(Reader(self), self._committed, to_rekey)
        await take_over(self.job, self.partitions, Reader(self), self._committed, wanted, generation)
        await asyncio.sleep(0)
        if self.generation != generation or self._stopping:
            return
        self._at = {log: self.of(log.topic)[log.partition].next for log in assigned}
        self._seeks += 1
        self.rekey_partitions.resume(generation)
        self.partitions.resume(generation)
        self._flows = True

    async def _fetch(self) -> None:
        logs = self.broker.logs
        while True:
            seeks, generation = self._seeks, self.generation
            wanted = [(log, at) for log, at in self._at.items() if self.of(log.topic).takes(log.partition)]
            if not wanted or not self._flows:
                await asyncio.sleep(0.1)
                continue
            most = self.net.fetch_records()

            def fetch(reply: Reply, wanted: Any = wanted, most: int = most, until: float = -1.0) -> None:
                until = self.world.now + LONG_POLL_S if until < 0 else until
                found = {log: logs[log].fetch(at, most) for log, at in wanted}
                if any(found[log][1] > at for log, at in wanted) or self.world.now >= until:
                    reply(found)
                else:
                    self.world.at(self.world.now + 0.05, lambda: fetch(reply, until=until))

            found = await self.ask(fetch)
            for log, (records, end) in found.items():
                if not self._flows or (self._seeks, self.generation) != (seeks, generation):
                    break
                if end > self._at[log] and self.of(log.topic).takes(log.partition):
                    self._at[log] = end
                    await self._fetched[log.topic].put(Fetched(log.partition, records, end, generation))

    async def _agent(self, topic: str) -> None:
        while True:
            message = await self._fetched[topic].get()
            await asyncio.sleep(self.net.other_s())  # Faust's queues
            await self.of(topic).take(message)

    async def _timers(self) -> None:
        guard(self._every(COMMIT_EVERY_S, lambda: self.committer.commit(self.active())), "commit")
        guard(self._every(SAVE_IDLE_EVERY_S, self.partitions.save_idle), "save_idle")

    async def _every(self, seconds: float, what: Callable[[], Any]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await what()


class Stopped(Exception):
    """A worker came to the end of its hand-over."""


def stop_process(error: BaseException) -> None:
    if isinstance(error, (Ended, GeneratorExit)):  # on its way already; or the simulation is over
        raise error
    raise Ended from error


@contextmanager
def virtual(world: World) -> Iterator[None]:
    """The program's code runs in the simulation's time, and ends the simulated process instead of this one."""
    names = {"time": Clock(world), "stop_process": stop_process}
    with ExitStack() as stack:
        for module in MODULES:
            for name, new in names.items():
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, new))
        yield

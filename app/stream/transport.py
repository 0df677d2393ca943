"""Faust's transport, with the fetched batch as its message and this program's commits.

What differs from stock Faust, and why (measured; the figures are in docs/benchmarks.md):

- one message is all records of one partition from one fetch: stock Faust makes four asyncio tasks for each record
- app/stream/committer.py commits, with the replay point in the metadata: stock Faust can commit past a record in
  flight (``Consumer._new_offset``) and before the changelog is delivered (``Producer.flush_atmost``)
- nothing is delivered while the group rebalances or state is recovered: stock Faust resumes too early and skips records
- no pressure callbacks: those of stock Faust stop fetching for a whole second
- short fetches: stock Faust fixes the longest wait at 1.5 s
- less work for each message: the counts of Faust's monitor are off, as nobody reads them, and a call to the thread of
  the aiokafka consumer makes no tasks

tests/contract/test_faust.py names every private attribute of Faust and aiokafka that this relies on.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import faust
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.app.base import BootStrategy
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service
from mode.threads import MethodQueue, MethodQueueWorker

from app.errors import DeliveryError, Stalled, TopicError
from app.kafka import patches
from app.kafka.topics import partitions_changed
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import KafkaSettings, Settings
from app.stream.assignment import Partitions
from app.stream.committer import CommittedOffset, Committer
from app.stream.crash import stop_process
from app.stream.dead_letter_log import DeadLetterLog
from app.stream.job import Job
from app.stream.outbox import Outbox
from app.stream.partition import AssignedPartition
from app.stream.rekey import RekeyPartitions
from app.stream.shutdown import Worker, end_within
from app.stream.state_table import StateTable
from app.wire.reader import Record

BATCH_BYTES = 900_000  # largest record batch, unless its topic accepts less; the default limit of a broker is 1 MiB


class FetchedBatch(ConsumerMessage):
    """All records of one partition from one fetch, and the offset up to which it was read.

    Control records and aborted transactions are left out, so there may be no records.
    """

    __slots__ = ("end", "records")

    def __init__(self, tp: TP, records: list[Record], end: int, generation: int) -> None:
        super().__init__(
            tp.topic,
            tp.partition,
            end - 1,
            0.0,
            0,
            (),
            None,
            b"",
            None,
            0,
            0,
            tp,
            generation_id=generation,
        )
        self.records = records
        self.end = end


@contextmanager
def explain_start_failure(client: str, servers: Iterable[str]) -> Iterator[None]:
    """Faust starts its clients after our checks: say which client failed when a broker stopped in between."""
    try:
        yield
    except (KafkaError, OSError) as error:
        stop_process(
            DeliveryError(
                f"{', '.join(servers)}: the {client} could not start, though a broker answered a moment ago: "
                f"{type(error).__name__}: {error}"
            )
        )


def stop_replaced_member(kafka: KafkaSettings) -> NoReturn:
    """End the process when the group does not know this static member any more.

    Its session has ended, or another process has its ``group_instance_id``. If it joined again under this id, it would
    replace that process in the same generation of the group. Generations then do not show which of the two fetched or
    computed something, and each would replace the other again without end.
    """
    stop_process(
        Stalled(
            f"the group {kafka.group_id!r} does not know this worker any more: its session has ended, or another "
            f"worker has the same kafka.group_instance_id, {kafka.group_instance_id!r}: each needs its own"
        )
    )


class ThreadCallWorker(MethodQueueWorker):
    """Makes the calls to the aiokafka consumer in its thread.

    The worker of the package mode makes three tasks before each call, to wait for an event that stays set after the
    first one.
    """

    @Service.task
    async def _method_queue_do_work(self) -> None:
        calls = self.method_queue
        while not self.should_stop and not calls.should_stop:
            await calls._process_enqueued(await calls._queue.get())


class ThreadCalls(MethodQueue):
    Worker = ThreadCallWorker


class ConsumerThread(driver.AIOKafkaConsumerThread):
    _method_queue: MethodQueue | None

    @property
    def method_queue(self) -> MethodQueue:
        if self._method_queue is None:
            self._method_queue = ThreadCalls(loop=self.thread_loop, beacon=self.beacon)
        return self._method_queue

    async def on_start(self) -> None:
        kafka = self.app.job.settings.kafka
        with explain_start_failure("consumer", kafka.bootstrap_servers):
            await super().on_start()
        consumer = self._ensure_consumer()
        patches.wait_while_idle(consumer._fetcher)
        if kafka.group_instance_id:
            patches.report_lost_membership(consumer._coordinator, lambda: stop_replaced_member(kafka))

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        kafka = self.app.job.settings.kafka
        patches.set_fetch_options(
            consumer,
            min_bytes=kafka.fetch_min_bytes,
            max_wait_ms=kafka.fetch_max_wait_ms,
            isolation_level=kafka.isolation_level,
        )
        return consumer


class Consumer(driver.Consumer):
    app: "App"
    _suspended: asyncio.Future[Any] | None = None  # done when the flow is stopped; used by many deliveries

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._delivered: dict[TP, tuple[int, int]] = {}  # partition -> generation, end of what was delivered in it

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def on_buffer_full(self, tp: TP) -> None:
        """Queues are bounded; the fetcher simply waits."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See on_buffer_full."""

    @property
    def group_answers(self) -> bool:
        """The coordinator of the group is known; not after it failed to answer, until it is found again."""
        try:
            coordinator = self._thread._ensure_consumer()._coordinator
        except ConsumerNotStarted:
            return False
        return coordinator is not None and coordinator.coordinator_id is not None

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method of the aiokafka consumer, which lives in a thread with a loop of its own."""
        return await self._thread.call_thread(getattr(self._thread._ensure_consumer(), method), *args)

    async def committed_with_metadata(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, CommittedOffset]:
        """What the group has committed: partition -> OffsetAndMetadata, for those with a commit."""
        coordinator = self._thread._ensure_consumer()._coordinator
        found = await self._thread.call_thread(coordinator.fetch_committed_offsets, list(partitions))
        return {partition: value for partition, value in found.items() if value.offset >= 0}

    def readable_end(self, tp: TopicPartition) -> int | None:
        """Offset up to which a partition can be read, by the last fetch: the last stable offset or the high watermark.

        None before the first fetch.
        """
        state = self._state(tp)
        if state is None:
            return None
        committed = self.app.job.settings.kafka.isolation_level == "read_committed"
        end: int | None = state.lso if committed else state.highwater
        return end

    def asked_at(self, tp: TopicPartition) -> float:
        """Epoch seconds of the last answer about what is in a partition; 0 without."""
        state = self._state(tp)
        return (state.timestamp or 0) / 1000.0 if state else 0.0

    def read_to(self, tp: TopicPartition) -> int | None:
        """The client's own position: also beyond control records and aborted ones. None while it has none."""
        state = self._state(tp)
        return state.position if state and state.has_valid_position else None

    def _state(self, tp: TopicPartition) -> Any:
        """aiokafka's state of a partition; None when a rebalance has just revoked it.

        aiokafka asserts that the partition is assigned, which no caller in another thread can know.
        """
        subscription = self._thread._ensure_consumer()._subscription.subscription
        assignment = subscription and subscription.assignment
        return assignment and assignment.state_value(tp)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            await self._drain(fetcher)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            # Faust restarts a fetcher that was cancelled during a rebalance, also when the worker is to stop.
            if not self.app.should_stop:
                raise
        except KafkaError as error:
            # Such as a permission that was revoked. Faust would stop its consumer first and so fail to hand over.
            stop_process(error)

    async def _drain(self, fetcher: Any) -> None:
        while not (self._stopped.is_set() or fetcher._stopped.is_set()):
            if not self.flow_active:
                await self.wait(self.can_resume_flow)
                continue
            recovered = self.app.committer.generation
            fetched, active = await self._wait_next_records(1.0)
            await asyncio.sleep(0)
            if self.app.committer.generation != recovered:
                # Requested before the seek of recovery: records between the replay point and these would be skipped.
                self.seek_to_next()
                continue
            generation = self.app.consumer_generation_id
            for message in self._messages(fetched or {}, active, generation):
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    break  # recovery ends with a seek to the replay point: what was fetched before is fetched again
                if not self.app.of(message.topic).takes(message.partition):
                    continue
                if not await self._deliver(message):
                    break
                self._delivered[message.tp] = generation, message.end

    def _messages(
        self, fetched: Mapping[TP, list[Record]], active: Collection[TP] | None, generation: int
    ) -> list[FetchedBatch]:
        """What was fetched, and how far each partition was read. To be called before the next fetch begins."""
        messages = []
        for partition in self.app.active():
            tp = TP(*partition.log)
            if active is not None and tp not in active:
                continue
            records = fetched.get(tp, [])
            if records:
                delivered = records[-1].offset + 1
            else:
                known, delivered = self._delivered.get(tp, (None, 0))
                if known != generation:
                    delivered = partition.next  # where recovery has sought
            end = max(self.read_to(tp) or 0, delivered)
            if records or end > delivered:
                messages.append(FetchedBatch(tp, records, end, generation))
        return messages

    def seek_to_next(self) -> None:
        """Let every recovered partition be fetched from the first offset it has not taken."""
        for tp in self.assignment():
            if tp.partition in (partitions := self.app.of(tp.topic)):
                self._thread.seek(tp, partitions[tp.partition].next)

    async def _deliver(self, message: FetchedBatch) -> bool:
        """Hand a batch to the agent; False when the flow was stopped before it took it."""
        delivery = asyncio.ensure_future(self.callback(message))
        await asyncio.sleep(0)
        if delivery.done():  # as it is where the queue has room, without what it costs to wait for two things
            delivery.result()
            return True
        if self._suspended is None or self._suspended.done():
            self._suspended = asyncio.ensure_future(self.suspend_flow.wait())
        await asyncio.wait({delivery, self._suspended}, return_when=asyncio.FIRST_COMPLETED)
        if delivery.done():
            delivery.result()
            return True
        delivery.cancel()
        return False

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit every active partition's position, with its replay point; Faust calls this each second."""
        return await self.app.committer.commit(self.app.active())

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust expects its own commits, misses ours, and after five minutes logs errors every few seconds
        about a healthy worker. app/stream/watchdog.py asks the broker instead.
        """

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        kafka = self.app.job.settings.kafka
        known = self.app.job.partitions_of[kafka.log_topic]
        if beyond := [tp.partition for tp in assigned if tp.topic == kafka.log_topic and tp.partition >= known]:
            stop_process(TopicError(partitions_changed(kafka, known, max(beyond) + 1)))
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        self.app.job.metrics.rebalances.inc()
        await self.app.hand_over("revoked")

    async def on_stop(self) -> None:
        await self.app.hand_over("stopping")
        self.app.partitions.clear()
        self.app.rekey_partitions.clear()
        if self._suspended:
            self._suspended.cancel()
        await super().on_stop()


class Producer(driver.Producer):
    app: "App"

    async def on_start(self) -> None:
        with explain_start_failure("producer", self.app.job.settings.kafka.bootstrap_servers):
            await super().on_start()

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):
    Consumer = Consumer
    Producer = Producer


class Boot(BootStrategy):
    """Starts our own checks first, and never Faust's web server, which listens on every address."""

    enable_web = False

    def server(self) -> Iterable[Any]:
        return [*self.app.before_joining, *super().server()]


class App(faust.App):
    """The Faust application; ``job`` is what all partitions share.

    ``partitions`` are those assigned now of the topic that is scored, ``rekey_partitions`` those of the input topic
    with ``input.rekey``.
    """

    BootStrategy = Boot

    def __init__(
        self, *args: Any, settings: Settings, pipeline: Pipeline, metrics: Metrics, table: StateTable, **options: Any
    ) -> None:
        kafka, topic_ids, limits = settings.kafka, dict[str, str](), dict[str, int]()
        outbox = Outbox(lambda: self.producer._producer, kafka.ack_timeout_s, BATCH_BYTES, limits, kafka.compression)
        self.committer = Committer(kafka, metrics, topic_ids, self.active, self._send_commit)
        dead_letter_log = DeadLetterLog(kafka.dead_letters_topic)
        self.job = Job(
            settings, pipeline, metrics, table, outbox, self.committer, dead_letter_log, self._log_start,
            topic_ids=topic_ids, limits=limits,
        )  # fmt: skip
        self.partitions, self.rekey_partitions = Partitions(self.job), RekeyPartitions(self.job)
        self._log_topic = kafka.log_topic
        self.before_joining: list[Any] = []
        super().__init__(*args, Worker=Worker, **options)

    def of(self, topic: str) -> Partitions | RekeyPartitions:
        """The partitions of this topic."""
        return self.partitions if topic == self._log_topic else self.rekey_partitions

    def active(self) -> list[AssignedPartition]:
        """All partitions that are recovered, and assigned to this worker."""
        return [*self.rekey_partitions.active(), *self.partitions.active()]

    async def hand_over(self, why: str) -> None:
        """Finish what is in flight, save what is not saved yet, commit."""
        await asyncio.gather(self.rekey_partitions.hand_over(why), self.partitions.hand_over(why))

    def on_init_dependencies(self) -> Iterable[Any]:
        found: Iterable[Any] = super().on_init_dependencies()
        self.sensors.remove(self.monitor)  # it counts four times for each message, and nobody reads it
        return found

    async def on_stop(self) -> None:
        end_within(self.job.settings.kafka.session_timeout_s)
        await super().on_stop()

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def _log_start(self, log: TopicPartition) -> int:
        return (await self.consumer.call("beginning_offsets", [log]))[log]

    async def _send_commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        await self.consumer.call("commit", offsets)

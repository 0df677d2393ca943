"""Ends a worker that makes no progress, and a worker whose topics have changed since it started.

A member that sends heartbeats keeps its partitions, so a worker without progress is worse than one that died: nobody
takes over. Every two seconds the watchdog asks the brokers, over its own connections. It ends the process without a
commit for a problem that a new process can fix, or must report:

- no partitions, while records wait that no member of the group reads: after a broker's restart the leader of the group
  may know no topics, and assigns nothing to anybody, until a member leaves
- partitions whose records wait and are not taken: a fetcher that died, a recovery that hangs
- a topic that was deleted, or recreated with fewer partitions or another cleanup policy; a changed number of input
  partitions, which sends sources to other partitions than their state
- offsets that the log never had or does not have any more: records were deleted, or the topic was truncated or
  recreated. aiokafka resets such offsets without an error, and a partition without new records would not notice
- a permission that was revoked and that these requests need
- an event loop that is blocked: a separate thread watches it

app/stream/stall_detector.py decides; this module asks. Without an answer of the brokers nothing is decided: while they
are away a worker waits, as long as none of its records waits for an acknowledgement.
"""

import asyncio
import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from faust.exceptions import ConsumerNotStarted
from mode import Service

from app.errors import Stalled
from app.kafka import topics
from app.kafka.admin import AnyBroker
from app.kafka.client import client_options
from app.kafka.log_reader import LogReader
from app.settings import KafkaSettings
from app.stream.crash import DENIED, stop_process
from app.stream.stall_detector import LONGEST_CHECK_S, Observation, PartitionProgress, StallDetector

if TYPE_CHECKING:
    from app.stream.transport import App

EVERY_S = 2.0  # between two checks
ANSWER_S = LONGEST_CHECK_S - EVERY_S
LOOP_S = 60  # how long one task may block the event loop; the largest batch takes a few seconds
LIVE_S = 60.0  # /livez fails after this time without a check

log = logging.getLogger(__name__)


class EventLoopMonitor:
    """A thread that ends the process when its event loop has been blocked for a number of seconds."""

    def __init__(self, limit_s: int = LOOP_S, stop: Callable[[BaseException], object] = stop_process) -> None:
        self._limit_s, self._stop = limit_s, stop
        self.ticks = 0

    def start(self) -> None:
        threading.Thread(target=self.watch, name="event-loop-monitor", daemon=True).start()

    def watch(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Count the seconds without a tick; in a suspended process none are counted."""
        seen, blocked_s = self.ticks, 0
        while blocked_s < self._limit_s:
            pause(1.0)
            seen, blocked_s = self.ticks, 0 if self.ticks != seen else blocked_s + 1
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__)
        self._stop(
            Stalled(f"the event loop did not turn for {self._limit_s} s; the traceback above shows where its thread is")
        )


class Watchdog(Service):
    """Checks every two seconds, from before the group is joined until the process ends."""

    def __init__(self, app: "App", **options: Any) -> None:
        self._app = app
        self._kafka = app.job.settings.kafka
        self._stall_detectors = {
            topic: StallDetector(self._kafka, topic=topic)
            for topic in dict.fromkeys([self._kafka.input_topic, self._kafka.log_topic])
        }
        self._loop_monitor = EventLoopMonitor()
        self._checked_at = time.monotonic()
        super().__init__(**options)

    @property
    def alive(self) -> bool:
        """It has checked, or tried to, in the last minute."""
        return time.monotonic() - self._checked_at < LIVE_S

    async def on_start(self) -> None:
        self._loop_monitor.start()

    @Service.task
    async def _tick(self) -> None:
        while not self.should_stop:
            self._loop_monitor.ticks += 1
            await self.sleep(1.0)

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            self._checked_at = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_S):
                    brokers = await Brokers.connected(self._kafka)
            except (KafkaError, OSError, TimeoutError):
                await self.sleep(EVERY_S)
                continue
            try:
                while not self.should_stop:
                    await self._check(brokers)
                    await self.sleep(EVERY_S)
            except DENIED as error:
                stop_process(error)
            except (KafkaError, OSError, TimeoutError) as error:
                log.info("no answer from the brokers, asking again: %r", error)
            finally:
                await brokers.close()
            await self.sleep(EVERY_S)

    async def _check(self, brokers: "Brokers") -> None:
        self._checked_at = time.monotonic()
        async with asyncio.timeout(ANSWER_S):
            observed = await self._observe(brokers)
        for topic, of_topic in observed.items():
            error = self._stall_detectors[topic].verdict(of_topic)
            if error is not None and not self._app.should_stop:
                stop_process(error)
        await self._save_exposed(observed[self._kafka.log_topic])

    async def _observe(self, brokers: "Brokers") -> dict[str, Observation]:
        job = self._app.job
        found = await brokers.topics()
        job.limits.update(topics.limits(found))
        problems = self._problems(found)
        if problems:
            return dict.fromkeys(self._stall_detectors, Observation(problems))
        return {
            topic: await self._observe_topic(brokers, topic, found[topic].partitions) for topic in self._stall_detectors
        }

    def _problems(self, found: Mapping[str, topics.Topic]) -> list[str]:
        """What is wrong with the topics, compared with the numbers of partitions and the ids at the worker's start."""
        job = self._app.job
        largest, name = job.pipeline.max_snapshot_bytes(), self._kafka.log_topic
        problems = topics.problems(self._kafka, found, largest, (), topics.result_bytes(job.settings))
        if not problems and found[name].partitions != (known := job.partitions_of[name]):
            problems = [topics.partitions_changed(self._kafka, known, found[name].partitions)]
        kafka = self._kafka
        of_history = dict.fromkeys((kafka.input_topic, name, kafka.output_topic, kafka.changelog_topic))
        return problems + [
            f"topic {name} was deleted and made again while this worker ran: its next start says what is lost"
            for name in of_history
            if name in found and job.topic_ids[name] and job.topic_ids[name] != found[name].id
        ]

    async def _observe_topic(self, brokers: "Brokers", topic: str, partitions: int) -> Observation:
        numbers = range(partitions)
        own = self._own(topic)  # before the ends: so no taken offset lies beyond them
        begin, readable, end = await brokers.log(topic, numbers)
        if own:
            return Observation((), begin, end, readable, own)
        committed, assigned = await brokers.committed(topic), await brokers.assigned(topic, numbers)
        return Observation((), begin, end, readable, committed=committed, assigned=assigned)

    def _own(self, topic: str) -> dict[int, PartitionProgress]:
        partitions = self._app.of(topic)
        try:
            assigned = [tp for tp in self._app.consumer.assignment() if tp.topic == topic]
        except ConsumerNotStarted:
            return {}
        own = {}
        for tp in assigned:
            number = tp.partition
            if partitions.takes(number):
                one = partitions[number]
                fetched = self._app.consumer.read_to(tp) or 0
                own[number] = PartitionProgress(one.next, one.position, fetched=fetched, queued=one.queued)
            else:
                own[number] = PartitionProgress(self._app.partitions.recovered_records, 0, recovered=False)
        return own

    async def _save_exposed(self, observed: Observation) -> None:
        """Save sources whose unsaved points were deleted from the log: a crash now would lose their state."""
        for partition in self._app.partitions.active():
            ledger, begin = partition.ledger, observed.begin.get(partition.number, 0)
            if ledger.replay_point < begin <= ledger.next:
                saved = await partition.save(1000)
                log.warning(
                    "%s[%d] starts at %d, beyond the replay point %d: saved %d sources; raise the topic's retention, "
                    "or lower state.replay_records",
                    self._kafka.log_topic, partition.number, begin, ledger.replay_point, saved,
                )  # fmt: skip


class Brokers:
    """The requests, over connections that stay open between two checks."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        options = client_options(kafka)
        self._admin = AnyBroker(**options, request_timeout_ms=int(ANSWER_S * 1000))
        self._reader = LogReader(**options, enable_auto_commit=False)

    @classmethod
    async def connected(cls, kafka: KafkaSettings) -> "Brokers":
        brokers = cls(kafka)
        try:
            await brokers._admin.start()
            await brokers._reader.start()
        except BaseException:
            await brokers.close()
            raise
        return brokers

    async def close(self) -> None:
        await self._admin.close()
        await self._reader.stop()

    async def topics(self) -> dict[str, topics.Topic]:
        return await topics.describe(self._admin, self._kafka)

    async def log(self, topic: str, numbers: Sequence[int]) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
        """Start offset, readable end and end of each of these partitions."""
        partitions = [TopicPartition(topic, number) for number in numbers]
        begin, readable = await self._reader.beginning_offsets(partitions), {}
        if self._kafka.isolation_level == "read_committed":
            readable = await self._reader.last_stable_offsets(partitions)
        end = await self._reader.end_offsets(partitions)
        return _by_number(begin), _by_number(readable or end), _by_number(end)

    async def committed(self, topic: str) -> dict[int, int]:
        found = await self._admin.list_consumer_group_offsets(self._kafka.group_id)
        return {tp.partition: value.offset for tp, value in found.items() if tp.topic == topic}

    async def assigned(self, topic: str, numbers: Sequence[int]) -> frozenset[int]:
        """Partitions that are assigned to a member of the group; all of them during a rebalance."""
        [answer] = await self._admin.describe_consumer_groups([self._kafka.group_id])
        _, _, state, _, _, members, *_ = answer.groups[0]
        if state in ("PreparingRebalance", "CompletingRebalance"):
            return frozenset(numbers)
        assignments = [ConsumerProtocolMemberAssignment.decode(member[-1]) for member in members if member[-1]]
        return frozenset(tp.partition for a in assignments for tp in a.partitions() if tp.topic == topic)


def _by_number(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {tp.partition: offset for tp, offset in offsets.items()}

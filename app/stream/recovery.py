"""From what the broker holds to the state an uninterrupted worker would have.

For each partition taken over: the highest snapshot of every source is loaded from the changelog; raw-data is then
read again from the replay point, each source skipping what its snapshot holds; and results are emitted only beyond
the mark. The mark is the highest of the last result in the partition of anomaly-results with the same number, the
committed position, and what any snapshot covers: results are sent last and snapshots after them, so whatever lies
at or below it was emitted, dead letters and episodes included. Points count as (offset, index).

A partition stays in memory over a rebalance only if the group confirmed it in the generation just before and both
logs end where this worker left them; otherwise another worker may have written in between.

The records are read by a consumer of our own without a group, 400,000 records/s against 7,000 through Faust's
recovery, whose tasks are replaced here. Order at the end: seek, flow resumed, partitions resumed. Faust's own order
(partitions first) skips records.
"""

import gc
import json
import logging
import time
from collections.abc import Iterable
from typing import Any

import aiokafka
import msgspec
from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

from app.errors import HistoryLost, StateError
from app.kafka_client import client_options
from app.stream import failpoints
from app.stream.commit import Ledger
from app.stream.crash import stop_process
from app.stream.partition import Partition
from app.stream.transport import METADATA_VERSION

RESULTS_TAIL = (
    20_000  # records; more than can be in flight, so that a late write of an earlier owner cannot hide the mark
)
WHOLE = 2**31  # an index no element of an array record has: all of the offset
READ_AT_ONCE = 20_000  # records

log = logging.getLogger(__name__)


class ResultId(msgspec.Struct):
    id: str


class SnapshotRecovery(Recovery):
    """Faust's recovery service with its work replaced; Faust still says when, after each rebalance."""

    @Service.task
    async def _slurp_changelogs(self) -> None:
        return

    @Service.task
    async def _publish_stats(self) -> None:
        return

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                break
            self.signal_recovery_start.clear()
            generation = self._generation_id
            try:
                self._set_recovery_started()
                await self._wait(self._load(generation))
                await self._wait(self._resume(generation))
            except (RebalanceAgain, IllegalStateError):
                continue  # the assignment changed while we read: the next signal starts anew
            except ServiceStopped:
                break
            except Exception as error:  # noqa: BLE001 - told, and the process ends
                stop_process(error)

    async def _load(self, generation: int) -> None:
        app: Any = self.app
        kafka, partitions, metrics = app.job.settings.kafka, app.partitions, app.job.metrics
        began = time.monotonic()
        wanted = sorted(tp.partition for tp in app.consumer.assignment() if tp.topic == kafka.input_topic)
        for number in set(partitions) - set(wanted):
            partitions.drop(number)
        if wanted:
            reader = aiokafka.AIOKafkaConsumer(
                **client_options(kafka),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=4 << 20,
                fetch_max_wait_ms=50,
            )
            await reader.start()
            try:
                logs = await Logs.of(reader, kafka, wanted)
                for number in [n for n in wanted if n in partitions and not self._kept(logs, n, generation)]:
                    partitions.drop(number)
                fresh = [number for number in wanted if number not in partitions]
                partitions.update(await self._recover(reader, logs, fresh))
            finally:
                await reader.stop()
        metrics.recovery_seconds.set(time.monotonic() - began)
        metrics.assigned_partitions.set(len(wanted))

    def _kept(self, logs: "Logs", number: int, generation: int) -> bool:
        partition = self.app.partitions[number]  # type: ignore[attr-defined]
        return (
            partition.generation + 1 == generation
            and partition.ledger.idle
            and partition.results_end == logs.end[logs.results(number)]
            and partition.changelog_end == logs.end[logs.changelog(number)]
        )

    async def _recover(self, reader: Any, logs: "Logs", numbers: list[int]) -> dict[int, Partition]:
        app: Any = self.app
        job = app.job
        owned = {number: job.table.take_over() for number in numbers}
        marks = dict.fromkeys(numbers, (-1, WHOLE))
        begin = {logs.changelog(n): logs.begin[logs.changelog(n)] for n in numbers}
        for number in numbers:
            results = logs.results(number)
            begin[results] = max(logs.begin[results], logs.end[results] - RESULTS_TAIL)
        ids = msgspec.json.Decoder(ResultId)
        loaded = 0
        async for partition, records in logs.read(reader, begin):
            number = partition.partition
            if partition.topic == logs.kafka.output_topic:
                marks[number] = max([marks[number], *_positions(ids, records, logs.kafka.input_topic, number)])
                continue
            loaded += len(records)
            for record in records:
                try:
                    owned[number].load(record.key, record.value)
                except StateError as error:
                    raise StateError(f"{partition.topic}[{number}]@{record.offset}: {error}") from error
            failpoints.reach("in_recovery")
        job.metrics.recovered_snapshots.inc(loaded)
        committed = await app.consumer.committed_with_metadata([logs.raw(n) for n in numbers])
        ends = await reader.end_offsets([logs.raw(n) for n in numbers])
        recovered = {}
        for number in numbers:
            start = _where_to_start(logs, number, committed.get(logs.raw(number)), owned[number], marks[number])
            position, replay, mark = start
            if max(mark[0], position - 1) >= ends[logs.raw(number)]:
                raise HistoryLost(
                    f"{logs.raw(number).topic}[{number}] ends at {ends[logs.raw(number)]}, but offset "
                    f"{max(mark[0], position - 1)} was processed: the topic was recreated or truncated. "
                    "Use another kafka.group_id and output_topic for the new topic."
                )
            state = job.settings.state
            ledger = Ledger(replay, position, state.snapshot_every, state.replay_records)
            partition = Partition(number, job, owned[number], ledger, mark)
            partition.results_end = logs.end[logs.results(number)]
            partition.changelog_end = logs.end[logs.changelog(number)]
            recovered[number] = partition
            log.info(
                "partition %d: %d sources, replay from %d to %d, emit after %s",
                number, len(owned[number].rows), replay, ends[logs.raw(number)], mark,
            )  # fmt: skip
        return recovered

    async def _resume(self, generation: int) -> None:
        app: Any = self.app
        consumer, partitions = app.consumer, app.partitions
        await app.on_rebalance_complete.send()
        self._set_recovery_ended()
        assignment = consumer.assignment()
        if app.consumer_generation_id != generation:
            return  # rebalanced again: another signal is on its way
        for tp in assignment:
            if tp.topic == app.job.settings.kafka.input_topic and tp.partition in partitions:
                consumer._thread.seek(tp, partitions[tp.partition].ledger.next)
        self.completed.set()
        app.flow_control.resume()
        for partition in partitions.values():
            partition.generation, partition.active = generation, True
        partitions.generation = generation
        consumer.resume_partitions(assignment)
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        # The recovered state is for good, and batches die by their reference counts: with Python's threshold of 700
        # new objects the collector walked each batch in vain, 8 % of the worker's time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 20)
        log.info("ready: generation %d, partitions %s", generation, sorted(partitions))


class Logs:
    """Where the three logs of some partitions begin and end, as the broker said at one moment."""

    def __init__(self, kafka: Any) -> None:
        self.kafka = kafka
        self.begin: dict[TopicPartition, int] = {}
        self.end: dict[TopicPartition, int] = {}

    @classmethod
    async def of(cls, reader: Any, kafka: Any, numbers: Iterable[int]) -> "Logs":
        logs = cls(kafka)
        every = [log(number) for number in numbers for log in (logs.raw, logs.results, logs.changelog)]
        logs.begin = await reader.beginning_offsets(every)
        logs.end = await reader.end_offsets(every)
        return logs

    def raw(self, number: int) -> TopicPartition:
        return TopicPartition(self.kafka.input_topic, number)

    def results(self, number: int) -> TopicPartition:
        return TopicPartition(self.kafka.output_topic, number)

    def changelog(self, number: int) -> TopicPartition:
        return TopicPartition(self.kafka.changelog_topic, number)

    async def read(self, reader: Any, begin: dict[TopicPartition, int]) -> Any:
        """Yield (partition, records) of these partitions, each from its offset to its known end."""
        left = {partition for partition, offset in begin.items() if offset < self.end[partition]}
        reader.assign(list(left))
        for partition in left:
            reader.seek(partition, begin[partition])
        while left:
            for partition, records in (await reader.getmany(timeout_ms=1000, max_records=READ_AT_ONCE)).items():
                yield partition, records
            for partition in list(left):
                if await reader.position(partition) >= self.end[partition]:  # compaction leaves holes at the end
                    left.discard(partition)
                    reader.pause(partition)


def _positions(ids: Any, records: list[Any], topic: str, number: int) -> list[tuple[int, int]]:
    """(offset, index) of each result, from its id. Raises StateError for a record that is not a result of ours."""
    positions = []
    for record in records:
        try:
            of_topic, partition, offset, index = ids.decode(record.value).id.rsplit(":", 3)
            position = int(offset), int(index)
        except (msgspec.DecodeError, ValueError, TypeError) as error:
            raise StateError(
                f"{record.topic}[{number}]@{record.offset}: expected a result with an id "
                f"topic:partition:offset:index, got {record.value[:80]!r}. Only workers may write to this topic."
            ) from error
        if (of_topic, partition) != (topic, str(number)):
            raise StateError(
                f"{record.topic}[{number}]@{record.offset}: a result of {of_topic}[{partition}] among those of "
                f"{topic}[{number}]: give each job an output topic of its own"
            )
        positions.append(position)
    return positions


def _where_to_start(logs: Logs, number: int, commit: Any, owned: Any, mark: tuple[int, int]) -> Any:
    """(position, replay point, mark), or HistoryLost when records that the state needs are gone."""
    raw = logs.raw(number)
    begin = logs.begin[raw]
    name = f"{raw.topic}[{number}]"
    known = bool(owned.covered) or mark[0] >= 0
    if commit is None:
        if known and begin > 0:
            raise HistoryLost(
                f"{name}: the group {logs.kafka.group_id!r} has no committed offset (expired?), state or results of "
                f"its own exist, and the log starts at {begin}. Use another kafka.group_id and output_topic."
            )
        position = replay = begin
    else:
        position, replay = (
            commit.offset,
            _replay_point(commit, name, bool(owned.covered), logs.kafka.group_id),
        )
        if replay < begin:
            raise HistoryLost(
                f"{name}: state must be rebuilt from offset {replay}, and the log starts at {begin}: "
                f"{begin - replay} records were deleted before they were saved. Raise the topic's retention."
            )
    if position > begin:
        mark = max(mark, (position - 1, WHOLE))
    return position, replay, max(mark, (owned.covers, WHOLE))


def _replay_point(commit: Any, name: str, has_snapshots: bool, group_id: str) -> int:
    if not commit.metadata and not has_snapshots:
        return commit.offset  # set by a tool before the first start: begin there
    try:
        metadata = json.loads(commit.metadata)
        if metadata["v"] != METADATA_VERSION:
            raise ValueError(f"version {metadata['v']!r}")
        return int(metadata["replay"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{name}: the commit of group {group_id!r} at offset {commit.offset} must carry "
            f'{{"v":{METADATA_VERSION},"replay":offset}}, got {commit.metadata!r}: its offsets were set by another '
            "program while snapshots exist. Use another kafka.group_id to start anew from there."
        ) from error

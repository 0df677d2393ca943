"""How a new owner takes partitions over: the decisions of recovery, without Faust.

For each partition: the newest snapshot of every source is loaded from the changelog. raw-data is then read again from
the replay point, and each source skips the points that its snapshot contains. Results are emitted only beyond the
watermark. The watermark is the highest of three: the last result in the partition of anomaly-results with the same
number, the committed position, and the offsets that snapshots cover. Results are sent last and snapshots after them, so
everything up to the watermark was emitted, also dead letters and episodes. Positions of points are (offset, index).

A partition stays in memory over a rebalance only if the group confirmed it in the generation just before, and both logs
end where this worker left them; otherwise another worker may have written in between.

Results and changelog are always read as ``read_committed``, independent of kafka.isolation_level. Workers use no
transactions, so records of an aborted one do not count, and those of a committed one are checked like any record. While
a transaction is open there, its records and all that follow cannot be read, and a new owner that started without them
would repeat results.

The reader of the logs is a parameter: aiokafka's consumer, or the simulated broker of tests/simulation.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from aiokafka.structs import TopicPartition

from app.compiled.byte_columns import RecordColumns
from app.errors import HistoryLost, StateError
from app.kafka.fetched import Fetched
from app.settings import KafkaSettings
from app.stream import failpoints
from app.stream.assignment import Partitions
from app.stream.committer import (
    METADATA_VERSION,
    REKEYS,
    CommittedOffset,
    FetchCommitted,
    read_metadata,
    topic_ids,
)
from app.stream.compute import PartitionState
from app.stream.job import Job
from app.stream.ledger import Ledger
from app.stream.origins import Origins, parsed
from app.stream.output_watermark import NOTHING, WHOLE, Position, last_emitted
from app.stream.partition import Partition
from app.stream.stall_detector import recreated
from app.stream.state_table import PartitionSources

# Records read at the end of anomaly-results. The last result is the watermark, even as the 40,000th of one array,
# unless an owner that was suspended for longer than its session wrote its batches in flight after it: seldom more than
# these. With more, results in between are repeated byte for byte, as those of that owner may be; none are lost.
RESULTS_TAIL = 20_000
READ_AT_ONCE = 20_000  # records
RETRY_S, COMMIT_S = 0.25, 5.0  # while a commit that must exist is not found
OPEN_S = 10.0  # longest wait until a transaction in our topics ends

log = logging.getLogger(__name__)


class PartitionReader(Protocol):
    """What is needed of a started consumer without a group: see app/kafka/log_reader.py."""

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...

    async def last_stable_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None: ...

    def pause(self, partition: TopicPartition) -> None: ...

    async def position(self, partition: TopicPartition) -> int: ...

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[TopicPartition, Sequence[Any]]:
        """Records, or one ``Fetched`` for each fetch: see app/kafka/fetched.py."""


class Start(NamedTuple):
    """Where the new owner begins."""

    position: int  # every offset below it is answered
    replay: int  # the first offset to read
    watermark: Position  # everything up to it was emitted
    origins: str | None = None  # the highest origins below the replay point, as app/stream/origins.py writes them


class Takeover:
    """One partition that is taken over: takes the records of its logs, and says where to start.

    ``sources`` is filled with their state; ``topic_ids`` are the present ids by role, see app/stream/committer.py.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        number: int,
        sources: PartitionSources,
        topic_ids: Mapping[str, str] | None = None,
    ) -> None:
        self.sources = sources
        self._kafka = kafka
        self._number = number
        self._topic_ids = topic_ids or {}
        self._emitted = NOTHING

    def results(self, records: Iterable[Any]) -> None:
        """Take in records of the tail of anomaly-results, or fetches of them. Raises what ``last_emitted`` raises."""
        self._emitted = max(self._emitted, last_emitted(self._kafka, self._number, records))

    def snapshots(self, records: Sequence[Any]) -> None:
        """Take in records of the changelog, or fetches of them, in its order. Raises StateError for a damaged one."""
        try:
            if records and isinstance(records[0], Fetched):
                for fetched in records:
                    self.sources.load(fetched.records())
            else:
                self.sources.load(RecordColumns.of((record.offset, record.key, record.value) for record in records))
        except StateError as error:
            raise StateError(
                f"{self._kafka.changelog_topic}[{self._number}]{error}. Only workers may write to this topic; with "
                "another kafka.group_id all sources start without state"
            ) from error

    def start(self, begin: int, end: int, commit: CommittedOffset | None) -> Start:
        """Where to begin.

        Parameters
        ----------
        begin, end
            First offset still in the partition of raw-data, and the offset after its last record.
        commit
            What the group committed (``offset`` and ``metadata``), None if nothing.

        Raises
        ------
        HistoryLost
            Records that the state needs are gone.
        StateError
            The commit is not one of ours.
        """
        position, replay, origins = self._committed(begin, commit)
        watermark = max(self._emitted, (self.sources.covers, WHOLE))
        if position > begin:
            watermark = max(watermark, (position - 1, WHOLE))
        if (done := max(watermark[0], position - 1)) >= end:
            raise HistoryLost(recreated(f"{self._name} ends at {end}", done))
        return Start(position, replay, watermark, origins)

    @property
    def known(self) -> bool:
        """Results or state of this group exist, so the group must have committed: see Committer.begin."""
        return bool(self.sources.covered) or self._emitted[0] >= 0

    @property
    def _name(self) -> str:
        return f"{self._kafka.log_topic}[{self._number}]"

    def _committed(self, begin: int, commit: CommittedOffset | None) -> tuple[int, int, str | None]:
        """(position, replay point, origins) by the group's commit, or the log's begin without one."""
        nothing = "" if self._kafka.rekeys else None
        group = self._kafka.group_id
        if commit is None:
            if self.known:
                raise HistoryLost(
                    f"{self._name}: the group {group!r} has no committed offset, but results or state of its own "
                    "exist: the topic was deleted and made again (Kafka then forgets the offsets), or they expired. "
                    "Use another kafka.group_id and output_topic."
                )
            return begin, begin, nothing
        replay, origins = self._replay_point(commit)
        if replay < begin:
            raise HistoryLost(
                f"{self._name}: state must be rebuilt from offset {replay}, and the log starts at {begin}: "
                f"{begin - replay} records were deleted before they were saved. Raise the topic's retention."
            )
        return commit.offset, replay, nothing if origins is None else origins

    def _replay_point(self, commit: CommittedOffset) -> tuple[int, str | None]:
        if not commit.metadata and not self.sources.covered:
            return commit.offset, None  # set by a tool before the first start
        try:
            metadata = read_metadata(commit.metadata)
            if REKEYS in metadata:
                raise StateError(other_rekey(self._name, "with"))
            check_topics(self._name, self._kafka, self._topic_ids, metadata)
            if self._kafka.rekeys:
                parsed(metadata["origins"])
                return int(metadata["replay"]), metadata["origins"]
            return int(metadata["replay"]), None
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{self._name}: the commit of group {self._kafka.group_id!r} at offset {commit.offset} must carry "
                f'{{"v":{METADATA_VERSION},"replay":offset}}, got {commit.metadata!r}: its offsets were set by another '
                "program while snapshots exist. Use another kafka.group_id to start from there without state."
            ) from error


def check_topics(log: str, kafka: KafkaSettings, ids: Mapping[str, str], committed: Mapping[str, Any]) -> None:
    """Raises HistoryLost when a commit refers to other topics that had the same names.

    ``log`` is the partition of the commit, for the message; ``ids`` and ``committed`` have ids by role.
    """
    of_log = log.rpartition("[")[0]
    lost = {
        "input": (of_log, "offsets and state are of the old one"),
        "changelog": (kafka.changelog_topic, "the state in it is gone"),
        "output": (kafka.log_topic, "what it held and was not scored is gone"),
    }
    for role, (name, what) in lost.items():
        was, now = committed.get(role), ids.get(role)
        if was and now and was != now:
            raise HistoryLost(
                f"{log}: topic {name} was deleted and made again (its id was {was}, now {now}): {what}. "
                "Use another kafka.group_id and output_topic, or put a copy of the state back: `faust-anomaly restore`"
            )


def other_rekey(log: str, how: str) -> str:
    """Message: a commit cannot be used; ``how`` is "with" or "without"."""
    return (
        f"{log}: the group has committed {how} input.rekey, and its state belongs to the topic that was scored then. "
        "Set input.rekey as it was, or use another kafka.group_id and output_topic."
    )


async def take_over(
    job: Job,
    partitions: Partitions,
    reader: PartitionReader,
    committed: FetchCommitted,
    wanted: list[int],
    generation: int,
) -> None:
    """Make ``partitions`` hold exactly those ``wanted`` in this ``generation`` of the group; not active yet.

    Parameters
    ----------
    reader
        A started aiokafka consumer without a group.
    committed
        Gives the commits of the group, for those partitions that have one.
    """
    if not wanted:
        return
    logs = await Logs.of(reader, job.settings.kafka, wanted)
    for number in [n for n in wanted if n in partitions and not _unchanged(partitions[n], logs, generation)]:
        partitions.drop(number)
    fresh = [number for number in wanted if number not in partitions]
    recovered = await _recovered(job, partitions, reader, logs, committed, fresh)
    for partition in recovered.values():
        partition.start()
    partitions.update(recovered)


def _unchanged(partition: Partition, logs: "Logs", generation: int) -> bool:
    """No other worker can have written since the group confirmed this one as owner."""
    return (
        partition.generation + 1 == generation
        and partition.ledger.idle
        and partition.results_end == logs.end[logs.results(partition.number)]
        and partition.changelog_end == logs.end[logs.changelog(partition.number)]
    )


async def _recovered(
    job: Job,
    partitions: Partitions,
    reader: PartitionReader,
    logs: "Logs",
    committed: FetchCommitted,
    numbers: list[int],
) -> dict[int, Partition]:
    kafka, state = logs.kafka, job.settings.state
    ids = topic_ids(kafka, job.topic_ids)
    takeovers = {number: Takeover(kafka, number, job.table.take_over(), ids) for number in numbers}
    begin = {logs.changelog(n): logs.begin[logs.changelog(n)] for n in numbers}
    for number in numbers:
        results = logs.results(number)
        begin[results] = max(logs.begin[results], logs.end[results] - RESULTS_TAIL)
    loaded = 0
    async for read in logs.read(reader, begin):
        loading = []
        for (topic, number), records in read.items():
            whole = isinstance(records[0], Fetched)
            count = sum(one.count for one in records) if whole else len(records)
            partitions.recovered_records += count
            takeover, of_results = takeovers[number], topic == kafka.output_topic
            loaded += 0 if of_results else count
            take = takeover.results if of_results else takeover.snapshots
            if whole:
                loading.append(asyncio.to_thread(take, records))
            else:
                take(records)
            failpoints.reach("in_recovery")
        if loading:
            await asyncio.gather(*loading)  # several partitions at once, while the next is fetched
    job.metrics.recovered_snapshots.inc(loaded)
    of_raw = {logs.raw(number): takeover for number, takeover in takeovers.items()}
    commits = await commits_of(committed, {partition: takeover.known for partition, takeover in of_raw.items()})
    ends = await reader.end_offsets(list(of_raw))
    recovered = {}
    for number, takeover in takeovers.items():
        raw = logs.raw(number)
        start = takeover.start(logs.begin[raw], ends[raw], commits.get(raw))
        ledger = Ledger(start.replay, start.position, state.snapshot_every, state.replay_records)
        unsaved = np.array(takeover.sources.unsaved, np.int64)
        ledger.learned(unsaved, np.full(len(unsaved), start.replay))  # the replay point waits for their snapshots
        keyed = job.partitions_of[kafka.input_topic] > 1
        origins = None if start.origins is None else Origins(start.replay, start.origins, state.replay_records)
        of = takeover.sources, ledger, start.watermark, time.monotonic, origins
        partition = Partition(PartitionState(number, job.settings, job.pipeline, keyed, *of), job)
        partition.results_end = logs.end[logs.results(number)]
        partition.changelog_end = logs.end[logs.changelog(number)]
        recovered[number] = partition
        log.info(
            "partition %d: %d sources, replay from %d to %d, emit after %s",
            number, len(takeover.sources.rows), start.replay, ends[raw], start.watermark,
        )  # fmt: skip
        for section, slots in sorted(takeover.sources.rows.reset_sections.items()):
            if slots:
                reset = "partition %d: %s is reset in %d sources: saved under other settings or by another version"
                log.warning(reset, number, section, len(slots))
        if undivided := takeover.sources.rows.undivided:
            log.warning(
                "partition %d: an earlier version saved %d sources with their metrics: those that points name in the "
                "field metric are series of their own now, and start without state",
                number, len(undivided),
            )  # fmt: skip
    return recovered


async def commits_of(
    committed: FetchCommitted, known: Mapping[TopicPartition, bool]
) -> Mapping[TopicPartition, CommittedOffset]:
    """The commits of the group; asks again for some time when one is missing that must exist.

    In a test with 40 kills and full disks of a broker three workers got no commit, and got it at their next start. A
    broker that has just started presumably answers with less than it had acknowledged.
    """
    now = asyncio.get_running_loop().time
    until = now() + COMMIT_S
    while True:
        commits = await committed(list(known))
        missing = any(must and partition not in commits for partition, must in known.items())
        if not missing or now() > until:
            return commits
        await asyncio.sleep(RETRY_S)


class Logs:
    """Start and end offsets of the three logs of some partitions, at one moment."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.begin: dict[TopicPartition, int] = {}
        self.end: dict[TopicPartition, int] = {}

    @classmethod
    async def of(cls, reader: PartitionReader, kafka: KafkaSettings, numbers: Iterable[int]) -> "Logs":
        logs = cls(kafka)
        every = [log(number) for number in numbers for log in (logs.raw, logs.results, logs.changelog)]
        logs.begin = await reader.beginning_offsets(every)
        logs.end = await reader.end_offsets(every)
        await logs._readable(reader, [log for log in every if log.topic != kafka.input_topic])
        return logs

    async def _readable(self, reader: PartitionReader, ours: list[TopicPartition]) -> None:
        """Wait until our topics can be read to these ends. Raises StateError when a transaction stays open there."""
        now = asyncio.get_running_loop().time
        until = now() + OPEN_S
        while held := {
            log: stable for log, stable in (await reader.last_stable_offsets(ours)).items() if stable < self.end[log]
        }:
            if now() > until:
                (log, stable), server = min(held.items()), self.kafka.bootstrap_servers[0]
                raise StateError(
                    f"{log.topic}[{log.partition}]: another program has an open transaction, and what follows offset "
                    f"{stable} cannot be read until it ends. Only workers may write to this topic. If that program is "
                    f"gone: `kafka-transactions.sh --bootstrap-server {server} abort --topic {log.topic} --partition "
                    f"{log.partition} --start-offset {stable}`, or wait for its transaction.timeout.ms"
                )
            await asyncio.sleep(RETRY_S)

    def raw(self, number: int) -> TopicPartition:
        return TopicPartition(self.kafka.log_topic, number)

    def results(self, number: int) -> TopicPartition:
        return TopicPartition(self.kafka.output_topic, number)

    def changelog(self, number: int) -> TopicPartition:
        return TopicPartition(self.kafka.changelog_topic, number)

    async def read(
        self, reader: PartitionReader, begin: dict[TopicPartition, int]
    ) -> AsyncIterator[Mapping[TopicPartition, Sequence[Any]]]:
        """Yield {partition: records}, for each partition from its offset to its known end."""
        left = [partition for partition, offset in begin.items() if offset < self.end[partition]]
        reader.assign(list(left))
        for partition in left:
            reader.seek(partition, begin[partition])
        while left:
            yield await reader.getmany(timeout_ms=1000, max_records=READ_AT_ONCE)
            for partition in list(left):
                if await reader.position(partition) >= self.end[partition]:  # compaction leaves holes at the end
                    left.remove(partition)
                    reader.pause(partition)

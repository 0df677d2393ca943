"""A copy of a group's state, and putting it back: where it came from, or before another log of the input topic.

What makes it whole is the order. The commits are read first, the changelog after them, to the end that it has then. A
commit says that every point below its replay point is in an acknowledged snapshot, and that stays true; snapshots that
are newer than the commit only hold more. So workers may run meanwhile.

Back where it came from, a copy keeps its offsets: the input topic has the id that it had. The next owner reads raw-data
again from the replay point, as after a crash, and emits what is beyond the last result.

Before another log (a topic that was made again, another cluster, whatever a mirror made of it) the offsets in commits,
snapshots and ids of results mean nothing. Then every source's last snapshot is written anew, as if it held everything
before the offset at which the group begins, and the commit says so. That is right if the copy was made when all points
were in snapshots and nothing followed: *drained*.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from app import __version__
from app.errors import HistoryLost, StateError, TopicError
from app.kafka import topics
from app.kafka.admin import connected
from app.kafka.client import client_options
from app.kafka.groups import describe_groups
from app.kafka.log_reader import LogReader, stopped
from app.kafka.topics import Topic
from app.settings import KafkaSettings, Settings
from app.state import series, snapshot
from app.stream.committer import METADATA_VERSION, REKEYS, metadata, topic_ids
from app.stream.copy_file import Commit, CopyReader, CopyWriter, Head, Record
from app.stream.output_watermark import NOTHING, last_emitted
from app.stream.stall_detector import recreated
from app.stream.takeover import RESULTS_TAIL

READ_AT_ONCE, WAIT_MS = 5_000, 200
TAG = 9  # bytes after the series in a key of the changelog: see tables/sources.py
REQUEST_BYTES, BATCH_BYTES = 100 << 20, 256 << 10
COORDINATOR_S = 8.0  # for the group's coordinator
SENT_AT_ONCE = 5_000  # records whose acknowledgements are out

Where = Literal["beginning", "end"]
Commits = dict[TopicPartition, OffsetAndMetadata]


@dataclass
class Made:
    """What was copied or put back. ``said``: sentences for the user."""

    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # by topic
    bytes: int = 0
    said: list[str] = field(default_factory=list)


# --- out


async def backup(settings: Settings, path: Path) -> Made:
    """Write a copy of the group's state to a new file. Workers may run.

    Raises
    ------
    TopicError
        Topics do not fit, or the brokers cannot be reached.
    StateError
        A snapshot is damaged.
    FileExistsError
        There is a file.
    """
    kafka = settings.kafka
    found = await topics.require(settings)
    copied = [kafka.changelog_topic, *(name for name in _of_alerting(kafka) if name in found)]
    made = Made()
    async with _reader(kafka) as reader:
        commits = await _commits(kafka)
        head = Head(
            program=__version__,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            group=kafka.group_id,
            log=kafka.log_topic,
            input=kafka.input_topic,
            partitions=found[kafka.log_topic].partitions,
            topics=copied,
            ids={name: found[name].id for name in (kafka.log_topic, kafka.changelog_topic)},
            commits=[Commit(tp.topic, tp.partition, of.offset, of.metadata) for tp, of in sorted(commits.items())],
        )
        with path.open("xb") as file:
            writer = CopyWriter(file, head)
            for topic in copied:
                async for record in _whole(reader, _partitions(topic, found)):
                    value = record.value
                    if topic == kafka.changelog_topic and value is not None:
                        try:
                            snapshot.peek(value)
                        except StateError as error:
                            raise StateError(f"{topic}[{record.partition}]@{record.offset}: {error}") from error
                    writer.add(topic, record.partition, record.timestamp, record.key, value)
                    made.records[topic] += 1
            not_drained = await _not_drained(kafka, reader, commits, _partitions(kafka.log_topic, found))
            writer.end(not_drained)
            made.bytes = writer.bytes
    if not_drained:
        made.said.append(f"It can be put back before the same {kafka.log_topic} only, as {not_drained}")
    return made


async def _not_drained(kafka: KafkaSettings, reader: LogReader, commits: Commits, logs: list[TopicPartition]) -> str:
    """Why there may be points that no snapshot holds; "" when there are none."""
    members = await _members(kafka)
    if members:
        return f"the group {kafka.group_id} has {members} at work"
    now, ends = await _commits(kafka), await reader.end_offsets(logs)
    for tp, end in ends.items():
        commit = commits.get(tp)
        if commit is None and not end:
            continue
        replay = -1 if commit is None else _replay_point(commit)
        if commit is None or not commit.offset == replay == end or now.get(tp) != commit:
            where = f"{tp.topic}[{tp.partition}] ends at {end}"
            if commit is None:
                return f"{where} and nothing of it is committed"
            return f"{where}, the group has answered to {commit.offset} and saved to {replay}"
    return ""


# --- in


async def restore(
    settings: Settings, path: Path, at: Where | None = None, stale: bool = False, reuse_ids: bool = False
) -> Made:
    """Put a copy back, before the group is started. Nothing is written unless all of it fits.

    Parameters
    ----------
    at
        Where the group begins in another log than the copy is of; None: it is that log.
    stale
        Take a copy that was not drained for another log: points that it does not hold are missing in the state.
    reuse_ids
        Ids of results may be those of other points before.

    Raises
    ------
    TopicError
        Topics or group do not fit.
    HistoryLost
        Records that the copy needs are gone, or were never in this log.
    StateError
        The copy is damaged, or not for this log.
    """
    with path.open("rb") as file:
        copy = CopyReader(path, file)
        snapshots = _Snapshots(copy)
        found = await topics.require(settings)
        async with _reader(settings.kafka) as reader:
            return await _Restore(settings, copy, snapshots, found, reader).run(at, stale, reuse_ids)


class _Snapshots:
    """Which records of a copy hold the last state of each series. Reads all of it, and so checks it."""

    def __init__(self, copy: CopyReader) -> None:
        changelog = copy.head.topics[0]
        live: dict[tuple[int, bytes], set[bytes]] = defaultdict(set)  # (partition, series) -> owners with a record
        best: dict[tuple[int, bytes], tuple[int, int]] = {}  # -> offset covered, place in the file
        partitions: dict[str, int] = {}  # that each topic must have
        for record in copy.records():
            partitions[record.topic] = max(partitions.get(record.topic, 0), record.partition + 1)
            if record.topic != changelog:
                continue
            name, owner = (record.key or b"")[:-TAG], (record.key or b"")[-TAG:]
            of = record.partition, name
            if record.value is None:
                live[of].discard(owner)
                continue
            live[of].add(owner)
            found, covered = snapshot.peek(record.value)
            if series.to_bytes(found) != name:
                raise StateError(f"the copy has a snapshot of {series.shown(found)} under the key {record.key!r}")
            if covered > best.get(of, (-2, 0))[0]:
                best[of] = covered, record.at
        self.last = {of: place for of, (_, place) in best.items() if live[of]}
        self.partitions = partitions


class _Restore:
    def __init__(
        self,
        settings: Settings,
        copy: CopyReader,
        snapshots: _Snapshots,
        found: Mapping[str, Topic],
        reader: LogReader,
    ) -> None:
        self.kafka, self.copy, self.head, self.found, self.reader = settings.kafka, copy, copy.head, found, reader
        self.last, self.partitions = snapshots.last, snapshots.partitions
        self.logs = _partitions(self.kafka.log_topic, found)
        self.ids = topic_ids(self.kafka, {name: topic.id for name, topic in found.items()})
        self.made = Made()

    async def run(self, at: Where | None, stale: bool, reuse_ids: bool) -> Made:
        kafka, head, log = self.kafka, self.head, self.kafka.log_topic
        until = time.monotonic() + kafka.session_timeout_s + 1.0
        while members := await _members(kafka):  # one that was killed is a member until its session is over
            if time.monotonic() > until:
                raise TopicError(f"the group {kafka.group_id} has {members} at work: stop them first")
            await asyncio.sleep(0.5)
        if head.partitions != len(self.logs):
            raise TopicError(
                f"topic {log} must have {head.partitions} partitions, as {head.log} had, whose state is in the copy, "
                f"but has {len(self.logs)}"
            )
        if (head.log != head.input) != kafka.rekeys:
            raise TopicError(f"the copy was made {'without' if kafka.rekeys else 'with'} input.rekey: set it likewise")
        was, now = head.ids.get(head.log), self.found[log].id
        same = was == now if was and now else at is None
        if not same and at is None:
            raise StateError(
                f"{log} is another topic than the copy is of (its id was {was}, now {now}), with other offsets: say "
                "where the group begins in it, with --at beginning or --at end"
            )
        if same and at is not None:
            raise StateError(f"{log} is the topic that the copy is of, and its offsets are valid: do not use --at")
        begin, end = await self.reader.beginning_offsets(self.logs), await self.reader.end_offsets(self.logs)
        present = await _commits(kafka)
        if same:
            commits = self._back(begin, end, present)
            records: Iterable[Record] = self.copy.records()
            if await self._has_own_changelog():
                return await self._only_commits(commits, present)
        else:
            if not stale and self.copy.not_drained:
                raise StateError(
                    f"the copy can be put back before the same {head.log} only, as {self.copy.not_drained} when it was "
                    "made. Make one when lag and faust_anomaly_replay_backlog_records are 0 and the workers stopped; "
                    "or take it with --stale: the state is without what came after"
                )
            commits = await self._before_another_log(begin if at == "beginning" else end, present, reuse_ids)
            records = self._moved({tp.partition: of.offset for tp, of in commits.items()})
        await self._write(records, same or not reuse_ids)
        await _commit(kafka, commits)
        return self.made

    # --- the same log

    def _back(self, begin: Mapping[Any, int], end: Mapping[Any, int], present: Commits) -> Commits:
        """What is committed: the copy's replay point, and the higher position."""
        kafka, commits = self.kafka, {}
        for of in self.head.commits:
            tp = TopicPartition(of.topic, of.partition)
            if of.topic != self.head.log:
                if kafka.rekeys and of.topic == self.head.input and tp not in present:  # the hop's own
                    commits[tp] = OffsetAndMetadata(of.offset, of.metadata)
                continue
            replay, name = _replay_point(of), f"{tp.topic}[{tp.partition}]"
            if replay < begin[tp]:
                raise HistoryLost(
                    f"{name}: with this copy state must be rebuilt from offset {replay}, and the log starts at "
                    f"{begin[tp]}: {begin[tp] - replay} records were deleted since. Take a later copy"
                )
            if of.offset > end[tp]:
                raise HistoryLost(recreated(f"{name} ends at {end[tp]}", of.offset - 1))
            position = max([of.offset, *(one.offset for one in [present.get(tp)] if one and _is_ours(one))])
            said = {name: value for name, value in json.loads(of.metadata).items() if name in ("replay", "origins")}
            commits[tp] = OffsetAndMetadata(position, metadata(said, self.ids))
        return commits

    async def _has_own_changelog(self) -> bool:
        was, now = self.head.ids.get(self.head.topics[0]), self.found[self.kafka.changelog_topic].id
        return bool(was and was == now)

    async def _only_commits(self, commits: Commits, present: Commits) -> Made:
        """The changelog is there: only the group's offsets were lost, or nothing was."""
        lost = {tp: of for tp, of in commits.items() if not (tp in present and _is_ours(present[tp]))}
        if not lost:
            raise StateError(
                f"nothing is to be put back: {self.kafka.changelog_topic} is the topic that the copy is of, and the "
                f"group {self.kafka.group_id} has its offsets"
            )
        await _commit(self.kafka, lost)
        self.made.said.append(f"{self.kafka.changelog_topic} is as it was: only offsets of the group were put back")
        return self.made

    # --- another log

    async def _before_another_log(self, places: Mapping[Any, int], present: Commits, reuse_ids: bool) -> Commits:
        """Commits at these places. Raises where results or ids would clash."""
        kafka, head = self.kafka, self.head
        if kafka.rekeys:
            raise TopicError(
                "with input.rekey a copy can be put back before the same topics only: its offsets are of two topics. "
                "Use another kafka.group_id and kafka.output_topic, which begin without state"
            )
        ran = [tp for tp in places if tp in present and _is_ours(present[tp]) and _ids(present[tp]) == self.ids]
        if ran:
            raise StateError(f"the group {kafka.group_id} has run with this {ran[0].topic}: use another kafka.group_id")
        ends = {of.partition: of.offset for of in head.commits if of.topic == head.log}
        clash = [tp for tp, place in places.items() if place < ends.get(tp.partition, 0)]
        if clash and head.input == kafka.input_topic and not reuse_ids:
            raise StateError(
                f"{clash[0].topic}[{clash[0].partition}]: the group begins at {places[clash[0]]}, and results of "
                f"{head.input} have had ids up to {ends[clash[0].partition] - 1} there: new points would get the ids "
                "of old ones. Give the topic another name, with kafka.input_topic; or, where nobody reads old and new "
                "results or episodes together, use --reuse-ids"
            )
        for tp, place in places.items():
            if (last := await self._last_result(tp.partition))[0] >= place:
                raise StateError(
                    f"{kafka.output_topic}[{tp.partition}] holds the result of offset {last[0]} of "
                    f"{kafka.input_topic}, and the group begins at {place}: results up to there would be left out, as "
                    "if they were written. Name another kafka.output_topic"
                )
        return {tp: OffsetAndMetadata(place, metadata({"replay": place}, self.ids)) for tp, place in places.items()}

    async def _last_result(self, number: int) -> tuple[int, int]:
        tp = TopicPartition(self.kafka.output_topic, number)
        begin, end = await _ends_of(self.reader, tp)
        last = NOTHING
        async for record in _whole(self.reader, [tp], {tp: max(begin, end - RESULTS_TAIL)}):
            last = max(last, last_emitted(self.kafka, number, [record]))
        return last

    def _moved(self, places: Mapping[int, int]) -> Iterable[Record]:
        """The last snapshot of each series, holding everything before these places; then what is not state."""
        changelog = self.head.topics[0]
        ends = {of.partition: of.offset for of in self.head.commits if of.topic == self.head.log}
        open_ = 0
        for record in self.copy.records():
            if record.topic != changelog:
                yield record
                continue
            number = record.partition
            if record.value is None or self.last.get((number, (record.key or b"")[:-TAG])) != record.at:
                continue
            value, was_open = snapshot.moved(record.value, places[number] - 1, places[number] - ends.get(number, 0))
            open_ += was_open
            yield record._replace(value=value)
        if open_:
            self.made.said.append(
                f"episodes that were open: {open_}. They end here, without an event; what is anomalous from now on "
                "opens others"
            )

    # --- both

    async def _write(self, records: Iterable[Record], with_alerting: bool) -> None:
        kafka = self.kafka
        mine = {self.head.topics[0]: kafka.changelog_topic}
        own = _of_alerting_of(self.head.topics[1:], self.head.group)
        wanted = {**mine, **{name: _of_alerting(kafka)[role] for name, role in own.items() if with_alerting}}
        taken: dict[str, str] = {}
        for name, topic in wanted.items():
            if topic not in self.found:
                continue
            if not await self._is_empty(topic):
                if topic == kafka.changelog_topic:
                    raise TopicError(
                        f"topic {topic} must be empty: delete it, make it with {topics.CREATE}, and try again"
                    )
                self.made.said.append(f"{topic} is left as it is: it is not empty")
                continue
            if (needed := self.partitions.get(name, 0)) > self.found[topic].partitions:
                raise TopicError(f"topic {topic} must have {needed} partitions or more, as in the copy")
            taken[name] = topic
        await _send(kafka, ((taken[one.topic], one) for one in records if one.topic in taken), self.made)

    async def _is_empty(self, topic: str) -> bool:
        logs = _partitions(topic, self.found)
        return await self.reader.beginning_offsets(logs) == await self.reader.end_offsets(logs)


# --- Kafka


def _of_alerting(kafka: KafkaSettings) -> list[str]:
    return [kafka.anomalies_topic, kafka.notifications_topic, kafka.decisions_topic]


def _of_alerting_of(names: list[str], group: str) -> dict[str, int]:
    """Name in the copy -> place in ``_of_alerting``."""
    ends = {"-notifications": 1, "-decisions": 2}
    return {name: next((role for end, role in ends.items() if name == group + end), 0) for name in names}


def _partitions(topic: str, found: Mapping[str, Topic]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(found[topic].partitions)]


@asynccontextmanager
async def _reader(kafka: KafkaSettings) -> AsyncIterator[LogReader]:
    reader = LogReader(
        **client_options(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await reader.start()
    try:
        yield reader
    except KafkaError as error:
        raise TopicError(f"Kafka: {type(error).__name__}: {error}") from error
    finally:
        await stopped(reader)


async def _ends_of(reader: LogReader, tp: TopicPartition) -> tuple[int, int]:
    return (await reader.beginning_offsets([tp]))[tp], (await reader.end_offsets([tp]))[tp]


async def _whole(
    reader: LogReader, logs: list[TopicPartition], begin: Mapping[TopicPartition, int] | None = None
) -> AsyncIterator[Any]:
    """Every record of these partitions, from their beginnings until there is none any more.

    An end that was known before is not enough: where others write, compaction may remove a record that was not read
    yet, because of one of its key that lies beyond that end.
    """
    reader.assign(logs)
    at = dict(begin or await reader.beginning_offsets(logs))
    for tp in logs:
        reader.seek(tp, at[tp])
    while left := [tp for tp, end in (await reader.last_stable_offsets(logs)).items() if at[tp] < end]:
        reader.pause(*(set(logs) - set(left)))
        reader.resume(*left)
        for records in (await reader.getmany(timeout_ms=WAIT_MS, max_records=READ_AT_ONCE)).values():
            for record in records:
                yield record
        for tp in left:
            at[tp] = await reader.position(tp)


async def _send(kafka: KafkaSettings, records: Iterable[tuple[str, Record]], made: Made) -> None:
    """Write them where they were, with their times; acknowledged when it returns."""
    codec = kafka.compression
    producer = AIOKafkaProducer(
        **client_options(kafka), acks="all", enable_idempotence=True, linger_ms=5, max_request_size=REQUEST_BYTES,
        max_batch_size=BATCH_BYTES, compression_type=None if codec == "none" else codec,
    )  # fmt: skip
    await producer.start()
    try:
        acks: list[Any] = []
        for topic, one in records:
            acks.append(await producer.send(topic, one.value, one.key, one.partition, one.timestamp))
            made.records[topic] += 1
            made.bytes += len(one.value or b"")
            if len(acks) >= SENT_AT_ONCE:
                for ack in acks:
                    await ack
                acks.clear()
        for ack in acks:
            await ack
    except KafkaError as error:
        raise TopicError(f"not all could be written: {type(error).__name__}: {error}") from error
    finally:
        await producer.stop()


async def _members(kafka: KafkaSettings) -> str:
    """1 worker, 3 workers; "" when none is in the group."""
    await _commits(kafka)  # waits for the coordinator
    group = (await describe_groups(kafka, {kafka.group_id: []}))[kafka.group_id]
    if isinstance(group, str):
        raise TopicError(group)
    count = len(group.members)
    return f"{count} worker{'s' if count > 1 else ''}" if count else ""


async def _commits(kafka: KafkaSettings) -> Commits:
    """What the group has committed of the topics that it reads."""
    until = time.monotonic() + COORDINATOR_S
    async with connected(kafka) as admin:
        while True:
            try:
                found = await admin.list_consumer_group_offsets(kafka.group_id)
                break
            except GroupCoordinatorNotAvailableError:  # on a new cluster the first question makes the topic of groups
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)
    mine = {kafka.log_topic, kafka.input_topic}
    return {tp: of for tp, of in found.items() if tp.topic in mine and of.offset >= 0}


async def _commit(kafka: KafkaSettings, commits: Commits) -> None:
    """In the name of the group, which has no member."""
    if not commits:
        return
    consumer = AIOKafkaConsumer(**client_options(kafka), group_id=kafka.group_id, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(commits))
        await consumer.commit(commits)
    except KafkaError as error:
        raise TopicError(f"group {kafka.group_id}: no commit: {type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()


def _is_ours(commit: OffsetAndMetadata) -> bool:
    try:
        said = json.loads(commit.metadata)
        return said["v"] == METADATA_VERSION and ("replay" in said or REKEYS in said)
    except (ValueError, KeyError, TypeError):
        return False


def _ids(commit: OffsetAndMetadata) -> dict[str, str]:
    said: Callable[[str], Any] = json.loads(commit.metadata).get
    return {role: said(role) for role in ("input", "changelog") if said(role)}


def _replay_point(commit: Any) -> int:
    """StateError for a commit that is not ours."""
    try:
        said = json.loads(commit.metadata)
        if said["v"] != METADATA_VERSION:
            raise ValueError(said["v"])
        return int(said["replay"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"a commit of the group at offset {commit.offset} is not a worker's: its metadata is {commit.metadata!r}"
        ) from error

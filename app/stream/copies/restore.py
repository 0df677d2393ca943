"""Restores a copy, for the same log of the input topic or for another one."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from aiokafka.structs import OffsetAndMetadata, TopicPartition

from app.errors import HistoryLost, StateError, TopicError
from app.kafka import topics
from app.kafka.log_reader import LogReader
from app.kafka.topics import Topic
from app.settings import Settings
from app.state import series, snapshot
from app.stream.committer import read_metadata, topic_ids, write_metadata
from app.stream.copies import group
from app.stream.copies.file import CopyReader, CopyRecord
from app.stream.copies.group import Commits, CopyResult
from app.stream.output_watermark import NOTHING, last_emitted
from app.stream.stall_detector import recreated
from app.stream.takeover import RESULTS_TAIL

TAG = 9  # bytes after the series in a key of the changelog: see tables/sources.py

Where = Literal["beginning", "end"]


async def restore(
    settings: Settings, path: Path, at: Where | None = None, stale: bool = False, reuse_ids: bool = False
) -> CopyResult:
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
        async with group.reader(settings.kafka) as reader:
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
        self.logs = group.partitions(self.kafka.log_topic, found)
        self.ids = topic_ids(self.kafka, {name: topic.id for name, topic in found.items()})
        self.result = CopyResult()

    async def run(self, at: Where | None, stale: bool, reuse_ids: bool) -> CopyResult:
        kafka, head, log = self.kafka, self.head, self.kafka.log_topic
        until = time.monotonic() + kafka.session_timeout_s + 1.0
        while members := await group.members(kafka):  # one that was killed is a member until its session is over
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
        present = await group.commits(kafka)
        if same:
            commits = self._back(begin, end, present)
            records: Iterable[CopyRecord] = self.copy.records()
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
        await group.commit(kafka, commits)
        return self.result

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
            replay, name = group.replay_point(of), f"{tp.topic}[{tp.partition}]"
            if replay < begin[tp]:
                raise HistoryLost(
                    f"{name}: with this copy state must be rebuilt from offset {replay}, and the log starts at "
                    f"{begin[tp]}: {begin[tp] - replay} records were deleted since. Take a later copy"
                )
            if of.offset > end[tp]:
                raise HistoryLost(recreated(f"{name} ends at {end[tp]}", of.offset - 1))
            position = max([of.offset, *(one.offset for one in [present.get(tp)] if one and group.is_ours(one))])
            metadata = {
                name: value for name, value in read_metadata(of.metadata).items() if name in ("replay", "origins")
            }
            commits[tp] = OffsetAndMetadata(position, write_metadata(metadata, self.ids))
        return commits

    async def _has_own_changelog(self) -> bool:
        was, now = self.head.ids.get(self.head.topics[0]), self.found[self.kafka.changelog_topic].id
        return bool(was and was == now)

    async def _only_commits(self, commits: Commits, present: Commits) -> CopyResult:
        """The changelog is there: only the group's offsets were lost, or nothing was."""
        lost = {tp: of for tp, of in commits.items() if not (tp in present and group.is_ours(present[tp]))}
        if not lost:
            raise StateError(
                f"nothing is to be put back: {self.kafka.changelog_topic} is the topic that the copy is of, and the "
                f"group {self.kafka.group_id} has its offsets"
            )
        await group.commit(self.kafka, lost)
        self.result.remarks.append(
            f"{self.kafka.changelog_topic} is as it was: only offsets of the group were put back"
        )
        return self.result

    # --- another log

    async def _before_another_log(self, places: Mapping[Any, int], present: Commits, reuse_ids: bool) -> Commits:
        """Commits at these places. Raises where results or ids would clash."""
        kafka, head = self.kafka, self.head
        if kafka.rekeys:
            raise TopicError(
                "with input.rekey a copy can be put back before the same topics only: its offsets are of two topics. "
                "Use another kafka.group_id and kafka.output_topic, which begin without state"
            )
        ran = [
            tp for tp in places if tp in present and group.is_ours(present[tp]) and group.ids(present[tp]) == self.ids
        ]
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
        return {
            tp: OffsetAndMetadata(place, write_metadata({"replay": place}, self.ids)) for tp, place in places.items()
        }

    async def _last_result(self, number: int) -> tuple[int, int]:
        tp = TopicPartition(self.kafka.output_topic, number)
        begin, end = await group.ends_of(self.reader, tp)
        last = NOTHING
        async for record in group.whole(self.reader, [tp], {tp: max(begin, end - RESULTS_TAIL)}):
            last = max(last, last_emitted(self.kafka, number, [record]))
        return last

    def _moved(self, places: Mapping[int, int]) -> Iterable[CopyRecord]:
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
            self.result.remarks.append(
                f"episodes that were open: {open_}. They end here, without an event; what is anomalous from now on "
                "opens others"
            )

    # --- both

    async def _write(self, records: Iterable[CopyRecord], with_alerting: bool) -> None:
        kafka = self.kafka
        mine = {self.head.topics[0]: kafka.changelog_topic}
        own = group.of_alerting_of(self.head.topics[1:], self.head.group)
        wanted = {**mine, **{name: group.of_alerting(kafka)[role] for name, role in own.items() if with_alerting}}
        taken: dict[str, str] = {}
        for name, topic in wanted.items():
            if topic not in self.found:
                continue
            if not await self._is_empty(topic):
                if topic == kafka.changelog_topic:
                    raise TopicError(
                        f"topic {topic} must be empty: delete it, make it with {topics.CREATE}, and try again"
                    )
                self.result.remarks.append(f"{topic} is left as it is: it is not empty")
                continue
            if (needed := self.partitions.get(name, 0)) > self.found[topic].partitions:
                raise TopicError(f"topic {topic} must have {needed} partitions or more, as in the copy")
            taken[name] = topic
        await group.send(kafka, ((taken[one.topic], one) for one in records if one.topic in taken), self.result)

    async def _is_empty(self, topic: str) -> bool:
        logs = group.partitions(topic, self.found)
        return await self.reader.beginning_offsets(logs) == await self.reader.end_offsets(logs)

"""Waits for the results of points that were just written.

Before a point is written, the writer names the partitions of its result (``expecting``). From then on these are read,
so no result is missed that comes before the point's id is known. Read batches stay in memory, unpacked, while there is
a user who began before they came. KEEP_S after the last user, reading stops.

Reading uses at most SHARE of a core, averaged over some seconds. At full load workers write more than that allows. The
reader then falls behind and skips records, and those who wait for these get nothing until their timeout.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from app.errors import StateError
from app.kafka.fetched import UnpackedBatch
from app.kafka.log_reader import PartitionData
from app.web.stored_results.topic_log import FetchedBatches

log = logging.getLogger(__name__)

KEEP_S = 3.0
RECENT_BYTES = 16 << 20  # of all partitions, unpacked
PARTITION_BYTES, BROKER_BYTES = 1 << 18, 1 << 20  # of one fetch: of a partition, and of a broker
WAIT_MS = 20  # of a broker that has nothing new; a partition that is added waits so long
PAUSE_S = 0.004  # between fetches, so that one fetch has the results of several points
SHARE, SAVED_S = 0.05, 0.25  # of a core; CPU time that may be used at once after a rest
BEHIND = 30_000  # records
REST_S = 0.3  # at a time, at most
OWN_S = 0.0005  # CPU time of the client for one fetch, which cannot be measured apart
MOST_LOOKED_UP = 20  # ids of one call whose results may have been written before anybody read
OWN_S_PER_BYTE = 2e-9
FEW = 4  # ids that are searched one by one; with more, each id of a batch is compared
RETRY_S = 0.5
Waiter = asyncio.Future[bytes]
_ID = re.compile(rb'\{"id":"([^"\\]{1,400})"')


@dataclass
class _FollowedPartition:
    """One partition that is read."""

    at: int  # offset read next
    used: float  # when it last had a user
    users: dict[object, int] = field(default_factory=dict)  # how many fetches had been kept when they began
    recent: deque[tuple[int, list[UnpackedBatch]]] = field(
        default_factory=deque
    )  # with its number; of the oldest user on
    kept: int = 0
    nbytes: int = 0

    def keep(self, parts: list[UnpackedBatch], most: int) -> None:
        """More batches that were read; ``most``: bytes of all that are kept."""
        self.recent.append((self.kept, parts))
        self.kept += 1
        self.nbytes += _size(parts)
        oldest = min(self.users.values(), default=self.kept)
        while self.recent and (self.recent[0][0] < oldest or self.nbytes > most):
            self.nbytes -= _size(self.recent.popleft()[1])

    def since(self, number: int) -> list[UnpackedBatch]:
        """What is kept from this number of fetches on."""
        return [part for at, parts in self.recent if at >= number for part in parts]


def _size(parts: Iterable[UnpackedBatch]) -> int:
    return sum(len(part.plain) for part in parts)


class Allowance:
    """CPU time that may be used: SHARE of what passes, at most SAVED_S of it saved up."""

    def __init__(self, clock: Callable[[], float], share: float = SHARE) -> None:
        self._clock, self._share = clock, share
        self._left, self._at = SAVED_S, clock()

    def use(self, cpu_s: float) -> float:
        """How long to rest now, s."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._share, SAVED_S) - cpu_s
        self._left = max(self._left, -REST_S * self._share)  # the first use may compile
        self._at = now
        return max(-self._left / self._share, 0.0)


class Unpacked(NamedTuple):
    """What a thread made of a chunk."""

    parts: list[UnpackedBatch]
    end: int  # offset after it
    cpu_s: float


def unpacked(chunk: PartitionData, wanted: bool) -> Unpacked:
    """Its batches, if they are wanted. Raises StateError for damaged bytes."""
    began, piece = time.thread_time(), FetchedBatches.of(chunk)
    parts = list(piece.fetched.parts()) if wanted else []
    return Unpacked(parts, piece.end, time.thread_time() - began)


def look(parts: Iterable[UnpackedBatch], ids: Collection[str]) -> tuple[dict[str, bytes], float]:
    """(results with these ids, CPU time that it took). Raises StateError for damaged bytes."""
    began, results = time.thread_time(), {}
    begins = [b'{"id":"%b"' % one.encode() for one in ids]
    for part in parts:
        if len(ids) <= FEW and not any(begin in part.plain for begin in begins):
            continue
        records = part.records()
        for i, start in enumerate(records.spans[:, 2].tolist()):
            match = _ID.match(records.data, start) if start >= 0 else None
            if match and (name := match[1].decode("utf-8", "replace")) in ids:
                results[name] = records.value(i) or b""
    return results, time.thread_time() - began


class ExpectedResults(NamedTuple):
    """What a user of ``expecting`` waits with."""

    waiter: ResultWaiter
    token: object

    async def wait(self, ids: Mapping[str, int], timeout_s: float) -> dict[str, bytes]:
        """The results of these ids, each in the partition named, that come in time; any others are left out."""
        return await self.waiter.wait(ids, timeout_s, self.token, look_up=False)


class ResultWaiter:
    """Reads the partitions in which results are expected.

    Parameters
    ----------
    reader
        Gives the started LogReader of its own: a broker that waits for records answers nothing else meanwhile.
    run
        Runs a function in a thread.
    lookup
        Finds the result with this id in this partition, or not, among all that are there.
    """

    def __init__(
        self,
        topic: str,
        reader: Callable[[], Any],
        run: Callable[..., Any],
        lookup: Callable[[str, int], Awaitable[bytes | None]],
    ) -> None:
        self._topic, self._reader, self._run, self._lookup = topic, reader, run, lookup
        self._follows: dict[int, _FollowedPartition] = {}
        self._waiting: defaultdict[int, dict[str, list[Waiter]]] = defaultdict(dict)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._opening = asyncio.Lock()
        self._clock = time.monotonic
        self._allowance = Allowance(self._clock)
        self.left_out = 0  # records that were skipped to stay inside the share

    @asynccontextmanager
    async def expecting(self, partitions: Iterable[int]) -> AsyncIterator[ExpectedResults]:
        """Inside it nothing is missed that is written to these partitions. Raises KafkaError."""
        numbers, token = sorted(set(partitions)), object()
        follows = await self._followed(numbers, token)
        try:
            yield ExpectedResults(self, token)
        finally:
            for follow in follows:
                del follow.users[token]
                follow.used = self._clock()

    async def wait(self, ids: Mapping[str, int], timeout_s: float, token: object, look_up: bool) -> dict[str, bytes]:
        """See ``ExpectedResults``. ``look_up``: the results may have been written before they were expected."""
        loop = asyncio.get_running_loop()
        until, late = loop.time() + timeout_s, None
        futures: dict[str, Waiter] = {name: loop.create_future() for name in ids}
        try:
            for name, number in ids.items():
                self._waiting[number].setdefault(name, []).append(futures[name])
            for number in set(ids.values()):
                await self._look_at_recent(number, token)
            if look_up:
                late = asyncio.create_task(self._look_up(dict(list(ids.items())[:MOST_LOOKED_UP])))
            if pending := [one for one in futures.values() if not one.done()]:
                await asyncio.wait(pending, timeout=max(until - loop.time(), 0.0))
        finally:
            if late:
                late.cancel()
            for name, number in ids.items():
                waiting = self._waiting[number]
                waiting[name].remove(futures[name])
                if not waiting[name]:
                    del waiting[name]
        return {name: one.result() for name, one in futures.items() if one.done()}

    async def _look_up(self, ids: Mapping[str, int]) -> None:
        """Results that may have been written before the partitions were read."""
        for name, number in ids.items():
            if name in self._waiting[number] and (value := await self._lookup(name, number)):
                self._answer(number, {name: value})

    async def stop(self) -> None:
        """End all reading."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._follows.clear()

    async def _followed(self, numbers: list[int], token: object) -> list[_FollowedPartition]:
        async with self._opening:
            missing = [number for number in numbers if number not in self._follows]
            if missing:
                ends = await self._reader().last_stable_offsets([TopicPartition(self._topic, one) for one in missing])
                for partition, end in ends.items():
                    self._follows[partition.partition] = _FollowedPartition(end, self._clock())
            follows = [self._follows[number] for number in numbers]
            for follow in follows:
                follow.users[token] = follow.kept
        for number in numbers:
            self._start(number)
        return follows

    def _start(self, number: int) -> None:
        """Have the broker of this partition read."""
        node = self._reader().leader(TopicPartition(self._topic, number))
        node = -1 if node is None else node
        if node not in self._tasks or self._tasks[node].done():
            self._tasks[node] = asyncio.create_task(self._read(node))

    async def _look_at_recent(self, number: int, token: object) -> None:
        """What came since this user began, for all that wait now."""
        follow = self._follows.get(number)
        if follow and (parts := follow.since(follow.users[token])):
            await self._look(number, parts)

    async def _look(self, number: int, parts: list[UnpackedBatch]) -> float:
        """Give results to those who wait for them; returns the CPU time, s."""
        cpu_s: float
        results, cpu_s = await self._run(look, parts, frozenset(self._waiting[number]))
        self._answer(number, results)
        return cpu_s

    def _answer(self, number: int, results: Mapping[str, bytes]) -> None:
        for name, value in results.items():
            for future in self._waiting[number].get(name, ()):
                if not future.done():
                    future.set_result(value)

    def _wanted(self, node: int) -> dict[TopicPartition, int]:
        """Offsets read next of the partitions that this broker leads; those that nobody uses are given up."""
        now, wanted = self._clock(), {}
        for number, follow in list(self._follows.items()):
            if not follow.users and now - follow.used > KEEP_S:
                del self._follows[number]
                continue
            partition = TopicPartition(self._topic, number)
            leader = self._reader().leader(partition)
            if (-1 if leader is None else leader) == node:
                wanted[partition] = follow.at
            else:
                self._start(number)
        return wanted

    async def _read(self, node: int) -> None:
        """Until nobody expects anything of this broker."""
        while wanted := self._wanted(node):
            try:
                in_turn = dict(random.sample(list(wanted.items()), len(wanted)))
                answers = await self._reader().fetch_of_leader(in_turn, PARTITION_BYTES, WAIT_MS, BROKER_BYTES)
                used_s = OWN_S + sum([await self._take(*answer) for answer in answers.items()])
            except (KafkaError, OSError) as error:
                log.warning("results of points just written cannot be read: %r", error)
                answers = {}
            read = any(isinstance(one, PartitionData) for one in answers.values())
            await asyncio.sleep(max(self._allowance.use(used_s), PAUSE_S) if read else RETRY_S)

    async def _take(self, partition: TopicPartition, answer: PartitionData | KafkaError) -> float:
        """Returns the CPU time, s."""
        number = partition.partition
        follow = self._follows.get(number)
        if follow is None:
            return 0.0
        if not isinstance(answer, PartitionData):
            if isinstance(answer, OffsetOutOfRangeError):
                await self._to_end(partition, follow)
            return 0.0
        if not answer.data:
            return 0.0
        try:
            parts, end, cpu_s = await self._run(unpacked, answer, bool(follow.users))
            follow.at = max(end, follow.at)
            # Before they are looked at: who begins to wait meanwhile finds them there.
            follow.keep(parts, RECENT_BYTES // max(len(self._follows), 1))
            if parts and self._waiting[number]:
                cpu_s += await self._look(number, parts)
        except StateError as error:
            log.warning("results of points just written: %s[%d]%s: left out", self._topic, number, error)
            await self._to_end(partition, follow)
            return OWN_S
        if answer.stable - follow.at > BEHIND:
            await self._to_end(partition, follow)
        return float(cpu_s + OWN_S_PER_BYTE * len(answer.data))

    async def _to_end(self, partition: TopicPartition, follow: _FollowedPartition) -> None:
        end = (await self._reader().last_stable_offsets([partition]))[partition]
        self.left_out += max(end - follow.at, 0)
        follow.at = end

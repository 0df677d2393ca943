"""Reads any result of any source back from Kafka, also results from before a restart.

The recent results in memory (app/web/topics) are a sample of a busy stream; here every result is found that the
topic's retention still keeps. Nothing is read while nobody asks. One search by time runs at a time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, NamedTuple

from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from aiokafka.record.memory_records import MemoryRecords

from app.errors import Busy, StateError, Unreadable
from app.kafka.client import client_options
from app.kafka.log_reader import LogReader, stopped
from app.settings import Settings
from app.web.stored_results import by_id
from app.web.stored_results.by_id import Place
from app.web.stored_results.by_time import Budget, Query, Scan, ScanCursor, partitions_of
from app.web.stored_results.downsampling import ResultCollector
from app.web.stored_results.topic_log import PROBE_BYTES, TopicLog
from app.web.stored_results.waiter import ExpectedResults, ResultWaiter
from app.wire.reader import Reader

ANSWER_S = 10.0
BEGIN_S = 5.0  # until what is expected is read: longer than a start of the client takes
THREADS = 2  # a search by time keeps one busy; who waits for a result does not wait for that
QUEUE = 8  # searches by time that wait for their turn
LOOKUPS = 4  # by id, at a time
LATE_S = 60.0
LIMIT, MOST_LIMIT = 1_000, 10_000  # results of a page
RECORDS, SECONDS = 2_000_000, 2.0  # looked through for a page
HINTS = 32  # partitions that a search can be told

# An alerter's user needs no right on raw-data: it is then not known why there is no result.
UNSEEN = (TopicAuthorizationFailedError, UnknownTopicOrPartitionError)

State = Literal["bad_id", "never", "pending", "no_result", "gone"]


class MissingResult(NamedTuple):
    """There is no result with this id, and why.

    bad_id: it is no id of a point of this job. never: raw-data has no such point. pending: it is not scored yet.
    no_result: results have gone past it, so that it became a dead letter or was skipped. gone: retention has removed
    it. ``why`` is a sentence.
    """

    state: State
    why: str


class ResultPage(NamedTuple):
    """A page of results."""

    results: list[bytes]  # JSON, oldest first
    seen: int  # how many there were in what was looked through, also when thinned
    complete: bool  # everything was looked through, with this page and those before it
    cursor: str | None  # for the next page; None when complete
    records: int  # looked through for this page
    partitions: list[int]  # looked in for this page
    late_s: float  # points older than the newest before them by more than this may be missing


class StoredResults:
    """Made once for a process; connects when it is first asked. Methods raise Unreadable while Kafka cannot be read."""

    def __init__(self, settings: Settings, connect: Callable[[], Any] | None = None) -> None:
        self._settings, self._kafka = settings, settings.kafka
        self._connect = connect or self._reader
        self._readers: dict[str, Any] = {}  # by use: a broker answers the questions of one connection in turn
        self._connecting = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._scanning, self._scans = asyncio.Lock(), 0
        self._looking = asyncio.Semaphore(LOOKUPS)
        self._waiter: ResultWaiter | None = None

    async def stop(self) -> None:
        """Also when nothing was ever asked."""
        if self._waiter:
            await self._waiter.stop()
            self._waiter = None
        readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            await stopped(reader)
        if self._thread:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    async def result(self, id: str) -> bytes | MissingResult:
        """The result with this id, as JSON, or why there is none."""
        point = self._parsed(id)
        if isinstance(point, MissingResult):
            return point
        with self._as_unreadable():
            async with self._looking:
                return await self._result(*point)

    async def series(
        self,
        source: str,
        metric: str | None,
        begin: float,
        end: float,
        *,
        limit: int = LIMIT,
        cursor: str | None = None,
        partitions: Sequence[int] = (),
        late_s: float = LATE_S,
        most: int | None = None,
        records: int = RECORDS,
        seconds: float = SECONDS,
    ) -> ResultPage:
        """Results of a source with an event time in [begin, end), epoch s, oldest first in each partition.

        app/web/stored_results/by_time.py says which points can be missed, and where is looked first.

        Parameters
        ----------
        metric
            Only those of that metric's series, or of vectors with it; "": of the whole source; None: all.
        limit
            Results of a page, up to MOST_LIMIT.
        cursor
            That of the page before, with all else the same.
        partitions
            Where the source is known to be, and nowhere else: the one in the id of a result that was seen of it, unless
            points are sorted by source.
        most
            Thinned for a chart: of ``most // 4`` equal spans the first, the last, the lowest and the highest, and all
            inside episodes, ``limit`` of these.
        records, seconds
            Looked through for one page, at most.

        Raises
        ------
        ValueError
            The cursor is not one of ours, or a number is out of its range.
        Busy
            QUEUE others wait already.
        """
        at = ScanCursor.of(cursor) if cursor else None
        _check(begin, end, limit, late_s, most, partitions)
        if self._scans > QUEUE:
            raise Busy(f"{QUEUE} searches wait already: ask again in some seconds")
        self._scans += 1
        try:
            async with self._scanning:
                with self._as_unreadable():
                    kafka = self._kafka
                    log = await self._log(kafka.output_topic)
                    order, hinted = await self._order(source, partitions, at)
                    of_log = kafka.log_topic if kafka.rekeys else None
                    budget, collected = Budget(records, seconds), ResultCollector(begin, end, most)
                    query = Query(source, metric, begin, end, late_s, of_log)
                    scan = Scan(log, query, budget, collected, limit + (most or 0))
                    rest = await scan.run(order, hinted, at)
        finally:
            self._scans -= 1
        results = [one.value for one in collected.results()]
        text = rest.text() if rest else None
        return ResultPage(results, collected.seen, rest is None, text, budget.records, scan.looked_in, late_s)

    async def partition_of(self, source: str, partition: int) -> int:
        """Where the result of a point will be that is written to this partition of raw-data."""
        if not self._kafka.rekeys:
            return partition
        with self._as_unreadable():
            return partitions_of(source, await self._count(self._kafka.output_topic))[0]

    @asynccontextmanager
    async def expecting(self, partitions: Iterable[int]) -> AsyncIterator[ExpectedResults]:
        """Begin to read these partitions of results before points are written whose results are then waited for.

        ``partition_of`` says in which a result will be.

            async with stored.expecting([3]) as expected:
                ...  # write the points, and learn their ids
                results = await expected.wait({"raw-data:3:5658:0": 3}, timeout_s=1.0)  # those that came: id -> JSON
        """
        with self._as_unreadable():
            async with asyncio.timeout(BEGIN_S):
                reading = (await self._started_waiter()).expecting(partitions)
                expected = await reading.__aenter__()
        try:
            yield expected
        finally:
            await reading.__aexit__(None, None, None)

    async def wait(self, ids: Mapping[str, int], timeout_s: float) -> dict[str, bytes]:
        """The same for points that were written before anybody expected their results; some of them are looked up."""
        with self._as_unreadable():
            waiter = await self._started_waiter()
            async with waiter.expecting(ids.values()) as expected:
                return await waiter.wait(ids, timeout_s, expected.token, look_up=True)

    def _parsed(self, id: str) -> tuple[int, Place] | MissingResult:
        topic, *numbers = id.rsplit(":", 3)
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) <= 18 for n in numbers):
            return MissingResult(
                "bad_id", f"expected {self._kafka.input_topic}:partition:offset:index, got {id[:300]!r}"
            )
        if topic != self._kafka.input_topic:
            return MissingResult("bad_id", f"expected an id of {self._kafka.input_topic}, got one of {topic[:300]!r}")
        partition, offset, index = map(int, numbers)
        return partition, (offset, index)

    async def _result(self, partition: int, place: Place) -> bytes | MissingResult:
        kafka = self._kafka
        log = await self._log(kafka.output_topic)
        count = await self._count(kafka.output_topic)
        if partition >= await self._count_of_input(count):
            return MissingResult("never", f"{kafka.input_topic} has no partition {partition}")
        point = None
        numbers: Iterable[int] = [partition]
        if kafka.rekeys:
            point = await self._point(partition, place)
            if isinstance(point, str):
                numbers = partitions_of(point, count)[:1]
            else:
                numbers = range(count) if point is None or point.state != "never" else []
        for number in numbers:
            found = await self._find(log, number, partition, place)
            if found is not None:
                return found
        return await self._why(log, list(numbers), partition, place, point)

    async def _find(self, log: TopicLog, number: int, partition: int, place: Place) -> bytes | None:
        begin, end = await log.ends(number)
        guesses = 0 if self._kafka.rekeys else by_id.GUESSES  # there, results of other partitions are in between
        return await by_id.find(self._probe(log, number, partition, place), begin, end, place, guesses=guesses)

    def _probe(self, log: TopicLog, number: int, partition: int, place: Place) -> by_id.Probe:
        return by_id.probe_of(log, number, f"{self._kafka.input_topic}:{partition}:", place)

    async def _why(
        self, log: TopicLog, numbers: list[int], partition: int, place: Place, point: str | MissingResult | None
    ) -> MissingResult:
        """Why there is no result of this point."""
        if not self._kafka.rekeys:
            point = await self._point(partition, place)
        if isinstance(point, MissingResult):
            return point
        where = f"{self._kafka.input_topic}[{partition}]@{place[0]}"
        for number in numbers:
            begin, end = await log.ends(number)
            probe = self._probe(log, number, partition, place)
            highest = await by_id.highest_at_end(probe, begin, end)
            if highest is None or highest < place:
                continue
            first = await probe(begin, end)
            if begin and (first.lowest is None or first.lowest > place):
                return MissingResult("gone", f"{where}: {log.topic} keeps no result that old")
            why = "results have gone past it: see the dead letters"
            return MissingResult("no_result", f"{where}: {why}")
        return MissingResult("pending", f"{where}: it is not scored yet")

    async def _point(self, partition: int, place: Place) -> str | MissingResult | None:
        """The source of this point, as raw-data has it, or why there is no point; None when that cannot be known."""
        kafka, (offset, index) = self._kafka, place
        where = f"{kafka.input_topic}[{partition}]@{offset}"
        try:
            log = await self._log(kafka.input_topic)
            begin, end = await log.ends(partition)
            if offset >= end:
                return MissingResult("never", f"{where}: the log ends at {end}")
            if offset < begin:
                return MissingResult("gone", f"{where}: the log begins at {begin}: point and result are gone")
            piece = await log.read(partition, offset, PROBE_BYTES)
        except UNSEEN:
            return None
        records = MemoryRecords(piece.fetched.data)
        while (batch := records.next_batch()) is not None:
            for record in () if batch.is_control_batch else batch:
                if record.offset == offset:
                    keyed = not kafka.rekeys and await self._count(kafka.input_topic) > 1
                    return self._source(Reader(self._settings.input, log.topic, partition, keyed), record, index, where)
        return MissingResult("never", f"{where}: no record there: an aborted transaction, or compacted away")

    def _source(self, reader: Reader, record: Any, index: int, where: str) -> str | MissingResult:
        found = reader.read([record])
        for at, source in zip(found.points.index, found.points.source):
            if at == index:
                return source
        for letter in found.dead_letters:
            if letter.index in (0, index):
                return MissingResult("no_result", f"it became a dead letter: {letter.reason}")
        if not len(found.points):
            return MissingResult("no_result", f"{where}: it holds no point, and was skipped")
        return MissingResult("never", f"{where}: the record has no point {index}")

    async def _order(self, source: str, partitions: Sequence[int], at: ScanCursor | None) -> tuple[Sequence[int], bool]:
        """(partitions to look in, whether all of them are meant)."""
        count = await self._count(self._kafka.output_topic)
        if at and at.partitions:
            if not all(number < count for number in at.partitions):
                raise ValueError(f"the cursor is of other partitions than the {count} of {self._kafka.output_topic}")
            return at.partitions, True
        hints = [number for number in dict.fromkeys(partitions) if 0 <= number < count]
        if hints and at is None:
            return hints, True
        likely = partitions_of(source, count)
        return likely[:1] if self._kafka.rekeys else likely, False

    async def _count_of_input(self, count: int) -> int:
        try:
            return await self._count(self._kafka.input_topic)
        except UNSEEN:
            return count

    async def _count(self, topic: str) -> int:
        count: int = await (await self._started("look")).count(topic)
        return count

    async def _log(self, topic: str) -> TopicLog:
        reader = await self._started("look")
        await self._count(topic)  # so that its leaders are known
        return TopicLog(topic, reader, self._thread)

    async def _started_waiter(self) -> ResultWaiter:
        await self._count(self._kafka.output_topic)
        await self._started("wait")
        if self._waiter is None:
            run = (await self._log(self._kafka.output_topic)).run
            self._waiter = ResultWaiter(self._kafka.output_topic, lambda: self._readers["wait"], run, self._look_up)
        return self._waiter

    async def _look_up(self, id: str, number: int) -> bytes | None:
        point = self._parsed(id)
        if isinstance(point, MissingResult):
            return None
        log = await self._log(self._kafka.output_topic)
        return await self._find(log, number, *point)

    async def _started(self, use: str) -> Any:
        async with self._connecting:
            if use not in self._readers:
                self._thread = self._thread or ThreadPoolExecutor(THREADS, "stored-results")
                reader = self._connect()
                try:
                    await reader.start()
                    await reader.count(self._kafka.output_topic)
                except BaseException:
                    await stopped(reader)
                    raise
                self._readers[use] = reader
            return self._readers[use]

    def _reader(self) -> LogReader:
        return LogReader(
            **client_options(self._kafka),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            request_timeout_ms=int(ANSWER_S * 1000),
        )

    @contextmanager
    def _as_unreadable(self) -> Iterator[None]:
        try:
            yield
        except StateError as error:
            raise Unreadable(str(error)) from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unreadable(f"results cannot be read from Kafka: {type(error).__name__} {error}") from error


def _check(begin: float, end: float, limit: int, late_s: float, most: int | None, partitions: Sequence[int]) -> None:
    if not (math.isfinite(begin) and math.isfinite(end) and begin < end):
        raise ValueError(f"begin and end must be times, the first before the second, got {begin!r} and {end!r}")
    if not 1 <= limit <= MOST_LIMIT:
        raise ValueError(f"limit must be 1 to {MOST_LIMIT}, got {limit!r}")
    if not late_s >= 0.0:
        raise ValueError(f"late_s must be 0 or more, got {late_s!r}")
    if most is not None and not 4 <= most <= MOST_LIMIT:
        raise ValueError(f"most must be 4 to {MOST_LIMIT}, got {most!r}")
    if len(partitions) > HINTS:
        raise ValueError(f"partitions must be {HINTS} at most, got {len(partitions)}")

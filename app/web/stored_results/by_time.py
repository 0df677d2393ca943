"""All results of a source between two event times: a search through a partition of anomaly-results.

Kafka has no index by source, and its time index goes by when results were written. So all results that were written in
some span are looked through: record batches are unpacked, and only where the bytes of the source's name are in one are
its records parsed.

**Where to begin, when to stop.** Both rest on one assumption, `late_s`: no point of the source is older by more than
that than the newest of its points before it, in the order of the log. Then

- every result before one of an event time below ``begin - late_s`` is too old. One is looked for where the time index
  says that results of ``begin`` were written, and, when replayed points show that this is far off, by bisection;
- every result after one of an event time from ``end + late_s`` on is too new, and the partition is done.

Only points that are asked for count: those of one metric, where one is named. A point that came later than that may be
missed, and one of a source whose points were sent again from their beginning; with ``late_s=inf`` all of the log is
read. A second assumption is needed where a source sends too seldom for its points to be found by probes of
PROBE_RECORDS records: that its event times are not ahead of Kafka's clock by more than AHEAD_S. What a suspended worker
repeats is left out: ids ascend in a partition.

**Which partition.** Producers put a source where their partitioner says: Java's and ours by murmur2, librdkafka's by
crc32, others as they like. Those two are looked through first, and the others only while nothing of the source was
met. Who knows where it is says so; with input.rekey it is known.
"""

from __future__ import annotations

import bisect
import math
import re
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from aiokafka.errors import OffsetOutOfRangeError

from app.compiled import murmur2
from app.compiled.byte_columns import Column, RecordColumns
from app.kafka.fetched import varint
from app.web.stored_results.downsampling import CollectedResult, ResultCollector
from app.web.stored_results.topic_log import FETCH_BYTES, FetchedBatches, TopicLog

AHEAD_S = 60.0
PROBE_RECORDS = 30_000  # records, in which a probe looks for one of the source
FAR_S = 3600.0  # further from ``begin`` than that, the time index does not tell where its results are
PAGE_BYTES = 8 << 20  # of one page's results

Order = tuple[int, int]  # of a result: place of its point in the log that is scored


class ScanCursor(NamedTuple):
    """Where the next page goes on. As text: h3-7.5658.1.5600-0 or a2.5658.0.5600-0."""

    partitions: tuple[int, ...] | None  # that are left, as asked for; None: by partitioners, from the place ``at`` on
    at: int
    offset: int
    met: bool  # something of the source was met in a partition before
    last: Order  # of the last result that was looked at

    def text(self) -> str:
        where = f"a{self.at}" if self.partitions is None else "h" + "-".join(map(str, self.partitions))
        return f"{where}.{self.offset}.{self.met:d}.{self.last[0]}-{self.last[1]}"

    @classmethod
    def of(cls, text: str) -> ScanCursor:
        """Raises ValueError."""
        found = _CURSOR.fullmatch(text)
        if not found:
            raise ValueError(f"the cursor must be that of an earlier answer, got {text[:80]!r}")
        hinted, at, offset, met, *last = found.groups()
        partitions = tuple(map(int, hinted.split("-"))) if hinted else None
        return cls(partitions, int(at or 0), int(offset), met == "1", (int(last[0]), int(last[1])))


_N = r"[0-9]{1,18}"
_CURSOR = re.compile(rf"(?:h([0-9]{{1,6}}(?:-[0-9]{{1,6}}){{0,31}})|a([0-9]{{1,6}}))\.({_N})\.([01])\.(-1|{_N})-({_N})")


class Query(NamedTuple):
    """Which results. ``metric``: only that metric's; "": only those of the whole source; None: all."""

    source: str
    metric: str | None
    begin: float  # event time, epoch s
    end: float  # the first that is too late
    late_s: float
    log_topic: str | None  # name of the header that says where the point is, with input.rekey

    @property
    def needle(self) -> bytes:
        return b'"source":' + msgspec.json.encode(self.source)


class Budget:
    """What one call may take. ``clock``: s."""

    def __init__(self, records: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.records = 0  # looked at
        self._most, self._until, self._clock = records, clock() + seconds, clock

    @property
    def spent(self) -> bool:
        return self.records >= self._most or self._clock() >= self._until


class _Fields(msgspec.Struct):
    id: str
    source: str
    timestamp: float | str
    metric: str | None = None
    value: float | None = None
    values: dict[str, float | None] | None = None
    anomaly_score: float | None = None
    is_anomaly: bool = False


_decode = msgspec.json.Decoder(_Fields).decode


class SourceResult(NamedTuple):
    """A result of the source and metric, at any time."""

    offset: int
    written: float  # epoch s
    time: float  # event time
    order: Order
    fields: _Fields
    value: bytes


def source_results(piece: FetchedBatches, first: int, query: Query) -> list[SourceResult]:
    """The results of the source, and metric, in this piece from this offset on."""
    needle, found = query.needle, []
    for part in piece.fetched.parts():
        at = part.plain.find(needle)
        if at < 0:
            continue
        records = part.records(first)
        starts, ends = records.spans[:, 2].tolist(), records.spans[:, 3].tolist()
        while at >= 0:
            i, at_next = bisect.bisect_right(ends, at), at + 1
            if i == len(ends):
                break
            if 0 <= starts[i] <= at:
                at_next = ends[i]
                if one := _source_result(records, i, part.latest_ms / 1000, query):
                    found.append(one)
            at = part.plain.find(needle, at_next)
    return found


def _source_result(records: RecordColumns, i: int, written: float, query: Query) -> SourceResult | None:
    value = records.value(i)
    if value is None:
        return None
    try:
        fields = _decode(value)
        when = fields.timestamp
        at = datetime.fromisoformat(when).timestamp() if isinstance(when, str) else when
        _, offset, index = fields.id.rsplit(":", 2)
        order = int(offset), int(index)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return None  # of somebody else
    if fields.source != query.source or not _is_of(fields, query.metric):
        return None  # the needle was in a label, or it is of another series
    if query.log_topic is not None:
        order = _logged(records, i, query.log_topic.encode()), 0
    return SourceResult(int(records.offsets[i]), written, at, order, fields, value)


def _logged(records: RecordColumns, i: int, name: bytes) -> int:
    """The number in the only header of a record, which has this name; -1 without."""
    data, end = records.data, len(records.data)
    count, at = varint(data, int(records.spans[i, 3]), end)
    size, at = varint(data, at, end)
    if count != 1 or data[at : at + size] != name:
        return -1
    length, at = varint(data, at + size, end)
    digits = data[at : at + max(length, 0)]
    return int(digits) if digits.isdigit() and len(digits) <= 18 else -1


def partitions_of(source: str, count: int) -> list[int]:
    """All of so many partitions, those first in which partitioners put this key."""
    key = source.encode()
    likely = [int(murmur2.partitions(Column.of([key]), count)[0]), zlib.crc32(key) % count]
    return list(dict.fromkeys([*likely, *range(count)]))


class Scan:
    """One call's way through the partitions."""

    def __init__(self, log: TopicLog, query: Query, budget: Budget, collected: ResultCollector, limit: int) -> None:
        self._log, self._query, self._budget = log, query, budget
        self._collected, self._limit = collected, limit
        self.looked_in: list[int] = []

    async def run(self, order: Sequence[int], hinted: bool, cursor: ScanCursor | None) -> ScanCursor | None:
        """Where the next call goes on; None when all was looked through.

        ``order``: all partitions of this source; ``hinted``: it was told, and is all looked through. With a cursor
        they are those that it was made with.
        """
        begin = 0 if cursor is None or cursor.partitions is not None else cursor.at
        met = cursor is not None and cursor.met
        offset = None if cursor is None else cursor.offset
        last: Order = (-1, 0) if cursor is None else cursor.last
        for at in range(begin, len(order)):
            if met and not hinted and offset is None:
                break
            self.looked_in.append(order[at])
            offset, last, here = await self._partition(order[at], offset, last)
            met = met or here
            if offset is not None:
                return ScanCursor(tuple(order[at:]) if hinted else None, 0 if hinted else at, offset, met, last)
            last = -1, 0
        return None

    async def _partition(self, number: int, at: int | None, last: Order) -> tuple[int | None, Order, bool]:
        """(where to go on; None when this partition is done, the last result looked at, whether any was met)."""
        log, query, met = self._log, self._query, False
        begin, end = await log.ends(number)
        if at is None:
            at, met = await self._start(number, begin, end)
        at = max(at, begin)
        while at < end:
            if self._budget.spent:
                return at, last, met
            try:
                piece = await log.read(number, at, FETCH_BYTES)
            except OffsetOutOfRangeError:  # retention has been there
                begin, end = await log.ends(number)
                if at >= begin:
                    break
                at = begin
                continue
            found = await log.run(source_results, piece, at, query)
            self._budget.records += max(piece.end - at, 1)
            for one in found:
                met = True
                if one.order <= last:
                    continue  # repeated by a worker that was suspended
                last = one.order
                if one.time >= query.end + query.late_s:
                    return None, last, met
                if query.begin <= one.time < query.end:
                    self._collected.take(_kept(number, one))
                    if len(self._collected) >= self._limit or self._collected.nbytes >= PAGE_BYTES:
                        return one.offset + 1, last, met
            if piece.end <= at:
                break  # nothing more can be read
            at = piece.end
        return None, last, met

    async def _start(self, number: int, begin: int, end: int) -> tuple[int, bool]:
        """(an offset before which there is nothing that is wanted, whether something of the source was met)."""
        query = self._query
        if math.isinf(query.late_s):
            return begin, False
        too_old = query.begin - query.late_s
        hint = await self._log.at_time(number, too_old - AHEAD_S)
        hint = end if hint is None else min(max(hint, begin), end)
        seen = await self._probe(number, hint, end)
        if seen and seen.time < too_old:
            near = await self._log.at_time(number, query.begin) if too_old - seen.time < FAR_S else None
            upper = end if near is None or near <= seen.offset else near
            return await self._bisected(number, seen.offset, upper, too_old), True
        if seen is None and end - hint <= PROBE_RECORDS:  # it has sent nothing since, or is far ahead of Kafka's clock
            for back in (1, 2, 4, 8):
                seen = await self._probe(number, max(hint - back * PROBE_RECORDS, begin), hint, last=True)
                if seen or hint - back * PROBE_RECORDS <= begin:
                    break
            ahead = seen is not None and seen.time >= too_old
        else:
            ahead = seen is not None and seen.time > seen.written + AHEAD_S
        return (await self._bisected(number, begin, hint, too_old) if ahead else hint), seen is not None

    async def _bisected(self, number: int, lower: int, upper: int, too_old: float) -> int:
        """An offset before which every result of the source is too old."""
        while upper - lower > PROBE_RECORDS and not self._budget.spent:
            middle = (lower + upper) // 2
            seen = await self._probe(number, middle, upper)
            if seen and seen.time < too_old:
                lower = seen.offset
            else:
                upper = middle
        return lower

    async def _probe(self, number: int, at: int, until: int, last: bool = False) -> SourceResult | None:
        """The first, or last, result of the source among PROBE_RECORDS records from here on; None without any."""
        until, seen = min(until, at + PROBE_RECORDS), None
        while at < until and not self._budget.spent:
            piece = await self._log.read(number, at, FETCH_BYTES // 4)
            self._budget.records += max(piece.end - at, 1)
            found = await self._log.run(source_results, piece, at, self._query)
            found = [one for one in found if one.offset < until]
            if found and not last:
                return found[0]
            seen = found[-1] if found else seen
            if piece.end <= at:
                break
            at = piece.end
        return seen


def _is_of(fields: _Fields, metric: str | None) -> bool:
    if metric is None:
        return True
    named = fields.metric or ""
    return named == metric or (not named and metric in (fields.values or ()))


def _kept(number: int, one: SourceResult) -> CollectedResult:
    fields: Any = one.fields
    figure = fields.value
    if figure is None:
        values = list((fields.values or {}).values())
        figure = values[0] if len(values) == 1 and values[0] is not None else fields.anomaly_score or 0.0
    return CollectedResult(one.time, number, one.offset, figure, fields.is_anomaly, one.value)

"""A result by its id: bisection over the offsets of a partition of anomaly-results.

Results are in the order of their points, so the ids of points of one partition of raw-data ascend, whatever other ids
stand between them (with input.rekey they do). Only what a worker that was suspended past its session repeats is out of
order (docs/guarantees.md): a block of ids that were all written before it. Where a probe meets a higher id than the
wanted one, the wanted one is before it, or nowhere. A lower id proves nothing, since it may be such a repeat. So when
bisection has found nothing, all of the STALE records before its place are read: if a higher id is among them, a block
of repeats has led it astray, and it begins again before that; if none is, the id is not in the log.
tests/unit/web/stored_results/test_by_id.py puts such blocks everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from app.web.stored_results.topic_log import PROBE_BYTES, FetchedBatches, TopicLog

STALE = 20_000  # results of one partition that a worker has on their way, at most: app/stream/takeover.py has the same
ROUNDS = 50  # blocks of repeats around one id
GUESSES = 4

Place = tuple[int, int]  # offset and index of a point in its partition of raw-data


class ProbeResult(NamedTuple):
    """What a probe saw."""

    begin: int
    end: int
    found: bytes | None
    lowest: Place | None  # of the ids before ``until``; None without any
    highest: Place | None


Probe = Callable[[int, int], Awaitable[ProbeResult]]  # (offset, until)


def probe_of(log: TopicLog, number: int, prefix: str, wanted: Place, size: int = PROBE_BYTES) -> Probe:
    """Probes of this partition for the result of the point at this place. ``prefix``: of ids, "topic:partition:"."""
    pattern = re.compile(rb'\{"id":"%b(\d{1,18}):(\d{1,18})"' % re.escape(prefix.encode()))

    async def probe(offset: int, until: int) -> ProbeResult:
        piece = await log.read(number, offset, size)
        window: ProbeResult = await log.run(_probe_result, piece, until, pattern, wanted)
        return window

    return probe


def _probe_result(piece: FetchedBatches, until: int, pattern: re.Pattern[bytes], wanted: Place) -> ProbeResult:
    records = piece.records()
    lowest = highest = found = None
    for i, (offset, start) in enumerate(zip(records.offsets.tolist(), records.spans[:, 2].tolist())):
        if start < 0 or not (match := pattern.match(records.data, start)):
            continue
        place = int(match[1]), int(match[2])
        if place == wanted:
            found = records.value(i)
        if offset < until:
            lowest = place if lowest is None else min(lowest, place)
            highest = place if highest is None else max(highest, place)
    return ProbeResult(piece.begin, piece.end, found, lowest, highest)


async def find(
    probe: Probe, begin: int, end: int, wanted: Place, stale: int = STALE, guesses: int = GUESSES
) -> bytes | None:
    """The result of the wanted point; None when the log does not have it. ``begin``, ``end``: offsets of the log.

    First ``guesses`` of where it would be if each record gave one result, as most logs have it, from where such a guess
    has led: most are found by the second.
    """
    at = end - 1
    for _ in range(guesses):
        if not begin <= at < end:
            break
        window = await probe(at, end)
        if window.found is not None:
            return window.found
        if window.highest is None:
            break
        at, before = window.end - 1 - (window.highest[0] - wanted[0]), at
        if at == before:
            break
    return await _searched(probe, begin, end, wanted, stale)


async def _searched(probe: Probe, begin: int, end: int, wanted: Place, stale: int) -> bytes | None:
    upper: int | None = end
    for _ in range(ROUNDS):
        assert upper is not None
        found, upper = await _bisect(probe, begin, upper, wanted)
        if found is None:
            found, upper = await _look_back(probe, max(begin, upper - stale), upper, wanted)
        if found is not None or upper is None:
            return found
    return None


async def highest_at_end(probe: Probe, begin: int, end: int) -> Place | None:
    """The highest place among the last results of this partition of raw-data; None when there are none there."""
    back = 1
    while begin < end:
        at = max(end - back, begin)
        window = await probe(at, end)
        if window.highest is not None or window.begin <= begin or back > STALE:
            return window.highest
        back = max(end - window.begin, 2 * back) + 1
    return None


async def _bisect(probe: Probe, lower: int, upper: int, wanted: Place) -> tuple[bytes | None, int]:
    """The result, or an offset before which it is, if it is in the log."""
    while lower < upper:
        at = (lower + upper) // 2
        first = window = await probe(at, upper)
        while window.found is None and window.highest is None and window.end < upper:  # only results of others here
            window = await probe(window.end, upper)
        if window.found is not None:
            return window.found, upper
        if window.highest is None:
            upper = at
        elif window.highest > wanted:
            upper = min(first.begin, at)
        else:
            lower = max(window.end, at + 1)
    return None, upper


async def _look_back(probe: Probe, at: int, upper: int, wanted: Place) -> tuple[bytes | None, int | None]:
    """The result, or an offset before which it is; (None, None) when nothing here is behind it."""
    while at < upper:
        window = await probe(at, upper)
        if window.found is not None:
            return window.found, upper
        if window.highest is not None and window.highest > wanted:
            return None, min(window.begin, at)
        at = max(window.end, at + 1)
    return None, None

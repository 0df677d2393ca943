"""A result is found by its id wherever late workers have put repeats into the log; against reading all of it."""

import asyncio
import random

import pytest
from support.made_log import RESULTS, MadeLog, result

from app.web.stored_results import by_id
from app.web.stored_results.by_id import ProbeResult
from app.web.stored_results.topic_log import TopicLog


def with_repeats(ids, blocks, longest, random):
    """The ids with blocks of earlier ones put in between, each what was on its way at some moment before."""
    log = list(ids)
    for _ in range(blocks):
        at = random.randrange(1, len(log) + 1)
        first = random.randrange(at)
        block = sorted(set(log[first:at]))[: random.randint(1, longest)]
        log[at:at] = block
    return log


def looks_at(log, width):
    """Probes of an array of places, None for a record of another partition of raw-data; so many records in one."""

    def looks(wanted):
        async def look(offset, until):
            begin = offset - offset % width  # batches are fetched whole
            end = min(begin + width, len(log))
            ids = [one for one in log[begin : min(end, until)] if one is not None]
            found = b"found" if wanted in log[begin:end] else None
            return ProbeResult(begin, end, found, min(ids, default=None), max(ids, default=None))

        return look

    return looks


def found(log, wanted, width, stale):
    look = looks_at(log, width)(wanted)
    either = [asyncio.run(by_id.find(look, 0, len(log), wanted, stale, guesses)) is not None for guesses in (0, 4)]
    assert either[0] <= either[1]
    return either[0]


def missed(seed, stale, width=5, longest=40):
    """Ids of a log of this kind that are not found though it has them."""
    choice = random.Random(seed)
    ids = [
        (offset, index)
        for offset in sorted(choice.sample(range(2_000), 600))
        for index in range(choice.choice([1, 1, 3]))
    ]
    log = with_repeats(ids, choice.randint(0, 8), longest, choice)
    others = choice.choice([0, 0, 3])  # with input.rekey
    log = [one for place in log for one in [place, *[None] * choice.randint(0, others)]]
    for wanted in [(-1, 0), (2_000, 0), (ids[5][0], 7)]:
        assert not found(log, wanted, width, stale)
    return [one for one in choice.sample(ids, 60) if not found(log, one, width, stale)]


@pytest.mark.parametrize("seed", range(12))
def test_every_id_is_found_and_no_other(seed):
    longest = 40 * 8 * 4  # blocks beside each other, with others between
    assert missed(seed, longest) == []


def test_bisection_alone_misses_some():
    """The control: what the law above would not let pass."""
    assert any(missed(seed, stale=0) for seed in range(12))


def test_few_probes_are_enough():
    log = [(offset, 0) for offset in range(1_000_000) if offset % 1000]
    probes = []

    def counted(look):
        async def one(*at):
            probes.append(at)
            return await look(*at)

        return one

    look = counted(looks_at(log, 500)((987_654, 0)))
    assert asyncio.run(by_id.find(look, 0, len(log), (987_654, 0))) == b"found"
    assert len(probes) <= 3
    probes.clear()
    assert asyncio.run(by_id.find(look, 0, len(log), (987_654, 0), guesses=0)) == b"found"
    assert len(probes) <= 20


def test_ids_are_those_that_values_begin_with():
    """Not those in labels; and of the partition of raw-data that is asked for."""
    log = MadeLog()
    values = [result(0, n, labels={"id": "raw-data:0:99:0", "of": '{"id":"raw-data:0:98:0"'}) for n in range(50)]
    log.write([*values, result(1, 77), b"", b"no JSON"])

    def find(place, prefix="raw-data:0:"):
        look = by_id.probe_of(TopicLog(RESULTS, log, None), 0, prefix, place)
        return asyncio.run(by_id.find(look, 0, log.end(RESULTS), place))

    assert find((31, 0)) == values[31]
    assert find((99, 0)) is None and find((98, 0)) is None
    assert find((77, 0)) is None and find((77, 0), "raw-data:1:") == result(1, 77)


def test_the_last_place_is_known():
    log = MadeLog()

    def highest(prefix="raw-data:0:"):
        look = by_id.probe_of(TopicLog(RESULTS, log, None), 0, prefix, (0, 0))
        return asyncio.run(by_id.highest_at_end(look, 0, log.end(RESULTS)))

    assert highest() is None
    log.write([result(0, n) for n in range(30)])
    log.write([result(1, n) for n in range(300)])
    assert highest() == (29, 0)
    assert highest("raw-data:1:") == (299, 0)

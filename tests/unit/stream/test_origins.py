"""What several owners of input partitions write to the topic by source, and which of it is taken as new."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pipeline.points import Points, packed
from app.stream.origins import Origins
from app.wire.by_source import PARTITIONS

Written = list[tuple[int, int, int]]  # partition, offset, index


def points(log: Written, first: int = 0) -> Points:
    n = len(log)
    return Points(
        offset=list(range(first, first + n)),
        index=[packed(partition, index) for partition, _, index in log],
        source=["s"] * n,
        timestamp=[0.0] * n,
        own_time=[True] * n,
        values=[0.0] * n,
        named=[offset for _, offset, _ in log],
    )


def taken(origins: Origins, log: Written, sizes, first: int = 0) -> Written:
    """What is new of a log that is read in batches of these sizes, over and over."""
    found, at, i = [], 0, 0
    while at < len(log):
        size = sizes[i % len(sizes)]
        origins.note(first + at)
        fresh = origins.fresh(points(log[at : at + size], first + at))
        found += [(index >> 32, offset, index & (2**32 - 1)) for offset, index in zip(fresh.named, fresh.index)]
        at, i = at + size, i + 1
    return found


class Owner:
    """Of one input partition, from a committed position on; writes in order, and any number are under way."""

    def __init__(self, begin: int) -> None:
        self.at = begin  # place in the input of what it writes next


def written(draw: random.Random, inputs: dict[int, Written], steps: int, breaks: bool = False) -> list[Written]:
    """The logs of two partitions after crashes and suspensions; at the end everything is written.

    ``breaks``: owners begin at any place, committed or not.
    """
    logs: list[Written] = [[], []]
    home = {one: draw.randrange(2) for of in inputs.values() for one in of}  # by its source
    for records in inputs.values():
        committed = 0
        owners = [Owner(0)]
        for step in range(steps):
            if draw.random() < 0.15:  # a new owner; the old one is dead, or only believes it is the owner
                owners.append(Owner(draw.randrange(len(records) + 1) if breaks else committed))
                owners = owners[-draw.randrange(1, 4) :]
            owner = owners[-1] if step >= steps - 3 else draw.choice(owners)
            rest = records[owner.at :] if step == steps - 1 else records[owner.at :][: draw.randrange(6)]
            for one in rest:
                logs[home[one]].append(one)
            owner.at += len(rest)
            if owner is owners[-1] and draw.random() < 0.5:
                committed = owner.at  # all of it is acknowledged; a commit of another is refused
    return logs


def shuffled(draw: random.Random, log: Written) -> Written:
    """Input partitions in between each other, each in its own order."""
    by = {partition: [one for one in log if one[0] == partition] for partition, _, _ in log}
    order = [partition for partition, of in by.items() for _ in of]
    draw.shuffle(order)
    return [by[partition].pop(0) for partition in order]


def made(seed: int, breaks: bool = False) -> tuple[Written, list[Written]]:
    """All records of some input partitions, and what is written of them."""
    draw = random.Random(seed)
    inputs = {}
    for partition in draw.sample(range(PARTITIONS), draw.randrange(1, 4)):
        offset, inputs[partition] = draw.randrange(2**40), []
        for _ in range(draw.randrange(1, 30)):
            offset += draw.randrange(1, 3)
            inputs[partition] += [(partition, offset, index) for index in range(draw.choice([1, 1, 1, 3]))]
    logs = [shuffled(draw, log) for log in written(draw, inputs, draw.randrange(1, 40), breaks)]
    return [one for of in inputs.values() for one in of], logs


@given(st.integers(0, 2**32), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_every_record_is_taken_once_and_in_order_whoever_writes(seed, sizes):
    every, logs = made(seed)
    found = [taken(Origins(0, "", 1000), log, sizes) for log in logs]
    assert sorted(found[0] + found[1]) == sorted(every)
    for log, fresh in zip(logs, found):
        assert fresh == list(dict.fromkeys(log)), "each where it came first"
        for partition in {one[0] for one in fresh}:
            of = [one for one in fresh if one[0] == partition]
            assert of == sorted(of)


def test_owners_that_begin_beyond_the_committed_position_would_lose_records():
    """The other side: the rule about commits is needed, and a break of it would be seen."""
    lost = 0
    for seed in range(50):
        every, logs = made(seed, breaks=True)
        lost += len(set(every)) - len({one for log in logs for one in taken(Origins(0, "", 1000), log, [5])})
    assert lost > 0


@given(st.integers(0, 2**32), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_a_successor_takes_the_same_records_from_any_replay_point(seed, sizes, data):
    _, logs = made(seed)
    log = max(logs, key=len)
    for spread in (64, 64 * 7):
        origins = Origins(0, "", spread)
        end = data.draw(st.integers(0, len(log)))
        before = taken(origins, log[:end], sizes)
        wanted = data.draw(st.integers(0, end))
        replay, text = origins.at(wanted, end)
        assert wanted - spread // 64 - max(sizes) < replay <= wanted
        successor = Origins(replay, text, spread)
        again = taken(successor, log[replay:], [3], replay)
        whole = before + taken(origins, log[end:], sizes, end)
        assert again == whole[len(whole) - len(again) :]
        kept = [one for one in dict.fromkeys(log) if log.index(one) >= replay]
        assert again == kept


def test_as_many_input_partitions_as_are_allowed_fit_into_a_commit():
    origins = Origins(0, "", 1000)
    log = [(partition, 2**49 - 2, 2**28 - 1) for partition in range(PARTITIONS)]
    assert taken(origins, log, [100]) == log
    offset, text = origins.at(len(log), len(log))
    assert offset == len(log) and len(text) == 3756, "with ids of topics and a replay point 4,000 at most"
    assert taken(Origins(offset, text, 1000), log, [100]) == []


@pytest.mark.parametrize("text", ["nonsense", "gA==", "gICAgICAgICAgICAgICAAQ==", "AQ==", "AA" * 200])
def test_another_text_is_refused(text):
    with pytest.raises(ValueError):
        Origins(0, text, 1000)

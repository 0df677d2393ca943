"""The checker of the crash tests flags what it must: logs with one thing wrong each. No broker."""

import json
from collections import namedtuple
from copy import deepcopy
from itertools import islice

import pytest
from integration import load as loads
from integration import oracle
from integration.logs import Logs
from integration.run import SECTIONS

from app.settings import load
from app.state import snapshot
from app.state.series import to_bytes

Record = namedtuple("Record", "key value headers timestamp offset", defaults=((), 0, 0))
PARTITIONS = 2


@pytest.fixture(scope="module")
def settings():
    return load(environ={}, detection=SECTIONS["detection"])


@pytest.fixture(scope="module")
def raw():
    partitions = [[] for _ in range(PARTITIONS)]
    for i, (key, value) in enumerate(islice(loads.records(seed=4, sources=12), 1500)):
        log = partitions[loads.partition_of(key, PARTITIONS)]
        log.append(Record(key, value, (), 1_700_000_000_000 + i, len(log)))
    return partitions


@pytest.fixture(scope="module")
def expected(settings, raw):
    return oracle.expect(settings, raw)


@pytest.fixture
def logs(expected, raw):
    """What a worker without a fault leaves."""
    changelog = [
        [
            Record(to_bytes(name) + b"\0ownerid1", snapshot.dumps(want.sources, slot, len(records) - 1))
            for name, slot in want.sources.slots.items()
        ]
        for want, records in zip(expected, raw)
    ]
    return Logs(
        raw=raw,
        results=[[Record(*said) for said in want.results.values()] for want in expected],
        letters=[[Record(*said) for said in want.letters.values()] for want in expected],
        episodes=[[Record(*said) for said in want.episodes.values()] for want in expected],
        changelog=changelog,
        committed={n: (len(log), json.dumps({"v": 1, "replay": len(log)})) for n, log in enumerate(raw)},
    )


def test_a_run_without_fault_has_none(expected, logs):
    report = oracle.check(expected, logs)
    assert report.faults == {}
    assert report.counts["results"] > 1500
    assert report.counts["letters"] > 10
    assert report.counts["episodes"] > 2
    assert report.counts["states"] == 14, "of 12 sources, one of which has two metrics that come alone"


def damaged(name, log):
    """Each of these is one thing that a wrong worker does."""
    said = json.loads(log[500].value)
    said["anomaly_score"] = 0.123456
    other = log[500]._replace(value=json.dumps(said).encode())
    foreign = log[500]._replace(value=log[500].value.replace(b":0", b":777777", 1))
    return {
        "missing": log[:500] + log[501:],
        "missing at the end": log[:-1],
        "repeated": [*log, log[500]],
        "conflicting": [*log[:500], other, *log[501:]],
        "conflicting beside the right one": [*log, other],
        "extra": [*log, foreign],
        "out of order": [*log[:300], *log[400:], *log[300:400]],
        "two swapped": [*log[:300], log[301], log[300], *log[302:]],
    }[name]


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("missing", {"results missing", "gaps in the results"}),
        ("missing at the end", {"results missing"}),
        ("repeated", {"results repeated"}),
        ("conflicting", {"results conflicting"}),
        ("conflicting beside the right one", {"results conflicting", "results repeated"}),
        ("out of order", {"gaps in the results", "sources out of order"}),
        ("two swapped", {"gaps in the results"}),
    ],
)
def test_wrong_results_are_flagged_and_nothing_else(expected, logs, name, flags):
    logs.results[1] = damaged(name, logs.results[1])
    faults = oracle.check(expected, logs).faults
    assert faults.keys() == flags
    if name == "missing":
        assert faults["results missing"] == ["1 in all", list(expected[1].results)[500]]


def test_a_result_of_no_point_is_flagged(expected, logs):
    said = json.loads(logs.results[0][5].value)
    said["id"] = said["id"].replace(":5:", ":999999:")
    logs.results[0].append(logs.results[0][5]._replace(value=json.dumps(said).encode()))
    assert oracle.check(expected, logs).faults.keys() >= {"results extra"}


def test_repeated_dead_letters_and_episodes_are_allowed_and_changed_or_lost_ones_are_not(expected, logs):
    logs.letters[0] += logs.letters[0][:2]
    logs.episodes[1] += logs.episodes[1][:2]
    report = oracle.check(expected, logs)
    assert report.faults == {}
    assert len(report["letters repeated"]) == len(report["episodes repeated"]) == 2
    logs.letters[0][0] = logs.letters[0][0]._replace(value=b"cut")
    del logs.letters[1][3], logs.episodes[1][2:]
    assert oracle.check(expected, logs).faults.keys() == {"letters conflicting", "letters missing", "episodes missing"}


def test_a_wrong_state_is_flagged(expected, logs, settings, raw):
    """A state that learned one point twice: a worker whose replay point is too low or its guard too weak."""
    twice = deepcopy(raw)
    source = expected[0].sources.names[0]
    i = max(i for i, r in enumerate(twice[0]) if r.offset == expected[0].last[source])
    twice[0].append(twice[0][i - 3]._replace(offset=len(twice[0])))
    wrong = oracle.expect(settings, twice)[0].sources
    assert len(twice[0]) == len(raw[0]) + 1
    logs.changelog[0] = [
        record._replace(value=snapshot.dumps(wrong, wrong.slots[snapshot.peek(record.value)[0]], len(raw[0]) - 1))
        for record in logs.changelog[0]
    ]
    assert oracle.check(expected, logs).faults.keys() == {"states wrong"}


def test_a_state_that_was_never_saved_is_flagged_only_after_an_end_in_peace(expected, logs):
    del logs.changelog[1][2]
    assert oracle.check(expected, logs).faults.keys() == {"states not saved"}
    logs.committed[1] = (len(logs.raw[1]), '{"v":1,"replay":3}')
    assert oracle.check(expected, logs, saved=False).faults == {}


@pytest.mark.parametrize("metadata", ["", "{}", '{"v":2,"replay":1}', '{"v":1,"replay":-1}', '{"v":1,"replay":99999}'])
def test_a_commit_without_a_valid_replay_point_is_flagged(expected, logs, metadata):
    logs.committed[1] = (len(logs.raw[1]), metadata)
    assert oracle.check(expected, logs).faults.keys() == {"replay points wrong"}


def test_a_committed_position_that_is_not_the_end_is_flagged(expected, logs):
    logs.committed[0] = (len(logs.raw[0]) - 1, json.dumps({"v": 1, "replay": 5}))
    del logs.committed[1]
    faults = oracle.check(expected, logs, saved=False).faults
    assert faults.keys() == {"committed positions wrong", "replay points wrong"}

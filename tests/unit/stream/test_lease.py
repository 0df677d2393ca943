"""A worker whose last accepted commit is old asks the group before it scores: time may have passed without it."""

import asyncio
from types import SimpleNamespace

import pytest

from app.settings import load
from app.stream import assignment
from app.stream.assignment import LEASE, Partitions

SESSION_S = 10.0
JOB = SimpleNamespace(settings=load(environ={}, kafka={"session_timeout_s": SESSION_S}))


def confirmed(silent_s, answers, monkeypatch, at_once=1):
    """How often the group was asked, and whether the partition is still to be scored after it.

    ``answers``: True, accepted; False, refused; a last False, and the rebalance behind it takes the partition.
    """
    now, left = 1000.0, list(answers)

    async def sleep(seconds):
        nonlocal now
        now += seconds

    async def commit(active):
        accepted = left.pop(0)
        if accepted:
            partitions.committed_at = now
        elif not left:
            partitions[0].active = False
        return accepted

    async def ask():
        await asyncio.gather(*(partitions.confirm() for _ in range(at_once)))

    partitions = Partitions(JOB, commit)
    partitions[0] = SimpleNamespace(active=False, generation=-1)
    partitions.resume(5)
    partitions.committed_at = now - silent_s
    monkeypatch.setattr(assignment.time, "monotonic", lambda: now)
    monkeypatch.setattr(assignment.asyncio, "sleep", sleep)
    asyncio.run(ask())
    return len(answers) - len(left), partitions[0].active


def test_no_question_while_the_last_answer_is_fresh(monkeypatch):
    assert confirmed(LEASE * SESSION_S - 0.1, [], monkeypatch) == (0, True)


def test_an_old_answer_is_asked_for_again(monkeypatch):
    assert confirmed(LEASE * SESSION_S + 0.1, [True], monkeypatch) == (1, True)


def test_many_partitions_ask_once(monkeypatch):
    assert confirmed(3600.0, [True], monkeypatch, at_once=4) == (1, True)


@pytest.mark.parametrize("refusals", [1, 3])
def test_nothing_is_scored_after_a_refusal(refusals, monkeypatch):
    assert confirmed(3600.0, [False] * refusals, monkeypatch) == (refusals, False)


def test_a_refusal_by_mistake_is_asked_again(monkeypatch):
    assert confirmed(3600.0, [False, True], monkeypatch) == (2, True)


def test_the_first_batch_of_an_owner_waits_for_a_commit(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(assignment.time, "monotonic", lambda: clock[0])
    partitions = Partitions(JOB, None)
    partitions.committed_at = clock[0]
    partitions.resume(6)
    assert clock[0] - partitions.committed_at > SESSION_S


def test_the_lease_ends_well_before_the_session():
    assert 0 < LEASE <= 0.5

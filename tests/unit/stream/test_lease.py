"""A worker whose last accepted commit is old asks the group before it scores: time may have passed without it."""

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import pytest
from aiokafka.errors import CommitFailedError
from aiokafka.structs import TopicPartition

from app.metrics import Metrics
from app.settings import load
from app.stream import committer as module
from app.stream import recovery
from app.stream.assignment import Partitions
from app.stream.committer import LEASE, CommitPoint, Committer

SESSION_S = 10.0
KAFKA = load(environ={}, kafka={"session_timeout_s": SESSION_S}).kafka
REFUSED = CommitFailedError()


def made(send):
    """One partition, assigned since generation 5, and its committer."""
    committer = Committer(KAFKA, Metrics(), {}, lambda: partitions.active(), send)
    partitions = Partitions(SimpleNamespace(committer=committer))
    partitions[0] = Owned()
    partitions.resume(5)
    return committer, partitions[0]


class Owned:
    """Of a partition, what is committed."""

    log = TopicPartition(KAFKA.input_topic, 0)
    active, generation = False, -1

    def to_commit(self):
        return CommitPoint(9, {"replay": 7})

    def committed(self, point):
        self.replay_committed = point.metadata["replay"]


def confirmed(silent_s, answers, monkeypatch, at_once=1):
    """How often the group was asked, and whether the partition is still to be scored after it.

    ``answers``: True, accepted; False, refused; a last False, and the rebalance behind it takes the partition.
    """
    now, left = 1000.0, list(answers)

    async def sleep(seconds):
        nonlocal now
        now += seconds

    async def send(offsets):
        accepted = left.pop(0)
        if not accepted:
            partition.active = bool(left)
            raise REFUSED

    async def ask():
        await asyncio.gather(*(committer.confirm() for _ in range(at_once)))

    committer, partition = made(send)
    committer.committed_at = now - silent_s
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    asyncio.run(ask())
    return len(answers) - len(left), partition.active


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
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    committer, _ = made(None)
    committer.committed_at = clock[0]
    committer.begin(6)
    assert clock[0] - committer.committed_at > SESSION_S


def test_the_group_is_asked_as_soon_as_partitions_are_recovered(monkeypatch):
    """Faust's first commit comes two seconds later: as long a worker would not be ready."""

    async def recover():
        sent.clear()
        app = MagicMock(committer=committer, consumer_generation_id=5)
        for called in (app.on_rebalance_complete.send, app._fetcher.maybe_start):
            called.side_effect = done
        service = Mock(app=app, add_future=lambda coroutine: begun.append(asyncio.ensure_future(coroutine)))
        await recovery.SnapshotRecovery._resume(service, 5)
        await asyncio.gather(*begun)

    async def done():
        pass

    async def send(offsets):
        sent.append(offsets)

    monkeypatch.setattr(recovery, "gc", Mock())
    sent, begun = [], []
    committer, partition = made(send)
    asyncio.run(recover())
    assert len(sent) == 1 and partition.replay_committed == 7


def test_the_lease_ends_well_before_the_session():
    assert 0 < LEASE <= 0.5


def test_a_commit_of_an_earlier_generation_confirms_nothing(monkeypatch):
    async def send(offsets):
        committer.begin(6)  # meanwhile a rebalance, and a recovery

    committer, partition = made(send)
    assert asyncio.run(committer.commit([partition]))
    assert committer.committed_at == module.NEVER
    assert partition.replay_committed == 7


def test_a_commit_that_is_not_accepted_moves_no_replay_point():
    async def send(offsets):
        raise REFUSED

    committer, partition = made(send)
    assert not asyncio.run(committer.commit([partition]))
    assert not hasattr(partition, "replay_committed")


def test_a_commit_carries_position_replay_point_and_the_known_ids():
    sent = []

    async def send(offsets):
        sent.append(offsets)

    committer, partition = made(send)
    committer._known_ids = {KAFKA.input_topic: "id-1", KAFKA.changelog_topic: ""}
    assert asyncio.run(committer.commit([partition]))
    assert sent == [{(KAFKA.input_topic, 0): (9, '{"v":1,"replay":7,"input":"id-1"}')}]
    assert asyncio.run(committer.commit([])) and len(sent) == 1

"""The replay point never passes a point that no acknowledged snapshot holds, whatever the order of acks."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.stream import ledger as module
from app.stream.ledger import Ledger

DEAD_LETTER = -1
SETTINGS = settings(max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))


class Worker(RuleBasedStateMachine):
    """One partition, its owner and what the broker holds; a crash leaves only what the broker holds."""

    ledger_class = Ledger
    results_before_snapshots = True

    @initialize(every=st.integers(1, 6), span=st.integers(1, 30))
    def start(self, every, span):
        self.every, self.span = every, span
        self.log: list[int] = []  # offset -> source, or DEAD_LETTER
        self.answered = 0  # results of every offset below are at the broker
        self.saved: dict[int, int] = {}  # source -> highest offset inside a snapshot at the broker
        self.committed = (0, 0)  # position, replay point
        self.recover()

    def recover(self):
        position, replay = self.committed
        self.ledger = self.ledger_class(replay, position, self.every, self.span)
        self.flight: list[dict] = []
        self.state: dict[int, set[int]] = {}
        for source, offset in self.saved.items():
            self.state[source] = {o for o in range(offset + 1) if self.log[o] == source}
        self.mark = max([self.answered, *(o + 1 for o in self.saved.values())])

    @rule(sources=st.lists(st.integers(DEAD_LETTER, 4), min_size=1, max_size=8))
    def compute(self, sources):
        while len(self.log) < self.ledger.next + len(sources):
            self.log.append(sources[len(self.log) - self.ledger.next])
        first, end = self.ledger.next, self.ledger.next + len(sources)
        batch = self.ledger.open(first, end)
        offsets = [o for o in range(first, end) if self.log[o] != DEAD_LETTER and o > self.saved.get(self.log[o], -1)]
        for offset in offsets:
            self.state.setdefault(self.log[offset], set()).add(offset)
        slots = np.array([self.log[o] for o in offsets], np.int64)
        touched = self.ledger.learned(slots, np.array(offsets, np.int64))
        self.send(batch, self.ledger.due(touched))

    @rule(limit=st.integers(1, 3))
    def drain(self, limit):
        slots = self.ledger.oldest(limit)
        if slots:
            self.send(self.ledger.open(self.ledger.next, self.ledger.next), slots)

    def send(self, batch, slots):
        self.ledger.take(batch, slots)
        self.flight.append({"batch": batch, "snapshots": {s: batch.end - 1 for s in slots}, "answered": False})

    @precondition(lambda self: any(not b["answered"] for b in self.flight))
    @rule()
    def results_acknowledged(self):
        entry = next(b for b in self.flight if not b["answered"])
        entry["answered"] = True
        self.answered = max(self.answered, entry["batch"].end)

    @precondition(lambda self: self.flight and self.flight[0]["answered"])
    @rule(share=st.integers(0, 5))
    def snapshots_acknowledged(self, share):
        """All of them, and the batch is closed; or only some, and then the process dies."""
        entry = self.flight[0]
        snapshots = list(entry["snapshots"].items())
        complete = share >= 4 or not snapshots
        for source, offset in snapshots if complete else snapshots[:share]:
            self.saved[source] = max(self.saved.get(source, -1), offset)
        if complete:
            self.flight.pop(0)
            self.ledger.close(entry["batch"])
        else:
            self.crash()

    @rule()
    def commit(self):
        self.committed = (self.ledger.position, self.ledger.replay_point)

    @rule()
    def crash(self):
        self.recover()

    @invariant()
    def nothing_is_uncovered_below_the_replay_point(self):
        for offset in range(min(self.ledger.replay_point, len(self.log))):
            source = self.log[offset]
            assert source == DEAD_LETTER or offset <= self.saved.get(source, -1), f"{offset} of {source} is lost"

    @invariant()
    def the_position_is_answered(self):
        assert self.ledger.position <= self.answered

    @invariant()
    def the_state_is_complete(self):
        for source, points in self.state.items():
            bound = max(points, default=-1)
            assert points == {o for o in range(bound + 1) if self.log[o] == source}

    @invariant()
    def a_successor_would_not_read_too_far_back(self):
        if self.ledger.idle:
            assert self.ledger.next - self.ledger.replay_point <= self.span + 8


class CommitsTheAckedPosition(Ledger):
    @property
    def replay_point(self):
        return self.position


class ForgetsSnapshotsInFlight(Ledger):
    def take(self, batch, slots):
        super().take(batch, slots)
        batch.hold = batch.end


class ForgetsWhatIsDirty(Ledger):
    def learned(self, slots, offsets):
        return np.unique(slots)


def machine(ledger):
    return type("Driven", (Worker,), {"ledger_class": ledger})


def test_the_replay_point_never_passes_an_uncovered_or_unacknowledged_point():
    run_state_machine_as_test(machine(Ledger), settings=SETTINGS)


@pytest.mark.parametrize("broken", [CommitsTheAckedPosition, ForgetsSnapshotsInFlight, ForgetsWhatIsDirty])
def test_the_model_flags_a_wrong_ledger(broken):
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            machine(broken),
            settings=settings(
                SETTINGS,
                database=None,
                derandomize=True,
                max_examples=2000,
                phases=[Phase.generate],  # found is enough
            ),
        )


def test_batches_close_in_order():
    ledger = Ledger(0, 0, 256, 1000)
    first, second = ledger.open(0, 5), ledger.open(5, 9)
    with pytest.raises(ValueError, match="in the order"):
        ledger.close(second)
    ledger.close(first)
    assert (ledger.position, ledger.next) == (5, 9)


def test_replay_does_not_move_the_committed_position_back():
    ledger = Ledger(100, 500, 256, 1000)
    ledger.close(ledger.open(100, 300))
    assert (ledger.position, ledger.replay_point) == (500, 300)


def test_few_points_are_kept_as_many_are(monkeypatch):
    draw = np.random.default_rng(3)
    batches = [(draw.integers(0, 40, n), n) for n in draw.integers(1, 31, 300)]

    def kept(few):
        monkeypatch.setattr(module, "FEW", few)
        ledger, seen = Ledger(0, 0, 8, 200), []
        for slots, n in batches:
            batch = ledger.open(ledger.next, ledger.next + n)
            touched = ledger.learned(slots, np.arange(batch.first, batch.end))
            due = ledger.due(np.sort(touched))
            ledger.take(batch, due)
            ledger.close(batch)
            seen.append((sorted(touched.tolist()), due, ledger.replay_point))
        return seen

    assert kept(0) == kept(32)


def test_sources_that_start_together_are_not_due_together():
    ledger = Ledger(0, 0, 256, 10**9)
    due = []
    for at in range(256):
        ledger.open(at * 64, at * 64 + 64)
        touched = ledger.learned(np.arange(64), np.arange(at * 64, at * 64 + 64))
        slots = ledger.due(touched)
        due.append(len(slots))
        if slots:
            ledger.take(ledger.open(ledger.next, ledger.next), slots)
    assert sum(due) >= 64 and max(due) <= 2

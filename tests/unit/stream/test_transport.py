"""What the consumer hands on around a recovery, and how a stop ends."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from faust.types import TP

from app.errors import DeliveryError
from app.settings import Settings
from app.stream import shutdown
from app.stream.transport import Consumer

RAW = TP("raw-data", 0)


class Fetching(Consumer):
    """A consumer whose fetches are given, each with what happens while it is under way."""

    def __init__(self, fetches):
        self.fetches, self.handed, self.sought, self._delivered = list(fetches), [], [], {}
        self.ends, self.position = [], 0
        self.flow_active = True
        self.ours = SimpleNamespace(active=True, next=100, log=RAW)
        partitions = type("Ours", (dict,), {"takes": lambda self, number: self[number].active})({0: self.ours})
        self.app = SimpleNamespace(
            of={RAW.topic: partitions}.__getitem__,
            active=lambda: [self.ours] if self.ours.active else [],
            committer=SimpleNamespace(generation=5),
            consumer_generation_id=5,
            job=SimpleNamespace(settings=Settings()),
        )
        self.stopped = SimpleNamespace(is_set=lambda: not self.fetches)
        self.fetcher = SimpleNamespace(_stopped=self.stopped)
        self._thread = SimpleNamespace(seek=lambda tp, offset: self.sought.append((tp, offset)))

    _stopped = property(lambda self: self.stopped)

    def assignment(self):
        return {RAW}

    async def _wait_next_records(self, timeout):
        offsets, meanwhile = self.fetches.pop(0)
        meanwhile(self)
        return {RAW: [SimpleNamespace(offset=offset) for offset in offsets]} if offsets else {}, {RAW}

    def read_to(self, tp):
        return self.position if tp == RAW else None

    async def _deliver(self, message):
        self.handed.append([record.offset for record in message.records])
        self.ends.append(message.end)
        assert message.offset == message.end - 1
        return True


def nothing(consumer):
    pass


def recovers(consumer):
    """The group assigns its partitions again, and recovery ends with a seek to the replay point."""
    consumer.app.consumer_generation_id = consumer.app.committer.generation = 6


def drained(*fetches):
    consumer = Fetching(fetches)
    asyncio.run(consumer._drain(consumer.fetcher))
    return consumer


def test_fetches_are_handed_on():
    consumer = drained(([100, 101], nothing), ([102], nothing))
    assert (consumer.handed, consumer.sought) == ([[100, 101], [102]], [])


def test_what_was_asked_for_before_a_recovery_is_not_taken_for_what_follows_its_seek():
    # 900 is the committed position; the points from the replay point, 100, to there would be skipped as a gap.
    consumer = drained(([900, 901], recovers), ([100, 101], nothing))
    assert (consumer.handed, consumer.sought) == ([[100, 101]], [(RAW, 100)])


def reads_to(end):
    def meanwhile(consumer):
        consumer.position = end

    return meanwhile


def test_what_was_passed_over_is_handed_on_once():
    """Marks of transactions and what was aborted: behind records, alone, and just after recovery's seek to 100."""
    consumer = drained(
        ([], reads_to(100)), ([], reads_to(110)), ([], nothing), ([110, 111], reads_to(113)), ([], nothing),
        ([], reads_to(120)), ([120], reads_to(121)), ([], nothing),
    )  # fmt: skip
    assert (consumer.handed, consumer.ends) == ([[], [110, 111], [], [120]], [110, 113, 120, 121])


def test_a_position_from_before_a_recovery_is_not_taken_for_one_after_it():
    def seeks(consumer):
        recovers(consumer)
        consumer.position = consumer.ours.next

    consumer = drained(([100], reads_to(900)), ([], seeks), ([], nothing), ([100, 101], reads_to(102)))
    assert (consumer.handed, consumer.ends) == ([[100], [100, 101]], [900, 102])


@pytest.fixture
def ended(monkeypatch):
    errors = []
    monkeypatch.setattr(shutdown, "stop_process", errors.append)
    monkeypatch.setattr(shutdown, "BEYOND_SESSION_S", 0.05)
    return errors


def test_a_stop_that_hangs_is_ended(ended):
    shutdown.end_within(0.05)
    time.sleep(0.3)  # of a thread: no clock to hand in
    [error] = ended
    assert isinstance(error, DeliveryError) and "the stop is not done after 0.1 s" in str(error)


def test_a_stop_that_is_done_is_not_held_up(ended):
    shutdown.end_within(3600.0)
    assert all(thread.daemon for thread in threading.enumerate() if isinstance(thread, threading.Timer))
    assert ended == []


def test_fausts_own_watch_over_commits_says_nothing():
    """It knows only of its own, and logged an error for each partition every few seconds, from five minutes on."""

    class Watched(Fetching):
        def verify_event_path(self, now, tp):
            raise AssertionError("asked")

        should_stop = False

        async def sleep(self, seconds):
            pass

    asyncio.run(Watched([]).verify_all_partitions_active())
    with pytest.raises(AssertionError, match="asked"):  # the negative control: Faust's own
        asyncio.run(super(Consumer, Watched([])).verify_all_partitions_active())

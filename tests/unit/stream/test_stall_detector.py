"""When a worker ends and when it waits, by what it observes, second by second, on the test's clock."""

import pytest

from app.errors import HistoryLost, Stalled, TopicError
from app.settings import KafkaSettings
from app.stream import watchdog
from app.stream.stall_detector import (
    LONGEST_CHECK_S,
    STALL_S,
    SURE_S,
    Observation,
    PartitionProgress,
    StallDetector,
    UnchangedFor,
)
from app.stream.watchdog import EVERY_S, EventLoopMonitor

KAFKA = KafkaSettings(ack_timeout_s=10.0)
LONG = STALL_S + KAFKA.ack_timeout_s
BEGIN, END = {0: 0, 1: 0}, {0: 100, 1: 100}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def leaves(looks, detector=None, clock=None):
    """(seconds until the verdict, the verdict) over looks of one every EVERY_S; None when it never leaves."""
    clock = clock or Clock()
    detector = detector or StallDetector(KAFKA, clock)
    began = clock.now
    for seen in looks:
        if (error := detector.verdict(seen)) is not None:
            return clock.now - began, error
        clock.now += EVERY_S
    return None


def always(seen, for_s=300.0):
    return [seen] * int(for_s / EVERY_S)


def orphan(**more):
    return Observation(**{"begin": BEGIN, "end": END, "readable": END, "committed": {0: 40, 1: 100}, **more})


def test_no_partitions_while_records_wait_that_nobody_works_on():
    after_s, error = leaves(always(orphan()))
    assert isinstance(error, Stalled) and STALL_S <= after_s <= STALL_S + EVERY_S
    assert "60 records wait" in str(error) and "partitions 0;" in str(error)


def test_a_group_that_never_committed_waits_from_the_start_of_the_log():
    _, error = leaves(always(orphan(committed={}, begin={0: 70, 1: 100})))
    assert "30 records wait" in str(error)


@pytest.mark.parametrize(
    "looks",
    [
        always(orphan(assigned=frozenset({0}))),  # a worker more than there are partitions, the others slow or stuck
        always(orphan(committed={0: 100, 1: 100})),  # nothing to do
        always(orphan(begin={0: 100, 1: 7}, committed={}, readable={0: 100, 1: 7})),  # an expired log of a new group
        always(orphan(readable={0: 40, 1: 90})),  # an open transaction holds the rest
        [orphan(committed={0: 40 + i // 8}) for i in range(150)],  # somebody gets on, slowly
    ],
)
def test_an_idle_standby_stays(looks):
    assert leaves(looks) is None


def test_a_standby_that_is_given_partitions_in_time_stays():
    working = orphan(own={0: PartitionProgress(100, 100), 1: PartitionProgress(100, 100)})
    assert leaves([*always(orphan(), STALL_S - EVERY_S), working, *always(orphan(), STALL_S - EVERY_S)]) is None


def owns(begin=0, end=100, readable=None, **own):
    readable = {0: end if readable is None else readable}
    return Observation(begin={0: begin}, end={0: end}, readable=readable, own={0: PartitionProgress(**own)})


def test_a_partition_whose_records_wait_and_are_not_taken():
    after_s, error = leaves(always(owns(next=60, answered=60)))
    assert isinstance(error, Stalled) and LONG <= after_s <= LONG + EVERY_S
    assert "raw-data[0]" in str(error) and "offset 60 of 100" in str(error)


def test_records_that_were_fetched_and_are_not_taken():
    assert leaves(always(owns(next=60, answered=60, fetched=100, queued=True))) is not None


def test_a_lag_that_grows_does_not_hide_that_nothing_is_taken():
    assert leaves([owns(next=60, answered=60, end=100 + i) for i in range(100)]) is not None


def test_a_recovery_that_stands_still_and_one_that_reads():
    _, error = leaves(always(owns(next=5, answered=0, recovered=False)))
    assert "no progress during recovery" in str(error)
    assert leaves([owns(next=5 + i, answered=0, recovered=False) for i in range(200)]) is None


@pytest.mark.parametrize(
    "looks",
    [
        always(owns(next=100, answered=100)),  # nothing waits
        always(owns(next=90, answered=90, fetched=100)),  # the rest are marks of transactions
        always(owns(next=90, answered=90, fetched=90, readable=90)),  # an open transaction holds the rest
        always(owns(next=90, answered=90, fetched=90, readable=50)),  # read before kafka.isolation_level was changed
        [
            owns(next=i, answered=0, end=10_000) for i in range(200)
        ],  # taken; the acknowledgements have a deadline of their own
        [owns(next=0, answered=i, end=10_000) for i in range(200)],  # the replay is long, or acks are slow
    ],
)
def test_a_partition_that_gets_on_or_has_nothing_to_do_stays(looks):
    assert leaves(looks) is None


def test_one_stuck_partition_among_many_is_enough():
    ends, stuck = {0: 9999, 1: 9999}, PartitionProgress(7, 7)
    looks = [Observation((), BEGIN, ends, ends, own={0: PartitionProgress(i, i), 1: stuck}) for i in range(200)]
    _, error = leaves(looks)
    assert "raw-data[1]" in str(error)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (owns(next=60, answered=60, end=50), "raw-data[0] ends at 50, but offset 59 was processed"),
        (owns(next=20, answered=60, end=50), "raw-data[0] ends at 50, but offset 59 was processed"),
        (owns(next=60, answered=60, begin=100), "the log starts at 100: 40 records were deleted before"),
    ],
)
def test_offsets_that_the_log_does_not_have(seen, said):
    after_s, error = leaves(always(seen))
    assert isinstance(error, HistoryLost) and said in str(error)
    assert SURE_S <= after_s <= SURE_S + EVERY_S


def test_a_broker_that_does_not_know_its_logs_yet_is_given_time():
    odd, well = owns(next=60, answered=60, end=0), owns(next=100, answered=100)
    assert leaves([*always(odd, SURE_S - 1), well] * 20) is None


def test_topics_that_do_not_fit_any_more():
    after_s, error = leaves(always(Observation(problems=["topic raw-data is missing: make it"])))
    assert isinstance(error, TopicError) and "raw-data is missing" in str(error)
    assert SURE_S <= after_s <= SURE_S + EVERY_S
    missing = Observation(problems=["topic raw-data is missing: make it"])
    assert leaves([*always(missing, SURE_S - 1), owns(next=100, answered=100)] * 20) is None


def test_time_in_which_the_process_was_stopped_does_not_count():
    clock = Clock()
    detector = StallDetector(KAFKA, clock)
    assert leaves(always(orphan(), 6.0), detector, clock) is None
    clock.now += 3600.0
    assert detector.verdict(orphan()) is None
    assert leaves(always(orphan()), detector, clock) is not None


def test_looks_that_take_long_count_whole():
    clock, times = Clock(), []
    unchanged = UnchangedFor(clock)
    for _ in range(3):
        times.append(unchanged.seconds("same"))
        clock.now += LONGEST_CHECK_S
    assert times == [0.0, LONGEST_CHECK_S, 2 * LONGEST_CHECK_S]
    assert watchdog.EVERY_S + watchdog.ANSWER_S == LONGEST_CHECK_S


def beats(ticks, limit_s=60):
    """The second in which the pulse ends the process, given how often the loop turned by each second."""
    ended, seconds = [], iter(range(1, len(ticks) + 1))
    pulse = EventLoopMonitor(limit_s, ended.append)

    def pause(_):
        if (second := next(seconds, None)) is None:
            raise StopIteration
        pulse.ticks = ticks[second - 1]

    try:
        pulse.watch(pause)
    except StopIteration:
        return None
    [error] = ended
    assert "did not turn for 60 s" in str(error)
    return next(seconds, len(ticks) + 1) - 1


def test_an_event_loop_that_stands_still_ends_the_process(capfd):
    assert beats([*range(30), *[30] * 100]) == 30 + 1 + 60
    assert "test_stall_detector.py" in capfd.readouterr().err  # where the threads stand


def test_an_event_loop_that_is_only_busy_does_not():
    assert beats([i // 59 for i in range(600)]) is None

"""Decides from observations when a running worker should end: no Kafka, no waiting, the clock is a parameter."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.errors import AnomalyError, HistoryLost, Stalled, TopicError
from app.kafka import topics
from app.settings import KafkaSettings

SURE_S = 10.0  # how long a broker must report the same problem: just after its start it may know little
STALL_S = 20.0  # how long records may wait without progress
LONGEST_CHECK_S = 12.0


@dataclass(frozen=True)
class PartitionProgress:
    """How far one assigned partition is."""

    next: int  # first offset not taken yet; during recovery, a count that shows its progress
    answered: int  # position: every offset below it is answered
    recovered: bool = True
    fetched: int = 0  # the client's own position: it also moves past offsets without records
    queued: bool = False  # fetched records wait to be taken


@dataclass(frozen=True)
class Observation:
    """What brokers and worker report of a topic at one moment; keys are partitions."""

    problems: Sequence[str] = ()  # of the topics, as app.kafka.topics reports them
    begin: Mapping[int, int] = field(default_factory=dict)
    end: Mapping[int, int] = field(default_factory=dict)
    readable: Mapping[int, int] = field(default_factory=dict)  # end without open transactions
    own: Mapping[int, PartitionProgress] = field(default_factory=dict)
    committed: Mapping[int, int] = field(default_factory=dict)  # by the group; not asked when there are own
    assigned: frozenset[int] = frozenset()  # to any member of the group; not asked when there are own

    @property
    def waiting(self) -> dict[int, int]:
        """Readable records beyond the group's committed positions, where there are any."""
        lag = {n: end - max(self.committed.get(n, 0), self.begin.get(n, 0)) for n, end in self.readable.items()}
        return {number: records for number, records in lag.items() if records > 0}


class UnchangedFor:
    """How long a value has been the same, in seconds between checks.

    The time in which the process was suspended does not count.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._value: object = None
        self._checked_at = self._unchanged_s = 0.0

    def seconds(self, value: object) -> float:
        """Since ``value`` was first seen without another in between; always 0.0 for None."""
        now = self._clock()
        if value is None or value != self._value:
            self._value, self._unchanged_s = value, 0.0
        else:
            self._unchanged_s += min(now - self._checked_at, LONGEST_CHECK_S)
        self._checked_at = now
        return self._unchanged_s


class StallDetector:
    """Decides when this process must end, and why, by the observations of one topic that it reads.

    ``topic``: the topic that is scored, unless given; ``clock`` gives seconds.
    """

    def __init__(
        self, kafka: KafkaSettings, clock: Callable[[], float] = time.monotonic, topic: str | None = None
    ) -> None:
        self._kafka = kafka
        self._topic = topic or kafka.log_topic
        self._clock = clock
        self._topics = UnchangedFor(clock)
        self._history = UnchangedFor(clock)
        self._group = UnchangedFor(clock)
        self._own: dict[int, UnchangedFor] = {}
        # Records in flight may wait for their acknowledgements; that has a deadline of its own.
        self._stall_s = STALL_S + kafka.ack_timeout_s

    def verdict(self, seen: Observation) -> AnomalyError | None:
        """None, or what ends this process."""
        if self._topics.seconds(tuple(seen.problems) or None) >= SURE_S:
            return TopicError(topics.problems_message(self._kafka, list(seen.problems)))
        return self._lost(seen) or self._without_partitions(seen) or self._not_taken(seen)

    def _lost(self, seen: Observation) -> AnomalyError | None:
        lost = message = None
        for number, own in seen.own.items():
            name, begin, end = f"{self._topic}[{number}]", seen.begin.get(number), seen.end.get(number)
            if begin is None or end is None or not own.recovered:
                continue
            known = max(own.next, own.answered)
            if known > end:
                lost, message = (number, "beyond the end"), recreated(f"{name} ends at {end}", known - 1)
            elif own.next < begin:
                lost, message = (number, "before the start"), deleted(name, own.next, begin, begin)
        return HistoryLost(message) if self._history.seconds(lost) >= SURE_S and message else None

    def _without_partitions(self, seen: Observation) -> AnomalyError | None:
        waiting = {} if seen.own else seen.waiting
        if self._group.seconds(sorted(seen.committed.items()) if waiting else None) < STALL_S:
            return None
        unassigned = sorted(waiting.keys() - seen.assigned)
        if not unassigned:
            return None  # other members have them: there are more workers than partitions
        return Stalled(
            f"{self._topic}: {sum(waiting.values())} records wait, no progress for {STALL_S:g} s, and "
            f"nobody in the group {self._kafka.group_id!r} works on partitions {', '.join(map(str, unassigned))}; this "
            "worker has none either. It ends, so that the group assigns them again: start it again. "
            "If that does not help, check whether this user may Read the group."
        )

    def _not_taken(self, seen: Observation) -> AnomalyError | None:
        for number in self._own.keys() - seen.own.keys():
            del self._own[number]
        for number, own in sorted(seen.own.items()):
            waits = own.queued or seen.readable.get(number, 0) > max(own.next, own.fetched) or not own.recovered
            progress = (own.next, own.answered, own.recovered) if waits else None
            unchanged_s = self._own.setdefault(number, UnchangedFor(self._clock)).seconds(progress)
            if unchanged_s >= self._stall_s:
                where = f"at offset {own.next} of {seen.readable.get(number)}" if own.recovered else "during recovery"
                return Stalled(
                    f"{self._topic}[{number}]: assigned here, no progress {where} for {unchanged_s:.0f} s. "
                    "Start this worker again; if it happens again, please report it."
                )
        return None


def recreated(found: str, processed: int) -> str:
    """Message: an offset that was processed is not in the log any more."""
    return (
        f"{found}, but offset {processed} was processed: the topic was deleted and made again, "
        "or truncated. "
        "Use another kafka.group_id and output_topic for the new topic."
    )


def deleted(name: str, expected: int, got: int, begin: int) -> str:
    """Message: the log starts after the offset that was to be read next."""
    return (
        f"{name}: expected offset {expected}, got {got}, and the log starts at {begin}: {max(begin, got) - expected} "
        "records were deleted before they were read. Raise the topic's retention."
    )

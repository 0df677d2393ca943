"""When a worker that lives should leave, decided from what was seen: no Kafka, no waiting, the clock handed in."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.errors import AnomalyError, HistoryLost, Stalled, TopicError
from app.kafka import topics
from app.settings import KafkaSettings

SURE_S = 10.0  # for so long a broker must say the same of topics and offsets: after its start it may know little
STILL_S = 20.0  # for so long records may wait while nothing moves
LONGEST_LOOK_S = 12.0


@dataclass(frozen=True)
class OwnPartition:
    """One partition that the group gave to this worker."""

    next: int  # first offset not taken yet; while it is being recovered, how far that has come
    answered: int  # position: every offset below it is answered
    recovered: bool = True
    fetched: int = 0  # the client's own position: beyond ``next`` also where no records are, as after a transaction
    queued: bool = False  # fetched records wait to be taken


@dataclass(frozen=True)
class Observation:
    """What the brokers and this worker say at one moment; mappings are by partition of the input topic."""

    problems: Sequence[str] = ()  # of the topics, as app.kafka.topics tells them
    begin: Mapping[int, int] = field(default_factory=dict)
    end: Mapping[int, int] = field(default_factory=dict)
    own: Mapping[int, OwnPartition] = field(default_factory=dict)
    committed: Mapping[int, int] = field(default_factory=dict)  # by the group; not asked when there are own
    taken: frozenset[int] = frozenset()  # partitions that some member of the group has; not asked when there are own

    @property
    def waiting(self) -> dict[int, int]:
        """Records past the group's positions, where there are any."""
        lag = {n: end - max(self.committed.get(n, 0), self.begin.get(n, 0)) for n, end in self.end.items()}
        return {number: records for number, records in lag.items() if records > 0}


class UnchangedFor:
    """For how long a thing has been the same, in seconds between looks.

    A process that was stopped and goes on has not looked meanwhile: that time does not count.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._mark: object = None
        self._looked = self._stood_s = 0.0

    def seconds(self, mark: object) -> float:
        """Since ``mark`` was first seen without another in between; 0.0 for None, which is never too long."""
        now = self._clock()
        if mark is None or mark != self._mark:
            self._mark, self._stood_s = mark, 0.0
        else:
            self._stood_s += min(now - self._looked, LONGEST_LOOK_S)
        self._looked = now
        return self._stood_s


class StallDetector:
    """Says when to leave, and why. ``clock`` gives seconds."""

    def __init__(self, kafka: KafkaSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka = kafka
        self._clock = clock
        self._topics = UnchangedFor(clock)
        self._history = UnchangedFor(clock)
        self._group = UnchangedFor(clock)
        self._own: dict[int, UnchangedFor] = {}
        # Records in flight may wait for their acknowledgements; that has a deadline of its own.
        self._still_s = STILL_S + kafka.ack_timeout_s

    def verdict(self, seen: Observation) -> AnomalyError | None:
        """None, or what ends this process."""
        if self._topics.seconds(tuple(seen.problems) or None) >= SURE_S:
            return TopicError(topics.listed(self._kafka, list(seen.problems)))
        return self._lost(seen) or self._without_partitions(seen) or self._not_taken(seen)

    def _lost(self, seen: Observation) -> AnomalyError | None:
        mark = told = None
        for number, own in seen.own.items():
            name, begin, end = f"{self._kafka.input_topic}[{number}]", seen.begin.get(number), seen.end.get(number)
            if begin is None or end is None or not own.recovered:
                continue
            known = max(own.next, own.answered)
            if known > end:
                mark, told = (number, "beyond the end"), recreated(f"{name} ends at {end}", known - 1)
            elif own.next < begin:
                mark, told = (number, "before the start"), deleted(name, own.next, begin, begin)
        return HistoryLost(told) if self._history.seconds(mark) >= SURE_S and told else None

    def _without_partitions(self, seen: Observation) -> AnomalyError | None:
        waiting = {} if seen.own else seen.waiting
        if self._group.seconds(sorted(seen.committed.items()) if waiting else None) < STILL_S:
            return None
        nobodys = sorted(waiting.keys() - seen.taken)
        if not nobodys:
            return None  # others have them: a worker more than there are partitions has nothing to do
        return Stalled(
            f"{self._kafka.input_topic}: {sum(waiting.values())} records wait, nothing moved for {STILL_S:g} s, and "
            f"nobody in the group {self._kafka.group_id!r} works on partitions {', '.join(map(str, nobodys))}; this "
            "worker has none either. It leaves, so that the group shares them out anew: let it be started again. "
            "If that does not help, see whether this user may Read the group."
        )

    def _not_taken(self, seen: Observation) -> AnomalyError | None:
        for number in self._own.keys() - seen.own.keys():
            del self._own[number]
        for number, own in sorted(seen.own.items()):
            waits = own.queued or seen.end.get(number, 0) > max(own.next, own.fetched) or not own.recovered
            mark = (own.next, own.answered, own.recovered) if waits else None
            stood_s = self._own.setdefault(number, UnchangedFor(self._clock)).seconds(mark)
            if stood_s >= self._still_s:
                where = f"at offset {own.next} of {seen.end.get(number)}" if own.recovered else "in recovery"
                return Stalled(
                    f"{self._kafka.input_topic}[{number}]: ours, and stands {where} for {stood_s:.0f} s. "
                    "Let this worker be started again; if it stands there once more, please report it."
                )
        return None


def recreated(found: str, processed: int) -> str:
    """What to say of a log in which an offset that was processed is not where it was."""
    return (
        f"{found}, but offset {processed} was processed: the topic was deleted and made again, "
        "or truncated. "
        "Use another kafka.group_id and output_topic for the new topic."
    )


def deleted(name: str, expected: int, got: int, begin: int) -> str:
    """What to say of a log that starts after what was to be read next."""
    return (
        f"{name}: expected offset {expected}, got {got}, and the log starts at {begin}: {max(begin, got) - expected} "
        "records were deleted before they were read. Raise the topic's retention."
    )

"""Schedules: everything that may differ between two runs, as one short value that Hypothesis draws and shrinks.

    Schedule(records=b"...", faults=(Fault("results", 3, "crash", 0, 2),), ...)

is what a failed run prints; ``run`` of it plays it again, the same turn by turn.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from aiokafka.structs import TopicPartition
from hypothesis import strategies as st
from simulation import load
from simulation.broker import Broker, Group
from simulation.load import PARTITIONS, RAW
from simulation.referee import Referee
from simulation.worker import Stopped, Worker, virtual
from simulation.world import EPOCH_S, Net, World

from app.errors import DeliveryError, HistoryLost
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import Settings
from app.settings import load as load_settings

SPANS_S = (0.0, 0.05, 0.3, 1.0, 2.5, 6.0)  # how long a fault lasts; the group's session is 2 s
WHEN = ("turns", "results", "snapshots", "commits")
WHAT = ("crash", "stop", "pause", "cut", "start", "rebalance", "compact", "stall", "retain")
DETECTORS = ("moving_average", "StandardAbsoluteDeviation")  # the second remembers every point
MOST_WORKERS = 3
PATIENCE_S = 2.0  # a fault comes after that at the latest
# forget_after of some 30 offsets in each partition, max_sources, and rekey
KINDS = ((0, 0, False), (0, 0, True), (0, 0, True), (0, 1, False), (0, 2, False), (6, 0, False), (20, 0, False))
TOO_LONG_S = 300.0
TOO_MANY_TURNS = 100_000


class Fault(NamedTuple):
    """After so many turns of any process, or record batches or commits at the broker, since the fault before."""

    when: str  # of WHEN
    count: int
    what: str  # of WHAT
    who: int  # the worker or partition, modulo how many there are
    span: int  # into SPANS_S


@dataclass(frozen=True)
class Schedule:
    """One run. Bytes are numbers that choose from a table, used in turn and again from the start."""

    records: bytes
    burst: int = 5  # records produced together
    every_ms: int = 50
    workers: int = 1
    snapshot_every: int = 4  # points
    acks: bytes = b""
    others: bytes = b""
    fetches: bytes = b"\3"
    faults: tuple[Fault, ...] = ()
    forget_after: int = 0  # offsets after which a silent source is reset; 0: never
    max_sources: int = 0  # live ones in a partition; 0: any. Not with forget_after: see app/state/expiry.py on replays
    overtaken: bool = False  # retention deletes what was not read or saved
    rekey: bool = False  # records have no keys: input.rekey. Not with the three above
    seed: int = 0  # of who gets which partition


@st.composite
def schedules(draw: st.DrawFn, overtaken: bool = False) -> Schedule:
    """Any schedule; ``overtaken``: one in which retention may delete what is still needed."""
    often = ("retain",) * 12 if overtaken else ("crash", "crash", "crash", "pause", "compact")
    fault = st.builds(
        Fault,
        st.sampled_from(WHEN),
        st.integers(0, 40),
        st.sampled_from((*often, *WHAT)),
        st.integers(0, 2),
        st.integers(0, len(SPANS_S) - 1),
    )
    forget_after, max_sources, rekey = draw(st.sampled_from(KINDS))
    return Schedule(
        records=draw(st.binary(min_size=24, max_size=120)),
        burst=draw(st.integers(1, 20)),
        every_ms=draw(st.sampled_from((10, 50, 200))),
        workers=draw(st.integers(1, MOST_WORKERS)),
        snapshot_every=draw(st.integers(1, 8)),
        acks=draw(st.binary(min_size=1, max_size=24)),
        others=draw(st.binary(min_size=1, max_size=24)),
        fetches=draw(st.binary(min_size=1, max_size=6)),
        faults=tuple(draw(st.lists(fault, min_size=1, max_size=10))),
        forget_after=forget_after,
        max_sources=max_sources,
        overtaken=overtaken,
        rekey=rekey and not overtaken,
        seed=draw(st.integers(0, 99)),
    )


@dataclass
class Outcome:
    """What came of a schedule: ``faults`` is empty when all promises held; ``counts`` what happened."""

    faults: list[str]
    counts: Counter[str]
    refused: str = ""  # what HistoryLost said


def run(schedule: Schedule, at_commits: bool = True) -> Outcome:
    """Play a schedule. ``at_commits``: check every accepted commit too, not only what is there at the end."""
    world = World()
    with virtual(world):
        try:
            return _Run(schedule, world, at_commits).play()
        finally:
            world.dispose()


class _Run:
    def __init__(self, schedule: Schedule, world: World, at_commits: bool) -> None:
        self.schedule, self.world = schedule, world
        self.settings, self.pipeline, self.metrics = _shared(schedule)
        kafka = self.settings.kafka
        partitions = [TopicPartition(kafka.log_topic, number) for number in range(PARTITIONS)]
        if schedule.rekey:
            partitions += [TopicPartition(kafka.input_topic, number) for number in range(RAW)]
        group = Group(world, partitions, kafka.session_timeout_s, schedule.seed)
        self.broker = Broker(group)
        self.net = Net(schedule.acks, schedule.others, schedule.fetches)
        at_commits = at_commits and not schedule.max_sources  # else which points are answered depends on the others
        self.referee = Referee(self.broker, self.settings, self.pipeline, at_commits)
        self.counts = self.referee.counts
        self.workers: list[Worker] = []
        self.refused = ""
        self._left = list(schedule.faults)
        self._since = Counter[str]()  # the counts when the last fault came
        self._last_s = 0.0  # and the time
        self._produced = False

    def play(self) -> Outcome:
        for _ in range(self.schedule.workers):
            self._start()
        given = load.without_keys if self.schedule.rekey else load.records
        self._produce(list(given(self.schedule.records)))
        self._until(self._all_inflicted)
        self.net.calm = True
        if self.schedule.overtaken:  # a log that lost all its records shows it with the next one
            self._produce(list(load.records(bytes(range(PARTITIONS)))))
        if self._until(lambda: self.referee.saved):
            # Whoever stood still goes on, and the cleaner has the last word.
            over = 1.0 + max([self.world.now, *(worker.silent_until for worker in self.workers if worker.alive)])
            self._until(lambda: self.world.now > over)
            for number in range(PARTITIONS):
                log = self.broker.logs[self.settings.kafka.changelog_topic, number]
                log.compact(log.end, tombstones=True)
            self._until(lambda: self.referee.saved)
        self.referee.check(finished=not self.refused)
        self.counts["zombies"] = self.broker.group.evicted_alive
        self.counts["turns"] = self.world.turns
        self.counts["seconds"] = round(self.world.now)
        return Outcome(self.referee.faults, self.counts, self.refused)

    def _until(self, done: Callable[[], bool]) -> bool:
        """Go on until then; False when it cannot come."""
        while not done():
            if self.refused or not self._step():
                return False
        return True

    def _step(self) -> bool:
        world = self.world
        if world.now > TOO_LONG_S or world.turns > TOO_MANY_TURNS or not world.step():
            self.referee.faults.append(f"not done after {world.now:.0f} s and {world.turns} turns")
            return False
        self.referee.seen["turns"] = world.turns
        for worker in self.workers:
            if not worker.alive and not worker.buried:
                self._bury(worker)
        return True

    def _bury(self, worker: Worker) -> None:
        worker.buried = True
        why = worker.why
        if isinstance(why, HistoryLost) and self.schedule.overtaken:
            self.refused = str(why)
        elif isinstance(why, DeliveryError):
            self.counts["gave up"] += 1
            self.world.at(self.world.now + 0.1, self._start)
        elif why is not None and not isinstance(why, Stopped):
            self.referee.faults.append(f"a worker ended with {why!r}")
        if not any(worker.alive for worker in self.workers):
            self.world.at(self.world.now + SPANS_S[-1], self._start)

    def _start(self) -> None:
        if sum(worker.alive for worker in self.workers) < MOST_WORKERS:
            shared = self.settings, self.pipeline, self.metrics
            self.workers.append(Worker(self.world, self.broker, self.net, *shared))

    def _produce(self, given: list[load.Given]) -> None:
        for one in given[: self.schedule.burst]:
            self.referee.produced(one, EPOCH_S + self.world.now)
        rest = given[self.schedule.burst :]
        if rest:
            self.world.at(self.world.now + self.schedule.every_ms / 1000.0, lambda: self._produce(rest))
        else:
            self._produced = True

    def _all_inflicted(self) -> bool:
        """Inflict the faults that are due."""
        while self._left:
            fault = self._left[0]
            waits = self.referee.seen[fault.when] - self._since[fault.when] < fault.count
            if waits and self.world.now < self._last_s + PATIENCE_S:
                return False
            self._left.pop(0)
            self._since, self._last_s = Counter(self.referee.seen), self.world.now
            self._inflict(fault)
        return self._produced

    def _inflict(self, fault: Fault) -> None:
        alive = [worker for worker in self.workers if worker.alive]
        span, now, number = SPANS_S[fault.span], self.world.now, fault.who % PARTITIONS
        kafka, logs = self.settings.kafka, self.broker.logs
        worker = alive[fault.who % len(alive)] if alive else None
        self.counts[fault.what] += 1
        match fault.what:
            case "start":
                self._start()
            case "rebalance":
                self.broker.group.rebalance()
            case "compact":
                log = logs[kafka.changelog_topic, number]
                log.compact(log.end * (fault.span + 1) // len(SPANS_S), tombstones=fault.count % 2 == 0)
            case "retain":
                of = self.broker.group.partitions[fault.who % len(self.broker.group.partitions)]
                # Before the first commit nobody can know that there was more.
                overtaken = self.schedule.overtaken and of in self.broker.group.committed
                logs[of].delete_below(logs[of].end if overtaken else self.referee.replay_point(of))
            case "stall":
                for one in alive:
                    one.cut_off(span)
            case "crash" if worker:
                worker.end()
                self.world.at(now + span, self._start)
            case "stop" if worker:
                worker.stop()
                self.world.at(now + span, self._start)
            case "pause" if worker:
                worker.stand_still(span)
            case "cut" if worker:
                worker.cut_off(span)


def _shared(schedule: Schedule) -> tuple[Settings, Pipeline, Metrics]:
    """Settings of this kind, and what all runs share because it keeps nothing of them."""
    settings, pipeline, metrics = _made(schedule.forget_after, schedule.max_sources, schedule.rekey)
    state = {"snapshot_every": schedule.snapshot_every}
    if after := schedule.forget_after:  # numbers that only so short a log makes sense of: no settings take them
        state |= {"forget_after_records": after, "replay_records": after // 2}
    changed = {"state": settings.state.model_copy(update=state)}
    return settings.model_copy(update=changed), pipeline, metrics


@cache
def _made(forget_after: int, max_sources: int, rekey: bool) -> tuple[Settings, Pipeline, Metrics]:
    settings = load_settings(
        environ={},
        kafka={"session_timeout_s": 2.0, "ack_timeout_s": 8.0, "max_poll_records": 50},
        detection={"window_points": 6, "detectors": {name: {"warmup": 2} for name in DETECTORS}},
        state={"replay_records": 1000, "idle_snapshot_s": 0.5},
        input={"rekey": rekey},
    )
    limits = {"forget_after": forget_after, "max_sources": max_sources}
    limits = {name: limit for name, limit in limits.items() if limit}
    pipeline = Pipeline(settings.detection, settings.sources, settings.input.max_metrics, "python", **limits)
    pipeline.compile()
    return settings, pipeline, Metrics("python")

"""What can happen to the workers of a job, their broker and the network between them.

Each fault leaves the job able to go on, as a supervisor and an operator would; what it leaves behind is for the
checker of tests/integration to judge at the end of a round.
"""

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from chaos.cluster import PROXIES, Cluster
from chaos.proxy import MODES
from chaos.pulse import Pulse
from integration.run import Run
from integration.workers import Worker, wait_for
from support.kafka_tools import HANG_S

from app.stream import failpoints

MOST_WORKERS = 4
RARE = ("in_recovery", "recovered", "suppressing", "draining_revoked", "draining_stopping")  # once a worker, at best
FIRE_S = 3 * HANG_S  # ends the wait for an armed failpoint; some need several occasions
READY = "ready: generation"
GENERATION = re.compile(r"ready: generation (\d+)")
# Of workers: 1, no broker when it started; 2, no topics yet; 70, stopped by itself without a commit. Each says why.
EXPECTED = (0, 1, 2, 70, -signal.SIGKILL, -signal.SIGTERM)
RAISED = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Lost)\b.*)$", re.MULTILINE)  # the last line of a traceback
STAMP = re.compile(r"^(\[[^]]*\] )+")  # time, process and level, before what a log says
NO_BROKER = ("Kafka", "NodeNotReady", "TimeoutError", "RequestTimedOut", "CoordinatorNot")  # how these begin then


@dataclass
class Tally:
    """What happened, and what the checker found. Adds up over rounds."""

    records: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # what was compared, by the checker
    found: Counter[str] = field(default_factory=Counter)  # by kind of difference
    faults: Counter[str] = field(default_factory=Counter)  # injected, by kind
    failpoints: Counter[str] = field(default_factory=Counter)  # reached, by name
    modes: Counter[str] = field(default_factory=Counter)  # of cuts
    exits: Counter[str] = field(default_factory=Counter)  # of workers by themselves
    restarts: int = 0  # worker processes started after the first
    inside_a_batch: int = 0  # recoveries that found results beyond the last commit and the last snapshot
    replays: int = 0  # recoveries that computed points again whose results were there already
    repeated: int = 0  # results, in rounds where a worker was beyond its session
    backs: list[float] = field(default_factory=list)  # s from kill -9 to new results in every partition
    kept: int = 0  # named workers, killed and back within their session, in the same generation of the group
    moved: int = 0  # in another one
    wrong: dict[str, Any] = field(default_factory=dict)  # round -> what the checker says, with the ids

    def add(self, other: Self) -> None:
        for name, value in vars(other).items():
            if isinstance(value, dict | Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)


class Chaos:
    """Applies the faults of one round to its workers.

    ``static``: each has a name of its own in the group, which the next process has that takes its place.
    """

    def __init__(self, cluster: Cluster, run: Run, pulse: Pulse, rng: random.Random, static: bool = False) -> None:
        self.tally = Tally()
        self._static = static
        self._names: dict[Worker, str] = {}
        self._free: list[str] = []  # names of workers that are gone, the last one at the end
        self._cluster, self._run, self._pulse, self._rng = cluster, run, pulse, rng
        self._session_s = run.kafka.session_timeout_s
        self._modes = rng.sample(MODES, len(MODES))  # of cuts: a round may have fewer than there are modes
        self._armed: tuple[Worker, str] | None = None  # about to die at this failpoint
        self._broken = 0  # faults and ends that a measured kill must not fall together with
        self._workers: list[Worker] = []

    def begin(self) -> None:
        """Two workers, ready."""
        for _ in range(2):
            self._start()
        for worker in self._workers:
            worker.until_ready(HANG_S)

    @property
    def size(self) -> int:
        """Workers that run, or are about to be replaced."""
        return len(self._workers)

    @property
    def results(self) -> int:
        """How many have been written."""
        return sum(self._pulse.ends)

    def apply(self, fault: str) -> None:
        kind, _, name = fault.partition(":")
        self.mend()
        self._broken += 1
        getattr(self, f"_{kind}")(*[name] if name else [])
        self.tally.faults[kind] += 1

    def mend(self, then: str = "") -> None:
        """What a supervisor does; why each worker ended by itself is counted.

        ``then`` is the failpoint that is armed in the place of a worker that died at its own.
        """
        for worker in [worker for worker in self._workers if worker.code is not None]:
            self._broken += 1
            self._drop(worker)
            if self._armed and worker is self._armed[0]:
                self._count_failpoint(then)
                continue
            self.tally.exits[f"exit {worker.code}: {last_words(worker)}"] += 1
            assert explained(worker), f"{worker.log} ended with {worker.code}\n{worker.said[-3000:]}"
            self._start()

    def finish(self) -> None:
        """Nothing is armed any more, and somebody works."""
        self._fire()
        self.mend()

    def all_owned(self, partitions: int) -> None:
        """By the workers that are left, each partition by one."""

        def owned() -> bool:
            ready = [worker for worker in self._workers if READY in worker.said and worker.code is None]
            return sum(worker.metric("assigned_partitions") for worker in ready) == partitions

        wait_for(owned, lambda: f"{partitions} partitions, but {[w.said[-500:] for w in self._workers]}")

    # --- the faults

    def _kills(self) -> None:
        measured = self._rng.random() < 0.5
        if measured:  # from a moment at which every partition is answered
            self._fire()
            for worker in self._workers if self._static else ():  # so that none joins during it
                self._until_ready_or_ended(worker)
            self._back_s(time.monotonic())
        self.mend()
        worker = self._pick()
        before = generation(worker)
        broken, killed = self._broken, time.monotonic()
        successor = self._replace(worker, worker.kill)
        if not measured:
            return
        back_s = self._back_s(killed)
        self.mend()
        if self._broken != broken:
            return
        self.tally.backs.append(back_s)
        if self._static and before and back_s < self._session_s:
            same = generation(successor) == before
            self.tally.kept += same
            self.tally.moved += not same

    def _back_s(self, since: float) -> float:
        back_s = self._pulse.back_s(since, HANG_S)
        assert back_s is not None, f"no results in some partition for {HANG_S:g} s: {self._pulse.ends}"
        return back_s

    def _failpoints(self, name: str) -> None:
        if not self._fire(name):
            worker = self._pick()
            worker.kill()
            self._drop(worker)
            self._arm(name)

    def _rekeys(self, name: str) -> None:
        self._failpoints(name)

    def _zombies(self) -> None:
        """Stopped anywhere, or between two steps; long enough for the others to take over, or one of the same name."""
        self._fire()
        if len(self._workers) < 2:
            self._start()
        name = self._rng.choice(["", *(name for name in failpoints.NAMES if name not in RARE)])
        worker = self._stopping_at(name) if name else None
        if worker is None:
            worker = self._ready()
        worker.stop()
        if self._static and self._rng.random() < 0.5:
            self._drop(worker)
            other = self._start()
            self._until_ready_or_ended(other)
            put_out = other.code is None
        else:
            time.sleep(self._session_s + self._rng.uniform(1.0, 3.0))
            put_out = self._static
        worker.cont()
        if put_out:
            self._until_ended(worker, HANG_S)
            assert worker.code == 70 and explained(worker), f"{worker.log}: {worker.code}\n{worker.said[-3000:]}"
            if worker not in self._workers:
                self.tally.exits[f"exit {worker.code}, its name was taken: {last_words(worker)}"] += 1

    def _stopping_at(self, name: str) -> Worker | None:
        """A new worker that has stopped itself at this failpoint; None when it did not come so far."""
        victim, told = self._pick(), f"failpoint {name}: stopping"
        worker = self._replace(victim, victim.kill, FAUST_ANOMALY_FAILPOINT=f"{name}:{self._rng.randint(1, 5)}:stop")
        self._until(lambda: told in worker.said or worker.code is not None, HANG_S)
        if told in worker.said:
            return worker
        worker.kill()
        self.mend()
        return None

    def _pauses(self) -> None:
        worker = self._ready()
        worker.stop()
        time.sleep(0.5)
        worker.cont()

    def _terms(self) -> None:
        worker = self._pick()
        self._replace(worker, lambda: self._end(worker))

    def _members(self) -> None:
        count = len(self._workers)
        if count < MOST_WORKERS and (count == 1 or self._rng.random() < 0.5):
            self._start()
        else:
            worker = self._pick()
            self._end(worker)
            self._drop(worker)

    def _brokers(self) -> None:
        self._cluster.kafka.kill()
        time.sleep(self._rng.uniform(0.5, 4.0))
        self._cluster.kafka.start()

    def _disks(self) -> None:
        self._cluster.fill_disk(self._run.kafka.input_topic)
        time.sleep(self._rng.uniform(0.5, 4.0))
        self._cluster.kafka.start()

    def _cuts(self) -> None:
        mode = self._modes[self.tally.faults["cuts"] % len(MODES)]
        cut = self._rng.sample(self._cluster.proxies, self._rng.randint(1, PROXIES))
        for proxy in cut:
            proxy.fail(mode)
        time.sleep(self._rng.choice([0.5, self._session_s + 2.0]))
        for proxy in cut:
            proxy.fail(None)
        self.tally.modes[mode] += 1

    # --- the workers

    def _pick(self) -> Worker:
        """Anyone but the one that is about to die at a failpoint."""
        free = [worker for worker in self._workers if not (self._armed and worker is self._armed[0])]
        if not free:
            self._start()
            free = self._workers[-1:]
        return self._rng.choice(free)

    def _ready(self) -> Worker:
        """One that is in its group and works."""
        until = time.monotonic() + HANG_S
        while time.monotonic() < until:
            self.mend()
            worker = self._pick()
            self._until_ready_or_ended(worker)
            if worker.code is None:
                return worker
        raise AssertionError(f"no worker became ready within {HANG_S:g} s")

    def _start(self, **environ: str) -> Worker:
        """In the place of the worker that went last, if one did."""
        proxy = self._cluster.proxies[len(self._run.workers) % PROXIES]
        name = self._free.pop() if self._free else f"worker-{len(self._names)}"
        if self._static:
            environ["ANOMALY_KAFKA__GROUP_INSTANCE_ID"] = name
        worker = self._run.start(ANOMALY_KAFKA__BOOTSTRAP_SERVERS=proxy.address, **environ)
        self._workers.append(worker)
        self._names[worker] = name
        self.tally.restarts += len(self._run.workers) > 2
        return worker

    def _drop(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._free.append(self._names[worker])

    def _replace(self, worker: Worker, end: Callable[[], Any], **environ: str) -> Worker:
        end()
        self._drop(worker)
        return self._start(**environ)

    def _end(self, worker: Worker) -> None:
        """SIGTERM; one that was only starting dies of it."""
        taken = worker.term()
        if taken > 15.0 or worker.code not in (0, -signal.SIGTERM):
            self.tally.exits[f"SIGTERM took {taken:.0f} s, exit {worker.code}: {last_words(worker)}"] += 1

    def _arm(self, name: str) -> None:
        nth = 1 if name in RARE else self._rng.randint(1, 5)
        self._armed = self._start(FAUST_ANOMALY_FAILPOINT=f"{name}:{nth}"), name

    def _fire(self, then: str = "") -> bool:
        """Wait until the armed worker is dead, if there is one; give it an occasion when it meets none."""
        if self._armed is None:
            return False
        name = self._armed[1]
        before, until = self.tally.failpoints[name], time.monotonic() + FIRE_S
        while self.tally.failpoints[name] == before:
            worker = self._armed[0]
            assert time.monotonic() < until, f"failpoint {name} was not reached in {FIRE_S:g} s\n{worker.said[-3000:]}"
            self._until_ended(worker, 6.0)
            if worker.code is None and READY in worker.said:
                if name == "draining_stopping":
                    worker.process.terminate()
                    self._until_ended(worker, 6.0)
                else:
                    self._hand_over(worker)
            self.mend(then)
        return True

    def _hand_over(self, armed: Worker) -> None:
        """Kill another amid its work. Who takes its place comes when the armed one has what it had, and takes half."""
        other = self._pick()
        self._until_ready_or_ended(other)
        if other.code is not None:
            return
        before = generation(armed)
        other.kill()
        self._drop(other)
        if self._static:
            self._free.clear()  # under its old name it would come back without a rebalance
        self._until(lambda: armed.code is not None or generation(armed) != before, HANG_S)
        self._start()

    def _count_failpoint(self, then: str) -> None:
        """The armed worker has ended: at its failpoint, or before it came so far; then once more."""
        assert self._armed
        worker, name = self._armed
        self._armed = None
        if worker.code == -signal.SIGKILL and f"failpoint {name}: killing" in worker.said:
            self.tally.failpoints[name] += 1
            if then:
                self._arm(then)
            else:
                self._start()
        else:
            self.tally.exits[f"exit {worker.code}: {last_words(worker)}"] += 1
            self._armed = self._start(FAUST_ANOMALY_FAILPOINT=name), name

    def _until_ready_or_ended(self, worker: Worker) -> None:
        self._until(lambda: READY in worker.said or worker.code is not None, HANG_S)

    def _until_ended(self, worker: Worker, timeout_s: float) -> None:
        self._until(lambda: worker.code is not None, timeout_s)

    def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < until:
            time.sleep(0.05)


def generation(worker: Worker) -> int:
    """Of the group, in which it works; 0 before it is ready."""
    return int((GENERATION.findall(worker.said) or [0])[-1])


def explained(worker: Worker) -> bool:
    """It ended as it must, or raised that there is no broker; anything else is a bug."""
    raised = RAISED.findall(worker.said)
    return all(error.startswith(NO_BROKER) for error in raised[-1:]) if raised else worker.code in EXPECTED


def last_words(worker: Worker) -> str:
    """What it said of its end."""
    stopped = [line for line in worker.said.splitlines() if "without a commit" in line or "faust-anomaly: " in line]
    raised = RAISED.findall(worker.said)
    return STAMP.sub("", (raised or stopped or ["nothing said"])[-1])[:150]

"""Three brokers, each restarted in turn, round after round, while two workers score what comes in.

The job's topics are made as an operator makes them, by ``topics --create``: three copies, two of them in sync. A worker
that ends by itself is started again, as a supervisor does it; how often, and why, is told.
"""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaos.faults import explained, last_words
from chaos.three_brokers import NODES, ThreeBrokers
from integration.load import Load
from integration.oracle import Report
from integration.run import PARTITIONS, Run
from integration.workers import wait_for
from support.jobs import Job

WORKERS = 2
SESSION_S = 10.0  # the usual one
APART_S = 0.5  # between two restarts
FETCH_MS = 100  # three Javas share the machine with the workers: a tenth of the usual requests
MAY_END = 1  # workers by themselves
LEAST = 200  # records and results for each restart


@dataclass
class Rolled:
    """What came of it."""

    records: int
    restarts: int  # of brokers
    report: Report
    exits: Counter[str] = field(default_factory=Counter)  # of workers by themselves, by their last words
    seconds: float = 0.0  # until all was saved

    def text(self) -> str:
        """Markdown: a table, and how often a worker ended."""
        report, counts = self.report, self.report.counts
        found = Counter({kind: len(ids) for kind, ids in report.items()})
        of = {
            "restarts of brokers": self.restarts,
            "records": self.records,
            "results": counts["results"],
            "lost": found["results missing"] + found["letters missing"] + found["episodes missing"],
            "repeated": found["results repeated"],
            "other differences": sum(len(ids) for kind, ids in report.items() if kind in report.faults)
            - found["results missing"] - found["letters missing"] - found["episodes missing"]
            - found["results repeated"],
            "states compared": counts["states"],
            "workers that ended by themselves": sum(self.exits.values()),
        }  # fmt: skip
        lines = (of, ["---:"] * len(of), [f"{count:,}" for count in of.values()])
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + f"\n\n{self.seconds / 60:.0f} minutes on"

    def failures(self) -> list[str]:
        """Why this proves something wrong, or nothing; empty when all is well."""
        said = [f"{kind}: {ids}" for kind, ids in self.report.faults.items()]
        if sum(self.exits.values()) > MAY_END:
            said.append(f"workers ended by themselves: {dict(self.exits)}")
        if min(self.records, self.report.counts["results"]) < LEAST * self.restarts:
            said.append(f"too little: {self.records:,} records, {self.report.counts['results']:,} results")
        return said


def roll(
    directory: Path,
    rounds: int,
    per_s: float,
    how: signal.Signals = signal.SIGTERM,
    say: Callable[[str], None] = print,
    seed: int = 1,
) -> Rolled:
    """Restart each broker so many times, one after the other is back, ``per_s`` records a second coming in."""
    (directory / "brokers").mkdir()
    with ThreeBrokers(directory / "brokers") as brokers:
        job = Job.of("rolling", brokers.servers[0], bootstrap_servers=brokers.servers)
        with Run(job, directory, kafka={"session_timeout_s": SESSION_S, "fetch_max_wait_ms": FETCH_MS}) as run:
            run.make_topics()
            began = time.monotonic()
            with _supervised(run) as exits:
                with Load(brokers.servers, run.kafka.input_topic, PARTITIONS, per_s, seed) as load:
                    for number in range(rounds):
                        for node in NODES:
                            time.sleep(APART_S)
                            brokers.restart(node, how)
                        say(
                            f"  {time.monotonic() - began:6.1f} s  round {number + 1}/{rounds} "
                            f"{load.handed:9,} records, {sum(exits.values())} workers ended by themselves"
                        )
                    time.sleep(APART_S)
                    records = load.stop()
                run.until_saved()
                seconds = time.monotonic() - began
            return Rolled(records, rounds * len(NODES), run.check(), exits, seconds)


@contextmanager
def _supervised(run: Run) -> Iterator[Counter[str]]:
    """Workers, ready; those that end are started again until the context ends, and counted."""
    exits: Counter[str] = Counter()
    wrong: list[str] = []
    ending = threading.Event()
    workers = [run.start() for _ in range(WORKERS)]

    def supervise() -> None:
        while not ending.wait(0.1):
            for i, worker in enumerate(workers):
                if worker.code is not None:
                    exits[f"exit {worker.code}: {last_words(worker)}"] += 1
                    if not explained(worker):
                        wrong.append(f"{worker.log} ended with {worker.code}\n{worker.said[-3000:]}")
                    workers[i] = run.start()

    def ready() -> bool:
        return sum("ready: generation" in worker.said for worker in workers) == WORKERS

    thread = threading.Thread(target=supervise, name="supervisor", daemon=True)
    wait_for(ready, lambda: "\n".join(worker.said[-1000:] for worker in workers))
    thread.start()
    try:
        yield exits
    finally:
        ending.set()
        thread.join()
    assert not wrong, wrong

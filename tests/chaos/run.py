"""The long proof: workers and broker fail in every way we know, at random, for as long as asked.

    export PYTHONPATH=.:tests
    python tests/chaos/run.py --seconds 3600 --seed 7
    python tests/chaos/run.py --seconds 120 --faults kill,failpoint,broker

Each fault leaves the job able to go on; at the end the checker of tests/integration asks whether what stands in the
broker is what one process without a fault would have left. Only workers stopped past their session may repeat a
result. Exit code 0: nothing lost, wrong or repeated, and every kind of fault happened. A failed run keeps its
directory: settings, logs of all workers, and the broker's data.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from conftest import BROKER, Job
from integration.load import Load
from integration.run import PARTITIONS, Run
from integration.workers import Worker

from app.local_kafka import LocalKafka
from app.stream import failpoints

WORKERS = 2
FAULTS = ("kill", "failpoint", "term", "join", "leave", "pause", "zombie", "broker")


class Chaos:
    """Applies faults to the workers of one run. ``zombies``: how many were stopped past their session."""

    def __init__(self, kafka: LocalKafka, run: Run, rng: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self._kafka, self._run, self._rng = kafka, run, rng
        self._workers = [run.start().until_ready() for _ in range(WORKERS)]

    def apply(self, fault: str) -> None:
        self.replace_ended()
        getattr(self, fault)(self._rng.choice(self._workers))
        self.counts[fault] += 1

    def replace_ended(self) -> None:
        """What a supervisor does; why each ended by itself is counted."""
        for worker in [worker for worker in self._workers if worker.code is not None]:
            self.counts[f"exit {worker.code}"] += 1
            if worker.code == -signal.SIGKILL and "failpoint " in worker.said:
                self.counts[worker.said.partition("failpoint ")[2].partition(":")[0]] += 1
            self._replace(worker)

    def kill(self, worker: Worker) -> None:
        worker.kill()
        self._replace(worker)

    def failpoint(self, worker: Worker) -> None:
        name = self._rng.choice(failpoints.NAMES)
        worker.kill()
        self._replace(worker, FAUST_ANOMALY_FAILPOINT=f"{name}:{self._rng.randint(1, 6)}")

    def term(self, worker: Worker) -> None:
        taken = worker.term(30.0)
        self.counts["slow or unclean ends"] += taken > 10.0 or worker.code not in (0, -signal.SIGTERM)
        self._replace(worker)

    def join(self, _: Worker) -> None:
        if len(self._workers) <= WORKERS:
            self._workers.append(self._run.start())

    def leave(self, worker: Worker) -> None:
        if len(self._workers) > WORKERS:
            worker.term(30.0)
            self._workers.remove(worker)

    def pause(self, worker: Worker) -> None:
        self._stop(worker, 0.2, 1.2)

    def zombie(self, worker: Worker) -> None:
        session_s = self._run.kafka.session_timeout_s
        self._stop(worker, session_s + 1.0, 2.0 * session_s)

    def broker(self, _: Worker) -> None:
        self._kafka.kill()
        time.sleep(self._rng.uniform(0.5, 4.0))
        self._kafka.start()

    def _stop(self, worker: Worker, least_s: float, most_s: float) -> None:
        worker.stop()
        time.sleep(self._rng.uniform(least_s, most_s))
        worker.cont()

    def _replace(self, worker: Worker, **environ: str) -> None:
        self._workers[self._workers.index(worker)] = self._run.start(**environ)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-s", type=float, default=1200.0, help="records produced a second")
    parser.add_argument("--faults", default=",".join(FAULTS), help="which, by comma")
    given = parser.parse_args()
    faults, rng = given.faults.split(","), random.Random(given.seed)
    directory = Path(tempfile.mkdtemp(prefix="faust-anomaly-chaos-"))
    name = f"chaos-{uuid.uuid4().hex[:8]}"
    with LocalKafka(directory / "kafka", port=0, properties=BROKER) as kafka:
        names = {"input_topic": "raw", "output_topic": "results", "anomalies_topic": "anomalies", "group_id": "group"}
        job = Job(
            name,
            kafka.bootstrap_servers,
            {"bootstrap_servers": [kafka.bootstrap_servers], **{k: f"{name}-{v}" for k, v in names.items()}},
        )
        with Run(job, directory) as run:
            run.make_topics()
            chaos = Chaos(kafka, run, rng)
            until = time.monotonic() + given.seconds
            with Load(run.kafka.bootstrap_servers, run.kafka.input_topic, PARTITIONS, given.per_s, given.seed) as load:
                while time.monotonic() < until:
                    time.sleep(rng.uniform(0.5, 3.0))
                    chaos.apply(rng.choice(faults))
                sent = load.stop()
            chaos.replace_ended()
            run.until_saved(120.0)
            report = run.check()
    repeated = report.pop("results repeated", []) if chaos.counts["zombie"] else []
    print(f"{sent} records, {dict(report.counts)}\nfaults: {dict(chaos.counts)}")
    print(f"results repeated by zombies: {len(repeated)}\nwrong: {report.faults or 'nothing'}")
    missing = [fault for fault in faults if not chaos.counts[fault]]
    if missing:
        print(f"never happened: {', '.join(missing)}: run longer")
    if report.faults or missing or chaos.counts["slow or unclean ends"]:
        print(f"kept: {directory}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Broken programs that the checker must catch, each in the situation that its fault is about.

Every one gives right answers until something fails, so a checker that only knows right from wrong answers would
pass them all. ``CONTROLS`` names what must be flagged.
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from chaos import rekeying
from integration import load as loads
from integration import logs
from integration.load import Load
from integration.oracle import Report
from integration.run import PARTITIONS, Run
from integration.workers import PROGRAM, Worker, wait_for
from support import kafka_tools

HERE = __file__.rpartition("/")[0]
RECKLESS = (sys.executable, f"{HERE}/reckless.py")
STOCK = (sys.executable, f"{HERE}/stock_faust.py")
PER_S = 600


def load_of(run: Run, per_s: float = PER_S) -> Load:
    return Load(run.kafka.bootstrap_servers, run.kafka.input_topic, PARTITIONS, per_s)


def is_ready(worker: Worker) -> bool:
    return "ready: generation" in worker.said


def committed(run: Run) -> int:
    """Sum of the group's positions."""
    return sum(offset for offset, _ in logs.committed(run.kafka).values())


def replay_from_the_acked_position(run: Run) -> Report:
    """Killed when most is unsaved, however large its batches are: a slow machine has them take up all that waited."""
    environ = {"RECKLESS": "replay_from_the_acked_position"}
    environ |= {"ANOMALY_STATE__SNAPSHOT_EVERY": "10000", "ANOMALY_STATE__REPLAY_RECORDS": "1000000"}
    with load_of(run.make_topics()) as load:
        run.start(RECKLESS, ANOMALY_STATE__IDLE_SNAPSHOT_S="3600", **environ)  # a slow machine looks idle
        run.until(lambda worker: committed(run) > 2000).kill()
        run.start(RECKLESS, **environ)
        run.until(is_ready)
        load.stop()
    run.until_saved(run.revive)
    return run.check()


def snapshots_before_results(run: Run) -> Report:
    """Killed when half of a batch's results are there."""
    environ = {"RECKLESS": "snapshots_before_results", "ANOMALY_STATE__SNAPSHOT_EVERY": "1"}
    with load_of(run.make_topics()) as load:
        run.start(RECKLESS, FAUST_ANOMALY_FAILPOINT="results_half_sent:5", **environ)
        run.until(lambda worker: worker.code == -signal.SIGKILL)
        run.start(RECKLESS, **environ)
        run.until(is_ready)
        load.stop()
    run.until_saved(run.revive)
    return run.check()


def plain_source_keys(run: Run) -> Report:
    return zombie_beside_the_cleaner(run, RECKLESS, RECKLESS="plain_source_keys")


def zombie_beside_the_cleaner(run: Run, program: Sequence[str] = PROGRAM, **environ: str) -> Report:
    """Stopped with snapshots in its hands, which it sends when others have long owned the sources; then the cleaner.

    The checker looks again and again, until it finds a fault or the cleaner has been everywhere.
    """
    environ["ANOMALY_STATE__SNAPSHOT_EVERY"] = "1"
    environ["ANOMALY_KAFKA__ACK_TIMEOUT_S"] = "300"  # the zombie's wait for an ack goes on while it is stopped
    with load_of(run.make_topics(compacts=True)) as load:
        run.start(program, FAUST_ANOMALY_FAILPOINT="results_acked:9:stop", **environ)
        zombie = run.until(lambda worker: "failpoint results_acked: stopping" in worker.said)
        run.start(program, **environ)
        owned = set(range(PARTITIONS))
        run.until(lambda worker: {number for number, *_ in worker.recoveries} == owned)
        time.sleep(1.0)
        load.stop()
    run.until_saved(run.revive)
    before = logs.ends(run.kafka, run.kafka.changelog_topic)
    zombie.cont()
    wait_for(lambda: logs.ends(run.kafka, run.kafka.changelog_topic) != before, lambda: zombie.said)
    for i in range(6):
        time.sleep(1.5)
        # A segment is cleaned when it is full or old, and a record comes after it.
        one = [(n, b"other", json.dumps({"source": "other", "timestamp": i, "value": i}).encode()) for n in owned]
        loads.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, one)
        run.until_saved(run.revive)
        report = run.check()
        report.pop("results repeated", None)
        if report.faults:
            break
    return report


def stock_faust(run: Run) -> Report:
    """Killed under load, twice; what it would still have answered after that is not counted as missing.

    Its changelog is there before it: where Faust makes the topic, a slow broker may leave it with metadata without
    partitions, and its agent then fails every five seconds (PartitionsMismatch) and never answers.
    """
    environ = {"STOCK_PARTITIONS": str(PARTITIONS)}
    changelog = f"{run.make_topics().kafka.group_id}-states-changelog"
    kafka_tools.create_topic(run.kafka.bootstrap_servers[0], changelog, PARTITIONS)
    with load_of(run) as load:
        for answered in (1500, 3000):
            run.start(STOCK, **environ)
            wait_for(lambda answered=answered: committed(run) > answered, lambda: run.workers[-1].said[-3000:])
            run.workers[-1].kill()
        load.stop()
    return run.check(saved=False)


def duplicates_kept(run: Run) -> Report:
    return rekeying.killed_before_its_commit(run, RECKLESS, RECKLESS="duplicates_kept")


class Control(NamedTuple):
    play: Callable[[Run], Report]
    flagged: set[str]  # at least one of these
    settings: Mapping[str, Any] = MappingProxyType({})  # of the run


CONTROLS = {
    "replay point = acked position": Control(replay_from_the_acked_position, {"results conflicting", "states wrong"}),
    "snapshots before results": Control(snapshots_before_results, {"results missing"}),
    "plain source keys": Control(plain_source_keys, {"states not saved", "states wrong"}),
    "duplicates kept behind the hop": Control(
        duplicates_kept, {"results repeated", "results conflicting"}, rekeying.SETTINGS
    ),
    "stock Faust": Control(stock_faust, {"results repeated", "results conflicting"}),
}

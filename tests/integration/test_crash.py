"""Workers are killed, stopped and joined while points come in; afterwards nothing shows it.

Real processes against a real broker. Every run ends with the same question to oracle.check: is what stands in the
broker what one process without a fault would have left? And with another: did the faults happen, and did at least
one hit the middle of something? Random kills alone find little; the failpoints are where losses hide.
"""

import random
import signal
import sys
import time

import pytest
from integration import logs
from integration.load import Load
from integration.run import PARTITIONS, Run
from integration.workers import ROOT, Worker, wait_for

from app import topics
from app.stream.failpoints import NAMES

PER_S = 1200  # records
WHOLE = 2**31  # the index of a mark that is not inside a batch: see app/stream/recovery.py
RECKLESS = (sys.executable, str(ROOT / "tests" / "integration" / "reckless.py"))

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def run(job, tmp_path):
    with Run(job, tmp_path) as run:
        yield run.make_topics()


@pytest.fixture
def load(run):
    with Load(run.kafka.bootstrap_servers, run.kafka.input_topic, PARTITIONS, PER_S) as load:
        yield load


def finish(run: Run, load: Load, at_least: int):
    """Let the job come to its end; nothing may be wrong with it. Gives the checker's report."""
    sent = load.stop()
    run.until_saved()
    report = run.check()
    print(f"\n{sent} records, {dict(report.counts)}, told: { {kind: len(ids) for kind, ids in report.items()} }")
    assert report.faults == {}
    assert sent > at_least
    assert report.counts["results"] > at_least
    assert report.counts["letters"] > at_least / 200
    assert report.counts["episodes"] > 10
    assert report.counts["states"] == 80
    assert report.counts["snapshots"] > 80
    return report


def replayed(workers: list[Worker]) -> int:
    """Recoveries that had to compute points again whose results were there already."""
    return sum(mark >= begin and end > begin for w in workers for _, _, begin, end, mark, _ in w.recoveries)


def inside_a_batch(workers: list[Worker]) -> int:
    """Recoveries that found results beyond the last commit and the last snapshot."""
    return sum(index < WHOLE for w in workers for *_, index in w.recoveries)


def test_kills_at_random_moments(run, load):
    rng = random.Random(12)
    kills = suppressed = 0
    for early in (False, False, True, False, True, False):
        worker = run.start()
        if early:
            time.sleep(rng.uniform(0.5, 3.0))  # while it imports, joins or recovers
        else:
            worker.until_ready()
            time.sleep(rng.uniform(0.2, 1.0))
            suppressed += worker.metric("results_suppressed_total")
        worker.kill()
        kills += 1
    last = run.start().until_ready()
    finish(run, load, at_least=15_000)
    suppressed += last.metric("results_suppressed_total")
    assert kills >= 6 and [worker.code for worker in run.workers] == [-signal.SIGKILL] * kills + [None]
    assert replayed(run.workers) >= 3
    assert suppressed > 500
    assert last.metric("snapshots_total") > 0
    assert last.term() < 10.0 and last.code == 0


# Each worker dies at its failpoint, that often reached; the next one starts from what it left.
CHAINS = {
    "results": ("results_half_sent:12", "results_acked:1", "results_half_sent:2"),
    "snapshots": ("snapshots_half_sent:5", "in_recovery:1", "snapshots_acked:1"),
    "commits": ("before_commit:3", "results_acked:4", "before_commit:1"),
}


def test_every_failpoint_is_tried():
    assert {failpoint.partition(":")[0] for chain in CHAINS.values() for failpoint in chain} == set(NAMES)


@pytest.mark.parametrize("chain", CHAINS)
def test_kills_between_two_steps(chain, run, load):
    for failpoint in CHAINS[chain]:
        worker = run.start(FAUST_ANOMALY_FAILPOINT=failpoint)
        assert worker.wait() == -signal.SIGKILL, worker.said
        name = failpoint.partition(":")[0]
        assert f"failpoint {name}: killing {worker.process.pid}" in worker.said
    last = run.start().until_ready()
    finish(run, load, at_least=10_000)
    assert replayed(run.workers) >= 1
    assert inside_a_batch(run.workers) >= 1 or chain != "results"
    assert last.metric("results_suppressed_total") > 0 or chain == "snapshots"


def test_workers_join_and_leave(run, load):
    first = run.start().until_ready()
    second = run.start().until_ready()
    time.sleep(0.5)
    assert first.term() < 10.0 and first.code == 0
    third = run.start().until_ready()
    time.sleep(0.5)
    second.kill()
    fourth = run.start().until_ready()
    time.sleep(0.5)
    finish(run, load, at_least=20_000)
    assert third.metric("assigned_partitions") + fourth.metric("assigned_partitions") == PARTITIONS
    assert min(w.metric("results_delivered_total") for w in (third, fourth)) > 100
    owners = [{number for number, *_ in w.recoveries} for w in run.workers]
    assert all(owners) and owners[0] == set(range(PARTITIONS))
    assert third.term() < 10.0 and fourth.term() < 10.0
    assert (third.code, fourth.code) == (0, 0)


def test_a_worker_that_was_stopped_past_its_session_does_no_harm(run, load):
    zombie, other = run.start().until_ready(), run.start().until_ready()
    time.sleep(0.5)
    zombie.stop()
    wait_for(lambda: {number for number, *_ in other.recoveries} == set(range(PARTITIONS)), 20.0)
    time.sleep(0.5)
    zombie.cont()
    sent = load.stop()
    run.until_saved()
    report = run.check()
    repeated = report.pop("results repeated", [])  # may be some, and they are identical: "conflicting" stays empty
    print(f"\n{sent} records, {len(repeated)} results repeated by the zombie")
    assert report.faults == {}
    assert sent > 8_000


def test_sigterm_saves_everything_and_the_next_start_replays_nothing(run, load):
    worker = run.start().until_ready()
    time.sleep(1.5)
    assert worker.term() < 10.0 and worker.code == 0  # in the middle of the load
    worker = run.start().until_ready()
    assert worker.recoveries and all(sources for _, sources, *_ in worker.recoveries)
    load.stop()
    run.until_done()
    assert worker.term() < 10.0 and worker.code == 0  # before or after idle_snapshot_s
    report = run.check()  # everything saved
    assert report.faults == {}
    assert report.counts["results"] > 5_000
    written = topics.names(run.kafka)[1:]
    ends = [logs.ends(run.kafka, topic) for topic in written]
    worker = run.start().until_ready()
    assert [begin for _, _, begin, *_ in worker.recoveries] == [end for _, _, _, end, *_ in worker.recoveries]
    time.sleep(1.5)
    assert worker.metric("replayed_points_total") == 0
    assert [logs.ends(run.kafka, topic) for topic in written] == ends
    assert worker.term() < 10.0 and worker.code == 0


@pytest.mark.parametrize(
    ("fault", "failpoint", "every", "flagged"),
    [
        ("replay_from_the_acked_position", "", "64", {"results conflicting", "states wrong"}),
        ("snapshots_before_results", "results_half_sent:5", "1", {"results missing", "gaps in the results"}),
    ],
)
def test_a_reckless_worker_is_caught(fault, failpoint, every, flagged, run, load):
    """Negative controls: real workers with one rule of the protocol broken. They score right, until they crash."""
    environ = {"RECKLESS": fault, "ANOMALY_STATE__SNAPSHOT_EVERY": every}
    worker = run.start(RECKLESS, FAUST_ANOMALY_FAILPOINT=failpoint, **environ)
    if failpoint:
        assert worker.wait() == -signal.SIGKILL, worker.said
        assert f"failpoint {failpoint.partition(':')[0]}" in worker.said
    else:
        worker.until_ready()
        wait_for(lambda: sum(offset for offset, _ in logs.committed(run.kafka).values()) > 2000, 30.0)
        worker.kill()
    run.start(RECKLESS, **environ).until_ready()
    load.stop()
    run.until_saved()
    assert run.check().faults.keys() >= flagged

"""Logs that lose records or become others, at start and under a running worker: it stops and commits nothing more.

Each case has topics and a worker of its own; those of one test run beside each other, to save their starts.
"""

import asyncio
import contextlib
import sys
import time
from dataclasses import replace

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition
from integration import load, logs
from integration.run import Run
from integration.workers import ROOT, wait_for
from support import kafka_tools

from app.kafka.patches import IDLE_WAIT_MS

IMPATIENT = (sys.executable, str(ROOT / "tests" / "integration" / "impatient.py"))
UNSAVED = {"snapshot_every": 1_000_000, "idle_snapshot_s": 3600.0}  # the replay point stays where it is
POINTS = 200
ANSWERED_S = 2 * IDLE_WAIT_MS / 1000  # what a worker that was stopped has asked for is answered, with nothing


@pytest.fixture
def runs(job, tmp_path):
    """Makes runs of these names, each with topics of two partitions."""
    with contextlib.ExitStack() as running:

        def make(*names, **sections):
            made = {}
            for name in names:
                own = {key: f"{value}-{name}" for key, value in job.kafka.items() if key != "bootstrap_servers"}
                directory = tmp_path / name
                directory.mkdir()
                one = replace(job, kafka={**job.kafka, **own})
                made[name] = running.enter_context(Run(one, directory, **sections)).make_topics(2)
            return made

        yield make


def points(run, count, first=0):
    """So many points of one source, in partition 0."""
    values = (f'{{"source":"pump-1","timestamp":{first + i},"value":{i % 7}}}'.encode() for i in range(count))
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, [(0, b"pump-1", value) for value in values])


def until_answered(run, count=POINTS):
    """Wait until so many points are answered and committed."""
    wait_for(lambda: logs.committed(run.kafka).get(0, (0, ""))[0] == count, lambda: run.workers[-1].said)


def until_answered_or_ended(run, count):
    """As ``until_answered``, or until the worker has ended by itself."""
    wait_for(
        lambda: logs.committed(run.kafka).get(0, (0, ""))[0] == count or run.workers[-1].code is not None,
        lambda: run.workers[-1].said,
    )


def delete_before(run, offset):
    """What retention does."""

    async def delete():
        async with kafka_tools.administration(run.kafka.bootstrap_servers) as admin:
            await admin.delete_records({TopicPartition(run.kafka.input_topic, 0): RecordsToDelete(offset)})

    asyncio.run(delete())


def recreate(run, topic, partitions=2, **configs):
    kafka_tools.delete_topics(run.job.servers, topic)
    wait_for(lambda: topic not in kafka_tools.topics(run.job.servers))
    kafka_tools.create_topic(run.job.servers, topic, partitions, **configs)


def start(run, altered="as_it_is"):
    return run.start(IMPATIENT, ALTERED=altered)


def stopped(run, *said):
    """It ended by itself, said why and what to do, and committed no offset beyond what it had answered."""
    worker = run.workers[-1]
    assert worker.wait() == 70, worker.said
    for text in said:
        assert text in worker.said, worker.said
    assert "Traceback" not in worker.said
    assert "stopping without a commit" in worker.said
    assert all(offset <= POINTS for offset, _ in logs.committed(run.kafka).values())


def test_records_that_are_gone_when_a_worker_starts(runs):
    retention, refilled = runs("retention", "refilled", state=UNSAVED).values()
    for run in (retention, refilled):
        start(run)
        points(run, POINTS)
    for run in (retention, refilled):
        until_answered(run)
        run.workers[0].kill()
        assert run.check(saved=False).faults == {}
    delete_before(retention, 150)
    recreate(refilled, refilled.kafka.input_topic)
    points(refilled, POINTS + 50)  # by its offsets alone it looks whole
    for run in (retention, refilled):
        start(run)
    stopped(
        retention, "must be rebuilt from offset 0, and the log starts at 150: 150 records were deleted",
        "Raise the topic's retention",
    )  # fmt: skip
    stopped(refilled, "has no committed offset", "the topic was deleted and made again", "Use another kafka.group_id")


def overtake(run):
    time.sleep(ANSWERED_S)
    points(run, 100, first=POINTS)
    delete_before(run, 280)


def overtake_all(run):
    time.sleep(ANSWERED_S)
    points(run, 100, first=POINTS)
    delete_before(run, 300)


def recreate_input(run):
    recreate(run, run.kafka.input_topic)
    points(run, 50)


def delete_output(run):
    kafka_tools.delete_topics(run.job.servers, run.kafka.output_topic)


def recreate_changelog(run):
    recreate(run, run.kafka.changelog_topic, cleanup_policy="compact")


def add_partition(run):
    kafka_tools.add_partitions(run.job.servers, run.kafka.input_topic, 3)


CHANGES = {  # under a running worker that answered 200 points; what it says
    overtake: "expected offset 200, got 280, and the log starts at 280: 80 records were deleted",
    overtake_all: "the log starts at 300: 100 records were deleted before they were read",
    recreate_input: "deleted and made again",
    recreate_changelog: "deleted and made again",
    delete_output: "is missing: make it with `faust-anomaly topics --create`",
    add_partition: "must have as many partitions as",
}


def test_logs_that_change_under_a_running_worker(runs):
    made = runs(*(change.__name__ for change in CHANGES), state=UNSAVED)
    for run in made.values():
        start(run)
        points(run, POINTS)
    for run in made.values():
        until_answered(run)
    for change in CHANGES:
        run = made[change.__name__]
        run.workers[0].stop()  # so that it meets the change as a whole
        change(run)
        run.workers[0].cont()
    for change, said in CHANGES.items():
        stopped(made[change.__name__], said)
    # Whatever was done meanwhile to make a start possible, and whether or not a last commit speaks of the old topic:
    points(made["recreate_input"], POINTS + 50)
    again = {"recreate_input": "was deleted and made again", "recreate_changelog": "the state in it is gone"}
    for name in again:
        start(made[name])
    for name, said in again.items():
        stopped(made[name], said, "Use another kafka.group_id")


def test_retention_that_passes_the_replay_point_of_a_running_worker_makes_it_save(runs):
    [run] = runs("replay", state=UNSAVED).values()
    worker = start(run)
    points(run, POINTS)
    until_answered(run)
    delete_before(run, 150)
    wait_for(lambda: logs.replay_point(logs.committed(run.kafka)[0]) == POINTS, lambda: worker.said)
    assert "starts at 150, beyond the replay point 0: saved 1 sources" in worker.said
    worker.kill()
    start(run).until_ready()

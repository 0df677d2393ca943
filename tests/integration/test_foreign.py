"""Results and state that are not what this job's workers left there: refused by name, or known another way.

What is refused, record by record, is in tests/unit/stream/test_takeover.py; here real workers meet it.
"""

import asyncio
import json
import signal

from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition
from integration import load, logs
from integration.test_history import POINTS, points, runs, stopped, until_answered  # noqa: F401
from support import kafka_tools


def test_two_jobs_do_not_take_each_others_results_for_their_own(runs):  # noqa: F811
    """The second reads another topic, and was given the first one's output topic."""
    one, other = runs("one", "other").values()
    one.start()
    points(one, POINTS)
    until_answered(one)
    points(other, POINTS)
    other.start(ANOMALY_KAFKA__OUTPUT_TOPIC=one.kafka.output_topic)
    stopped(other, f"a result of {one.kafka.input_topic}[0] among", "give each job an output topic of its own")
    assert logs.committed(other.kafka) == {}, "nothing was answered in its name"


def test_results_that_are_deleted_are_not_written_again(runs):  # noqa: F811
    """Retention of the results is shorter than what is replayed: the snapshots know what had been answered.

    One source of two is saved, so the points of the other are scored again.
    """
    [run] = runs("retention", state={"snapshot_every": 150, "idle_snapshot_s": 3600.0}).values()
    names = [b"rare" if i % 5 == 3 else b"often" for i in range(POINTS)]
    records = [(0, name, b'{"source":"%s","timestamp":%d,"value":1}' % (name, i)) for i, name in enumerate(names)]
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, records)
    worker = run.start(FAUST_ANOMALY_FAILPOINT="snapshots_acked:1")  # and so before the commit that would tell
    assert worker.wait() == -signal.SIGKILL, worker.said
    [end, _] = logs.ends(run.kafka, run.kafka.output_topic)
    assert end == POINTS and logs.committed(run.kafka)[0][0] < POINTS
    output = TopicPartition(run.kafka.output_topic, 0)

    async def delete():
        async with kafka_tools.administration(run.kafka.bootstrap_servers) as admin:
            await admin.delete_records({output: RecordsToDelete(end)})

    asyncio.run(delete())
    run.start()
    points(run, 50, first=POINTS)
    until_answered(run, POINTS + 50)
    [results, _] = logs.records(run.kafka, run.kafka.output_topic)
    assert run.workers[-1].metric("replayed_points_total") >= names.count(b"rare")
    offsets = [int(json.loads(record.value)["id"].split(":")[2]) for record in results]
    assert offsets == list(range(POINTS, POINTS + 50))

"""Workers with names of their own in the group: what a restart costs the others, and who is put out."""

import json
import re

from integration import load
from integration.run import Run
from integration.workers import wait_for

READY = re.compile(r"ready: generation (\d+), partitions (\[.*\])")


def points(run, count, first):
    """So many points of one source in each partition."""
    made = []
    for i in range(first, first + count):
        for number in range(4):
            value = json.dumps({"source": f"pump-{number}", "timestamp": 1.7e9 + i, "value": float(i % 7)})
            made.append((number, f"pump-{number}".encode(), value.encode()))
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, made)


def named(run, name):
    return run.start(ANOMALY_KAFKA__GROUP_INSTANCE_ID=name)


def owned(worker):
    """Generation and partitions, each time it was ready."""
    return READY.findall(worker.until_ready().said)


def test_a_named_worker_takes_its_partitions_back_and_a_zombie_of_its_name_ends(job, tmp_path):
    with Run(job, tmp_path, kafka={"session_timeout_s": 60.0}) as run:
        run.make_topics(4)
        one, other = named(run, "one").until_ready(), named(run, "other")
        wait_for(lambda: [len(json.loads(owned(worker)[-1][1])) for worker in (one, other)] == [2, 2])
        before, unmoved = owned(one)[-1], owned(other)
        points(run, 100, 0)
        run.until_done()
        for end in ("term", "kill"):
            getattr(one, end)()
            one = named(run, "one")
            points(run, 100, 100)
            assert owned(one) == [before], "in the same generation"
            run.until_done()
        one.stop()
        zombie, one = one, named(run, "one").until_ready()
        points(run, 100, 300)
        run.until_done()
        zombie.cont()
        assert zombie.wait() == 70 and "another worker has the same kafka.group_instance_id" in zombie.said
        points(run, 100, 400)
        run.until_saved()
        assert owned(other) == unmoved and other.metric("rebalances_total") <= 1, "it took part in no rebalance"
        assert owned(one) == [before]
        assert run.check().faults == {}

"""Faults in the hop of input.rekey and behind it: a job whose records have no keys, and what is there at the end."""

import asyncio
import signal
import time
from collections.abc import Sequence

from aiokafka.admin import NewPartitions
from integration import logs
from integration.load import Load
from integration.oracle import Report
from integration.run import PARTITIONS, Run
from integration.workers import PROGRAM, Worker, wait_for
from support import kafka_tools

SETTINGS = {"input": {"rekey": True}}  # of the run
RAW = 6  # partitions of raw-data; results have four
PER_S = 400


def load_of(run: Run) -> Load:
    run.make_topics(raw=RAW)
    return Load(run.kafka.bootstrap_servers, run.kafka.input_topic, RAW, PER_S, keyed=False)


def duplicates(run: Run) -> int:
    """Records of the topic by source whose origin was there before."""
    records = [record for of in logs.records(run.kafka, run.kafka.by_source_topic) for record in of]
    return len(records) - len({record.headers[0][1].rpartition(b":")[0] for record in records})


def killed_before_its_commit(run: Run, program: Sequence[str] = PROGRAM, **environ: str) -> Report:
    """Once, with a batch acknowledged by source: its successor writes it again."""
    with load_of(run) as load:
        run.start(program, FAUST_ANOMALY_FAILPOINT="rekey_acked:20", **environ)
        run.until(lambda worker: worker.code == -signal.SIGKILL)
        run.start(program, **environ)
        run.until(lambda worker: "ready: generation" in worker.said)
        load.stop()
    run.until_saved(run.revive)
    return run.check()


def killed_in_the_hop(run: Run) -> Report:
    """Two workers beside one that stays: one with half of a batch written, one with all of it and not committed."""
    with load_of(run) as load:
        run.start().until_ready()
        for victim in [run.start(FAUST_ANOMALY_FAILPOINT=f"{name}:9") for name in ("rekey_half_sent", "rekey_acked")]:
            assert victim.wait() == -signal.SIGKILL, victim.said
        _owns_all(run.workers[0])
        wait_for(lambda: load.handed > 2000)
        load.stop()
    run.until_saved()
    return run.check()


def stopped_in_the_hop(run: Run) -> Report:
    """After ``killed_in_the_hop``: a worker is stopped past its session with records in its hands, and writes them when
    another has long written what follows. Then that other leaves, and the first has everything. A partition that is
    added to raw-data before all this is read too.
    """
    stays = run.workers[0]
    asyncio.run(_grow(run))
    with Load(run.kafka.bootstrap_servers, run.kafka.input_topic, RAW + 1, PER_S, seed=2, keyed=False) as load:
        zombie = run.start(FAUST_ANOMALY_FAILPOINT="rekey_read:9:stop", ANOMALY_KAFKA__ACK_TIMEOUT_S="300")
        wait_for(lambda: zombie.is_stopped, lambda: zombie.said)
        _owns_all(stays, RAW + 1)
        before = duplicates(run)
        zombie.cont()
        wait_for(lambda: duplicates(run) > before, lambda: zombie.said, every_s=0.5)
        stays.term()
        load.stop()
    run.until_saved()
    return run.check()


async def _grow(run: Run) -> None:
    """By one partition, until every client sees it."""
    servers, topic = run.kafka.bootstrap_servers[0], run.kafka.input_topic
    async with kafka_tools.administration(servers) as admin:
        await admin.create_partitions({topic: NewPartitions(RAW + 1, None)})
    while (await kafka_tools.atopics(servers))[topic] == RAW:
        await asyncio.sleep(0.1)


def _owns_all(worker: Worker, raw: int = RAW) -> None:
    """It has taken over what the others had."""

    def owned() -> bool:
        of = worker.metric("assigned_partitions"), worker.metric("assigned_rekey_partitions")
        return of == (PARTITIONS, raw)

    wait_for(owned, lambda: worker.said[-3000:], every_s=0.25)
    time.sleep(1.0)

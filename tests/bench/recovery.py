"""kill -9 under load: how long until every partition is answered again, and is anything lost?

One of one: the worker is started again at once, as a supervisor does. One of two: the other takes over.
Both wait for the group to miss the dead member (session timeout, 10 s for every contestant).
"""

import asyncio
import time
from dataclasses import dataclass

from tests.bench import job
from tests.bench.check import Verdict, verify
from tests.bench.cluster import Cluster
from tests.bench.contestants import Contestant, Run
from tests.bench.load import one_in_each_partition, steady_load
from tests.bench.processes import Worker
from tests.bench.throughput import STALLED_S, wait_for

SOURCES = 200
STEADY_S = 6.0  # under load before the kill


@dataclass
class Recovery:
    contestant: Contestant
    workers: int
    back_s: float  # kill to a new result in every partition
    lag: int  # of the group, when all is answered
    verdict: Verdict


async def measure(cluster: Cluster, contestant: Contestant, run: Run, workers: int, rate_per_s: float) -> Recovery:
    await one_in_each_partition(cluster, run.input)
    running = [Worker(contestant, run, number) for number in range(workers)]
    try:
        await wait_for(cluster, run.output, job.PARTITIONS, running[0])
        while await cluster.members(run.group) < workers:
            for worker in running:
                worker.check()
            await asyncio.sleep(0.1)
        async with steady_load(cluster, run.input, rate_per_s, SOURCES):
            await asyncio.sleep(STEADY_S)
            running[0].kill()
            killed = time.monotonic()
            if workers == 1:
                running.append(Worker(contestant, run, workers))
            back_s = await _back(cluster, run.output, killed, running[-1])
            await asyncio.sleep(2.0)
        await _rest(cluster, run.output, running[-1])
        lag = await cluster.lag_after(run.group, run.input)
    finally:
        for worker in running:
            await asyncio.to_thread(worker.stop)
    return Recovery(contestant, workers, back_s, lag, await verify(cluster, run.input, run.output, SOURCES))


async def _back(cluster: Cluster, topic: str, killed: float, worker: Worker) -> float:
    """Seconds from the kill until every partition has grown, not counting what was in flight."""
    await asyncio.sleep(0.2)
    before = await cluster.ends(topic)
    while not all(now > then for now, then in zip(await cluster.ends(topic), before)):
        worker.check()
        if time.monotonic() - killed > STALLED_S + 60.0:
            raise worker.failed(f"{topic}: no new results in some partition")
        await asyncio.sleep(0.02)
    return time.monotonic() - killed


async def _rest(cluster: Cluster, topic: str, worker: Worker) -> None:
    """Waits until nothing more comes. Not for a count: after a crash some lose and some repeat."""
    before = -1
    while (now := sum(await cluster.ends(topic))) != before:
        worker.check()
        before = now
        await asyncio.sleep(3.0)

"""Records waiting in the input topic, one worker: how fast are they answered, and at what price?

Rates come from the broker's clock: results are stamped as they are appended, so nothing reads them
while the worker runs. CPU time is counted from the first result to SETTLE_S after the last, so that
work put off (snapshots, commits) is counted too.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from tests.bench.check import Verdict, verify
from tests.bench.cluster import Cluster
from tests.bench.contestants import Contestant, Run
from tests.bench.processes import Worker

SETTLE_S = 2.0
STALLED_S = 60.0  # without a new result: give up


@dataclass
class Throughput:
    contestant: Contestant
    sources: int
    records: int
    rate: float  # records/s between the first and the last result
    late_rate: float  # the same, second half of the results
    whole_rate: float  # records/s from the start of the process to the last result
    start_s: float  # start of the process to the first result
    cpu_s_per_million: float  # after the first result
    rss_mb: float
    lag: int  # of the group, when all is answered
    verdict: Verdict


async def measure(cluster: Cluster, contestant: Contestant, run: Run, sources: int) -> Throughput:
    total = sum(await cluster.ends(run.input))
    worker = Worker(contestant, run)
    try:
        answered = await wait_for(cluster, run.output, 1, worker)
        cpu_s, answered_at_cpu = worker.cpu_s(), answered
        await wait_for(cluster, run.output, total, worker)
        lag = await cluster.lag_after(run.group, run.input)
        await asyncio.sleep(SETTLE_S)
        cpu_s = worker.cpu_s() - cpu_s
        rss_mb = worker.rss_peak_mb()
    finally:
        await asyncio.to_thread(worker.stop)
    verdict = await verify(cluster, run.input, run.output, contestant.compared)
    first, half, last = moments(verdict.appended)
    after_first = verdict.records - verdict.appended[first]
    return Throughput(
        contestant,
        sources,
        verdict.records,
        rate=1000.0 * after_first / max(last - first, 1),
        late_rate=500.0 * verdict.records / max(last - half, 1),
        whole_rate=verdict.records / (last / 1000.0 - worker.started),
        start_s=first / 1000.0 - worker.started,
        cpu_s_per_million=1e6 * cpu_s / max(total - answered_at_cpu, 1),
        rss_mb=rss_mb,
        lag=lag,
        verdict=verdict,
    )


def moments(appended: Counter[int]) -> tuple[int, int, int]:
    """When the first, the middle and the last result were appended, ms."""
    times = sorted(appended)
    half, seen = sum(appended.values()) / 2, 0
    for middle in times:
        seen += appended[middle]
        if seen >= half:
            break
    return times[0], middle, times[-1]


async def wait_for(cluster: Cluster, topic: str, count: int, worker: Worker) -> int:
    """Waits until the topic holds ``count`` records, returns how many it holds then."""
    most, changed = -1, time.monotonic()
    while (there := sum(await cluster.ends(topic))) < count:
        worker.check()
        if there > most:
            most, changed = there, time.monotonic()
        elif time.monotonic() - changed > STALLED_S:
            raise worker.failed(f"{topic}: {there:,} of {count:,} results, none in {STALLED_S:.0f} s")
        await asyncio.sleep(0.05)
    return there

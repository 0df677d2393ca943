"""From the moment a record is due to the moment a reader has its result, at a steady rate.

Producer and reader are clients of this process, on one clock; a result carries its record's timestamp.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench import job
from tests.bench.check import Verdict, verify
from tests.bench.cluster import PARTITION_IDS, Cluster
from tests.bench.contestants import Contestant, Run
from tests.bench.load import one_in_each_partition, steady_load
from tests.bench.processes import Worker
from tests.bench.throughput import wait_for

SOURCES = 1000
WARM_UP_S = 5.0


@dataclass
class Latency:
    contestant: Contestant
    rate_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cores: float  # CPU seconds of the worker per second
    verdict: Verdict


class Timed(msgspec.Struct):
    timestamp: float


async def measure(cluster: Cluster, contestant: Contestant, run: Run, rate_per_s: float, seconds: float) -> Latency:
    await one_in_each_partition(cluster, run.input)
    worker = Worker(contestant, run)
    waited: list[tuple[float, float]] = []  # epoch s of arrival, s since due
    reader = None
    try:
        await wait_for(cluster, run.output, job.PARTITIONS, worker)
        reader = asyncio.create_task(_read(cluster, run.output, waited))
        async with steady_load(cluster, run.input, rate_per_s, SOURCES):
            await asyncio.sleep(WARM_UP_S)
            begun, cpu_s = time.time(), worker.cpu_s()
            await asyncio.sleep(seconds)
            ended, cpu_s = time.time(), worker.cpu_s() - cpu_s
        await wait_for(cluster, run.output, sum(await cluster.ends(run.input)), worker)
        await asyncio.sleep(0.5)
    finally:
        if reader:
            reader.cancel()
        await asyncio.to_thread(worker.stop)
    milliseconds = sorted(1000.0 * wait for at, wait in waited if begun <= at < ended)
    return Latency(
        contestant,
        rate_per_s,
        quantile(milliseconds, 0.5),
        quantile(milliseconds, 0.99),
        milliseconds[-1],
        cpu_s / (ended - begun),
        await verify(cluster, run.input, run.output, contestant.compared),
    )


def quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


async def _read(cluster: Cluster, topic: str, waited: list[tuple[float, float]]) -> None:
    decode = msgspec.json.Decoder(Timed).decode
    async with AIOKafkaConsumer(bootstrap_servers=cluster.broker, enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition(topic, p) for p in PARTITION_IDS])
        await consumer.seek_to_end()
        while True:
            fetched = await consumer.getmany(timeout_ms=1000)
            now = time.time()
            for records in fetched.values():
                waited.extend((now, now - decode(record.value).timestamp) for record in records)

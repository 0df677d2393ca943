"""Records produced at a steady rate while workers run, each stamped with the moment it was due.

The schedule does not wait for anybody: when the broker or this machine is late, the delay counts.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaProducer

from tests.bench import job
from tests.bench.cluster import PARTITION_IDS, Cluster, partition_of


@contextlib.asynccontextmanager
async def steady_load(cluster: Cluster, topic: str, rate_per_s: float, sources: int) -> AsyncIterator[None]:
    """Produces until the block ends, then waits for the acks."""
    async with AIOKafkaProducer(bootstrap_servers=cluster.broker, acks="all") as producer:
        stop = asyncio.Event()
        task = asyncio.create_task(_produce(producer, topic, rate_per_s, sources, stop))
        try:
            yield
        finally:
            stop.set()
            await task


async def _produce(
    producer: AIOKafkaProducer, topic: str, rate_per_s: float, sources: int, stop: asyncio.Event
) -> None:
    points = itertools.cycle(job.values(100_000, sources, seed=2))
    begun, sent = time.time(), 0
    while not stop.is_set():
        while (due := begun + sent / rate_per_s) <= time.time():
            source, value = next(points)
            key = source.encode()
            await producer.send(topic, job.encode(source, due, value), key, partition_of(key))
            sent += 1
        await asyncio.sleep(0.001)
    await producer.flush()


async def one_in_each_partition(cluster: Cluster, topic: str) -> None:
    """A record of another source into each partition, to see a worker answer."""
    keys = {partition_of(key): key for key in (b"first-%d" % i for i in range(1000))}
    await cluster.fill(topic, [(keys[p], job.encode(keys[p].decode(), job.START, 50.0)) for p in PARTITION_IDS])

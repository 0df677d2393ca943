"""How long a worker takes to recover many sources from the changelog of a real broker."""

import asyncio
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from aiokafka import AIOKafkaProducer
from integration import load
from integration.run import PARTITIONS, Run
from integration.workers import Worker, wait_for
from support.jobs import Job

from app.local_kafka import LocalKafka
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Settings
from app.state import snapshot

BATCH_BYTES = 900_000


class Recovered(NamedTuple):
    sources: int
    changelog_bytes: int
    read_s: float  # from the first record asked for to the last row in place, by the worker's own clock
    ready_s: float  # from the start of the process
    cpu_s: float  # of the worker until then, its start included: what the machine's other work cannot change
    resident_bytes: float


def snapshots(settings: Settings, number: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value for so many sources whose windows are full, each covering offset 0."""
    pipeline = Pipeline.of(settings)
    sources = pipeline.sources()
    n = 300
    pipeline.run(
        sources,
        Points(list(range(n)), [0] * n, ["t"] * n, [60.0 * i for i in range(n)], [True] * n,
               [50.0 + i * 7919 % 101 / 10 for i in range(n)]),
    )  # fmt: skip
    sources.rows.put(0, "last", 0)
    sources.rows.put(0, "born", 0)
    whole = snapshot.dumps(sources, 0, 0)
    head = list(struct.unpack_from("<4sHHIqH", whole))
    after = struct.calcsize("<4sHHIqH")
    body = whole[after + 1 : -4]
    for i in range(number):
        name = b"source-%07d" % i
        head[2], head[3] = len(name), after + len(name) + len(body) + 4
        data = b"".join((struct.pack("<4sHHIqH", *head), name, body))
        yield name + b"\0" + bytes(8), data + struct.pack("<I", crc32(data))


async def fill(settings: Settings, number: int) -> int:
    """Write them, a partition after the other; the bytes written."""
    kafka, size = settings.kafka, 0
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, acks="all", max_batch_size=BATCH_BYTES, max_request_size=4 << 20
    ) as producer:
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        acks: list = []

        async def send(p: int) -> None:
            acks.append(await producer.send_batch(batches[p], kafka.changelog_topic, partition=p))
            batches[p] = producer.create_batch()
            if len(acks) > 40:
                await acks.pop(0)

        for i, (key, value) in enumerate(snapshots(settings, number)):
            p = i * PARTITIONS // number
            size += len(value)
            if batches[p].append(key=key, value=value, timestamp=None) is None:
                await send(p)
                batches[p].append(key=key, value=value, timestamp=None)
        for p in range(PARTITIONS):
            await send(p)
        await asyncio.gather(*acks)
    return size


def measure(kafka: LocalKafka, directory: Path, sources: int, detection: dict[str, Any]) -> Recovered:
    """``detection``: that section of the settings."""
    directory.mkdir()
    job = Job.of("limits", kafka.bootstrap_servers)
    with Run(job, directory, kafka={"session_timeout_s": 10.0}, detection=detection) as run:
        run.make_topics()
        worker = run.start().until_ready()
        first = [(p, b"first", b'{"source": "first", "timestamp": 1.0, "value": 1.0}') for p in range(PARTITIONS)]
        load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, first)
        run.until_saved()
        worker.term()
        size = asyncio.run(fill(run.settings, sources))
        began = time.monotonic()
        worker = run.start().until_ready(timeout_s=300.0)
        ready_s = time.monotonic() - began
        cpu_s = _process(worker, "cpu_seconds_total")
        wait_for(lambda: worker.metric("sources_active") == sources + PARTITIONS, lambda: worker.said[-2000:])
        read_s, resident = worker.metric("recovery_seconds"), _process(worker, "resident_memory_bytes")
        return Recovered(sources, size, read_s, ready_s, cpu_s, resident)


def _process(worker: Worker, name: str) -> float:
    """A metric that prometheus_client gives of any process."""
    return float(worker.get("/metrics")[1].split(f"\nprocess_{name} ")[1].split("\n")[0])

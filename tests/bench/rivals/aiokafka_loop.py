"""A loop over aiokafka with a dict: the least a Python program can do. Nothing but offsets outlives it.

BENCH_SEND=record sends each result by ``producer.send``, as one writes it; BENCH_SEND=batch builds the
producer's batches by hand, one a partition and fetch, which is as fast as aiokafka gets.
"""

import os
from collections import defaultdict

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.bench.job import THRESHOLD_Z, Window

BROKER, INPUT, OUTPUT, GROUP = (os.environ["BENCH_" + name] for name in ("BROKER", "INPUT", "OUTPUT", "GROUP"))
ANOMALY = THRESHOLD_Z / (THRESHOLD_Z + THRESHOLD_Z / 4.0)


class Point(msgspec.Struct):
    source: str
    timestamp: float
    value: float


class Result(msgspec.Struct, omit_defaults=True):
    id: str
    source: str
    timestamp: float
    value: float
    anomaly_score: float
    is_anomaly: bool
    expected: float | None = None


decode = msgspec.json.Decoder(Point).decode
encode = msgspec.json.Encoder().encode
windows: dict[str, Window] = defaultdict(Window)


def answer(partition: int, offset: int, value: bytes) -> bytes:
    point = decode(value)
    mean, score = windows[point.source].step(point.value)
    return encode(
        Result(
            f"{INPUT}:{partition}:{offset}:0", point.source, point.timestamp, point.value, score, score >= ANOMALY, mean
        )
    )


async def send_records(producer: AIOKafkaProducer, partition: int, records: list) -> None:
    for record in records:
        await producer.send(OUTPUT, answer(partition, record.offset, record.value), record.key, partition)


async def send_batch(producer: AIOKafkaProducer, partition: int, records: list) -> None:
    batch = producer.create_batch()
    for record in records:
        value = answer(partition, record.offset, record.value)
        if batch.append(key=record.key, value=value, timestamp=None) is None:  # full
            await producer.send_batch(batch, OUTPUT, partition=partition)
            batch = producer.create_batch()
            batch.append(key=record.key, value=value, timestamp=None)
    await producer.send_batch(batch, OUTPUT, partition=partition)


async def main() -> None:
    send = send_batch if os.environ.get("BENCH_SEND") == "batch" else send_records
    consumer = AIOKafkaConsumer(
        INPUT,
        bootstrap_servers=BROKER,
        group_id=GROUP,
        auto_offset_reset="earliest",
        session_timeout_ms=10_000,
        heartbeat_interval_ms=1000,
        auto_commit_interval_ms=1000,
    )
    producer = AIOKafkaProducer(bootstrap_servers=BROKER, acks="all", max_batch_size=262_144)
    async with consumer, producer:
        while True:
            for tp, records in (await consumer.getmany(timeout_ms=200, max_records=4000)).items():
                await send(producer, tp.partition, records)


if __name__ == "__main__":
    uvloop.run(main())

"""Resident memory of a worker under a steady load: its slope, when everything that grows at first has grown.

With the view its series fill, up to 69 MB (see app/web/topics/recent_results.py): in minutes where episodes open, as a
source is kept in full from its episode on. What only half an hour shows: fetches that the view had skipped waited for
the collector of cycles, 305 MB after 13 minutes instead of 210; and errors in the log from the fifth minute on, and
1,147 episodes within five seconds of the first full hour, none of which anything was wrong with."""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaProducer
from integration import logs
from integration.run import PARTITIONS, Run
from support import kafka_tools
from support.jobs import Job

from app.compiled.byte_columns import Encoded
from app.local_kafka import LocalKafka
from app.stream.outbox import Outbox
from tests.limits.memory import DETECTIONS

SOURCES = 2000
ROUNDS = 500  # points of each source that are sent over and over
RETAINED = {"retention_bytes": str(64 << 20), "segment_bytes": str(16 << 20)}  # a partition; the disk is not ours
SETTLED = 0.34  # of the time: until then caches, pools and windows fill
EVERY_S = 1.0


class Soaked(NamedTuple):
    minutes: float
    per_s: float  # records produced a second, in fact
    results: int
    lag: int  # records, when the load ended
    resident_mb: float
    slope_mb_per_h: float
    error_mb_per_h: float  # standard error of the slope


def slope(seconds: np.ndarray, mb: np.ndarray) -> tuple[float, float]:
    """MB an hour by least squares, and its standard error, as if the samples were independent."""
    hours = seconds / 3600.0
    spread = hours - hours.mean()
    rise = float((spread * mb).sum() / (spread**2).sum())
    rest = mb - mb.mean() - rise * spread
    return rise, float(np.sqrt((rest**2).sum() / max(1, len(mb) - 2) / (spread**2).sum()))


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def measure(kafka: LocalKafka, directory: Path, minutes: float, per_s: float, view: bool) -> Soaked:
    job = Job.of("soak", kafka.bootstrap_servers)
    sections = {"kafka": {"session_timeout_s": 10.0}, "state": {"replay_records": 50_000}}
    with Run(job, directory, **sections, dashboard={"enabled": view}, detection=DETECTIONS["default"]) as run:
        run.make_topics()
        for topic in (run.kafka.input_topic, run.kafka.output_topic, run.kafka.anomalies_topic):
            kafka_tools.set_configs(kafka.bootstrap_servers, topic, **RETAINED)
        worker = run.start().until_ready()
        sent, samples = asyncio.run(_under_load(run, worker, minutes * 60.0, per_s))
        lag = run.lag()
        results = sum(logs.ends(run.kafka, run.kafka.output_topic))
    seconds, mb = np.array(samples).T
    kept = seconds > SETTLED * seconds[-1]
    return Soaked(minutes, sent / minutes / 60.0, results, lag, float(mb[-1]), *slope(seconds[kept], mb[kept]))


def rounds() -> list[list[Encoded]]:
    """By partition: one point of each of its sources, ROUNDS times. Without times: Kafka's will do."""
    values = np.random.default_rng(2).normal(50.0, 5.0, (ROUNDS, SOURCES)).tolist()
    keys = [b"s%d" % n for n in range(SOURCES)]
    return [
        [
            Encoded.of([(keys[n], b'{"source":"s%d","value":%.3f}' % (n, row[n])) for n in of_partition])
            for row in values
        ]
        for of_partition in (range(p, SOURCES, PARTITIONS) for p in range(PARTITIONS))
    ]


async def _under_load(run: Run, worker, seconds: float, per_s: float) -> tuple[int, list[tuple[float, float]]]:
    """Records sent, and samples of (second, MB)."""
    made, samples, sent, sampled = rounds(), [], 0, 0.0
    producer = AIOKafkaProducer(bootstrap_servers=run.job.servers, acks="all", max_request_size=8 << 20)
    outbox = Outbox(lambda: producer, timeout_s=30.0, batch_bytes=900_000)  # frames a record in .1 us
    async with producer:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            assert worker.code is None, worker.said[-3000:]
            if passed >= sampled:
                samples.append((passed, resident_mb(worker.process.pid)))
                sampled += EVERY_S
            if sent >= passed * per_s:
                await asyncio.sleep(0.005)
                continue
            point = sent // SOURCES % ROUNDS
            under_way = [await outbox.send(run.kafka.input_topic, p, made[p][point]) for p in range(PARTITIONS)]
            sent += SOURCES
            for batches in under_way:  # no faster than the broker takes it
                await outbox.acknowledged(batches)
    return sent, samples

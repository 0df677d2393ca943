"""Resident memory of a worker under a steady load: its slope, when everything that grows at first has grown.

With the view, its series fill for minutes, up to 69 MB (see app/web/feed.py): before it counted what Python adds, a
worker with 3,000 records/s of 2,000 sources went from 273 MB to 393 MB in 7 minutes, then back to 378 MB. One without
the view stood at 286 MB. Only a run of half an hour shows whether that is the end.
"""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import kafka_tools
import numpy as np
from integration import logs
from integration.run import Run
from jobs import Job

from app.local_kafka import LocalKafka
from tests.bench.cluster import Cluster
from tests.bench.load import steady_load
from tests.limits.memory import DETECTIONS

SOURCES = 2000
RETAINED = {"retention_bytes": str(64 << 20), "segment_bytes": str(16 << 20)}  # a partition; the disk is not ours
SETTLED = 0.34  # of the time: until then caches, pools and windows fill
EVERY_S = 1.0


class Soaked(NamedTuple):
    minutes: float
    results: int
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
        samples = asyncio.run(_under_load(run, worker, minutes * 60.0, per_s))
        records = sum(logs.ends(run.kafka, run.kafka.output_topic))
    seconds, mb = np.array(samples).T
    kept = seconds > SETTLED * seconds[-1]
    return Soaked(minutes, records, float(mb[-1]), *slope(seconds[kept], mb[kept]))


async def _under_load(run: Run, worker, seconds: float, per_s: float) -> list[tuple[float, float]]:
    began, samples = time.monotonic(), []
    async with Cluster(run.job.servers) as cluster, steady_load(cluster, run.kafka.input_topic, per_s, SOURCES):
        while (passed := time.monotonic() - began) < seconds:
            assert worker.code is None, worker.said[-3000:]
            samples.append((passed, resident_mb(worker.process.pid)))
            await asyncio.sleep(EVERY_S)
    return samples

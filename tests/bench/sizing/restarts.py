"""CPU time of a start, of the replay after kill -9, and of recovery from the changelog."""

import time
from pathlib import Path

from integration.run import Run
from integration.workers import wait_for
from support.jobs import Job

from app.local_kafka import LocalKafka
from tests.bench.sizing.measured import SECTIONS, Case, Load, free_port, metrics, threads_ns
from tests.bench.sizing.sets import SETS
from tests.limits import recovery
from tests.limits.memory import DETECTIONS

REPLAYED = Case("replay", series=1000)
SOURCES = 40_000


def measure_replay(kafka: LocalKafka, directory: Path, records: int = 120_000) -> dict[str, float]:
    """``start_cpu_s`` and ``start_s`` of a start with little state; ``replay_us`` of CPU a record read again."""
    directory.mkdir()
    port = free_port()
    state = {"state": {**SECTIONS["state"], "idle_snapshot_s": 3600.0}}
    sections = {**SECTIONS, **state, "dashboard": {"enabled": False, "port": port}, "detection": {"detectors": {}}}
    with Run(Job.of("replay", kafka.bootstrap_servers), directory, **sections) as run:
        run.make_topics()
        began = time.monotonic()
        worker = run.start().until_ready()
        start_s = time.monotonic() - began
        start_cpu_s = sum(threads_ns(worker.process.pid).values()) / 1e9
        load = Load(run, REPLAYED, 100_000.0)
        load.start()
        wait_for(lambda: load.sent >= records, timeout_s=300.0)
        load.stop()
        wait_for(lambda: metrics(port)["records_consumed_total"] >= load.sent, timeout_s=300.0)
        time.sleep(2.0)
        worker.kill()
        worker = run.start()
        wait_for(lambda: "_on_partitions_assigned" in worker.said, every_s=0.01)  # after the session of the other one
        cpu_s = -sum(threads_ns(worker.process.pid).values()) / 1e9
        wait_for(lambda: metrics(port).get("replayed_points_total", 0) > 0.9 * load.sent, lambda: str(metrics(port)))
        cpu_s += sum(threads_ns(worker.process.pid).values()) / 1e9
        replayed = metrics(port)["replayed_points_total"]
    return {
        "start_s": start_s,
        "start_cpu_s": start_cpu_s,
        "replayed": replayed,
        "replay_us": cpu_s / replayed * 1e6,
    }


def check_recovery(kafka: LocalKafka, directory: Path) -> dict[str, float]:
    """To hold against what is calculated."""
    return recovery.measure(kafka, directory / "recovery-few", 2 * SOURCES, {"detectors": SETS["few"]})._asdict()


def measure_recovery(kafka: LocalKafka, directory: Path) -> dict[str, dict[str, float]]:
    """By state: seconds and CPU seconds for so many sources of so many bytes of changelog."""
    return {
        name: recovery.measure(kafka, directory / f"recovery-{name}", SOURCES, DETECTIONS[name])._asdict()
        for name in ("rows", "default")
    }

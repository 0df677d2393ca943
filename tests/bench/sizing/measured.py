"""A worker under a steady load, measured by the CPU time of its threads and by its own metrics.

CPU time, not time on the clock, because other programs run on the machine. It makes CPU time longer too, by caches and
cores that are shared; and where processes wait for a core, batches are larger and fewer.
"""

import asyncio
import contextlib
import itertools
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from integration.run import Run
from integration.workers import wait_for
from support.jobs import Job

from app.compiled.byte_columns import Encoded
from app.local_kafka import LocalKafka
from app.stream.outbox import Outbox
from tests.bench.sizing.sets import SETS

TICK_S = 0.004
SETTLE_S, MEASURE_S = 2.0, 8.0
COUNTED = ("results_delivered_total", "batch_size_records_count", "snapshots_total", "snapshot_bytes_total")
SECTIONS: dict[str, Any] = {  # the program's defaults, where tests/integration/run.py has others
    "kafka": {"session_timeout_s": 10.0},
    "state": {"snapshot_every": 256, "replay_records": 50_000, "idle_snapshot_s": 1.0},
}


@dataclass(frozen=True)
class Case:
    """One worker process and the rates at which it is measured, records/s."""

    name: str
    detectors: str = "default"  # a key of SETS
    series: int = 1000
    metrics: int = 1
    partitions: int = 4
    rates: tuple[float, ...] = (2000.0,)
    view: bool = False  # with alerting and history, as without any settings
    rekey: bool = False
    prefill: int = 60  # points of each series before
    seconds: float = MEASURE_S
    backlog: int = 0  # records that wait at the start, and are measured until all are scored
    checks: bool = False  # held against the model, and not used to make it


@dataclass
class Stage:
    """What one rate gave; counts are for each second."""

    case: str
    detectors: str
    series: int
    metrics: int
    partitions: int
    view: bool
    rekey: bool
    checks: bool
    backlog: bool
    per_s: float  # records, as the worker counted them
    cores: float  # CPU s a second
    busiest: float  # share of the busiest thread in it
    batches_per_s: float
    snapshots_per_s: float
    snapshot_bytes: float  # a snapshot, before it is packed
    result_bytes: float  # a record, in the log: packed, with what is around it
    changelog_bytes: float  # a snapshot, the same
    resident_mb: float
    peak_mb: float


@dataclass
class Load(threading.Thread):
    """Produces points of random series at ``per_s``, which may be changed; ends with ``stop``."""

    run_: Run
    case: Case
    per_s: float = 0.0
    sent: int = 0
    error: BaseException | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:  # noqa: BLE001 - raised by ``stop``
            self.error = error

    def stop(self) -> None:
        self.stopping.set()
        self.join(60.0)
        if self.error:
            raise self.error

    async def _produce(self) -> None:
        points, partitions = records(self.case), self.case.partitions
        producer = AIOKafkaProducer(bootstrap_servers=self.run_.job.servers, acks="all", max_request_size=8 << 20)
        outbox = Outbox(lambda: producer, timeout_s=60.0, batch_bytes=900_000)
        under_way: list[Any] = []
        async with producer:
            began, due = time.monotonic(), 0.0
            while not self.stopping.is_set():
                now = time.monotonic()
                due = min(due + (now - began) * self.per_s, max(self.per_s * 0.5, 1.0))  # what it is late by
                began = now
                number, due = int(due), due - int(due)
                parts: list[list[tuple[bytes, bytes]]] = [[] for _ in range(partitions)]
                for series, key, value in itertools.islice(points, number):
                    parts[series % partitions].append((key, value))
                for p, pairs in enumerate(parts):
                    if pairs:
                        under_way.append(await outbox.send(self.run_.kafka.input_topic, p, Encoded.of(pairs)))
                self.sent += number
                while len(under_way) > 40:
                    await outbox.acknowledged(under_way.pop(0))
                await asyncio.sleep(TICK_S)
            for sent in under_way:
                await outbox.acknowledged(sent)


def records(case: Case) -> Iterator[tuple[int, bytes, bytes]]:
    """Number of the series, key and value: first each series in turn, then at random."""
    rng = np.random.default_rng(3)
    first = itertools.chain.from_iterable(itertools.repeat(range(case.series), case.prefill))
    for which in itertools.chain([first], iter(lambda: rng.integers(case.series, size=4096).tolist(), None)):
        which = list(which)
        values = rng.normal(50.0, 5.0, (len(which), case.metrics)).tolist()
        for series, row in zip(which, values):
            if case.metrics == 1:
                body = b'"value":%.3f' % row[0]
            else:
                body = b'"values":{%s}' % b",".join(b'"metric-%d":%.3f' % pair for pair in enumerate(row))
            key = b"source-%d" % series
            yield series, key, b'{"source":"%s","timestamp":%.3f,%s}' % (key, time.time(), body)


def threads_ns(pid: int) -> dict[str, int]:
    """CPU time of each thread so far."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[task.name] = int((task / "schedstat").read_text().split()[0])
    return found


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident now, and the most so far."""
    lines = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) / 1000, int(lines["VmHWM"].split()[0]) / 1000


def log_bytes(kafka: LocalKafka, topic: str) -> int:
    """Of all partitions of a topic, on the broker's disk."""
    return sum(path.stat().st_size for path in kafka.directory.glob(f"data/**/{topic}-*/*.log"))


def sections(case: Case, port: int) -> dict[str, Any]:
    shown = {"alerting": {"enabled": True}, "storage": {"enabled": True}} if case.view else {}
    return {
        **SECTIONS,
        **shown,
        "dashboard": {"enabled": case.view, "port": port},
        "detection": {"detectors": SETS[case.detectors]},
        "input": {"rekey": case.rekey},
    }


def measure(kafka: LocalKafka, directory: Path, case: Case) -> list[dict[str, Any]]:
    """A Stage for each rate, as a dict."""
    directory.mkdir()
    job, port = Job.of("sizing", kafka.bootstrap_servers), free_port()
    with Run(job, directory, **sections(case, port)) as run:
        run.make_topics(case.partitions, raw=case.partitions if case.rekey else None)
        load = Load(run, case, 100_000.0 if case.backlog else 50_000.0)
        if case.backlog:
            load.start()
            wait_for(lambda: load.sent >= case.backlog, lambda: f"{load.sent} {load.error}", 600.0)
            load.stop()
        worker = run.start(XDG_STATE_HOME=str(directory)).until_ready()
        pid = worker.process.pid

        def all_is_scored() -> None:
            told = lambda: f"{load.sent}\n{worker.said[-3000:]}"  # noqa: E731
            wait_for(lambda: metrics(port)["results_delivered_total"] >= load.sent, told, 600.0)

        if case.backlog:
            before = look(kafka, run, pid, port)
            all_is_scored()
            return [asdict(stage(kafka, run, pid, port, case, before))]
        load.start()
        wait_for(lambda: load.sent >= case.series * case.prefill, lambda: f"{load.sent} {load.error}", 600.0)
        load.per_s = 0.0
        all_is_scored()
        time.sleep(13.0 if case.view else 4.0)  # all is saved; the history is there
        stages = []
        for load.per_s in case.rates:
            time.sleep(SETTLE_S)
            before = look(kafka, run, pid, port)
            time.sleep(case.seconds)
            stages.append(asdict(stage(kafka, run, pid, port, case, before)))
        load.stop()
        worker.term()
    return stages


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def metrics(port: int) -> dict[str, float]:
    """Counters and gauges of a worker without their prefix, summed over labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(?:faust_anomaly_)?(\w+)(?:{[^}]*})? (\S+)$", page, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def look(kafka: LocalKafka, run: Run, pid: int, port: int) -> tuple[float, dict[str, int], dict[str, float], Any]:
    sizes = log_bytes(kafka, run.kafka.output_topic), log_bytes(kafka, run.kafka.changelog_topic)
    return time.monotonic(), threads_ns(pid), metrics(port), sizes


def stage(kafka: LocalKafka, run: Run, pid: int, port: int, case: Case, before: Any) -> Stage:
    """From ``before`` until now."""
    (began, ns, counts, sizes), (ended, ns_then, counts_then, sizes_then) = before, look(kafka, run, pid, port)
    took = ended - began
    used = {thread: ns_then[thread] - ns.get(thread, 0) for thread in ns_then}
    records, batches, snapshots, snapshot_bytes = (counts_then[name] - counts[name] for name in COUNTED)
    resident, peak = memory_mb(pid)
    of_case = {
        name: getattr(case, name)
        for name in ("detectors", "series", "metrics", "partitions", "view", "rekey", "checks")
    }
    return Stage(
        case=case.name,
        backlog=case.backlog > 0,
        **of_case,
        per_s=records / took,
        cores=sum(used.values()) / 1e9 / took,
        busiest=max(used.values()) / max(sum(used.values()), 1),
        batches_per_s=batches / took,
        snapshots_per_s=snapshots / took,
        snapshot_bytes=snapshot_bytes / max(snapshots, 1),
        result_bytes=(sizes_then[0] - sizes[0]) / max(records, 1),
        changelog_bytes=(sizes_then[1] - sizes[1]) / max(snapshots, 1),
        resident_mb=resident,
        peak_mb=peak,
    )

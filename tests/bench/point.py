"""One point without Kafka: time and bytes of each step, in numba and in CPython.

Batches of 4,000 points from 1,000 sources whose windows are full, one thread; the fastest of several
batches, because what slows a batch down is not this program.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.detectors import KERNELS
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, InputSettings
from app.state import snapshot
from app.state.sources import Sources
from app.wire.reader import Reader
from app.wire.results import encode_results
from tests.bench import job

SOURCES, BATCH = 1000, 4000


@dataclass
class Record:
    """What the reader takes of aiokafka's ConsumerRecord."""

    key: bytes
    value: bytes
    offset: int
    timestamp: int = 1_700_000_000_000
    headers: tuple = ()


@dataclass
class Step:
    """Nanoseconds a point, and bytes a source, of one set of detectors."""

    name: str
    numba_ns: float
    python_ns: float
    row_bytes: float
    snapshot_bytes: int


def detections() -> Iterator[tuple[str, Detection]]:
    """Each detector of ours alone, then the default set."""
    for name in sorted(KERNELS):
        yield name, Detection(method=name, detectors={name: {}})
    default = Detection()
    yield "default set: " + ", ".join(default.members()), default


def batches(count: int) -> list[list[Record]]:
    records = [Record(key, value, i) for i, (key, value) in enumerate(job.records(count * BATCH, SOURCES))]
    return [records[i : i + BATCH] for i in range(0, len(records), BATCH)]


def fastest(call: Callable[[Any], Any], batches: Iterable[Any]) -> float:
    """Nanoseconds a point of the fastest call."""
    best = float("inf")
    for batch in batches:
        begun = time.perf_counter_ns()
        call(batch)
        best = min(best, time.perf_counter_ns() - begun)
    return best / BATCH


def measure_steps() -> list[Step]:
    reader = Reader(InputSettings(), "raw-data", 0, True)
    points = [reader.read(records)[0] for records in batches(50)]  # 200 a source
    return [_step(name, detection, points) for name, detection in detections()]


def _step(name: str, detection: Detection, points: list[Points]) -> Step:
    python_ns, _ = _run(Pipeline(detection, engine="python"), points[:3])
    numba_ns, sources = _run(Pipeline(detection, engine="numba"), points)
    return Step(name, numba_ns, python_ns, sources.nbytes / len(sources), len(snapshot.dumps(sources, 0, 0)))


def _run(pipeline: Pipeline, points: list[Points]) -> tuple[float, Sources]:
    pipeline.compile()
    sources = pipeline.sources()
    return fastest(partial(pipeline.run, sources), points), sources


def measure_codec() -> tuple[float, float]:
    """Nanoseconds a point to read records, and to encode the results of one detector."""
    records = batches(20)
    reader = Reader(InputSettings(), "raw-data", 0, True)
    pipeline = Pipeline(Detection(method="moving_average", detectors={"moving_average": {"warmup": 2}}))
    sources = pipeline.sources()
    judged = [(points, pipeline.run(sources, points)) for points, *_ in map(reader.read, records)]
    return fastest(reader.read, records), fastest(lambda of: encode_results(*of, "raw-data", 0), judged)

"""CPU time and memory of each detector, without Kafka."""

import subprocess
import sys
import time
import tracemalloc
import warnings
from functools import partial
from typing import Any

import numpy as np

from app import detectors
from app.detectors import KERNELS
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, InputSettings
from app.wire.reader import Reader
from tests.bench.point import BATCH, batches

UNMEASURED = ("river",)  # any pipeline: what it costs is up to its steps
ADAPTED_POINTS = 2000
LIBRARIES = ("isolation_forest", "LODA")  # a detector of each
IMPORTED = """
import sys
from app.pipeline import Pipeline
from app.settings import Detection
from tests.limits.memory import resident
Pipeline(Detection()).compile()
before = resident()
Pipeline(Detection(method=sys.argv[1], detectors={sys.argv[1]: {}})).compile()
print((resident() - before) / 1e6)
"""


def measure_kernels() -> dict[str, float]:
    """Method -> microseconds a point, beside those of the cheapest one alone."""
    reader = Reader(InputSettings(), "raw-data", 0, True)
    points = [reader.read(records)[0] for records in batches(40)]
    times = {name: _kernel_us(Detection(method=name, detectors={name: {}}), points) for name in sorted(KERNELS)}
    least = min(times.values())
    return {name: us - least for name, us in times.items()}


def _kernel_us(detection: Any, points: list[Points]) -> float:
    pipeline = Pipeline(detection)
    pipeline.compile()
    run = partial(pipeline.run, pipeline.sources())
    best = float("inf")
    for batch in points:
        begun = time.thread_time_ns()
        run(batch)
        best = min(best, time.thread_time_ns() - begun)
    return best / BATCH / 1000


def measure_adapters() -> dict[str, dict[str, float]]:
    """Method of a library -> microseconds of CPU a point with its fits, and bytes of a model in memory."""
    warnings.simplefilter("ignore")
    names = [name for name in detectors.names() if name not in (*KERNELS, *UNMEASURED)]
    us = {name: _adapted_us(name) for name in names}
    tracemalloc.start()  # and never stopped: that races with threads that allocate, and CPython 3.11 may crash
    return {name: {"us": us[name], "bytes": _adapted_bytes(name)} for name in names}


def measure_libraries() -> float:
    """MB of memory that the larger of the two libraries takes, in a process of its own."""
    return max(float(subprocess.check_output([sys.executable, "-c", IMPORTED, name])) for name in LIBRARIES)


def _adapted(name: str) -> tuple[Pipeline, Any]:
    pipeline = Pipeline(Detection(method=name, detectors={name: {}}))
    pipeline.compile()
    sources = pipeline.sources()
    pipeline.run(sources, _points("first", 0, 20))  # imports, compiles
    return pipeline, sources


def _adapted_us(name: str) -> float:
    pipeline, sources = _adapted(name)
    begun = time.process_time()
    for start in range(0, ADAPTED_POINTS, 50):
        pipeline.run(sources, _points("a", start, 50))
    return (time.process_time() - begun) / ADAPTED_POINTS * 1e6


def _adapted_bytes(name: str) -> float:
    pipeline, sources = _adapted(name)
    before = tracemalloc.get_traced_memory()[0]
    for i in range(3):
        pipeline.run(sources, _points(f"s{i}", 0, 300))
    return (tracemalloc.get_traced_memory()[0] - before) / 3


def _points(source: str, start: int, n: int) -> Points:
    values = np.random.default_rng(start).normal(50.0, 5.0, n).tolist()
    times = [60.0 * (start + i) for i in range(n)]
    return Points([*range(start, start + n)], [0] * n, [source] * n, times, [True] * n, values)

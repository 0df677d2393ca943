"""``python -m tests.bench.refit``: what scikit-learn's detectors cost, and how long their refits hold up the stream.

A point: one source's 3,000 points, in batches of 1,000 and alone, with all fits. CPU time, the background thread's too.

The stream: 1,000 sources with full windows, whose refits are spread as they are; a batch of theirs is due every 10 ms.
How late a batch is done is measured with refits in the background, as they are made, and, to compare, without refits,
and with each made on the spot where it is begun. The sources share one estimator at the start: 1,000 first fits would
take minutes.
"""

import statistics
import struct
import time
import tracemalloc
from collections.abc import Callable
from itertools import count
from typing import Any
from unittest.mock import patch

import click
import numpy as np

from app.detectors import scikit
from app.detectors.support import refitted
from app.detectors.support.background import Task
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, DetectorSettings
from app.state.sources import Sources
from tests.bench.report import hardware, table

SOURCES, EVERY_S, ALONE = 1000, 0.01, 300
VALUES = np.random.default_rng(1).normal(50.0, 5.0, 5000).tolist()


def points(sources: list[str], start: int) -> Points:
    n = len(sources)
    values = [VALUES[(start + i) % len(VALUES)] for i in range(n)]
    times = [60.0 * (start + i) for i in range(n)]
    return Points([*range(start, start + n)], [0] * n, sources, times, [True] * n, values)


def made(method: str) -> Pipeline:
    pipeline = Pipeline(Detection(method=method, detectors={method: DetectorSettings(method=method)}))
    pipeline.compile()
    return pipeline


def done(call: Callable[[], Any]) -> Any:
    """A task that is done."""
    task = Task(call)
    task.run()
    return task


def measure_point(method: str) -> tuple[float, float, float, float, int]:
    """Microseconds of a point among many, and alone; milliseconds of a fit; kB of an estimator; bytes of state."""
    pipeline = made(method)
    sources, (_, adapter) = pipeline.sources(), pipeline.profiles[0].adapters[0]
    begun = time.process_time()
    for start in range(0, 3000, 1000):
        pipeline.run(sources, points(["a"] * 1000, start))
    model = sources.models[0][0][0]
    model._scoring.result()
    many = time.process_time() - begun
    begun = time.process_time()
    for start in range(3000, 3000 + ALONE):
        pipeline.run(sources, points(["a"], start))
    alone = time.process_time() - begun
    begun = time.process_time()
    task = done(lambda: model._fit(model.values, model._size))
    fitted = time.process_time() - begun
    tracemalloc.start()
    kept = done(lambda: model._fit(model.values, model._size))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del task, kept
    return many / 3000 * 1e6, alone / ALONE * 1e6, fitted * 1e3, size / 1e3, len(adapter.dumps(model))


def settled(pipeline: Pipeline) -> tuple[Sources, Task]:
    """Sources with full windows, which report together from the same first moment on, and what scores them all."""
    sources, (member, adapter) = pipeline.sources(), pipeline.profiles[0].adapters[0]
    pipeline.run(sources, points([f"s{i}" for i in range(SOURCES)], 0))
    one = adapter.make(member.params)
    list(adapter.score_many(one, VALUES[:3000], [0.0] * 3000))
    shared = done(one._scoring.result)
    models = sources.models[0][0]
    with patch.object(refitted, "begin", lambda call: shared):
        for row, model in enumerate(models):
            own = refitted.Fits(member.params["refit_every"], model.own)
            first = max(0, own.until(3000 - own.delay) - member.params["window_size"] - refitted.BEFORE)
            state = struct.pack("<qI", 3000, model.own) + np.array(VALUES[first:3000]).tobytes()
            models[row] = adapter.loads(state, member.params)
    return sources, shared


def measure_stream(method: str, rate: float, seconds: float, how: str) -> tuple[list[float], int]:
    """How late each batch was done, in ms, and how many fits were begun. ``how``: one of HOW."""
    pipeline = made(method)
    sources, shared = settled(pipeline)
    begin = {"no refits": lambda call: shared, "background": refitted.begin, "on the spot": done}[how]
    size, late, fits = round(rate * EVERY_S), [], count()
    with patch.object(refitted, "begin", lambda call: (next(fits), begin(call))[1]):
        start = time.perf_counter()
        for i in range(round(seconds / EVERY_S)):
            due = start + EVERY_S * i
            time.sleep(max(0.0, due - time.perf_counter()))
            batch = [f"s{(size * i + k) % SOURCES}" for k in range(size)]
            pipeline.run(sources, points(batch, SOURCES + size * i))
            late.append((time.perf_counter() - due) * 1e3)
    return late, next(fits)


HOW = ("no refits", "background", "on the spot")


@click.command()
@click.option("--rate", default=200.0, show_default=True, help="Points a second, of all sources.")
@click.option("--seconds", default=30.0, show_default=True, help="Of each run.")
@click.option("--method", "methods", multiple=True, type=click.Choice(sorted(scikit.DETECTORS)), help="Only this one.")
def main(rate: float, seconds: float, methods: tuple[str, ...]) -> None:
    """Measure what scikit-learn's detectors cost, and how long refits hold up the stream."""
    costs, stalls = [], []
    for method in methods or scikit.DETECTORS:
        many, alone, fitted, size, state = measure_point(method)
        costs.append([f"`{method}`", f"{fitted:.0f}", f"{many:.0f}", f"{alone:.0f}", f"{size:.0f}", f"{state:,}"])
        row = [f"`{method}`"]
        for how in HOW:
            late, fits = measure_stream(method, rate, seconds, how)
            row += [f"{statistics.median(late):.1f}", f"{np.quantile(late, 0.99):.0f}", f"{max(late):.0f}"]
        stalls.append([*row, str(fits)])
    print(table(["method", "a fit, ms", "a point, us", "a point alone, us", "estimator, kB", "state, bytes"], costs))
    print()
    columns = [f"{how}: {what}" for how in HOW for what in ("p50", "p99", "max")]
    print(table(["ms until a batch is done", *columns, "fits"], stalls))
    print(f"\n{SOURCES:,} sources, {rate:,.0f} points/s. {hardware()}")


if __name__ == "__main__":
    main()

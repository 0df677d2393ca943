"""Everything that is compiled, compiled (or loaded from its cache) before the group is joined.

A cold cache costs seconds. Spent on the first batch they would hold up every partition. A worker killed meanwhile
leaves what it has compiled for the next: each detector and each function is kept by itself, as soon as it is compiled.

numba compiles one function at a time, so at a first start a second process takes over a part: this module as a program.
It begins with what the worker comes to last, for which it needs no detector, as CPython gives it results and states.
Where both want the same code one compiles it and the other waits (see ``app/compiled/code_cache.py``).
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from app.compiled import jit
from app.compiled.byte_columns import Encoded
from app.kafka.fetched import Fetched
from app.kafka.record_batch import framed
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, load
from app.state import bulk_restore, snapshot
from app.stream.output_watermark import last_emitted
from app.wire.results import encode_columns

TOPICS = SimpleNamespace(input_topic="warm", output_topic="warm")
SIMPLE = Detection(method="StandardAbsoluteDeviation")
POINTS = 200  # more than any detector's default warm-up, so that both kinds of common results occur


def warm(pipeline: Pipeline, helped: bool = False) -> None:
    """Have all compiled. ``helped``: the settings are those that ``load`` finds, so another process may help."""
    cold = bool(pipeline.to_compile())
    with _helper(cold and helped), _without_collections():
        if cold:
            Pipeline(SIMPLE).compile()  # first what all profiles need: the helper takes detectors, too
        pipeline.compile()
        _run_all(pipeline, pipeline)


def help_to_warm(pipeline: Pipeline) -> None:
    """What ``warm`` compiles, the other way round."""
    with _without_collections():
        _run_all(Pipeline(SIMPLE, engine="python"), Pipeline(SIMPLE))
        for one in reversed(pipeline.to_compile()):
            jit.address(*one)


def _run_all(pipeline: Pipeline, restarted: Pipeline) -> None:
    """Send points that nobody sees through all that a batch passes, and their state through recovery."""
    points = Points(
        offset=list(range(POINTS)),
        index=[0] * POINTS,
        source=["warm"] * POINTS,
        timestamp=[60.0 * i for i in range(POINTS)],
        own_time=[True] * POINTS,
        values=[float(i % 7) for i in range(POINTS)],
    )
    sources, restored = pipeline.sources(), restarted.sources()
    outcome = pipeline.run(sources, points)
    results = _fetched(encode_columns(points, outcome, "warm", 0))
    snapshots = _fetched(Encoded.of([(b"warm\0", snapshot.dumps(sources, 0, POINTS))]))
    if jit.AVAILABLE:  # else recovery reads records, not fetches: see app/kafka/fetched.py
        last_emitted(TOPICS, 0, results)
        for fetched in snapshots:
            records = fetched.records()
            bulk_restore.load(restored, records, bulk_restore.examine(restored, records, 1), {"warm": 0})


def _fetched(records: Encoded) -> list[Fetched]:
    """As they would come back from a broker."""
    read = [Fetched.of(bytes(batch._build()), 0) for batch in framed(records, 1_000_000, 0)]
    return [fetched for fetched in read if fetched]


@contextmanager
def _helper(wanted: bool) -> Iterator[None]:
    """Another process that compiles meanwhile. What goes wrong there goes wrong here too, and is said here."""
    if not wanted or (os.cpu_count() or 1) < 2:
        yield
        return
    command = [sys.executable, "-P", "-m", __name__]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def _without_collections() -> Iterator[None]:
    """Of garbage: a tenth of the time, as numba leaves many objects and few that are in circles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


if __name__ == "__main__":
    help_to_warm(Pipeline.of(load()))

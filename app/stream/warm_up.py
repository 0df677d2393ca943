"""Everything that is compiled, compiled (or loaded from its cache) before the group is joined.

A cold cache costs seconds. Spent on the first batch they would hold up every partition. A worker killed meanwhile
leaves what it has compiled for the next: each detector and each function is kept by itself, as soon as it is compiled.

numba compiles one function at a time, so at a first start a second process takes over a part: this module as a program.
It begins with what the worker comes to last, and goes through the detectors from the other end. The first one is the
largest of the default, and the worker is still at it when the second process comes there: so that compiles the passes
first, but for the one that the worker began with. Where both want the same code one compiles it and the other waits
(see ``app/compiled/code_cache.py``). What only recovery needs it compiles after that, while the worker joins the group:
at a first start there is nothing to recover, and a worker that finds something all the same waits for that code when it
calls it.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import SimpleNamespace

import numpy as np

from app.compiled import jit
from app.compiled.byte_columns import Column, Encoded, Header
from app.kafka.fetched import Fetched
from app.kafka.record_batch import framed
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, InputSettings, load
from app.state import bulk_restore, snapshot
from app.stream.origins import Origins
from app.stream.output_watermark import last_emitted
from app.wire.by_source import BySourceReader, Times, encoded
from app.wire.results import encode_columns

TOPICS = SimpleNamespace(input_topic="warm", output_topic="warm", rekeys=False)
REKEYED = SimpleNamespace(input_topic="warm", output_topic="warm", rekeys=True, log_topic="warm")
SIMPLE = Detection(method="StandardAbsoluteDeviation")
POINTS = 200  # more than any detector's default warm-up, so that both kinds of common results occur


def warm(pipeline: Pipeline, helped: bool = False, rekeys: bool = False) -> None:
    """Have all compiled. ``helped``: the settings are those that ``load`` finds, so another process may help.

    ``rekeys``: also what the hop of ``input.rekey`` needs, and what reads behind it.
    """
    cold = bool(pipeline.to_compile())
    helped = cold and helped and (os.cpu_count() or 1) > 1
    if helped:
        _start_helper()
    with _without_collections():
        if cold:
            Pipeline(SIMPLE).compile_pass("judge")  # the helper takes the other passes
        pipeline.compile()
        written = _run_batch(pipeline)
        if rekeys:
            _rekey()
        if not helped:
            _recover(pipeline, *written)


def help_to_warm(pipeline: Pipeline) -> None:
    """What ``warm`` compiles, the other way round; CPython stands in for detectors."""
    with _without_collections():
        written = _run_batch(Pipeline(SIMPLE, engine="python"))
        needed = pipeline.to_compile()
        first = [one for one in needed if one[0].__module__ == needed[0][0].__module__]  # the worker is at it
        _compile(reversed(needed[len(first) :]))
        if any(profile.pairs for profile in pipeline.profiles):
            Pipeline(SIMPLE).compile_pass("part")
        Pipeline(SIMPLE).compile_pass("learn")
        _compile(reversed(first))
        _recover(Pipeline(SIMPLE), *written)


def _compile(detectors: Iterable[tuple]) -> None:
    for one in detectors:
        jit.address(*one)


def _run_batch(pipeline: Pipeline) -> tuple[list[bytes], list[bytes]]:
    """Send points that nobody sees through all that a batch passes: batches of results, and of snapshots."""
    points = Points(
        offset=list(range(POINTS)),
        index=[0] * POINTS,
        source=["warm"] * POINTS,
        timestamp=[60.0 * i for i in range(POINTS)],
        own_time=[True] * POINTS,
        values=[float(i % 7) for i in range(POINTS)],
    )
    sources = pipeline.sources()
    outcome = pipeline.run(sources, points)
    saved = Encoded.of([(b"warm\0", snapshot.dumps(sources, 0, POINTS))])
    results, snapshots = (
        [bytes(batch._build()) for batch in framed(records, 1_000_000, 0)]
        for records in (encode_columns(points, outcome, "warm", 0), saved)
    )
    return results, snapshots


def _rekey() -> None:
    """Send points that nobody sees to the topic by source and back, and read the header of a result."""
    points = Points([0], [0], ["warm"], [0.0], [True], [0.0])
    [records] = encoded(points, 0, Times(np.zeros(1, np.int64), np.zeros(1, np.int64)), 1).values()
    list(framed(records, 1_000_000, 0))
    reader = BySourceReader(InputSettings(), "warm", 0, "warm")
    found = [SimpleNamespace(offset=0, key=key, value=value, headers=of) for key, value, of in records.records()]
    Origins(0, "", 1000).fresh(reader.read(found).points)
    [result] = framed(Encoded(*records[:2], Header(REKEYED.log_topic, Column.of([b"0"]))), 1_000_000, 0)
    if jit.AVAILABLE and (fetched := Fetched.of(bytes(result._build()), 0)):
        last_emitted(REKEYED, 0, [fetched])


def _recover(pipeline: Pipeline, results: list[bytes], snapshots: list[bytes]) -> None:
    """Read them as recovery does, as they would come back from a broker."""
    if not jit.AVAILABLE:
        return  # recovery reads records, not fetches: see app/kafka/fetched.py
    restored = pipeline.sources()
    last_emitted(TOPICS, 0, [fetched for data in results if (fetched := Fetched.of(data, 0))])
    for data in snapshots:
        if fetched := Fetched.of(data, 0):
            records = fetched.records()
            bulk_restore.load(restored, records, bulk_restore.examine(restored, records, 1), {"warm": 0})


def _start_helper() -> None:
    """What goes wrong there goes wrong here too, and is said here."""
    command = [sys.executable, "-P", "-m", __name__]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    Thread(target=process.wait, name="helper", daemon=True).start()


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

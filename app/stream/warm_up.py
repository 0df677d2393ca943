"""Compiles everything, or loads it from the cache, before the group is joined.

With a cold cache this takes seconds, which would delay every partition if they were part of the first batch. A worker
that is killed meanwhile leaves what it has compiled for the next: each function is saved as soon as it is compiled.

numba compiles one function at a time, so at a first start a second process, this module as a program, does a part. It
goes through the detectors in the reverse order. The first detector is the largest of the default set, and the worker is
still compiling it when the second process comes there: so that process compiles the passes first, except the one with
which the worker began. Where both need the same function, one compiles it and the other waits (see
``app/compiled/code_cache.py``). Then the second process compiles what only recovery needs, while the worker joins the
group: at a first start there is usually nothing to recover, and a worker that has to recover waits for that code when
it calls it.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import SimpleNamespace
from typing import NamedTuple

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


class Topics(NamedTuple):
    """Made-up names, in place of those of the settings."""

    rekeys: bool
    input_topic: str = "warm"
    log_topic: str = "warm"
    output_topic: str = "warm"


PLAIN, REKEYED = Topics(rekeys=False), Topics(rekeys=True)
SIMPLE = Detection(method="StandardAbsoluteDeviation")
POINTS = 200  # more than any detector's default warm-up, so that both kinds of common results occur


def warm_up(pipeline: Pipeline, helped: bool = False, rekeys: bool = False) -> None:
    """Compile or load everything. ``helped``: the settings are those that ``load`` finds, so a second process may help.

    ``rekeys``: also what ``input.rekey`` needs.
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


def help_warm_up(pipeline: Pipeline) -> None:
    """Compile what ``warm_up`` does, in reverse order; batches run with detectors in CPython."""
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
    """Run made-up points through all steps of a batch: record batches of results, and of snapshots."""
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
    """Encode a made-up point for the topic by source, read it back, and read the header of its result."""
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
    last_emitted(PLAIN, 0, [fetched for data in results if (fetched := Fetched.of(data, 0))])
    for data in snapshots:
        if fetched := Fetched.of(data, 0):
            records = fetched.records()
            bulk_restore.load(restored, records, bulk_restore.examine(restored, records, 1), {"warm": 0})


def _start_helper() -> None:
    """Its errors are not shown: the same error occurs in this process, too."""
    command = [sys.executable, "-P", "-m", __name__]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    Thread(target=process.wait, name="helper", daemon=True).start()


@contextmanager
def _without_collections() -> Iterator[None]:
    """Turn the garbage collector off: it takes a tenth of the time, and numba leaves few reference cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


if __name__ == "__main__":
    help_warm_up(Pipeline.of(load()))

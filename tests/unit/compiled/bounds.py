"""Fuzz of the record path under numba's bounds checks, as a program: numba reads the switch when it is imported.

    NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=.. FAUST_ANOMALY_CACHE=.. python tests/unit/compiled/bounds.py

Mutated records and awkward numbers go through reader, kernels, encoder and framer. Then come two negative controls:
a detector that reads one past its window, and a window whose order leads outside, with the check that refuses it taken
out. Prints how many records there were, and what the controls raised.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from integration import load
from sample_detectors import reads_past_window
from support.points import gaussian, points

from app import detectors
from app.kafka.record_batch import framed
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection, DetectorSettings, InputSettings, SourceOverride
from app.state import snapshot
from app.wire.reader import Reader
from app.wire.results import encode_columns

SMALL = {name: DetectorSettings(method=name, warmup=3) for name in detectors.KERNELS}
NUMBERS = st.one_of(
    st.floats(-1e150, 1e150), st.sampled_from([0.0, -0.0, 1.0, 1e150, -1e150, 5e-324, 1e9]), st.integers(-3, 3)
)
FUZZ = settings(
    max_examples=80, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
counts = {"records": 0, "points": 0, "letters": 0}


@dataclass
class Record:
    offset: int
    key: bytes
    value: bytes | None
    timestamp: int = 1_700_000_000_000
    headers: tuple = ()


class Path:
    """All that a record passes in compiled code, with sources that live on from one batch to the next."""

    def __init__(self) -> None:
        others = [SourceOverride(match="pump-2*", method="zscore", window_points=2)]
        self.pipeline = Pipeline(Detection(window_points=7, detectors=SMALL), others, max_metrics=3, engine="numba")
        self.reader = Reader(InputSettings(), "raw", 0, keyed=False)
        self.sources = self.pipeline.sources()
        self.offset = 0

    def records(self, values: list[bytes | None]) -> None:
        batch = [Record(self.offset + i, b"k", value) for i, value in enumerate(values)]
        found, letters, *_ = self.reader.read(batch)
        self.offset += len(batch)
        counts["records"] += len(batch)
        counts["letters"] += len(letters)
        self.points(found)

    def points(self, found: Points) -> None:
        counts["points"] += len(found)
        outcome = self.pipeline.run(self.sources, found)
        for start in (0, len(found) // 2):
            list(framed(encode_columns(found, outcome, "raw", 0, start), 3000, 0))

    def restart(self) -> None:
        saved = [snapshot.dumps(self.sources, slot, 0) for slot in range(len(self.sources))]
        self.sources = self.pipeline.sources()
        for data in saved:
            snapshot.loads(self.sources, data)


def mutated(rng: random.Random, value: bytes | None) -> bytes | None:
    if not value or rng.random() < 0.7:
        return value
    changed = bytearray(value)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) or 1)
        how = rng.randrange(3)
        if how == 0:
            changed[at : at + 1] = bytes([rng.choice(b'{}[]",:0123456789.-+eE\\ntf \x00\xff')])
        elif how == 1:
            del changed[at]
        else:
            changed[at:at] = rng.choice([b"9" * 30, b"e", b"\x00", b'"', b"-", b"\\u0000", "ü".encode()])
    return bytes(changed)


def fuzz() -> None:
    path = Path()

    @FUZZ
    @given(st.integers(0, 2**32), st.integers(1, 300), st.booleans())
    def bytes_of_records(seed: int, count: int, again: bool) -> None:
        rng = random.Random(seed)
        path.records([mutated(rng, value) for _, value in islice(load.records(seed, sources=8), count)])
        if again:
            path.restart()

    @FUZZ
    @given(st.lists(st.tuples(st.integers(0, 3), NUMBERS), min_size=1, max_size=200), st.booleans())
    def numbers_of_points(values: list, vectors: bool) -> None:
        if not vectors:
            return path.points(points([v for _, v in values], [f"pump-{s}" for s, _ in values], path.offset))
        path.records(
            [json.dumps({"source": f"v{s}", "values": {"abc"[i % 3]: v, "d": 1}}).encode() for i, (s, v) in
             enumerate(values)]
        )  # fmt: skip
        return None

    bytes_of_records()
    numbers_of_points()


def outside() -> None:
    detectors.register(reads_past_window)
    pipeline = Pipeline(Detection(method="reads_past_window", window_points=7), engine="numba")
    pipeline.run(pipeline.sources(), points(gaussian(9)))


def forged() -> None:
    pipeline = Pipeline(Detection(method="zscore", window_points=7), engine="numba")
    sources, other = pipeline.sources(), pipeline.sources()
    pipeline.run(sources, points(gaussian(9)))
    sources.cells[0].data[0]["window"]["order"][:] = 200
    snapshot._check_window = lambda *_: None
    snapshot.loads(other, snapshot.dumps(sources, 0, 9))
    pipeline.run(other, points(gaussian(9)))


def raised(control: Callable[[], None]) -> str:
    try:
        control()
    except IndexError as error:
        return repr(error)
    return "nothing"


if __name__ == "__main__":
    fuzz()
    print(json.dumps({**counts, "outside": raised(outside), "forged": raised(forged)}))

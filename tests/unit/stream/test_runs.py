"""What a job writes does not depend on how its records came to be batched, crashed over and computed.

Whole runs without Kafka: records through the reader, the pipeline and the encoders, as in a worker. A run is cut into
batches anywhere; between two of them it may crash, and goes on from the snapshots that happened to be taken, in either
engine, by the rule of recovery: read again from the oldest offset that some source's snapshot does not hold, skip what
they hold, and emit what lies beyond the mark. Its bytes must be those of one batch.
"""

import json
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from integration import load

from app.pipeline import Pipeline
from app.settings import Detection, DetectorSettings, InputSettings, SourceOverride
from app.state import snapshot
from app.wire.reader import Reader
from app.wire.results import encode_columns, encode_episodes

TOPIC, PARTITION = "raw-data", 2
RECORDS = 500
DETECTION = Detection(
    window_points=12,
    detectors={
        "average": DetectorSettings(method="moving_average", window_size=6, warmup=4),
        "whole": DetectorSettings(method="zscore", warmup=5),
        "river": DetectorSettings(method="GaussianScorer", grace_period=3, warmup=3),
        "trees": DetectorSettings(method="HalfSpaceTrees", n_trees=2, height=3, window_size=5, warmup=5),
    },
)
OTHERS = [SourceOverride(match="pump-1*", method="zscore", window_points=9)]
PIPELINES = {engine: Pipeline(DETECTION, OTHERS, max_metrics=2, engine=engine) for engine in ("numba", "python")}


@dataclass
class Record:
    offset: int
    key: bytes
    value: bytes | None
    timestamp: int
    headers: tuple = ()


def made(seed: int) -> list[Record]:
    """Points, arrays, vectors, repeats, spikes and what cannot be read, of few sources, so that they repeat often.

    Now and then a source brings one metric more, until it has too many, or a point of a series beside it.
    """
    given = islice(load.records(seed, sources=12), RECORDS)
    return [
        Record(offset, key, beside(key, offset) or value, 1_700_000_000_000 + 7 * offset)
        for offset, (key, value) in enumerate(given)
    ]


def beside(key: bytes, offset: int) -> bytes | None:
    """What some records are replaced by."""
    name = f"extra-{offset % 5}"
    if offset % 29 == 0:
        return json.dumps({"source": key.decode(), "values": {name: 1.5}}).encode()
    if offset % 5 == 3:
        value = offset % 97 + (200.0 if offset % 50 == 3 else 0.0)
        return json.dumps({"source": key.decode(), "metric": name, "value": value}).encode()
    return None


@dataclass
class Written:
    """What a job has written, in order; letters and episodes once, since they may come again."""

    results: list[tuple[bytes, bytes]] = field(default_factory=list)
    letters: dict[tuple, tuple] = field(default_factory=dict)
    episodes: dict[bytes, None] = field(default_factory=dict)


class Job:
    """One partition. ``saved``: source -> its last snapshot and the offset that it covers."""

    def __init__(self, records: list[Record]) -> None:
        self.records, self.written = records, Written()
        self.saved: dict[str, tuple[int, bytes]] = {}
        self.first: dict[str, int] = {}  # source -> first offset that no snapshot holds
        self.next, self.mark = 0, (-1, 0)
        self.restart("numba")

    def restart(self, engine: str) -> None:
        """Forget everything but what is written and saved."""
        self.pipeline = PIPELINES[engine]
        self.sources = self.pipeline.sources()
        for _, data in self.saved.values():
            snapshot.loads(self.sources, data)
        self.covered = {source: offset for source, (offset, _) in self.saved.items()}
        self.next = min(self.first.values(), default=self.next)
        self.first = {}

    def score(self, count: int) -> None:
        """One batch of so many records."""
        batch = self.records[self.next : self.next + count]
        if not batch:
            return
        self.next += len(batch)
        reader = Reader(InputSettings(max_metrics=2), TOPIC, PARTITION, keyed=True)
        points, letters, elements, _ = reader.read(batch)
        keep = [i for i, s in enumerate(points.series()) if points.offset[i] > self.covered.get(s, -1)]
        points = points.select(keep)
        outcome = self.pipeline.run(self.sources, points)
        letters += reader.rejected(batch, elements, points, outcome.rejected)
        for source, offset, slot in zip(points.series(), points.offset, outcome.slot.tolist()):
            if slot >= 0:
                self.first.setdefault(source, offset)
        places = list(zip(points.offset, points.index))
        start = sum(place <= self.mark for place in places)
        self.written.results += encode_columns(points, outcome, TOPIC, PARTITION, start).pairs()
        for letter in letters:
            self.same(self.written.letters, (letter.offset, letter.index), letter.record(TOPIC, PARTITION))
        self.written.episodes |= dict.fromkeys(v for _, v in encode_episodes(points, outcome, TOPIC, PARTITION))
        self.mark = max([self.mark, (batch[-1].offset, 1 << 31)])

    @staticmethod
    def same(known: dict, place: tuple, said: object) -> None:
        assert known.setdefault(place, said) == said, place

    def save(self, which: int) -> None:
        """Snapshots of every third source or so."""
        for source in list(self.first):
            if (self.sources.slots[source] + which) % 3 == 0:
                covered = self.next - 1
                self.saved[source] = covered, snapshot.dumps(self.sources, self.sources.slots[source], covered)
                del self.first[source]

    def states(self) -> dict[str, bytes]:
        return {name: snapshot.dumps(self.sources, slot, 0) for slot, name in enumerate(self.sources.names)}


def whole(records: list[Record], engine: str = "numba") -> Job:
    job = Job(records)
    job.restart(engine)
    job.score(RECORDS)
    return job


STEPS = st.one_of(
    st.tuples(st.just("score"), st.integers(1, 120)),
    st.tuples(st.just("save"), st.integers(0, 2)),
    st.tuples(st.just("restart"), st.sampled_from(["numba", "python"])),
)


def run(records: list[Record], steps: list) -> Job:
    job = Job(records)
    for name, argument in steps:
        getattr(job, name)(argument)
    job.score(RECORDS)
    return job


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9), steps=st.lists(STEPS, max_size=20))
@example(seed=1, steps=[("score", 150), ("save", 0), ("score", 90), ("restart", "python"), ("score", 60)] * 2)
def test_the_bytes_do_not_depend_on_batches_restarts_or_engine(seed, steps):
    records = made(seed)
    expected, found = whole(records), run(records, steps)
    assert found.written.results == expected.written.results
    assert found.written.letters == expected.written.letters
    assert found.written.episodes == expected.written.episodes
    assert found.states() == expected.states()


def test_the_runs_hold_all_that_may_happen():
    job = run(made(1), [("score", 150), ("save", 0), ("score", 90), ("restart", "python"), ("score", 60)])
    values = [value for _, value in job.written.results]
    assert len(values) > 500 and len(job.written.letters) > 5 and len(job.written.episodes) > 10
    assert any(b"may have 2 metrics" in dict(headers)["reason"] for *_, headers in job.written.letters.values())
    parts = b'"values"', b'"metric":"extra-3"', b'"warming_up"', b'"explanation"', b'"trees"', b'"direction":"below"'
    for part in parts:
        assert any(part in value for value in values), part
    assert len({value.rpartition(b'"config_hash":')[2] for value in values}) == 2
    assert any(b'"ok"' in value for value in values) and job.saved and job.covered


CARELESS = {
    "a replay that learns twice": lambda job: job.covered.clear(),
    "a replay that begins too late": lambda job: setattr(job, "next", job.mark[0] + 1),
    "a mark that is forgotten": lambda job: setattr(job, "mark", (-1, 0)),
}


@pytest.mark.parametrize("careless", CARELESS)
def test_a_careless_restart_is_noticed(careless):
    """Negative controls."""
    records = made(1)
    job = Job(records)
    for name, argument in [("score", 150), ("save", 0), ("score", 90), ("restart", "numba")]:
        getattr(job, name)(argument)
    CARELESS[careless](job)
    job.score(RECORDS)
    expected = whole(records)
    assert (job.written.results, job.states()) != (expected.written.results, expected.states())

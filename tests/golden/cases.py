"""Settings and points whose state is kept as golden files: every detector, and every shape that a source can have.

Nothing here may ever change for a release that is out: the points are drawn from Python's own generator, whose
``random()`` gives the same numbers in every version, and are rounded, so that they are the same text everywhere.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

from app import detectors
from app.pipeline import Pipeline
from app.settings import Detection, DetectorSettings, InputSettings
from app.state import snapshot
from app.wire.reader import Reader
from app.wire.results import encode_results

TOPIC, PARTITION = "raw-data", 3
START = 1_700_000_000.0  # epoch s
AFTER = 25  # points scored after the snapshot


@dataclass(frozen=True)
class Case:
    """One source of ``before`` points and AFTER more; the last before the snapshot are ``spikes`` far out."""

    detectors: dict[str, dict[str, Any]]
    before: int = 80
    metrics: tuple[str, ...] = ()
    spikes: int = 0
    source: str = "pump-7"
    more: dict[str, Any] = field(default_factory=dict)  # settings of the detection beside its detectors

    @property
    def detection(self) -> Detection:
        members = {name: DetectorSettings(**given) for name, given in self.detectors.items()}
        return Detection(**{"window_points": 20, **self.more}, detectors=members)


# Of scikit-learn's estimators the stored values are the same on every machine, the scores are not: no vote is above 0.
SCIKIT = ("isolation_forest", "local_outlier_factor", "one_class_svm", "autoencoder", "elliptic_envelope")
REFITTED: dict[str, Any] = {"window_size": 30, "refit_every": 20, "warmup": 1, "threshold": 1e12}
TWO = {"moving_average": {}, "StandardAbsoluteDeviation": {}}
STEPS = [
    {"class": "river.preprocessing.StandardScaler"},
    {"class": "river.anomaly.OneClassSVM", "optimizer": {"class": "river.optim.SGD", "lr": 0.02}},
]
CASES = {
    "default": Case({}, before=400, more={"window_points": 100}),
    "default-several-metrics": Case({}, before=400, metrics=("a", "b"), spikes=1, more={"window_points": 100}),
    "one-point": Case(TWO, before=1),
    "open-episode": Case(TWO, spikes=2),
    "several-metrics": Case(TWO, metrics=("druck", "temp ü", "value"), spikes=1, source='Pumpe "ä" →'),
    "moving_average": Case({"short": {"method": "moving_average", "window_size": 8, "warmup": 5}}),
    "zscore": Case({"zscore": {"threshold": 2.5}}),
    "max": Case({"zscore": {}, "moving_average": {"weight": 0.5}}, more={"ensemble": "max", "threshold": 0.7}),
    "StandardAbsoluteDeviation": Case({"StandardAbsoluteDeviation": {}}),
    "GaussianScorer": Case({"GaussianScorer": {"grace_period": 50}}),
    "GaussianScorer-window": Case({"GaussianScorer": {"window_size": 15, "grace_period": 10}}),
    "PredictiveAnomalyDetection": Case({"PredictiveAnomalyDetection": {"warmup_period": 20}}),
    "OneClassSVM": Case({"OneClassSVM": {}}),
    "LODA": Case({"LODA": {"n_bins": 4}}),
    "LocalOutlierFactor": Case({"LocalOutlierFactor": {"n_neighbors": 5, "window_size": 30}}),
    "river": Case({"river": {"steps": STEPS}}),
    **{method: Case({method: REFITTED}) for method in SCIKIT},
    "HalfSpaceTrees": Case({"HalfSpaceTrees": {"n_trees": 3, "height": 3, "window_size": 25, "warmup": 20}}),
}
# Every other detector that is one file, as it is by default: long enough that each has something to say.
CASES |= {
    name: Case({name: {}}, before=400, metrics=("p", "q") if kernel.scope == "channel" else ())
    for name, kernel in sorted(detectors.KERNELS.items())
    if name not in CASES
}


class Record(NamedTuple):
    """What the reader takes of aiokafka's ConsumerRecord."""

    offset: int
    value: bytes
    key: bytes
    timestamp: int = int(START * 1000)
    headers: tuple = ()


def records(case: Case) -> Iterator[Record]:
    """The case's points as records of raw-data."""
    rng = random.Random(20231027)
    for i in range(case.before + AFTER):
        far = 90.0 if case.before - case.spikes <= i < case.before or i == case.before + 20 else 0.0
        numbers = [round(50.0 + 4.0 * (rng.random() + rng.random() - 1.0) + far, 3) for _ in case.metrics or "v"]
        point: dict[str, Any] = {"source": case.source, "timestamp": START + 60.0 * i}
        if case.metrics:
            point["values"] = dict(zip(case.metrics[: 1 if i % 7 == 5 else None], numbers))
        else:
            point["value"] = numbers[0]
        yield Record(i, json.dumps(point).encode(), case.source.encode())


@cache
def pipeline(name: str, engine: Literal["numba", "python"] | None = None) -> Pipeline:
    """The case's pipeline, compiled once."""
    return Pipeline(CASES[name].detection, engine=engine)


class Half:
    """Scores a stretch of a case's records, from empty state or from a snapshot."""

    def __init__(self, name: str, engine: Literal["numba", "python"] | None = None, data: bytes = b"") -> None:
        self.case, self._pipeline = CASES[name], pipeline(name, engine)
        self.sources = self._pipeline.sources()
        if data:
            snapshot.loads(self.sources, data)

    def run(self, first: int, end: int) -> bytes:
        """Results of the points first..end-1, a line each."""
        reader = Reader(InputSettings(), TOPIC, PARTITION, keyed=True)
        points, dead_letters, *_ = reader.read(list(records(self.case))[first:end])
        assert not dead_letters and len(points) == end - first
        outcome = self._pipeline.run(self.sources, points)
        self._covered = end - 1
        return b"".join(value + b"\n" for _, value in encode_results(points, outcome, TOPIC, PARTITION))

    def saved(self) -> bytes:
        """The snapshot of the case's source."""
        return snapshot.dumps(self.sources, 0, self._covered)

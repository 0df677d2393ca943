"""What the tests of detection share: points, series that break things, pipelines compiled once."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from app import detectors
from app.pipeline import Pipeline
from app.pipeline.outcome import Outcome
from app.pipeline.points import Points
from app.settings import Detection, DetectorSettings
from app.state import snapshot
from app.state.sources import Sources


def points(values: Iterable[float], source: str | Sequence[str] = "a", start: int = 0, own: bool = True) -> Points:
    """One point a minute, of one source or of the sources named."""
    values = [float(v) for v in values]
    n = len(values)
    return Points(
        offset=list(range(start, start + n)),
        index=[0] * n,
        source=[source] * n if isinstance(source, str) else list(source),
        timestamp=[60.0 * (start + i) for i in range(n)],
        own_time=[own] * n,
        values=values,
    )


def named(given: Sequence[tuple[str, float]], source: str | Sequence[str] = "a", start: int = 0) -> Points:
    """Points of one value each and the metric that they name, one a minute."""
    made = points([value for _, value in given], source, start)
    made.metric = [metric for metric, _ in given]
    return made


def vectors(given: Sequence[dict[str, float]], source: str | Sequence[str] = "a", start: int = 0) -> Points:
    """Points of several metrics, one a minute."""
    made = points([0.0] * len(given), source, start)
    made.values, made.metrics, made.start = [], [], [0]
    for one in given:
        for name in sorted(one):
            made.metrics.append(name)
            made.values.append(float(one[name]))
        made.start.append(len(made.values))
    return made


# Parameters with which a detector that needs more points, or more room, has its say in the short series of a test.
SMALL: dict[str, dict[str, Any]] = {
    "HalfSpaceTrees": {"n_trees": 5, "height": 5, "window_size": 20},
    "river": {
        "steps": [{"class": "river.preprocessing.StandardScaler"}, {"class": "river.anomaly.OneClassSVM", "nu": 0.2}]
    },
    "isolation_forest": {"n_estimators": 10},
}


def detection(method: str = "moving_average", window_points: int = 20, weight: float = 1.0, **given: Any) -> Detection:
    """Settings of one detector alone; what is no setting of detection is a parameter of the detector."""
    own = {name: given.pop(name) for name in ("threshold_", "ensemble", "detectors", "maintenance") if name in given}
    if "threshold_" in own:
        own["threshold"] = own.pop("threshold_")
    own.setdefault("detectors", {method: DetectorSettings(method=method, weight=weight, **given)})
    return Detection(window_points=window_points, **own)


@cache
def alone(method: str, engine: str = "numba", **given: Any) -> Pipeline:
    """A pipeline of one detector, small, compiled once for all tests; window of 20, warm-up of 5."""
    return Pipeline(detection(method, **{"warmup": 5, **SMALL.get(method, {}), **given}), engine=engine)  # type: ignore


def fit_for(method: str, made: Points) -> Points:
    """Points of one metric as a detector gets them: of two metrics that are equal, where it wants several."""
    if method not in detectors.KERNELS or detectors.KERNELS[method].scope != "channel":
        return made
    twice = replace(made, metrics=["p", "q"] * len(made), start=list(range(0, 2 * len(made) + 1, 2)))
    twice.values = [v for v in made.values for _ in range(2)]
    return twice


def gaussian(n: int, seed: int = 7, mean: float = 10.0, std: float = 2.0) -> list[float]:
    return np.random.default_rng(seed).normal(mean, std, n).tolist()


def awkward() -> dict[str, list[float]]:
    """Series of 150 finite points that have broken detectors."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0.0, 0.1, 150)
    spike = noise.copy()
    spike[30] = 1e12
    huge = np.where(rng.random(150) < 0.5, 1e150, -1e150)
    return {
        "gaussian": gaussian(150),
        "constant": [5.0] * 150,
        "zero": [0.0] * 150,
        "signed zeros": [0.0, -0.0] * 75,
        "constant with one step": [3.0] * 75 + [4.0] * 75,
        "spike of 1e12 in noise of 0.1": spike.tolist(),
        "huge": huge.tolist(),
        "one huge": [*noise[:40].tolist(), 1e150, -1e150, *noise[42:].tolist()],
        "tiny": (noise * 1e-300).tolist(),
        "high mean": (1e9 + noise).tolist(),
        "ties": rng.integers(0, 3, 150).astype(float).tolist(),
        "ramp": [float(i) for i in range(150)],
        "all scales": (noise * 10.0 ** rng.integers(-140, 140, 150)).tolist(),
    }


def kinds(n: int, seed: int) -> dict[str, list[float]]:
    """Series without anomalies, of six kinds."""
    rng, value = random.Random(seed), 0.0
    names = ("normal", "uniform", "seasonal", "two states", "autocorrelated", "exponential")
    found: dict[str, list[float]] = {name: [] for name in names}
    for i in range(n):
        value = 0.9 * value + rng.gauss(0.0, 1.0)
        now = (
            *(rng.gauss(50.0, 5.0), rng.uniform(0.0, 1.0), math.sin(i / 20.0) + rng.gauss(0.0, 0.1)),
            *(rng.choice((10.0, 50.0)) + rng.gauss(0.0, 1.0), value, rng.expovariate(1.0)),
        )
        for values, x in zip(found.values(), now):
            values.append(x)
    return found


def together(series: dict[str, list[float]]) -> Points:
    """Several series of one length as sources that take turns."""
    names = list(series)
    n = len(series[names[0]])
    return points([series[name][i] for i in range(n) for name in names], [*names] * n)


def batches(all_points: Points, cuts: Iterable[int]) -> list[Points]:
    bounds = [0, *sorted({c for c in cuts if 0 < c < len(all_points)}), len(all_points)]
    return [all_points.select(range(a, b)) for a, b in pairwise(bounds)]


def columns(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What several batches came to, as if they had been one: bytes of each column (so that NaN equals NaN)."""
    found: dict[str, Any] = {}
    for field in fields(Outcome):
        parts = [getattr(o, field.name) for o in outcomes]
        if field.name in ("profiles", "slot"):
            continue
        if isinstance(parts[0], np.ndarray):
            found[field.name] = np.concatenate(parts).tobytes()
        elif isinstance(parts[0], dict):
            shifts = np.cumsum([0, *map(len, outcomes)]).tolist()
            found[field.name] = {i + shift: v for part, shift in zip(parts, shifts) for i, v in part.items()}
        else:
            shifts = np.cumsum([0, *map(len, outcomes)]).tolist()
            found[field.name] = [
                (p + shift, *(() if field.name == "expired" else (slot,)), *rest)
                for part, shift in zip(parts, shifts)
                for p, slot, *rest in part
            ]
    return found


def states(sources: Sources, offset: int = 0) -> dict[str, bytes]:
    """Every source's snapshot."""
    return {name: snapshot.dumps(sources, slot, offset) for name, slot in sources.slots.items()}


def scores(pipeline: Pipeline, values: Iterable[float]) -> list[float]:
    return pipeline.run(pipeline.sources(), points(values)).score.tolist()

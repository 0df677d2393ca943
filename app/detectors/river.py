"""River's anomaly detectors, by River's names: ``method: GaussianScorer``.

========================== ============ ===================================== ========== =================
class                      River takes  its score becomes                     scale      warmup, at least
========================== ============ ===================================== ========== =================
StandardAbsoluteDeviation  (x, y)       itself                                deviations 2
GaussianScorer             (x, y)       share of the fitted normal that is    deviations grace_period
                                        nearer to the mean -> deviations
========================== ============ ===================================== ========== =================

Where River takes (x, y) the value is y and there is no x; else x is {"value": value}. Parameters have
River's names and defaults, but for the seed, which River draws from the clock; beside them stand
``threshold`` and ``warmup`` (30, or the table's where that is more). River's HalfSpaceTrees is a kernel here, in
half_space_trees.py.

Another class of River is another entry in DETECTORS: what builds it, how it is called, what its score is.

Importing River takes seconds (it loads scipy), so it is imported where a detector is built; names and
parameters are known without. A model is River's estimator itself. Its arithmetic is River's own: the same
bits on machines with the same C library, not on all. A state names River's version, so that with another
River a detector starts anew. Where River raises, the pipeline starts a new model and leaves the vote out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from importlib.metadata import version as installed
from typing import Any, NamedTuple
from zlib import crc32

from app import normal, river_state
from app.detectors.kit import Param, Params, param
from app.errors import StateError
from app.numeric import BIGGEST, deviation

VERSION = 1  # raise when state of an earlier release would mean something else

Estimator = Any


class Entry(NamedTuple):
    """How one class of River takes part."""

    scale: str
    explanation: str
    params: dict[str, Param]  # beside threshold and warmup
    silent: Callable[[Mapping[str, Any]], int]  # points without a score that means something: the least warmup
    warmup: str  # the same in words
    build: Callable[[Mapping[str, Any]], Estimator]
    score: Callable[[Estimator, float], float]  # of a value; finite for a new estimator too
    learn: Callable[[Estimator, float], None]
    max_bytes: Callable[[Mapping[str, Any]], int]  # of its state; measured, with room


def _learn_x(estimator: Estimator, x: float) -> None:
    estimator.learn_one({"value": x})


def _learn_y(estimator: Estimator, x: float) -> None:
    estimator.learn_one(None, x)


# --- StandardAbsoluteDeviation


def _absolute_deviation(p: Mapping[str, Any]) -> Estimator:
    from river import anomaly, stats

    return anomaly.StandardAbsoluteDeviation(stats.Mean() if p["sub_stat"] == "mean" else stats.Quantile(0.5))


def _absolute_deviations(estimator: Estimator, x: float) -> float:
    # River's median of nothing is None.
    return min(estimator.score_one(None, x), BIGGEST) if estimator.variance.n else 0.0


# --- GaussianScorer


def _gaussian(p: Mapping[str, Any]) -> Estimator:
    from river import anomaly, proba, utils

    size = p["window_size"]
    made = anomaly.GaussianScorer(window_size=size or None, grace_period=p["grace_period"])
    # River seeds a generator from the clock here, for sampling: the state would differ between two runs.
    made.gaussian = utils.Rolling(proba.Gaussian, window_size=size, seed=0) if size else proba.Gaussian(seed=0)
    return made


def _gaussian_deviations(estimator: Estimator, x: float) -> float:
    share = estimator.score_one(None, x)
    if not share >= 1.0:
        return normal.deviations(share)
    # All of it: far out, or no spread at all, where River calls even the mean itself as odd as it gets.
    return min(abs(deviation(x, estimator.gaussian.mu, estimator.gaussian.sigma)), normal.FARTHEST)


# --- all


DETECTORS = {
    "StandardAbsoluteDeviation": Entry(
        scale="deviations",
        explanation="{value} is {score} standard deviations from the centre of all points so far",
        params={"sub_stat": param("mean", "what a value is compared with; one of mean|median")},
        silent=lambda p: 2,  # a deviation needs two
        warmup="never fewer than 2",
        build=_absolute_deviation,
        score=_absolute_deviations,
        learn=_learn_y,
        max_bytes=lambda p: 1024,
    ),
    "GaussianScorer": Entry(
        scale="deviations",
        explanation="{value} is {score} standard deviations out in the normal distribution of the points so far",
        params={
            "window_size": param(0, "newest points that the distribution is fitted to, 0 for all; 0..4096"),
            "grace_period": param(100, "points before the first score; 1..1000000"),
        },
        silent=lambda p: p["grace_period"],
        warmup="never fewer than grace_period",
        build=_gaussian,
        score=_gaussian_deviations,
        learn=_learn_y,
        max_bytes=lambda p: 1024 + 32 * p["window_size"],
    ),
}


class RiverParams(Params):
    """Parameters of which ``warmup`` depends on others. ``check`` adds ``alert_at``, an Adapter's alert line."""

    def __init__(self, entry: Entry) -> None:
        always = {
            "threshold": param(3.0, "standard deviations at which a point alerts; > 0", judges=True),
            "warmup": param(30, f"points learned before the first vote, {entry.warmup}; >= 1", judges=True),
        }
        super().__init__(entry.params | always)
        self._silent = entry.silent

    def check(self, where: str, given: Mapping[str, Any]) -> dict[str, Any]:
        values = super().check(where, given)
        warmup = max(values["warmup"], self._silent(values))
        return values | {"warmup": warmup, "alert_at": values["threshold"]}

    def of_state(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in super().of_state(checked).items() if name != "alert_at"}


class River:
    """An ``Adapter`` (``kit.py``) for one class of River."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entry = DETECTORS[name]
        self.scale = self._entry.scale
        self.explanation = self._entry.explanation
        self.params = RiverParams(self._entry)

    @cached_property
    def version(self) -> int:
        """Of this file and of River: another River may keep its state differently."""
        return crc32(f"{VERSION}, River {installed('river')}".encode())

    def make(self, params: Mapping[str, Any]) -> Estimator:
        return self._entry.build(params)

    def score_one(self, model: Estimator, x: float, t: float) -> float:
        return self._entry.score(model, x)

    def learn_one(self, model: Estimator, x: float, t: float) -> None:
        self._entry.learn(model, x)

    def dumps(self, model: Estimator) -> bytes:
        return river_state.dumps(model)

    def loads(self, data: bytes, params: Mapping[str, Any]) -> Estimator:
        new = self._entry.build(params)  # imports what the state may name
        try:
            model = river_state.loads(data)
        except (ValueError, TypeError, AttributeError) as error:
            raise StateError(f"{self.name}: {len(data)} bytes are not its state: {error}") from error
        if type(model) is not type(new):
            raise StateError(f"{self.name}: state must hold {type(new).__name__}, found {type(model).__name__}")
        return model

    def max_state_bytes(self, params: Mapping[str, Any]) -> int:
        return self._entry.max_bytes(params)


def adapters() -> list[str]:
    return list(DETECTORS)


@cache
def adapter(method: str) -> River | None:
    return River(method) if method in DETECTORS else None

"""River's anomaly detectors, by River's names: ``method: GaussianScorer``.

========================== ============ ===================================== ========== =================
class                      River takes  its score becomes                     scale      no vote before
========================== ============ ===================================== ========== =================
GaussianScorer             (x, y)       share of the fitted normal that is    deviations grace_period
                                        nearer to the mean -> deviations
PredictiveAnomalyDetection (x, y)       squared error of the forecast above   deviations warmup_period
                                        the mean of such, uncut
OneClassSVM                (x)          itself                                own_past
LODA                       (x)          itself                                own_past   10 x n_bins
LocalOutlierFactor         (x)          its logarithm                         own_past   3 x n_neighbors
========================== ============ ===================================== ========== =================

Where River takes (x, y) the value is y and there is no x; else x is {"value": value}. Parameters have
River's names and defaults; beside them stand ``threshold`` and ``warmup``. What differs, and why:

- Seeds are 42; River draws them from the clock.
- PredictiveAnomalyDetection forecasts by SNARIMAX of p, d, q, whose regression sees values scaled. River cuts its
  score at 1, where the squared error is ``n_std`` deviations above the mean of such, which would make all alerts
  equal; here it lies on the alert line there. n_std is 10: with River's 3 one normal point in 60 alerts.
- OneClassSVM sees the standardised value and its square. A line alone is a line: with the value alone a point far
  above scored odd or far below, by the sign that its weight happened to have.
- LODA projects one metric on numbers, so each cut is a copy of another or of its mirror image: n_random_cuts is 10,
  at a quarter of the cost of River's 100.
- LocalOutlierFactor looks for its neighbours in the last ``window_size`` = 200 points; with River's 1000 a point
  costs a millisecond.

River's HalfSpaceTrees and StandardAbsoluteDeviation are kernels, in files of these names. QuantileFilter and
ThresholdFilter classify the scores of another detector, which the vote does here; they are not detectors.

Another class of River is another entry in DETECTORS: what builds it, how it is called, what its score is.

Importing River takes seconds (it loads scipy), so it is imported where a detector is built; names and
parameters are known without. A model is River's estimator itself. Its arithmetic is River's own: the same
bits on machines with the same C library, not on all. A state names River's version, so that with another
version of River a detector is reset. If River raises, the pipeline makes a new model and leaves the vote out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from importlib.metadata import version as installed
from typing import Any, NamedTuple
from zlib import crc32

from app.compiled.numeric import deviation
from app.detectors.api import Param, Params, derived, param
from app.detectors.support import normal, river_state
from app.errors import StateError

VERSION = 1  # raise when state of an earlier release would mean something else

Estimator = Any


class RiverDetector(NamedTuple):
    """How one class of River takes part."""

    scale: str
    explanation: str
    params: dict[str, Param]  # beside threshold and warmup
    build: Callable[[Mapping[str, Any]], Estimator]
    score: Callable[[Estimator, float], float]  # of a value; finite for a new estimator too
    learn: Callable[[Estimator, float], None]
    max_bytes: Callable[[Mapping[str, Any]], int]  # of its state; measured, with room
    alert_at: str = "threshold"
    threshold: Param = param(3.0, "standard deviations at which a point alerts", above=0, keeps_state=True)
    least: Callable[[Mapping[str, Any]], int] = lambda p: 1  # warmup
    silent: Callable[[Any], int] = lambda p: 0  # points at first whose scores mean nothing


def _learn_x(estimator: Estimator, x: float) -> None:
    estimator.learn_one({"value": x})


def _learn_y(estimator: Estimator, x: float) -> None:
    estimator.learn_one(None, x)


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


# --- PredictiveAnomalyDetection


def _forecaster(p: Mapping[str, Any]) -> Estimator:
    from river import anomaly, linear_model, optim, preprocessing, time_series

    line = linear_model.LinearRegression(optim.SGD(p["learning_rate"]))
    regressor = preprocessing.StandardScaler() | preprocessing.TargetStandardScaler(line)
    model = time_series.SNARIMAX(p=p["p"], d=p["d"], q=p["q"], regressor=regressor)
    return anomaly.PredictiveAnomalyDetection(model, warmup_period=p["warmup_period"])


def _squared_error(estimator: Estimator, x: float) -> float:
    """In deviations above the mean of the squared errors so far."""
    if estimator.dynamic_mae.n < 2:
        return 0.0
    error = estimator.predictive_model.forecast(1)[0] - x
    spread = math.sqrt(estimator.dynamic_se_variance.get())
    return max(0.0, deviation(error * error, estimator.dynamic_mae.get(), spread))


def _learn_forecast(estimator: Estimator, x: float) -> None:
    estimator.score_one(None, x)  # River learns the error where it scores
    estimator.learn_one(None, x)


# --- OneClassSVM


def _support_vectors(p: Mapping[str, Any]) -> Estimator:
    from river import anomaly, feature_extraction, optim, preprocessing

    svm = anomaly.OneClassSVM(nu=p["nu"], optimizer=optim.SGD(p["learning_rate"]), intercept_lr=p["intercept_lr"])
    return preprocessing.StandardScaler() | feature_extraction.PolynomialExtender(degree=2) | svm


# --- LODA


def _histograms(p: Mapping[str, Any]) -> Estimator:
    from river import anomaly

    return anomaly.LODA(**{name: p[name] for name in ("n_bins", "n_random_cuts", "seed")})


# --- LocalOutlierFactor


def _neighbours(p: Mapping[str, Any]) -> Estimator:
    from river import anomaly, neighbors

    return anomaly.LocalOutlierFactor(p["n_neighbors"], neighbors.LazySearch(window_size=p["window_size"]))


def _isolation(estimator: Estimator, x: float) -> float:
    return math.log(max(estimator.score_one({"value": x}), 1e-10))  # 1e-10: as near as River lets points be


# --- all


def _score_x(estimator: Estimator, x: float) -> float:
    return estimator.score_one({"value": x})


DETECTORS = {
    "GaussianScorer": RiverDetector(
        scale="deviations",
        explanation="{value} is {score} standard deviations out in the normal distribution of the points so far",
        params={
            "window_size": param(
                0, "newest points that the distribution is fitted to; 0: all", at_least=0, at_most=4096
            ),
            "grace_period": param(100, "points before the first score", at_least=1, at_most=1_000_000),
        },
        build=_gaussian,
        score=_gaussian_deviations,
        learn=_learn_y,
        max_bytes=lambda p: 1024 + 32 * p["window_size"],
        least=lambda p: p["grace_period"],
    ),
    "PredictiveAnomalyDetection": RiverDetector(
        scale="deviations",
        explanation="{value} was not forecast: its squared error is {score} standard deviations above the mean",
        params={
            "p": param(4, "past values in the forecast", at_least=0, at_most=100),
            "d": param(1, "times that the series is differenced", at_least=0, at_most=2),
            "q": param(1, "past errors in the forecast", at_least=0, at_most=100),
            "learning_rate": param(0.01, "learning rate of the regression", above=0),
            "warmup_period": param(100, "points before the first error is learned", at_least=1, at_most=1_000_000),
        },
        build=_forecaster,
        score=_squared_error,
        learn=_learn_forecast,
        max_bytes=lambda p: 2304 + 80 * (p["p"] + p["q"]),
        alert_at="n_std",
        threshold=param(
            10.0, "deviations above the mean squared error at which a point alerts", above=0, keeps_state=True
        ),
        silent=lambda p: p.warmup_period,
    ),
    "OneClassSVM": RiverDetector(
        scale="own_past",
        explanation="{value} is further from the others than nearly all were",
        params={
            "nu": param(0.1, "fraction of points expected outside", at_least=0, at_most=1),
            "learning_rate": param(0.01, "learning rate of the weights", above=0),
            "intercept_lr": param(0.01, "learning rate of the intercept", above=0),
        },
        build=_support_vectors,
        score=_score_x,
        learn=_learn_x,
        max_bytes=lambda p: 1536,
        threshold=param(10.0, "deviations above its own past at which a point alerts", above=0, keeps_state=True),
    ),
    "LODA": RiverDetector(
        scale="own_past",
        explanation="{value} lies where there were hardly any points",
        params={
            "n_bins": param(10, "bins of a histogram", at_least=2, at_most=1000),
            "n_random_cuts": param(10, "histograms", at_least=1, at_most=1000),
            "seed": param(42, "seed of the random cuts", at_least=0),
        },
        build=_histograms,
        score=_score_x,
        learn=_learn_x,
        max_bytes=lambda p: 3584 + p["n_random_cuts"] * (48 + 32 * p["n_bins"]),
        silent=lambda p: 10 * p.n_bins,
    ),
    "LocalOutlierFactor": RiverDetector(
        scale="own_past",
        explanation="{value} is far from its neighbours, compared with how near they are to theirs",
        params={
            "n_neighbors": param(10, "nearest points that a point is compared with", at_least=1, at_most=1000),
            "window_size": param(200, "newest points that may be neighbours", at_least=3, at_most=4096),
        },
        build=_neighbours,
        score=_isolation,
        learn=_learn_x,
        max_bytes=lambda p: 1024 + 28 * p["window_size"],
        threshold=param(8.0, "deviations above its own past at which a point alerts", above=0, keeps_state=True),
        silent=lambda p: 3 * p.n_neighbors,
    ),
}


class RiverParams(Params):
    """Parameters of which the least ``warmup`` depends on others. ``check`` adds ``alert_at``, the alert line."""

    def __init__(self, entry: RiverDetector) -> None:
        always: dict[str, Any] = {
            entry.alert_at: entry.threshold,
            "warmup": param(
                30, "points learned before the first vote, or as many as it needs", at_least=1, keeps_state=True
            ),
            "silent": derived(entry.silent),
        }
        super().__init__(entry.params | always)
        self._least, self._alert_at = entry.least, entry.alert_at

    def check(self, where: str, given: Mapping[str, Any]) -> dict[str, Any]:
        values = super().check(where, given)
        return values | {"warmup": max(values["warmup"], self._least(values)), "alert_at": values[self._alert_at]}

    def of_state(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in super().of_state(checked).items() if name != "alert_at"}


def version_of_state() -> int:
    """Of this file and of River: another River may keep its state differently."""
    return crc32(f"{VERSION}, River {installed('river')}".encode())


def restored(name: str, data: bytes, like: Estimator) -> Estimator:
    """The estimator of these bytes, if it is of the same types as one just made; StateError where not."""
    try:
        found = river_state.loads(data)
    except (ValueError, TypeError, AttributeError) as error:
        raise StateError(f"{name}: {len(data)} bytes are not its state: {error}") from error
    if _types(found) != _types(like):
        raise StateError(f"{name}: state must hold {_types(like)}, found {_types(found)}")
    return found


def _types(estimator: Estimator) -> str:
    """Its class, and those of its steps."""
    steps = getattr(estimator, "steps", None) or {}
    return " | ".join([type(estimator).__qualname__, *(type(step).__qualname__ for step in steps.values())])


class River:
    """An ``Adapter`` (``api.py``) for one class of River."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entry = DETECTORS[name]
        self.scale = self._entry.scale
        self.explanation = self._entry.explanation
        self.params = RiverParams(self._entry)

    @cached_property
    def version(self) -> int:
        return version_of_state()

    def make(self, params: Mapping[str, Any]) -> Estimator:
        return self._entry.build(params)

    def score_one(self, model: Estimator, x: float, t: float) -> float:
        return self._entry.score(model, x)

    def learn_one(self, model: Estimator, x: float, t: float) -> None:
        self._entry.learn(model, x)

    def dumps(self, model: Estimator) -> bytes:
        return river_state.dumps(model)

    def loads(self, data: bytes, params: Mapping[str, Any]) -> Estimator:
        return restored(self.name, data, self._entry.build(params))  # which imports what the state may name

    def max_state_bytes(self, params: Mapping[str, Any]) -> int:
        return self._entry.max_bytes(params)


def adapters() -> list[str]:
    return list(DETECTORS)


@cache
def adapter(method: str) -> River | None:
    return River(method) if method in DETECTORS else None

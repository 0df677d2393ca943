"""A pipeline of River's classes, or of your own, configured in the settings: ``method: river``.

    detection:
      allow_classes: [mypackage.features.Drop]        # classes in addition to River's, by import path
      detectors:
        svm:
          method: river
          steps:
            - {class: river.preprocessing.StandardScaler}
            - {class: mypackage.features.Drop, names: [noise]}
            - {class: river.anomaly.OneClassSVM, nu: 0.2, optimizer: {class: river.optim.SGD, lr: 0.05}}
          threshold: 4

Each step is a class and the arguments of its constructor; an argument may be an object too, as the optimizer is. All
steps but the last transform {"value": value}; the last scores, higher for what is odder. One that takes (x, y), as
GaussianScorer does, gets the value as y and stands alone. What is scored is compared with its own past. Where a class
has a ``seed`` that is not given, it is 42: River's is drawn from the clock.

A class must be one of River's (the packages in ``river_state.PACKAGES``) or be named in detection.allow_classes, by
the path it is imported by; nothing else is imported and nothing is evaluated. A worker tries the pipeline before it
joins its group, on generated points: parameters are compared with the constructor's, two pipelines must give the same
scores, and state must go to bytes and back (app/detectors/support/river_state.py: attributes of numbers, text, lists,
mappings, River's objects and those of the classes named). So a class that cannot be restored is refused by name, and
no state is lost in a restart.

The state is limited by ``max_state_bytes``, as its size cannot be computed; a worker with a larger state stops with an
error. The detector is reset with another version of River or other steps, but not with another
version of your own class.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

from app.detectors import river
from app.detectors.api import Params, derived, param, seeded_uniform
from app.detectors.support import river_state
from app.errors import ConfigurationError, StateError

SEED = 42
TRIED = 60  # points on which a pipeline is tried


class PipelineModel(NamedTuple):
    estimator: Any
    takes_y: bool
    pure: bool  # a score leaves the state as it is
    most: int  # bytes of its state

    def score(self, x: float) -> float:
        """A repeated point is scored and not learned, so one that learns where it scores does so on a copy."""
        return float(_score(self.estimator if self.pure else river_state.loads(self.dumps()), self.takes_y, x))

    def learn(self, x: float) -> None:
        if not self.pure:
            _score(self.estimator, self.takes_y, x)
        if self.takes_y:
            self.estimator.learn_one(None, x)
        else:
            self.estimator.learn_one({"value": x})

    def dumps(self) -> bytes:
        data = river_state.dumps(self.estimator)
        if len(data) > self.most:
            raise StateError(f"state has {len(data)} bytes, more than max_state_bytes = {self.most}; raise it")
        return data


def _score(estimator: Any, takes_y: bool, x: float) -> Any:
    return estimator.score_one(None, x) if takes_y else estimator.score_one({"value": x})


class Steps(Params):
    """Parameters; ``check`` tries the pipeline and adds ``alert_at``, and whether its scores leave it as it is."""

    def __init__(self) -> None:
        super().__init__(
            {
                "steps": param(None, "classes and their parameters: transformers, then a detector"),
                "allow_classes": param([], "classes in addition to River's, by import path"),
                "grace_period": param(0, "first points, whose scores have no meaning", at_least=0),
                "max_state_bytes": param(16384, "largest state of one metric", at_least=64, at_most=10_000_000),
                "threshold": param(
                    3.0, "deviations above its own past at which a point alerts", above=0, keeps_state=True
                ),
                "warmup": param(30, "points scored before the first vote", at_least=1, keeps_state=True),
                "silent": derived(lambda p: p.grace_period),
            }
        )

    def check(self, where: str, given: Mapping[str, Any]) -> dict[str, Any]:
        values = super().check(where, given)
        steps = values["steps"]
        if not (isinstance(steps, list) and steps and all(isinstance(step, Mapping) for step in steps)):
            raise ConfigurationError(
                f"{where}.steps: must be a list of mappings, each with class, the detector last; got {steps!r}"
            )
        return values | {"alert_at": values["threshold"], "pure": _tried(f"{where}.steps", values)}

    def of_state(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        without = ("alert_at", "pure", "allow_classes", "max_state_bytes")
        return {name: value for name, value in super().of_state(checked).items() if name not in without}


class RiverPipeline:
    """An ``Adapter`` (``api.py``) for estimators that the settings describe."""

    name = "river"
    scale = "own_past"
    explanation = "{value} is odd to {name}: it scored {score}"

    def __init__(self) -> None:
        self.params = Steps()

    @cached_property
    def version(self) -> int:
        return river.version_of_state()

    def make(self, params: Mapping[str, Any]) -> PipelineModel:
        return _model(f"{self.name}.steps", params)

    def score_one(self, model: PipelineModel, x: float, t: float) -> float:
        return model.score(x)

    def learn_one(self, model: PipelineModel, x: float, t: float) -> None:
        model.learn(x)

    def dumps(self, model: PipelineModel) -> bytes:
        return model.dumps()

    def loads(self, data: bytes, params: Mapping[str, Any]) -> PipelineModel:
        new = self.make(params)  # imports what the state may name
        return new._replace(estimator=river.restored(self.name, data, new.estimator))

    def max_state_bytes(self, params: Mapping[str, Any]) -> int:
        return params["max_state_bytes"]


# --- from the settings to objects


def _model(where: str, p: Mapping[str, Any]) -> PipelineModel:
    from river import base, compose

    places = [f"{where}[{i}]" for i in range(len(p["steps"]))]
    made = [_object(place, step, p["allow_classes"]) for place, step in zip(places, p["steps"])]
    for place, one in zip(places, made):
        needed = "score_one" if one is made[-1] else "transform_one"
        if not (isinstance(one, base.Estimator) and hasattr(one, needed)):
            what = "a detector, which scores" if one is made[-1] else "a transformer, as all before the last"
            raise ConfigurationError(
                f"{place}: must be {what} (a river.base.Estimator with {needed}), got {type(one).__qualname__}"
            )
    takes_y = isinstance(made[-1], base.SupervisedAnomalyDetector)
    if takes_y and len(made) > 1:
        raise ConfigurationError(f"{places[-1]}: {type(made[-1]).__qualname__} takes (x, y): it must stand alone")
    estimator = compose.Pipeline(*made) if len(made) > 1 else made[0]
    return PipelineModel(estimator, takes_y, p["pure"], p["max_state_bytes"])


def _object(where: str, given: Any, allowed: Sequence[str]) -> Any:
    """A value of the settings; a mapping with ``class`` becomes an object."""
    if isinstance(given, list):
        return [_object(f"{where}[{i}]", one, allowed) for i, one in enumerate(given)]
    if not isinstance(given, Mapping):
        return given
    values = {name: _object(f"{where}.{name}", one, allowed) for name, one in given.items() if name != "class"}
    if "class" not in given:
        return values
    cls = _class(f"{where}.class", given["class"], allowed)
    known = _parameters(cls)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in known.values())
    for name in values if not takes_any else ():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise ConfigurationError(f"{where}.{name}: {given['class']} has no such parameter; it has {takes}")
    if "seed" in known:
        values.setdefault("seed", SEED)
    try:
        return cls(**values)
    except Exception as error:  # a constructor may refuse its arguments with any exception
        raise ConfigurationError(f"{where}: {given['class']} cannot be made: {error!r}") from error


def _parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(cls).parameters
    except ValueError:  # of a compiled class
        return {}


def _class(where: str, path: Any, allowed: Sequence[str]) -> type:
    """The class at an import path, if it is one of River's or allowed."""
    own = path in allowed
    parts = path.split(".") if isinstance(path, str) else []
    if not own and not (len(parts) > 2 and parts[0] == "river" and parts[1] in river_state.PACKAGES):
        raise ConfigurationError(
            f"{where}: must be a class of River, as river.anomaly.OneClassSVM, got {path!r}; "
            "a class of your own must be named in detection.allow_classes"
        )
    module = ".".join(parts[:-1])
    try:
        found: Any = getattr(importlib.import_module(module), parts[-1], None)
    except Exception as error:  # a module of the user's may do anything
        raise ConfigurationError(f"{where}: {module} cannot be imported: {error!r}") from error
    home = found.__module__ if isinstance(found, type) else ""
    if not home or not (own or home.startswith(f"river.{parts[1]}.")):
        raise ConfigurationError(f"{where}: {module} has no class {parts[-1]!r}")
    if own:
        river_state.allow(found)
    return found


def _tried(where: str, p: Mapping[str, Any]) -> bool:
    """Whether a score leaves the state as it is.

    ConfigurationError unless two pipelines do alike, and one restored goes on as the original.
    """
    one, other = (_model(where, {**p, "pure": True}) for _ in range(2))
    points = [50.0 + number for number in seeded_uniform(1, 2 * TRIED)]
    try:
        first, again = ([_step(model, x) for x in points[:TRIED]] for model in (one, other))
        stored = one.dumps()
        alike = repr(first) == repr(again) and stored == other.dumps()
        restored = one._replace(estimator=river_state.loads(stored))
        first, again = ([_step(model, x) for x in points[TRIED:]] for model in (one, restored))
        before = one.dumps()
        _score(one.estimator, one.takes_y, 50.0)
        pure = one.dumps() == before
    except StateError as error:
        raise ConfigurationError(f"{where}: its state cannot be kept: {error}") from error
    except Exception as error:  # what the classes raise is theirs; here it ends the start
        raise ConfigurationError(f"{where}: failed on a point of a trial: {error!r}") from error
    if not alike:
        raise ConfigurationError(f"{where}: must score alike each time, and did not: give every part a seed")
    if repr(first) != repr(again):
        raise ConfigurationError(f"{where}: must go on alike when restored, and did not: keep all state in attributes")
    return pure


def _step(model: PipelineModel, x: float) -> float:
    score = model.score(x)
    model.learn(x)
    return score


def adapters() -> list[str]:
    return [RiverPipeline.name]


@cache
def adapter(method: str) -> RiverPipeline | None:
    return RiverPipeline() if method == RiverPipeline.name else None

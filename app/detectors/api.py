"""What a detector file declares and may use, and the interface of detectors that are objects of a library.

A kernel detector is one plain file in this directory, found by its name. It declares

    NAME         what settings call it, where that is not the file's name
    VERSION      raised when old state would mean something else
    PARAMS       params(name=param(default, help, at_least=.., at_most=..), derived values); one is ``warmup``, in
                 points. A parameter that the state does not depend on has ``keeps_state=True``: see ``Param``.
                 A derived value named ``silent`` is the number of first points whose scores have no meaning: they
                 are not learned as past scores, and ``warmup`` counts from their end
    STATE        numpy fields ("f8", "i8", or fields again; one dimension), or a function of p. Smaller types save
                 memory: "f4" is written through ``single``, and counts in "i4", "u2" and "u1" need a limit
    SCALE        "deviations": the raw score is in standard deviations, or any unit that means the same for every
                 source; "own_past": in any unit, and is standardised by the detector's own past scores;
                 "surprise": a decimal logarithm of rarity
    ALERT_AT     the name of the parameter that is its alert line k
    step(s, p, x, at, w) -> raw score   score x by what was known before it, then learn it
    band(s, p, at, w) -> (expected, lower, upper)   optional: what the value should be; called before step
    TARGETS      optional, what it finds: "spikes" (the default: single values far out), "shifts" (of the level, and
                 no spike), "runs" (of equal values), "gaps" (in time); a law test checks it
    INVARIANT    optional: ("scale", "shift"), one of them or none (the default): scores stay the same when all values
                 are multiplied by a number above 0, or another is added to them, as units are; tested likewise
    SEASONAL     optional, True: it uses at.week, so that its state depends on time zone and holidays; tested likewise
    EXPLANATION  template with any of {value} {score} {expected} {side} {count} {name}; with ``why`` also {figure} and
                 {usual}. Where the figure is a distance of the value, below 0 for a lower one: {beside}, above or
                 below, and {middle}, from where. Where the usual one is a number of days: {span}, the same in words
    KINDS        optional, what an episode is that it opens: one of ``kinds.KINDS``, "value" unless said

and where it differs from most detectors

    SCOPE        "metric" (unless said): one state for each metric of a source. "channel": likewise, but only for
                 sources with several metrics; the root mean square of its scores of a point's metrics is what they
                 say jointly, and that is the source's score. "source": one state for each source; x is the value of
                 its only metric, or what its channels say jointly (without a detector of channels in the same
                 settings: each metric by itself)
    ROLE         "score" (unless said), or "episodes": its vote is the alert score, and no part of the anomaly score
    why(s, p, x, w) -> (which, figure, usual)   called after step: the index (a float) of one of several templates in
                 EXPLANATION, which is then a tuple, as is KINDS, one kind for each; the figure of that sentence; and
                 its usual size or what it is compared with
    lasts(s, p, x, w) -> int    called after step, about the episode that this detector opened: 1, its cause continues
                 at x; 2, its cause has become the new normal; 3, it is over, and the episode ends here unless another
                 detector returns 1; else 0

where s is its state, p its parameters, and w the window of past values. ``at`` is the time of the value: at.time, its
event time in UTC epoch seconds; at.week, the same in seconds since Monday 00:00 of the calendar, 0 <= week < 604800
(for hours of the day and of the week); at.metrics, how many values its point has; at.since, for detectors
whose target is "gaps", the end of the last span of maintenance before it (-inf: none), until which no points were due.
The program does the warm-up, leaves out votes during it, and resets a detector whose score is not finite. A
parameter called ``window_size`` makes the window at least that large, unless the file says ``WINDOW = None``: it does
not read w. The file is run by CPython and compiled by numba, with the same bits: its kernels use + - * /, comparisons,
loops and the names imported here; no ``**``, sum(), math or numpy
(``tests/contract/test_kernel_lint.py`` checks it).

A detector that is an object of a library is used through an ``Adapter``; ``river.py`` has one for every River
detector. A module with adapters has two functions: ``adapters() -> list[str]``, the names it knows, and
``adapter(method: str) -> Adapter | None``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from app.compiled.numeric import (
    LN_10,
    MAX_DEVIATION,
    deviation,
    exp,
    finite,
    floored,
    inf,
    log,
    nan,
    single,
    sqrt,
    whole,
)
from app.detectors.support.block_maxima import (
    BLOCK,
    MAXIMA,
    begin_maxima,
    end_block,
    reached,
    size_of,
    surprise,
)
from app.detectors.support.calendar import places
from app.detectors.support.exponentially_weighted import (
    SQUARES,
    WEIGHTED,
    cut,
    cut_error,
    decay_of,
    deviations_of,
    learn_error,
    learn_weighted,
    rms,
)
from app.detectors.support.forecast import FORECAST, expected, residual
from app.detectors.support.interval import INTERVAL, begin_interval, learn_interval
from app.detectors.support.predictors import (
    CONSTANT,
    DAY,
    DAY_NEXT,
    PREDICTORS,
    SLOT,
    SLOTS,
    WEEK,
    begin_predictors,
    clip,
    learn_course,
    learn_errors,
    learn_means,
    move,
    predict,
    slot_of,
    smallest,
)
from app.detectors.support.seeded_uniform import seeded_uniform
from app.detectors.support.window import (
    MOMENTS,
    average,
    before,
    count,
    highest,
    lowest,
    mad,
    mean,
    mean_distance,
    median,
    percentile,
    quantile,
    slide,
    spread,
    std,
    z,
)
from app.errors import ConfigurationError
from app.parameters import Parameter

__all__ = [
    "BLOCK",
    "CONSTANT",
    "DAY",
    "DAY_NEXT",
    "FORECAST",
    "INTERVAL",
    "LN_10",
    "MAXIMA",
    "MAX_DEVIATION",
    "MOMENTS",
    "PREDICTORS",
    "SLOT",
    "SLOTS",
    "SQUARES",
    "WEEK",
    "WEIGHTED",
    "Adapter",
    "average",
    "before",
    "begin_interval",
    "begin_maxima",
    "begin_predictors",
    "clip",
    "count",
    "cut",
    "cut_error",
    "decay_of",
    "derived",
    "deviation",
    "deviations_of",
    "end_block",
    "exp",
    "expected",
    "finite",
    "floored",
    "highest",
    "inf",
    "learn_course",
    "learn_error",
    "learn_errors",
    "learn_interval",
    "learn_means",
    "learn_weighted",
    "log",
    "lowest",
    "mad",
    "mean",
    "mean_distance",
    "median",
    "move",
    "nan",
    "param",
    "params",
    "percentile",
    "predict",
    "quantile",
    "reached",
    "residual",
    "rms",
    "run",
    "seeded_uniform",
    "single",
    "size_of",
    "slide",
    "slot_of",
    "smallest",
    "spread",
    "sqrt",
    "std",
    "surprise",
    "whole",
    "z",
]


@dataclass(frozen=True)
class Param(Parameter):
    """A parameter of a detector.

    ``keeps_state``: the state does not depend on its value, bit for bit, as with a threshold. When it is changed the
    detector keeps its state; when any other parameter is changed the detector is reset. A law test runs every detector
    with other values of these parameters (tests/contract/test_detector_laws.py).
    """

    keeps_state: bool = False


def param(default: Any, help: str, **declared: Any) -> Param:
    """A parameter with its default, range and unit: the fields of ``app.parameters.Parameter`` and of ``Param``."""
    return Param(help, default, **declared)


class derived(NamedTuple):
    """A value computed once from the parameters, read like one: ``derived(lambda p: 1.0 / p.half_life)``.

    Or a table of them, of one dimension, as a list.
    """

    compute: Callable[[Any], float | list[float]]


class Params:
    """The parameters of a detector, in the order written."""

    def __init__(self, declared: Mapping[str, Param | derived]) -> None:
        self.declared = {name: d for name, d in declared.items() if isinstance(d, Param)}
        self.derived = {name: d for name, d in declared.items() if isinstance(d, derived)}

    def check(self, where: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter, as given or by default; ConfigurationError naming ``where`` and what is allowed."""
        unknown = sorted(set(given) - set(self.declared))
        if unknown:
            raise ConfigurationError(
                f"{where}.{unknown[0]}: no such parameter; it has {', '.join(self.declared) or 'none'}"
            )
        return {name: p.check(f"{where}.{name}", given.get(name, p.default)) for name, p in self.declared.items()}

    def of_state(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that the state depends on: all but those declared to keep it."""
        keeping = {name for name, p in self.declared.items() if p.keeps_state}
        return {name: value for name, value in checked.items() if name not in keeping}

    def values(self, checked: Mapping[str, Any]) -> SimpleNamespace:
        """What a step sees as p: the parameters and what is derived from them."""
        p = SimpleNamespace(**checked)
        for name, d in self.derived.items():
            value = d.compute(p)
            setattr(p, name, [float(v) for v in value] if isinstance(value, list) else float(value))
        return p


def params(**declared: Param | derived) -> Params:
    return Params(declared)


def run(
    name: str, values: Sequence[float], times: Sequence[float] | None = None, window_points: int = 100, **given: Any
) -> list[float]:
    """Raw scores of one series by a kernel detector, in CPython: what its docstring's example shows.

    0.0 while warming up. ``times``, epoch s, are a minute apart unless given; the calendar is that of UTC.
    """
    from app import detectors
    from app.compiled import rows
    from app.detectors.support import window

    kernel = detectors.kernel(name)
    checked = kernel.params.check(name, given)
    p = kernel.params.values(checked)
    fields = kernel.fields(checked)
    s = rows.Row(rows.dtype(fields)) if fields else None
    w = rows.Row(rows.dtype(window.fields(max(window_points, kernel.window_points(checked)))))
    scores = []
    times = times or [60.0 * i for i in range(len(values))]
    for i, (x, at) in enumerate(zip(values, rows.plain(places(times)))):
        raw = kernel.step(s, p, x, at, w)
        scores.append(raw if i >= p.warmup + int(getattr(p, "silent", 0)) else 0.0)
        window.push(w, x)
    return scores


class Adapter(Protocol):
    """A detector whose model is a Python object. One Adapter serves every source; it holds no state.

    The pipeline does the rest: warm-up, standardising, the reset of a model that raised or gave a
    score that is not finite (its vote is left out and ``make`` makes a new model).

    One for which a call costs more than a point may also have ``score_many(model, xs, ts) -> Iterator[float]``: it
    yields the scores of points that follow each other, scores and learns as ``score_one`` and ``learn_one`` in turn
    would, and raises after the scores of the points before the one that it fails on. It is then called instead of
    them, but for points that are answered without being learned.
    """

    name: str  # the method's name in the settings, such as "StandardAbsoluteDeviation"
    version: int  # raised when old state would mean something else
    scale: str  # "deviations": scores are in standard deviations; "own_past": in any unit
    params: Any  # made by params(...); has ``warmup`` (points) and ``alert_at`` (the alert line k)
    explanation: str  # template with any of {value} {score} {expected} {side} {count} {name}

    def make(self, params: Mapping[str, Any]) -> Any:
        """A new model. ``params`` is complete: every declared name."""

    def score_one(self, model: Any, x: float, t: float) -> float:
        """How odd x is (higher is odder), by what the model has learned; finite for a new model too."""

    def learn_one(self, model: Any, x: float, t: float) -> None:
        """Learn x. ``t``: event time, UTC epoch seconds."""

    def dumps(self, model: Any) -> bytes:
        """The model's state; the same state always gives the same bytes. No pickle."""

    def loads(self, data: bytes, params: Mapping[str, Any]) -> Any:
        """A model that goes on exactly as the dumped one; StateError when the bytes do not fit."""

    def max_state_bytes(self, params: Mapping[str, Any]) -> int:
        """No ``dumps`` of a model with these parameters is longer. Checked against the topic's limit."""

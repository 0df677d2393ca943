"""Drift of the distribution of a source's scores: River's ADWIN or PageHinkley on the anomaly scores of each source.

A drift is a lasting change of the level of the scores: the detectors no longer fit the source, or have adapted to a
change. It is found with a delay: ADWIN tests at every 32nd score, with a false alarm rate of at most ``delta``. Scores
during warm-up, of points with a failed detector and of repeated points are left out.

Parameters have River's names and defaults. When scores of .2 rise by .25, ADWIN finds the drift after 80 points and
PageHinkley after 70; neither found one in 190,000 points before.

The state is a River model for each source, saved like the models of adapters with the first metric of the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from app.detectors import river
from app.detectors.api import Params, param, params
from app.detectors.support import river_state

NONE = "none"
METHODS: dict[str, Params] = {
    "ADWIN": params(
        delta=param(0.002, "significance level: probability of a false alarm", at_least=0, at_most=1),
        clock=param(32, "scores between two tests", at_least=1, at_most=1_000_000),
        max_buckets=param(5, "buckets of each size", at_least=2, at_most=20),
        min_window_length=param(
            5, "least scores in the shorter of the two compared windows", at_least=1, at_most=1_000_000
        ),
        grace_period=param(10, "scores before the first test", at_least=1, at_most=1_000_000),
    ),
    "PageHinkley": params(
        min_instances=param(30, "scores before the first drift", at_least=1, at_most=1_000_000),
        delta=param(0.005, "allowance subtracted from each deviation", at_least=0),
        threshold=param(50.0, "sum of deviations that is a drift", above=0),
        alpha=param(0.9999, "factor of the sum at each score (forgetting factor)", at_least=0, at_most=1),
        mode=param("both", "directions of change to find", one_of=("up", "down", "both")),
    ),
}
_MOST = {"ADWIN": lambda p: 2048 + 1200 * p["max_buckets"], "PageHinkley": lambda p: 1024}


class Drift:
    """The detector of drifts that a profile has. Its models are stored as an ``Adapter``'s are (detectors/api.py)."""

    def __init__(self, method: str) -> None:
        self.name = method
        self.params = METHODS[method]

    @cached_property
    def version(self) -> int:
        return river.version_of_state()

    def make(self, params: Mapping[str, Any]) -> Any:
        from river import drift

        return getattr(drift, self.name)(**params)

    def update(self, model: Any, score: float) -> bool:
        """Whether there is a drift with this score. The model is then reset."""
        model.update(score)
        return bool(model.drift_detected)

    def dumps(self, model: Any) -> bytes:
        return river_state.dumps(model)

    def loads(self, data: bytes, params: Mapping[str, Any]) -> Any:
        return river.restored(self.name, data, self.make(params))

    def max_state_bytes(self, params: Mapping[str, Any]) -> int:
        return _MOST[self.name](params)

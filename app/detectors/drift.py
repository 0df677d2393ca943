"""Has the way a source's scores are distributed changed? River's ADWIN or PageHinkley over each source's anomaly score.

A drift is where the scores of a source settle on another level: its detectors no longer fit it, or have got used to
something. It is found a while after it began: ADWIN at every 32nd score, with a chance of at most ``delta`` that there
was none. Scores of a source that warms up, or of which a detector failed, and of repeated points are left out.

Parameters have River's names and defaults. On scores of .2 that rise by .25, ADWIN finds it after 80 points and
PageHinkley after 70; neither found any in 190,000 points before.

The state is River's, a model a source, saved as the models of adapters are: beside the first metric of the source.
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
        delta=param(0.002, "chance of a drift where there is none", at_least=0, at_most=1),
        clock=param(32, "scores between two looks", at_least=1, at_most=1_000_000),
        max_buckets=param(5, "buckets of each size", at_least=2, at_most=20),
        min_window_length=param(
            5, "scores in the shorter of the two windows compared, at least", at_least=1, at_most=1_000_000
        ),
        grace_period=param(10, "scores before the first look", at_least=1, at_most=1_000_000),
    ),
    "PageHinkley": params(
        min_instances=param(30, "scores before the first drift", at_least=1, at_most=1_000_000),
        delta=param(0.005, "deviation from the mean that is no change", at_least=0),
        threshold=param(50.0, "sum of deviations at which there is a drift", above=0),
        alpha=param(0.9999, "share of the sum that is kept from score to score", at_least=0, at_most=1),
        mode=param("both", "changes that count", one_of=("up", "down", "both")),
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
        """Whether the scores have drifted, with this one. The model then begins anew."""
        model.update(score)
        return bool(model.drift_detected)

    def dumps(self, model: Any) -> bytes:
        return river_state.dumps(model)

    def loads(self, data: bytes, params: Mapping[str, Any]) -> Any:
        return river.restored(self.name, data, self.make(params))

    def max_state_bytes(self, params: Mapping[str, Any]) -> int:
        return _MOST[self.name](params)

"""What a detector file may use, and what a detector of another kind has to offer.

A kernel detector is one plain file in this directory (see ``moving_average.py``). A detector that is
an object in some library takes part through an ``Adapter``; ``river.py`` offers one for every River
detector. A module offers adapters by two functions: ``adapters() -> list[str]``, the names it knows,
and ``adapter(method: str) -> Adapter | None``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Adapter(Protocol):
    """A detector whose model is a Python object. One Adapter serves every source; it holds no state.

    The pipeline does the rest: warm-up, standardising, the reset of a model that raised or gave a
    score that is not finite (its vote is left out and it starts anew by ``make``).
    """

    name: str  # the method's name in the settings, such as "StandardAbsoluteDeviation"
    version: int  # raised when old state would mean something else
    scale: str  # "deviations": scores are in standard deviations; "own_past": in any unit
    params: Any  # made by kit.params(...); has ``warmup`` (points) and ``alert_at`` (the alert line k)
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

"""How a parameter is declared: description, default, unit and range; the same for settings, detectors, generators and
the options of alert channels.

    settings      fetch_max_wait_ms: int = setting(8, "longest wait ..", unit="ms", at_least=0, at_most=60_000)
    channels      class Options(ChannelOptions): topic: str = setting(..., "topic to publish to", expected="text")
    detectors     PARAMS = params(half_life=param(200.0, "age at which ..", unit="points", at_least=1))
    generators    def records(*, noise: Annotated[float, Parameter("standard deviation ..", at_least=0.0)] = 0.02)

Tables, help pages and error messages show these texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from app.errors import ConfigurationError

_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list"}


@dataclass(frozen=True)
class Parameter:
    """A value that users may set. Its type is that of its default; with None or ``...`` (must be given) any type."""

    help: str
    default: Any = None
    unit: str = ""
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[str, ...] = ()
    expected: str = ""  # the allowed values in words, where type and limits do not say them

    def __post_init__(self) -> None:
        if self.default not in (None, ...) and not self.accepts(self.default):
            raise TypeError(f"{self.help!r}: the default is out of range: must be {self.allowed}, got {self.default!r}")

    def accepts(self, value: Any) -> bool:
        """Whether a value of the right type is within the limits."""
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (not self.one_of or value in self.one_of)
        )

    def check(self, where: str, value: Any) -> Any:
        """The value, as a float where the default is one; ConfigurationError naming place, allowed values and value."""
        if self.default is None:
            return value
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not fits or (kind is float and not math.isfinite(value)) or not self.accepts(value):
            raise ConfigurationError(f"{where}: must be {self.allowed} {self.unit}".rstrip() + f", got {value!r}")
        return value

    @property
    def allowed(self) -> str:
        """The allowed values in words; "" where anything is."""
        if self.expected or self.one_of:
            return self.expected or " | ".join(self.one_of)
        kind = _KINDS.get(type(self.default), "")
        if self.at_least is not None and self.at_most is not None:
            return f"{kind} from {_number(self.at_least)} to {_number(self.at_most)}"
        limits = {"above": self.above, "of at least": self.at_least, "of at most": self.at_most}
        words = [f"{word} {_number(limit)}" for word, limit in limits.items() if limit is not None]
        return f"{kind} {' and '.join(words)}".rstrip()


def _number(limit: float) -> str:
    return f"{limit:g}" if abs(limit) < 1e6 and limit != int(limit) else f"{int(limit):_}"

"""What a generator may use: the record it yields, and how its parameters become options."""

from dataclasses import dataclass
from typing import NamedTuple


class GeneratedRecord(NamedTuple):
    """One point, before it is bytes."""

    source: str
    timestamp: float  # epoch seconds, UTC
    values: dict[str, float]  # by metric; a single one is called "value"
    label: str = ""  # kind of anomaly, where it is known to be one


class Remark(NamedTuple):
    """Something for the user to read; not sent."""

    text: str
    unreadable: bool = False  # it should have been a record: counted


@dataclass(frozen=True)
class Option:
    """Stands in a parameter's annotation: its help with its unit, and its range, both ends included."""

    help: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Time(Option):
    """A parameter in epoch seconds that the user may write as ISO 8601 or as "now"."""

"""What a generator may use: the record it yields, and the declaration of its parameters, which become options."""

from typing import NamedTuple

from app.parameters import Parameter

__all__ = ["GeneratedRecord", "Parameter", "Remark", "Time"]


class GeneratedRecord(NamedTuple):
    """One point, before it is bytes."""

    source: str
    timestamp: float  # epoch seconds, UTC
    values: dict[str, float]  # by metric; a single one is called "value"
    label: str = ""  # kind of anomaly, where it is known to be one
    metric: str = ""  # of the point's series: it stands in the field metric, and ``values`` has only that one


class Remark(NamedTuple):
    """Something for the user to read; not sent."""

    text: str
    unreadable: bool = False  # it should have been a record: counted


class Time(Parameter):
    """A parameter in epoch seconds that the user may write as ISO 8601 or as "now"."""

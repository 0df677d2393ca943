"""Shapes of results and events for programs that want one type for each field: times as text, numbers by metric.

{"timestamp": 1698399460.0, "value": 90.44, "expected": 50.02, ..}
{"timestamp": "2023-10-27T09:37:40.000000Z", "values": {"value": 90.44}, "expected": {"value": 50.02}, ..}
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from msgspec import UNSET

from app.settings.model import OutputSettings
from app.state.sources import VALUE

BANDS = ("expected", "expected_lower", "expected_upper")


class Shape(NamedTuple):
    """``iso``: times are ISO 8601 with microseconds, UTC; ``by_metric``: numbers of a point are objects by metric."""

    iso: bool = False
    by_metric: bool = False

    @classmethod
    def of(cls, output: OutputSettings) -> Shape:
        return cls(output.timestamps == "iso", output.by_metric)

    def applied(self, record: Any) -> Any:
        """The result or event itself, in this shape."""
        if self.iso:
            record.timestamp = iso(record.timestamp)
            if hasattr(record, "opened_at"):
                record.opened_at = iso(record.opened_at)
        if self.by_metric and getattr(record, "value", UNSET) is not UNSET:
            name = VALUE if record.metric is UNSET else record.metric
            record.values, record.value = {name: record.value}, UNSET
            for band in BANDS:
                if (number := getattr(record, band)) is not UNSET:
                    setattr(record, band, {name: number})
        return record


PLAIN = Shape()


def iso(time: float) -> str:
    """Of epoch seconds, to the nearest microsecond.

    >>> iso(1698399460.25)
    '2023-10-27T09:37:40.250000Z'
    """
    return f"{datetime.fromtimestamp(time, UTC).isoformat(timespec='microseconds')[:-6]}Z"

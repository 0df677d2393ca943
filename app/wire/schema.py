"""The types that msgspec decodes: the fields of a point, under the usual names or those of the settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from app.errors import InvalidPoint
from app.settings.model import SOURCE_NAMES
from app.state.sources import VALUE

Time = float | datetime | None
Name = str | int  # a number is read as its text
Scalar = str | int | float | bool


class Names(NamedTuple):
    """Names of the fields of a point."""

    source: tuple[str, ...] = SOURCE_NAMES
    timestamp: str = "timestamp"
    values: tuple[str, ...] = ()  # each is a metric; none: value, or values and their names


class Usual(msgspec.Struct, gc=False):
    """A point with the usual names."""

    source: Name | None = None
    sourceId: Name | None = None
    entity_id: Name | None = None
    timestamp: Time = None
    value: float | None = None
    values: dict[str, float | None] | None = None
    metric: Name | None = None

    def named(self) -> tuple[str, Name | None]:
        """The field that names the source, and the name."""
        if self.source is not None:
            return "source", self.source
        return ("sourceId", self.sourceId) if self.sourceId is not None else ("entity_id", self.entity_id)

    def cells(self, path: str) -> list[tuple[str, float]]:
        """Metrics and their values, in the order of the record, without those that are null."""
        if self.values is None:
            return [] if self.value is None else [(VALUE if self.metric is None else str(self.metric), self.value)]
        if self.value is not None:
            raise InvalidPoint("wrong_type", f"{path} must have value or values, got both")
        return [cell for cell in self.values.items() if cell[1] is not None]  # type: ignore[misc]

    def series_metric(self) -> str:
        """The metric whose series the point belongs to, "" where that is the source's."""
        return str(self.metric) if self.metric is not None and self.metric != VALUE and self.values is None else ""

    def path(self, metric: str) -> str:
        return VALUE if self.values is None else f"values.{metric}"


class Named(msgspec.Struct, gc=False):
    """A point with other names: the base of the type made for them."""

    def named(self) -> tuple[str, Name | None]:
        known = [(name, source) for name, source in self._given("source") if source is not None]
        return known[0] if known else (self.__struct_encode_fields__[0], None)

    def cells(self, path: str) -> list[tuple[str, float]]:
        return [(name, value) for name, value in self._given("value") if value is not None]

    def _given(self, role: str) -> list[tuple[str, Any]]:
        names = zip(self.__struct_fields__, self.__struct_encode_fields__)
        return [(encoded, getattr(self, name)) for name, encoded in names if name.startswith(role)]

    def series_metric(self) -> str:
        return ""

    def path(self, metric: str) -> str:
        return metric


def full(names: Names) -> Any:
    """A type for every point with these names: named(), timestamp, cells(), series_metric(), path(metric)."""
    if names == Names():
        return Usual
    fields: list[tuple] = [(f"source{i}", Name | None, None) for i in range(len(names.source))]
    rename = {f"source{i}": name for i, name in enumerate(names.source)} | {"timestamp": names.timestamp}
    fields.append(("timestamp", Time, None))
    if names.values:
        fields += [(f"value{i}", float | None, None) for i in range(len(names.values))]
        rename |= {f"value{i}": name for i, name in enumerate(names.values)}
        return msgspec.defstruct("Mapped", fields, bases=(Named,), rename=rename, gc=False)
    usual = {"cells": Usual.cells, "series_metric": Usual.series_metric, "path": Usual.path}
    fields += [("value", float | None, None), ("values", dict[str, float | None] | None, None)]
    fields.append(("metric", Name | None, None))
    return msgspec.defstruct("Mapped", fields, bases=(Named,), namespace=usual, rename=rename, gc=False)


def plain(names: Names) -> Any:
    """A type for points with one source field and one value only (source, timestamp, value, metric); None if there is
    none.

    Fields that would make it another point are declared as null: msgspec refuses the object if they have a value.
    """
    if len(names.values) > 1:
        return None
    rename = {"source": names.source[0], "timestamp": names.timestamp, "value": (*names.values, VALUE)[0]}
    fields: list[tuple] = [("source", Name), ("value", float), ("timestamp", Time, None)]
    others = [*names.source[1:], *(() if names.values else ("values",))]
    if not names.values:
        fields.append(("metric", Name | None, None))
    fields += [(f"other{i}", None, None) for i in range(len(others))]
    rename |= {f"other{i}": name for i, name in enumerate(others)}
    return msgspec.defstruct("Plain", fields, rename=rename, gc=False)

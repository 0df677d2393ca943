"""Records as tools write them: one file for each, named as ``input.format`` names it, - for _.

A file has ``INPUT``, settings of ``input``: those that somebody gives win. It may have ``SKIPS_EMPTY``, why a record
without points is skipped, and ``Format``, a Mapping of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from app.settings.model import InputSettings
from app.wire.mapping import Mapping

PLAIN = frozenset(("source_field", "timestamp_field", "value_fields", "timestamp_unit", "max_metrics", "rekey"))


def applied(input: InputSettings) -> InputSettings:
    """With what ``input.format`` sets."""
    if input.format is None:
        return input
    given = {name: getattr(input, name) for name in input.model_fields_set}
    set_values = {name: value for name, value in given.items() if value is not None and value != []}
    return InputSettings(**{**_of(input.format).INPUT, **set_values})


def mapping(input: InputSettings) -> Mapping | None:
    """How records of this shape are read; None for the plain shape. ``input``: as ``applied`` gives it."""
    if input.format is not None:
        module = _of(input.format)
        return getattr(module, "Format", Mapping)(input, getattr(module, "SKIPS_EMPTY", ""))
    named = [input.source_field or "", input.timestamp_field or "", *input.value_fields]
    plain = not any(getattr(input, name) for name in type(input).model_fields.keys() - PLAIN)
    return None if plain and not any(set(name) & set(".|{}*") for name in named) else Mapping(input)


def _of(format: str) -> Any:
    return import_module(f"app.wire.formats.{format.replace('-', '_')}")

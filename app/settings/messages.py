"""Texts about settings: the unit and range of a field, and what is wrong with a value."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.settings.sources import Keys, kind, unknown

SECRET = "******"


def unit(field: FieldInfo) -> str:
    return _words(field).get("unit", "")


def allowed(field: FieldInfo) -> str:
    """The allowed values in words, as declared; those of a Literal are its options."""
    if typing.get_origin(field.annotation) is typing.Literal:
        return " | ".join(map(str, typing.get_args(field.annotation)))
    return _words(field).get("allowed", "")


def _words(field: FieldInfo) -> dict[str, str]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}  # type: ignore[return-value]


def named_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields by their names in settings: ``continue``, for example, is no name in Python."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def field_at(model: Any, keys: Keys) -> FieldInfo | None:
    """The innermost field that a path names: detection.detectors for ("detection", "detectors", "x")."""
    found = None
    annotation: Any = model
    for key in keys:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = named_fields(annotation)
            if key not in fields:
                break
            found = fields[str(key)]
            annotation = found.annotation
        elif typing.get_origin(annotation) in (list, dict):
            annotation = typing.get_args(annotation)[-1]
    return found


def describe_error(model: Any, wrong: Any) -> tuple[Keys, str]:
    """One entry of ValidationError.errors(): the path, and what is wrong with it."""
    keys: Keys = tuple(wrong["loc"])
    if keys[-1] == "[key]":
        return keys[:-1], f"a name must be 1 to 64 of a-z A-Z 0-9 . _ -, got {kind(wrong['input'])}"
    field = field_at(model, keys)
    if wrong["type"] == "extra_forbidden":
        section = section_at(model, keys[:-1])
        if instead := getattr(section, "INSTEAD", {}).get(keys[-1]):
            return keys, f"no such setting; use {instead}"
        return keys, unknown(str(keys[-1]), named_fields(section))
    if wrong["type"] == "missing":
        return keys, f"is missing: must be {allowed(field)}" if field else "is missing"
    secret = field is not None and "SecretStr" in str(field.annotation)
    address = "channels" in keys and "://" in str(wrong["input"])  # an address may contain a secret
    found = SECRET if secret or address or "password" in str(keys) else kind(wrong["input"])
    if field is None or _is_section(section_at(model, keys)):
        return keys, f"must be a mapping of settings, got {found}"
    return keys, f"must be {f'{allowed(field)} {unit(field)}'.strip()}, got {found}"


def section_at(model: Any, keys: Keys) -> Any:
    """The model around a path."""
    annotation = model
    for key in keys:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = named_fields(annotation)[str(key)].annotation
        else:
            annotation = typing.get_args(annotation)[-1]
    return annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)

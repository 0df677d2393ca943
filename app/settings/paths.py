"""How the settings of ``input`` name fields: paths, alternatives, and names made of several fields.

host.name                     the field name of the object host; or the field that is called "host.name" itself
fields.*                      every field of the object fields, under its own name
system.**                     every field at any depth below system, with dots between the names
$.device                      from the top of the record, where input.points_field says that points are deeper
a.b|c                         the first of them that is there
{labels.instance}/{name|}     text made of fields; one whose alternatives end in | may be absent, and then what
                              stands before it is left out too
{name},{tags.*}               all fields of tags as a=b,c=d, sorted by name, without those that begin with __
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_METRIC_BYTES = 128  # of the name of a metric
MOST_PARTS = 6  # each of the 2 ** (n - 1) ways to read the dots of a path is tried
TOP = "$."


class Path(NamedTuple):
    """One field, or many."""

    text: str  # as it was given
    keys: tuple[str, ...] = ()
    top: bool = False  # from the top of the record
    many: str = ""  # "*", "**"


Choice = tuple[Path, ...]  # the first that is there counts


class TemplatePart(NamedTuple):
    """A piece of a name: what stands before a field, and the field; the last one of a name may have none."""

    before: str
    field: Choice
    optional: bool = False


Template = tuple[TemplatePart, ...]


def path(text: str) -> Path:
    """Raises ValueError with what is wrong."""
    rest = text.removeprefix(TOP)
    keys = tuple(rest.split("."))
    many = keys[-1] if keys[-1] in ("*", "**") else ""
    if not all(keys):
        keys, many = (rest,), ""  # dots that part nothing belong to the name
    if {"*", "**"} & set(keys[:-1]):
        raise ValueError(f"must have a star at the end only, got {text!r}")
    if len(keys) > MOST_PARTS:
        raise ValueError(f"must have at most {MOST_PARTS} names with dots between them, got {text!r}")
    return Path(text, keys[:-1] if many else keys, rest != text, many)


def choice(text: str) -> Choice:
    """One path or several with | between them. Raises ValueError with what is wrong."""
    return tuple(path(one) for one in text.split("|") if one)


def is_template(text: str) -> bool:
    return "{" in text or "}" in text


def template(text: str) -> Template:
    """A name of one field or of several. Raises ValueError with what is wrong."""
    if not is_template(text):
        return (TemplatePart("", choice(text)),)
    pieces = re.split(r"\{([^{}]*)\}", text)
    if any("{" in piece or "}" in piece for piece in pieces):
        raise ValueError(f"must close each {{ with a }}, got {text!r}")
    parts = []
    for before, field in zip(pieces[::2], pieces[1::2]):
        if not field.strip("|"):
            raise ValueError(f"must name a field in each pair of braces, got {text!r}")
        parts.append(TemplatePart(before, choice(field), field.endswith("|")))
    if pieces[-1]:
        parts.append(TemplatePart(pieces[-1], ()))
    return tuple(parts)

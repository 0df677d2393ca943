"""Fields of JSON objects by path: a msgspec type with only these fields, and a getter for each.

msgspec skips all fields that are not named, in C. A dot in a path separates two names or is part of one, so each way to
read it has a field of its own; the longest name that exists counts. Below a path with a star, and where one path is the
beginning of another, objects are decoded whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, repeat
from operator import attrgetter, methodcaller
from typing import Any

import msgspec

from app.settings.paths import Choice, Path

NOTHING = msgspec.Raw(b"")
MANY = 8  # from so many ways on it is faster to look first which names objects have
_NOWHERE = {type(None)}


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """From an object to one field of it.

    ``empty``: such an object without fields; ``get``: None where there is none; ``name``: of the field of a dict.
    """

    empty: Any
    get: Callable[[Any], Any]
    name: str = ""


Way = tuple[Step, ...]


class Fields:
    """Collects paths, then makes the type and the getters.

    Examples
    --------
    >>> from app.settings.paths import choice
    >>> fields = Fields()
    >>> fields.add(choice("host.name"), str)
    >>> fields.add(choice("cpu.pct|pct"), float)
    >>> decode = msgspec.json.Decoder(fields.type()).decode
    >>> host, pct = fields.getter(choice("host.name")), fields.getter(choice("cpu.pct|pct"))
    >>> [(host(one), pct(one)) for one in map(decode, (
    ...     b'{"host": {"name": "a", "os": {}}, "cpu": {"pct": 0.5}}', b'{"host.name": "b", "pct": 0.25}', b"{}"))]
    [('a', 0.5), ('b', 0.25), (None, None)]
    """

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, choice: Choice, kind: Any, as_raw: bool = False) -> None:
        """``kind``: the type of the field; that of a path with a star is dict, or Raw ``as_raw`` and if no other path
        leads there.
        """
        for path in choice:
            self._root.add(path.keys, kind if not path.many else msgspec.Raw if as_raw else _Whole)

    def type(self) -> Any:
        return self._root.type

    def getter(self, choice: Choice) -> Ways:
        """Of fields that were added. A path with a star gives its object."""
        return Ways([way for path in choice for way in self._root.ways(path.keys)])


class Ways:
    """Gets what the first of several ways leads to, from one object or from many.

    Of many, each step is a loop in C over all, and steps that ways have in common are made once.
    """

    def __init__(self, ways: list[Way]) -> None:
        self._ways = [[(step.get, type(step.empty)) for step in way] for way in ways]
        begun: dict[Way, int] = {}
        self._shared = [
            [(begun.setdefault(way[: i + 1], len(begun)), step) for i, step in enumerate(way)] for way in ways
        ]

    def __call__(self, one: Any) -> Any:
        for way in self._ways:
            found = one
            for get, kind in way:
                if type(found) is not kind or (found := get(found)) is None:
                    break
            else:
                return found
        return None

    def all(self, many: list[Any]) -> list[Any]:
        """From each of these objects, which are of one type."""
        found: list[Any] | None = None
        known: dict[int, tuple[list[Any], set[type]]] = {-1: (many, set(map(type, many[:1])))}
        names: dict[int, set[str]] = {}
        for way in self._shared:
            at = -1
            column, kinds = known[at]
            for then, step in way:
                if then in known:
                    pass
                elif kinds == {dict} and len(self._ways) >= MANY and step.name not in _names(names, at, column):
                    known[then] = [], _NOWHERE
                else:
                    kind = type(step.empty)
                    if kinds != {kind}:
                        column = [one if type(one) is kind else step.empty for one in column]
                    if kind is dict:  # half the time of ``step.get``
                        column = list(map(dict.get, column, repeat(step.name)))
                    else:
                        column = list(map(step.get, column))
                    known[then] = column, set(map(type, column))
                at = then
                column, kinds = known[at]
                if kinds == _NOWHERE:
                    break
            else:
                found = column if found is None else [b if a is None else a for a, b in zip(found, column)]
                if type(None) not in kinds or None not in found:
                    break
        return [None] * len(many) if found is None else found


def _names(known: dict[int, set[str]], at: int, column: list[dict[str, Any]]) -> set[str]:
    if at not in known:
        known[at] = set(chain.from_iterable(column))
    return known[at]


class _Whole:
    """Stands for the type of what is decoded whole."""


class _Node:
    def __init__(self) -> None:
        self.kinds: set[Any] = set()
        self.below: dict[str, _Node] = {}

    def add(self, keys: tuple[str, ...], kind: Any) -> None:
        if not keys:
            self.kinds.add(kind)
            return
        for end in range(len(keys), 0, -1):
            self.below.setdefault(".".join(keys[:end]), _Node()).add(keys[end:], kind)

    @property
    def whole(self) -> bool:
        return _Whole in self.kinds or len(self.kinds) > 1 or bool(self.kinds and self.below)

    @cached_property
    def type(self) -> Any:
        if self.whole:
            return Any
        if self.kinds:
            return next(iter(self.kinds))
        fields: list[tuple] = []
        for i, node in enumerate(self.below.values()):
            if node.type is msgspec.Raw:
                fields.append((f"f{i}", node.type, NOTHING))
            else:
                fields.append((f"f{i}", node.type if node.type is Any else node.type | None, None))
        rename = {f"f{i}": name for i, name in enumerate(self.below)}
        return msgspec.defstruct("Fields", fields, rename=rename, gc=False)

    @cached_property
    def steps(self) -> dict[str, Step]:
        """To the fields of an object of the type."""
        empty = self.type()
        return {name: Step(empty, attrgetter(f"f{i}")) for i, name in enumerate(self.below)}

    def ways(self, keys: tuple[str, ...]) -> Iterator[Way]:
        """A way for each reading of the dots, the longest first name first."""
        if not keys:
            yield (_PRESENT,) if self.type is msgspec.Raw else ()
        elif self.whole:
            yield from _members(keys)
        else:
            for end in range(len(keys), 0, -1):
                name = ".".join(keys[:end])
                for then in self.below[name].ways(keys[end:]):
                    yield (self.steps[name], *then)


_PRESENT = Step(NOTHING, lambda raw: None if bytes(raw) in (b"", b"null") else raw)


def _members(keys: tuple[str, ...]) -> Iterator[Way]:
    """The same in objects that were decoded whole."""
    if not keys:
        yield ()
    for end in range(len(keys), 0, -1):
        step = _member(".".join(keys[:end]))
        for then in _members(keys[end:]):
            yield (step, *then)


@cache
def _member(name: str) -> Step:
    return Step({}, methodcaller("get", name), name)


def scalars(found: Any, many: str) -> Iterator[tuple[str, Any]]:
    """(name, value) of all texts and numbers in an object, and with "**" of those at any depth."""
    if type(found) is not dict:
        return
    for name, value in found.items():
        if type(value) is dict:
            if many == "**":
                for inner, one in scalars(value, many):
                    yield f"{name}.{inner}", one
        elif value is not None and type(value) is not list:
            yield name, value


def find(found: Any, path: Path) -> list[tuple[str, Any, bool]]:
    """What decoded JSON holds at this path, in each way to read its dots: (place, value, whether it is there).

    It is not there if the value, at a shorter place, is no object.
    """
    return list(_find(found, path.keys, ""))


def _find(found: Any, keys: tuple[str, ...], at: str) -> Iterator[tuple[str, Any, bool]]:
    if not keys:
        yield at, found, True
    elif isinstance(found, dict):
        for end in range(len(keys), 0, -1):
            name = ".".join(keys[:end])
            if found.get(name) is not None:
                yield from _find(found[name], keys[end:], f"{at}.{name}")
    elif found is not None:
        yield at, found, False

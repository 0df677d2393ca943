"""Reads points from records of other shapes, by the settings: paths, arrays of points, names made of several fields.

    {"host": {"name": "web-1"}, "readings": [{"ts": 1698401060, "cpu": {"pct": "0.31"}}, ..]}

    input: {points_field: readings, source_field: host.name, timestamp_field: ts, value_fields: [cpu.pct],
            numbers_as_text: true}

A record has one element, itself, or several. A field that an element does not have is taken from the record around it.
The result depends on the bytes of the record and on the settings alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain, repeat
from typing import Any

import msgspec

from app.errors import InvalidPoint
from app.settings import paths
from app.settings.model import SOURCE_NAMES, InputSettings
from app.settings.paths import TOP, Choice, Path
from app.state.sources import VALUE
from app.wire import malformed
from app.wire.fields import Fields, Ways, find, scalars
from app.wire.malformed import shown
from app.wire.schema import Name, Scalar, Time

_NAMES = (str, int, type(None))
MAX_LABELS, MAX_LABEL_CHARS = 64, 256  # of one point, beyond which labels are left out or cut
MOST_KNOWN = 10_000  # joined objects that are kept, as the same ones come again and again
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


# Source (None: there is none), name of the series, if the element has one, and labels.
Described = tuple[str | None, str | None, dict[str, Any] | None]
# An element decoded, the record around it, the element's bytes, the place of what it is in, its position there (-1: it
# is that itself), and why it is not read: a str if that is no mistake.
Element = tuple[Any, Any, Any, str, int, InvalidPoint | str | None]
# Elements, the record around each, its bytes, and the positions of these records; None: each record is one element.
Spread = tuple[list[Any], list[Any], list[Any], list[int] | None]
Numbers = tuple[list[int], list[str], list[float]]  # of elements: how many each has, the name of each, and all of them
Getters = tuple[Ways, Ways | None]  # from an element; where it has nothing: from the record around it


class Mapping:
    """Reads JSON objects as the settings say.

    ``skips_empty``: why a record without points is skipped; none: it is a dead letter. ``whole``: elements are dicts.

    Attributes
    ----------
    decode, decode_usual
        A record from its bytes, for ``elements`` and for ``spread``. Both raise msgspec.DecodeError, the second also of
        records that the first reads.
    """

    def __init__(self, input: InputSettings, skips_empty: str = "", whole: bool = False) -> None:
        self._strict = not input.numbers_as_text
        self._skips_empty = skips_empty
        self.apart = bool(input.values_apart)
        self._points = paths.choice(input.points_field) if input.points_field else ()
        self._points_optional = bool(input.points_field) and str(input.points_field).endswith("|")
        self._source = paths.template(input.source_field or "|".join(SOURCE_NAMES))
        self._timestamp = paths.choice(input.timestamp_field or "timestamp")
        usual = not input.value_fields
        self._values = [paths.choice(text) for text in input.value_fields or (VALUE, "values.*")]
        self._metric = paths.choice(input.metric_field or "metric") if usual or input.metric_field else ()
        self._labels = [paths.choice(text) for text in input.labels]
        # Numbers are taken wherever they are, so a record without any is no mistake.
        self.wild = any(path.many for choice in self._values for path in choice) and not usual
        self.single = len(input.value_fields) == 1 and not self.wild
        # For reasons: the fields that may have what a point needs.
        self.source_names = _either(part.field for part in self._source)
        self.time_names, self.value_names = _either([self._timestamp]), _either(self._values)
        names = [VALUE, "values"] if usual else [choice[0].text.removeprefix(TOP) for choice in self._values]

        self.flat = names[0] if self.single and not self.apart else ""  # the only value, if a point has no other
        self._known: dict[bytes, str] = {}
        self._inner, self._outer = Fields(), Fields()  # of an element, of the record
        if whole:
            self._inner.add(paths.choice("**"), Any)
        if self._points:
            self._outer.add(self._points, msgspec.Raw)
        roles: list[tuple[Choice, Any, bool]] = [(part.field, Name, True) for part in self._source if part.field]
        roles += [(self._timestamp, Time, True), *((choice, float, False) for choice in self._values)]
        roles += [(self._metric, Name, True)] if self._metric else []
        roles += [(choice, Scalar, True) for choice in self._labels]
        for choice, kind, shared in roles:
            inner, outer = self._placed(choice, shared)
            self._inner.add(inner, kind, as_raw=kind is Name)
            self._outer.add(outer, kind, as_raw=kind is Name)
        self.decode = _decoder(self._outer.type() if self._points else self._inner.type(), self._strict)
        self.decode_usual = self.decode
        self._decode_inner = _decoder(self._inner.type(), self._strict)
        self._get_points = self._outer.getter(self._points) if self._points else None
        self._get_source = [
            (part.before, part.field[-1].many, part.optional, self._getter(part.field))
            for part in self._source
            if part.field
        ]
        self._after = "" if self._source[-1].field else self._source[-1].before
        self._get_timestamp = self._getter(self._timestamp)
        self._get_values = [
            (name, choice[-1].many, self._getter(choice, False)) for name, choice in zip(names, self._values)
        ]
        # A format may read cells in a way of its own.
        ours = type(self).cells is Mapping.cells and len(self._get_values) == 1 and self._get_values[0][1]
        self._wild_only = self._get_values[0][2] if ours else None
        self._get_metric = self._getter(self._metric) if self._metric else None
        self._get_labels = [
            (choice[0].text.removeprefix(TOP), choice[-1].many, self._getter(choice)) for choice in self._labels
        ]

    def _placed(self, choice: Choice, shared: bool) -> tuple[Choice, Choice]:
        """The paths of an element, and those of the record around it."""
        if not self._points:
            return choice, ()
        inner = tuple(path for path in choice if not path.top)
        outer = tuple(path for path in choice if path.top or shared)
        return inner, outer

    def _getter(self, choice: Choice, shared: bool = True) -> Getters:
        inner, outer = self._placed(choice, shared)
        return self._inner.getter(inner), self._outer.getter(outer) if outer else None

    # --- reading

    def elements(self, record: Any, raw: bytes, path: str) -> Iterable[Element]:
        """The elements of a record, in its order; at least one. ``path``: the place of the record."""
        if self._get_points is None:
            return ((record, record, raw, path, -1, None),)
        inner = self._get_points(record)
        if inner is None and self._points_optional:
            return (self._element(raw, record, path, -1),)
        if inner is None:
            missing = InvalidPoint("no_value", f"{path}.{_either([self._points])} must hold points, got nothing")
            return ((None, record, raw, path, -1, self._skips_empty or missing),)
        if not isinstance(inner, msgspec.Raw):
            inner = msgspec.Raw(_encode(inner))
        path = f"{path}.{self._points[0].text}"
        if bytes(inner)[:1] != b"[":
            return (self._element(inner, record, path, -1),)
        if found := _split(inner):
            return [self._element(one, record, path, i) for i, one in enumerate(found)]
        nothing = InvalidPoint("empty", f"{path} must hold at least one point, got an empty array")
        return ((None, record, raw, path, -1, nothing),)

    def _element(self, raw: Any, record: Any, path: str, i: int) -> Element:
        try:
            return self._decode_inner(raw), record, raw, path, i, None
        except msgspec.DecodeError as error:
            return None, record, raw, path, i, self.explained(raw, str(error), place(path, i))

    def described(self, element: Any, record: Any) -> Described:
        """Raises msgspec.ValidationError if a field is of another type."""
        metric = None
        if self._get_metric is not None and (metric := _get(self._get_metric, element, record)) is not None:
            metric = _text(metric)
        return self._name(element, record), metric, self._labelled(element, record) if self._get_labels else None

    def time(self, element: Any, record: Any) -> float | datetime | None:
        """Raises msgspec.ValidationError."""
        near, far = self._get_timestamp
        time = near(element)
        if time is None and far is not None:
            time = far(record)
        if time is None or type(time) is float or type(time) is datetime:
            return time
        return msgspec.convert(time, Time, strict=self._strict)

    def cells(self, element: Any, record: Any) -> list[tuple[str, float]]:
        """(name, number) of each value; NaN if it is written as text. Raises msgspec.ValidationError, OverflowError."""
        cells: list[tuple[str, float]] = []
        for name, many, (near, far) in self._get_values:
            found = near(element)
            if found is None and far is not None:
                found = far(record)
            if found is None:
                continue
            if many:
                if type(found) is not dict:
                    raise msgspec.ValidationError("Expected `object`")
                cells += self.numbers(found, many)
            else:
                number = found if type(found) is float else msgspec.convert(found, float, strict=self._strict)
                cells.append((name, number))
        return cells

    def numbers(self, found: dict[str, Any], many: str, before: str = "") -> list[tuple[str, float]]:
        """(name, number) of the fields that have one. ``before``: begins each name."""
        cells: list[tuple[str, float]] = []
        for name, value in found.items():
            kind = type(value)
            if kind is float:
                cells.append((before + name, value))
            elif kind is int:
                cells.append((before + name, float(value)))
            elif kind is dict and many == "**":
                cells += self.numbers(value, many, f"{before}{name}.")
            elif kind is str and not self._strict:
                with suppress(msgspec.ValidationError):
                    cells.append((before + name, msgspec.convert(value, float, strict=False)))
        return cells

    # --- of many elements at once

    def spread(self, records: list[Any], raw: list[bytes]) -> Spread:
        """The elements of these records, without those of records in which one is not read."""
        if self._get_points is None:
            return records, records, raw, None
        inner = self._get_points.all(records)
        try:
            if self._points_optional and all([one is None for one in inner]):
                return list(map(self._decode_inner, raw)), records, raw, None
            if set(map(type, inner)) == {msgspec.Raw} and all([bytes(one)[:1] == b"{" for one in inner]):
                return list(map(self._decode_inner, inner)), records, inner, None
            if set(map(type, inner)) == {msgspec.Raw}:
                many = list(map(_split, inner))
                counts = list(map(len, many))
                if all(counts):
                    pieces = list(chain.from_iterable(many))
                    around, of = repeated(records, counts), repeated(range(len(records)), counts)
                    return list(map(self._decode_inner, pieces)), around, pieces, of
        except msgspec.DecodeError:
            pass
        return self.spread_each(records, raw)

    def spread_each(self, records: list[Any], raw: list[bytes]) -> Spread:
        """The same of records that may have several."""
        found: list[Any] = []
        around: list[Any] = []
        pieces: list[Any] = []
        of: list[int] = []
        for i, (record, value) in enumerate(zip(records, raw)):
            elements = self.elements(record, value, "")
            if any([why is not None for *_, why in elements]):
                continue
            for one, outer, piece, *_ in elements:
                found.append(one)
                around.append(outer)
                pieces.append(piece)
                of.append(i)
        return found, around, pieces, of

    def pieces(self, found: Sequence[Any]) -> Sequence[bytes]:
        """The bytes of the elements of a record, of what ``spread`` gave for each."""
        return found

    def all_described(
        self, elements: list[Any], around: list[Any]
    ) -> tuple[list[str | None], list[str | None] | None, list[dict[str, Any] | None] | None]:
        """As ``described``, in columns; no source where a field is of another type."""
        metric: list[Any] | None = None
        source = self._all_names(elements, around)
        if self._get_metric is not None:
            metric = _column(self._get_metric, elements, around)
            kinds = set(map(type, metric))
            if kinds == {type(None)}:
                metric = None
            elif not kinds <= {str, type(None)}:
                source = [one if type(name) in _NAMES else None for one, name in zip(source, metric)]
                metric = [str(name) if type(name) is int else name for name in metric]
        return source, metric, self._all_labels(elements, around) if self._get_labels else None

    def _all_labels(self, elements: list[Any], around: list[Any]) -> list[dict[str, Any] | None]:
        if len(self._get_labels) == 1 and not self._get_labels[0][1]:
            [(name, _, getters)] = self._get_labels
            column = _column(getters, elements, around)
            if set(map(type, column)) == {str} and max(map(len, column)) <= MAX_LABEL_CHARS:
                return [{name: text} for text in column]
        return [self._labelled(*one) for one in zip(elements, around)]

    def _all_names(self, elements: list[Any], around: list[Any]) -> list[str | None]:
        names: list[str] | None = None
        for before, many, optional, getters in self._get_source:
            column = _column(getters, elements, around)
            kinds = set(map(type, column))
            if many and kinds == {msgspec.Raw}:
                try:
                    column = self._all_joined(column, many)
                except msgspec.ValidationError:
                    break
                kinds = set(map(type, column))
            if optional and kinds == {type(None)}:
                continue
            if not kinds <= {str, type(None)} or (not optional and (type(None) in kinds or "" in column)):
                break
            if names is None:
                names = [text or "" for text in column] if optional else [before + text for text in column]
            elif optional:
                names = [(name and name + before) + text if text else name for name, text in zip(names, column)]
            else:
                names = [f"{name}{before}{text}" for name, text in zip(names, column)]
        else:
            if names is not None:
                return [name + self._after for name in names]
        return [or_none(self._name, *one) for one in zip(elements, around)]

    def all_times(self, elements: list[Any], around: list[Any]) -> list[Any]:
        """As ``time``; False where it is of another type."""
        times = _column(self._get_timestamp, elements, around)
        if set(map(type, times)) <= {float, datetime, type(None)}:
            return times
        try:
            return msgspec.convert(times, list[Time], strict=self._strict)
        except (msgspec.ValidationError, OverflowError):
            return [None if time is None else or_none(self._as_time, time) or False for time in times]

    def _as_time(self, time: Any) -> Any:
        return msgspec.convert(time, Time, strict=self._strict)

    def all_numbers(self, elements: list[Any], around: list[Any]) -> Numbers:
        """As ``cells``; an element in which a value is of another type has none."""
        if self._wild_only is not None and (numbers := self._all_wild(_column(self._wild_only, elements, around))):
            return numbers
        if self.flat:
            values = _column(self._get_values[0][2], elements, around)
            if set(map(type, values)) == {float}:
                return [1] * len(values), [self.flat] * len(values), values
        try:
            cells = list(map(self.cells, elements, around))
        except (msgspec.ValidationError, OverflowError):
            cells = [or_none(self.cells, *one) or [] for one in zip(elements, around)]
        return (
            list(map(len, cells)),
            [name for some in cells for name, _ in some],
            [value for some in cells for _, value in some],
        )

    def _all_wild(self, found: list[Any]) -> Numbers | None:
        """The numbers of objects of numbers and texts; None where one is something else."""
        if set(map(type, found)) != {dict}:
            return None
        values = list(chain.from_iterable(map(dict.values, found)))
        kinds = set(map(type, values))
        if not kinds <= {float, int}:
            if dict in kinds or not self._strict:
                return None
            found = [{name: x for name, x in one.items() if type(x) is float or type(x) is int} for one in found]
            values = list(chain.from_iterable(map(dict.values, found)))
        if int in kinds:
            try:
                values = list(map(float, values))
            except OverflowError:
                return None
        return list(map(len, found)), list(chain.from_iterable(found)), values

    def _name(self, element: Any, record: Any) -> str | None:
        name = ""
        for before, many, optional, (near, far) in self._get_source:
            found = near(element)
            if found is None and far is not None:
                found = far(record)
                found = None if type(found) in (dict, list) and not many else found  # something else of that name
            if type(found) is str:
                text = found
            elif found is None:
                text = ""
            else:
                text = self._joined(found, many) if many else _text(found)
            if text:
                name += before + text if name or not optional else text
            elif not optional:
                return None
        return name + self._after

    def _joined(self, found: Any, many: str) -> str:
        """a=b,c=d of an object, sorted by name; of one that was left undecoded, as it was when it last came."""
        if type(found) is dict:
            return _joined(found, many)
        raw = bytes(found)
        if (text := self._known.get(raw)) is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            text = self._known[raw] = _joined(_decode_object(raw), many)
        return text

    def _all_joined(self, found: list[msgspec.Raw], many: str) -> list[str]:
        texts = list(map(self._known.get, map(bytes, found)))
        return [self._joined(one, many) if text is None else text for one, text in zip(found, texts)]  # type: ignore[misc]

    def _labelled(self, element: Any, record: Any) -> dict[str, Any] | None:
        labels: dict[str, Any] = {}
        for name, many, getters in self._get_labels:
            found = _get(getters, element, record)
            if many:
                labels.update(scalars(found, many))
            elif found is not None and type(found) not in (dict, list):
                labels[name] = found
        if len(labels) > MAX_LABELS:
            labels = dict(list(labels.items())[:MAX_LABELS])
        for name, value in labels.items():
            if type(value) is str and len(value) > MAX_LABEL_CHARS:
                labels[name] = value[:MAX_LABEL_CHARS]
        return labels or None

    # --- what is wrong

    def explained(self, raw: Any, error: str, path: str) -> InvalidPoint:
        """Why this element was refused with ``error``."""
        return malformed.explain(bytes(raw), self.complaints, error, path)

    def complaints(self, found: Any, path: str) -> Iterator[tuple[str, str]]:
        """(label, reason) of everything wrong in the fields of an element, or of a record without elements."""
        if not isinstance(found, dict):
            yield "wrong_type", f"{path} must be an object, got {shown(found)}"
            return
        names = [field for part in self._source for field in part.field]
        for field, wanted in [(field, "bad_source") for field in names] + [(one, "bad_metric") for one in self._metric]:
            for at, value in self._inside(found, field):
                if field.many and not isinstance(value, dict):
                    yield wanted, f"{path}{at} must be an object, got {shown(value)}"
                elif not field.many and not malformed.is_name(value):
                    yield wanted, f"{path}{at} must be text or a whole number, got {shown(value)}"
        for field in self._timestamp:
            for at, value in self._inside(found, field):
                if isinstance(value, malformed.NotFinite) or not malformed.is_time(value, self._strict):
                    wanted = 'a number or a time such as "2023-10-27T09:37:40Z"'
                    yield "bad_timestamp", f"{path}{at} must be {wanted}, got {shown(value)}"
        for choice in self._values:
            for field in choice:
                for at, value in self._inside(found, field):
                    if not field.many:
                        yield from self._not_a_number(value, f"{path}{at}")
                    elif not isinstance(value, dict):
                        yield "wrong_type", f"{path}{at} must be an object, got {shown(value)}"
        yield from self._blocked(found, path)

    def _inside(self, found: dict, field: Path) -> list[tuple[str, Any]]:
        if field.top and self._points:
            return []
        return [(at, value) for at, value, there in find(found, field) if there]

    def _blocked(self, found: dict, path: str) -> Iterator[tuple[str, str]]:
        """Of what is no object, though a path leads through it."""
        choices = [*(part.field for part in self._source), self._timestamp, *self._values, self._metric, *self._labels]
        for choice in choices:
            for field in choice:
                if not field.top or not self._points:
                    for at, value, there in find(found, field):
                        if not there:
                            yield "wrong_type", f"{path}{at} must be an object, got {shown(value)}"

    def _not_a_number(self, value: Any, path: str) -> Iterator[tuple[str, str]]:
        number = value.strip() if isinstance(value, str) else None
        if number is not None and number.lstrip("+-").lower() in ("inf", "infinity", "nan"):
            yield "not_finite", f"{path} must be finite, got {shown(value)}"
        elif number is not None and self._strict and _is_number(number):
            yield "wrong_type", f"{path} must be a number, got {shown(value)}; input.numbers_as_text: true allows it"
        elif number is None or not _is_number(number):
            yield from malformed.number(value, path)


def _either(choices: Iterable[Choice]) -> str:
    return " or ".join(path.text.removeprefix(TOP) for choice in choices for path in choice)


def place(path: str, i: int) -> str:
    """Of an element, in reasons."""
    return path if i < 0 else f"{path}[{i}]"


def _get(getters: Getters, element: Any, record: Any) -> Any:
    near, far = getters
    found = near(element)
    return far(record) if found is None and far is not None else found


def _column(getters: Getters, elements: list[Any], around: list[Any]) -> list[Any]:
    near, far = getters
    found = near.all(elements)
    if far is None or None not in found:
        return found
    others = iter(far.all([outer for one, outer in zip(found, around) if one is None]))
    return [next(others) if one is None else one for one in found]


def repeated(column: Iterable[Any], counts: list[int]) -> list[Any]:
    """Each so many times."""
    if counts.count(1) == len(counts):
        return list(column)
    return list(chain.from_iterable(map(repeat, column, counts)))


def or_none(read: Callable[..., Any], *given: Any) -> Any:
    try:
        return read(*given)
    except (msgspec.ValidationError, OverflowError):
        return None


def _decoder(kind: Any, strict: bool) -> Callable[[Any], Any]:
    decode = msgspec.json.Decoder(kind, strict=strict).decode
    if kind is not Any:
        return decode

    def whole(raw: Any) -> Any:
        found = decode(raw)
        if type(found) is not dict:
            raise msgspec.ValidationError("Expected `object`")
        return found

    return whole


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(msgspec.convert(text, float, strict=False))
    except msgspec.ValidationError:
        return False


def _text(found: Any) -> str:
    """A text or a whole number. Raises msgspec.ValidationError."""
    if type(found) is str:
        return found
    if type(found) is int:
        return str(found)
    raise msgspec.ValidationError("Expected `str`")


def _joined(found: Any, many: str) -> str:
    pairs = sorted(pair for pair in scalars(found, many) if not pair[0].startswith("__"))
    return ",".join([f"{_escaped(name)}={_escaped(value)}" for name, value in pairs])


def _escaped(value: Any) -> str:
    """So that no two objects give the same text."""
    text = value if type(value) is str else _encode(value).decode()
    if "," in text or "=" in text or "\\" in text:
        return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
    return text

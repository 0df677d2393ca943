"""Finds why bytes are not a point: slowly, but exactly, for the person who reads the dead letter.

msgspec reports place and type; this module adds the value, and recognizes NaN. Reasons depend on the bytes alone, so
that a record that is read again gives the same dead letter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from app.errors import InvalidPoint
from app.wire.schema import Names, Time

LABELS = (
    "bad_metric", "bad_source", "bad_timestamp", "empty", "invalid_json", "key_mismatch", "no_value", "not_finite",
    "not_read", "out_of_range", "too_deep", "too_many_metrics", "wrong_type",
)  # fmt: skip

MAX_DEPTH = 128  # far below the limit of any stack; a point needs 3
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MOST_SHOWN = 80
_MOST_SEARCHED = 10_000  # values searched for one that is not finite
_DIGITS_AS_0 = bytes.maketrans(b"123456789E", b"000000000e")
_HUGE = (b"e000", b"e+000", b"0" * 300)  # one of them is in every number beyond all floats, digits as 0
_NOWHERE = np.zeros(0, np.int64)
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def too_deep(value: bytes) -> bool:
    """Whether arrays and objects are nested deeper than MAX_DEPTH, strings aside. O(length)."""
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    # Escapes occur in strings only; without them every second piece between quotes is outside of strings.
    outside = value.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    brackets = np.frombuffer(b"".join(outside).translate(None, _NO_BRACKETS), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return bool(len(steps)) and int(np.cumsum(steps).max()) > MAX_DEPTH


def any_too_deep(values: Sequence[bytes]) -> bool:
    """Whether one of them is, or is no JSON; by loops in C if none has many brackets."""
    if max(map(len, values), default=0) <= 2 * MAX_DEPTH:  # too short for as many brackets that are closed again
        return False
    return _most_brackets(values) > MAX_DEPTH and any(map(too_deep, values))


def _most_brackets(values: Sequence[bytes]) -> int:
    """No less than any of them opens: counted in words of 64 bytes, where others begin or end too."""
    ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    text = np.frombuffer(b"".join([*values, bytes(-ends[-1] % 64)]), np.uint8) | 0x20
    words = np.bitwise_count(np.packbits(text == ord("{")).view(np.uint64))  # [ is 0x5b, { is 0x7b
    before = np.append(0, np.cumsum(words, dtype=np.int64))
    return int((before[ends + 63 >> 6] - before[np.append(0, ends[:-1]) >> 6]).max())


def nested() -> InvalidPoint:
    return InvalidPoint("too_deep", f"value must not be nested deeper than {MAX_DEPTH}")


Complaints = Callable[[Any, str], Iterator[tuple[str, str]]]  # of decoded JSON at a path: (label, reason)


def explain(raw: bytes, complaints: Complaints, error: str, path: str) -> InvalidPoint:
    """The error in JSON (valid UTF-8, not too deep) that msgspec refused with ``error``."""
    try:
        found = _loads(raw)
    except ValueError:
        return InvalidPoint("invalid_json", f"{path} must be JSON: {error}")
    if not (path == "$" and isinstance(found, list)):
        for label, reason in complaints(found, path):
            return InvalidPoint(label, reason)
    for where, value in islice(_values(found, path), _MOST_SEARCHED):
        if isinstance(value, NotFinite):
            return InvalidPoint("not_finite", f"{where} must be finite, got {value.text}")
    starts, ends = _constants(raw)
    if len(starts):
        text = raw[starts[0] : ends[0]].decode()
        return InvalidPoint("not_finite", f"{path} must be finite in all it holds, got {text}")
    if error.startswith(("Expected ", "Invalid ")):
        return InvalidPoint("wrong_type", f"{path}: {error}")
    return InvalidPoint("invalid_json", f"{path} must be JSON that we can read: {error}")


def elements(raw: bytes) -> Sequence[bytes] | None:
    """The elements, as they were sent, of an array that is JSON except for NaN and Infinity; None for other bytes.

    Python's json writes NaN for a missing number. The elements around it are good.
    """
    starts, ends = _constants(raw)
    if not len(starts):
        return None
    masked = np.frombuffer(raw, np.uint8).copy()
    masked[starts] = masked[ends - 1] = ord('"')  # NaN becomes "a"
    text = masked.tobytes()
    try:
        return _Elements(raw, text, _split(text))
    except msgspec.DecodeError:
        return None


class _Elements(Sequence[bytes]):
    """Slices of ``raw``, found on demand: of 300,000 elements in a bad record most are never needed.

    ``masked``: the same bytes with NaN masked; ``pieces``: its elements.
    """

    def __init__(self, raw: bytes, masked: bytes, pieces: Sequence[Any]) -> None:
        self._raw, self._masked, self._pieces = raw, masked, pieces
        self._found: list[bytes] = []
        self._end = 0  # of the last one found

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, index: Any) -> Any:
        while index >= len(self._found):
            piece = bytes(self._pieces[len(self._found)])
            start = self._masked.index(piece, self._end)  # only white space and a comma come before it
            self._end = start + len(piece)
            self._found.append(self._raw[start : self._end])
        return self._found[index]


def _constants(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where NaN and Infinity start and end, except in strings; ascending."""
    if b"NaN" not in raw and b"Infinity" not in raw:
        return _NOWHERE, _NOWHERE
    text = np.frombuffer(raw, np.uint8)
    quotes = np.frombuffer(raw.replace(b"\\\\", b"..").replace(b'\\"', b".."), np.uint8) == ord('"')
    free = ~np.logical_xor.accumulate(quotes)
    starts, ends = [], []
    for word in (b"NaN", b"Infinity"):
        at = np.flatnonzero(free & (text == word[0]))
        at = at[at <= len(raw) - len(word)]
        for i in range(1, len(word)):
            at = at[text[at + i] == word[i]]
        minus = (at > 0) & (text[at - 1] == ord("-")) & (word == b"Infinity")
        starts.append(at - minus)
        ends.append(at + len(word))
    return np.sort(np.concatenate(starts)), np.sort(np.concatenate(ends))


def shown(value: Any) -> str:
    """A value as JSON, cut when long."""
    if isinstance(value, NotFinite):
        text = value.text
    elif isinstance(value, dict):
        return "an object"
    elif isinstance(value, list):
        return f"an array of {len(value)}"
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


class NotFinite(float):
    """NaN, Infinity, or a number beyond the range of floats, as it was written."""

    text: str

    def __new__(cls, text: str) -> NotFinite:
        self = super().__new__(cls, math.nan)
        self.text = text
        return self


def _loads(raw: bytes) -> Any:
    """JSON, with NotFinite for numbers that are not finite.

    C parses the numbers where none can be beyond the range of floats: a Python call for each takes ten times as long.
    """
    text, plain = raw.decode(), raw.translate(_DIGITS_AS_0)
    if any(part in plain for part in _HUGE):
        return json.loads(text, parse_constant=NotFinite, parse_float=_float, parse_int=_int)
    return json.loads(text, parse_constant=NotFinite)


def _float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else NotFinite(text)


def _int(text: str) -> float:
    return int(text) if len(text) <= 300 else NotFinite(text)


def complaints(names: Names, found: Any, path: str) -> Iterator[tuple[str, str]]:
    """(label, reason) of everything wrong in the fields of a point."""
    if not isinstance(found, dict):
        yield "wrong_type", f"{path} must be an object, got {shown(found)}"
        return
    for name in names.source:
        if not is_name(source := found.get(name)):
            yield "bad_source", f"{path}.{name} must be text or a whole number, got {shown(source)}"
    time = found.get(names.timestamp)
    if isinstance(time, NotFinite) or not is_time(time):
        wanted = 'epoch seconds or a time such as "2023-10-27T09:37:40Z"'
        yield "bad_timestamp", f"{path}.{names.timestamp} must be {wanted}, got {shown(time)}"
    for name in names.values or ("value",):
        yield from number(found.get(name), f"{path}.{name}")
    if names.values:
        return
    values = found.get("values")
    if isinstance(values, dict):
        for name, value in values.items():
            if type(value) not in _NUMBERS:
                yield from number(value, f"{path}.values.{_cut(name)}")
    elif values is not None:
        yield "wrong_type", f"{path}.values must be an object of numbers, got {shown(values)}"
    if not is_name(metric := found.get("metric")):
        yield "bad_metric", f"{path}.metric must be text or a whole number, got {shown(metric)}"


_NUMBERS = (float, int, type(None))


def number(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, NotFinite):
        yield "not_finite", f"{path} must be finite, got {shown(value)}"
    elif isinstance(value, bool) or not isinstance(value, int | float | None):
        yield "wrong_type", f"{path} must be a number, got {shown(value)}"


def is_name(value: Any) -> bool:
    return isinstance(value, str | int | None) and not isinstance(value, bool)


def is_time(value: Any, strict: bool = True) -> bool:
    try:
        msgspec.convert(value, Time, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _values(found: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in ``found``, in its order."""
    yield path, found
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _values(value, f"{path}.{_cut(name)}")
    elif isinstance(found, list):
        for i, value in enumerate(found):
            yield from _values(value, f"{path}[{i}]")


def _cut(name: str) -> str:
    return name if len(name) <= _MOST_SHOWN else name[: _MOST_SHOWN - 3] + "..."

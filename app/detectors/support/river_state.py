"""State of a River estimator or pipeline <-> bytes, without pickle.

An estimator is a graph of objects. ``dumps`` walks it and writes msgpack: numbers and text as they are,
everything else as a list that begins with its kind. An object that is met again is written as a
reference, so shared parts stay shared and cycles close. The same state gives the same bytes.

What loading does if the bytes are forged
-----------------------------------------
Nothing is imported: a class must be loaded already, as it is once the estimator has been built.
Nothing is called but ``cls.__new__`` and ``__setstate__`` of allow-listed classes; no ``__init__``, no
function, no factory. Allow-listed are the packages of River in PACKAGES (not those that read files, the
network or pickles: stream, datasets, compat, checks), the classes in CLASSES, random.Random, and numpy
arrays of plain numbers, and the classes that the operator named (``allow``). An estimator may hold
River's functions as values; loading does not call them.

Damage is another matter: River keeps its statistics in a Rust library that takes the bytes it gave,
unchecked. Verify a checksum before ``loads``, as ``app.state.snapshot`` does.

Not supported, by StateError on ``dumps``: lambdas and user functions, numpy's generators, dates.
"""

from __future__ import annotations

import collections
import copyreg
import functools
import random
import sys
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import msgspec
import numpy as np

from app.errors import StateError

FORMAT = 1  # raise when old bytes would mean something else

PACKAGES = {
    *("_river_rust", "anomaly", "base", "compose", "covariance", "drift", "feature_extraction", "linear_model"),
    *("neighbors", "optim", "preprocessing", "proba", "sketch", "stats", "time_series", "tree", "utils"),
}
RUST = "river._river_rust."
CLASSES = {
    (cls.__module__, cls.__qualname__): cls
    for cls in (
        *(bool, dict, float, frozenset, int, list, set, str, tuple),
        *(collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque),
    )
}
MAPPINGS: list[type] = [dict, collections.OrderedDict, collections.Counter]

# Kinds: the first element of a list. Numbers are never reused.
REFERENCE, OBJECT, RUST_OBJECT, LIST, TUPLE, MAPPING, DEFAULTDICT, DEQUE, SET, FROZENSET = range(10)
NAME, PARTIAL, METHOD, RANDOM, ARRAY, SCALAR = range(10, 16)

_UNSEEDED = random.Random(0).getstate()  # most generators are seeded with 0 and never drawn from


def dumps(estimator: Any) -> bytes:
    """The state of an estimator, or of a tuple of parts of one.

    Raises
    ------
    StateError
        It holds something that is not allow-listed; the message names it.
    """
    writer = _Writer()
    try:
        root = writer.write(estimator)
        return msgspec.msgpack.encode([FORMAT, writer.classes, root])
    except (OverflowError, ValueError, RecursionError) as error:
        raise _refusal(f"{type(estimator).__qualname__} cannot be written: {error}") from error


def loads(data: bytes) -> Any:
    """What ``dumps`` was given; it goes on exactly as the original would.

    Raises
    ------
    StateError
        The bytes are damaged, of another format, or name what is not allow-listed.
    """
    try:
        stored, classes, root = msgspec.msgpack.decode(data)
        if stored != FORMAT:
            raise _refusal(f"format must be {FORMAT}, got {stored!r:.40}: written by another release")
        return _StateReader(classes).read(root)
    except (
        msgspec.DecodeError, ValueError, TypeError, LookupError, AttributeError,
        OverflowError, RecursionError, MemoryError,
    ) as error:  # fmt: skip
        raise _refusal(f"{len(data)} bytes cannot be read: {error!r:.200}") from error


def _refusal(why: str) -> StateError:
    return StateError(f"River state: {why}")


# --- what may be named


def _address(value: Any) -> tuple[str, str]:
    return getattr(value, "__module__", None) or "", getattr(value, "__qualname__", "")


_named: dict[tuple[str, str], type] = {}


def allow(cls: type) -> None:
    """Let states hold objects of a class that is not River's, which is named in the settings."""
    _named[_address(cls)] = cls


@functools.lru_cache(maxsize=4096)
def _find(module: str, name: str) -> Any:
    """The allow-listed class or function of this name. Nothing is imported."""
    if (module, name) in CLASSES:
        return CLASSES[module, name]
    if (module, name) in _named:
        return _named[module, name]
    package = module.split(".")
    if package[0] != "river" or len(package) < 2 or package[1] not in PACKAGES:
        raise _refusal(f"{module}.{name} is not allow-listed")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    # A name may lead to something imported there from elsewhere; only what is at home there counts.
    if not isinstance(found, (type, FunctionType, BuiltinFunctionType)) or _address(found) != (module, name):
        raise _refusal(f"{module}.{name} is no class or function of this River")
    return found


@functools.cache
def _slots(cls: Any) -> frozenset[str]:
    named: set[str] = set()
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        named.update([slots] if isinstance(slots, str) else slots)
    return frozenset(named - {"__dict__", "__weakref__"})


@functools.cache
def _is_attributes(cls: Any) -> bool:
    """A class of River's Python, or one named, that keeps all its state in attributes, not in what it builds upon."""
    river = cls.__module__.startswith("river.") and not cls.__module__.startswith(RUST)
    river = river or _address(cls) in _named
    own = any(
        getattr(cls, hook, None) is not getattr(object, hook, None)
        for hook in ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
    )
    return river and not own and not issubclass(cls, (list, dict, tuple, set, frozenset, str, int, float, bytes))


def _check_numbers(dtype: np.dtype) -> None:
    if dtype.kind not in "biuf":
        raise _refusal(f"an array must be of plain numbers, got {dtype}")


def _check_factory(factory: Any) -> None:
    if not (factory is None or isinstance(factory, (type, functools.partial, MethodType))):
        raise _refusal(f"a defaultdict must make its values by a class, got {factory!r}")


# --- objects to lists


class _Writer:
    """One graph on its way out."""

    def __init__(self) -> None:
        self.classes: list[list] = []  # [module, name, layout..]; a layout is [attributes, slots]
        self._class_number: dict[Any, int] = {}
        self._number: dict[int, int] = {}  # id of an object -> its place in the order of first sight
        self._alive: list[Any] = []  # keeps temporary objects, so that no id is used twice

    def write(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (float, str, bool, bytes, int):
            return value
        unshared = _UNSHARED.get(kind)
        if unshared is not None:
            return unshared(self, value)
        if isinstance(value, np.generic):
            _check_numbers(value.dtype)
            return [SCALAR, value.dtype.str, value.tobytes()]
        if isinstance(value, type):
            return [NAME, self._class(value)]
        number = self._number.get(id(value))
        if number is not None:
            return [REFERENCE, number]
        self._number[id(value)] = len(self._number)
        self._alive.append(value)
        return _SHARED.get(kind, _Writer._object)(self, value)

    def _class(self, value: Any) -> int:
        """The number of a class or function in the table; refused here what ``loads`` would refuse."""
        number = self._class_number.get(value)
        if number is None:
            module, name = _address(value)
            if _find(module, name) is not value:
                raise _refusal(f"{value!r} is not the {module}.{name} that would be loaded")
            number = self._class_number[value] = len(self.classes)
            self.classes.append([module, name])
        return number

    def _layout(self, number: int, layout: list) -> int:
        layouts = self.classes[number]
        if layout not in layouts[2:]:
            layouts.append(layout)
        return layouts.index(layout, 2)

    def _all(self, values: Iterable[Any]) -> list:
        return [self.write(v) for v in values]

    def _pairs(self, mapping: Any) -> list:
        return [self.write(v) for pair in mapping.items() for v in pair]

    def _object(self, value: Any) -> list:
        cls: Any = type(value)
        number = self._class(cls)
        if issubclass(cls, collections.deque):  # River's exponential smoothing
            return [DEQUE, number, value.maxlen, self._all(value), self._pairs(vars(value))]
        if cls.__module__.startswith(RUST):
            return [RUST_OBJECT, number, *self._rust(value)]
        if not _is_attributes(cls):
            raise _refusal(f"{cls.__module__}.{cls.__qualname__} does not keep its state in attributes")
        attributes = getattr(value, "__dict__", {})
        slots = [name for name in sorted(_slots(cls)) if hasattr(value, name)]
        layout = self._layout(number, [list(attributes), slots])
        held = [*attributes.values(), *(getattr(value, name) for name in slots)]
        return [OBJECT, number, layout, *self._all(held)]

    def _rust(self, value: Any) -> list:
        """[arguments of __new__, state]"""
        make, arguments, state, *items = [*value.__reduce_ex__(4), None][:6]
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            arguments = arguments[1:]
        elif make is not type(value):
            raise _refusal(f"{type(value)!r} is rebuilt by {make!r}, not by its class")
        if any(items):
            raise _refusal(f"{type(value)!r} is rebuilt item by item, which is not known of River's Rust classes")
        return [self._all(arguments), self.write(state)]

    def _mapping(self, value: Any) -> list:
        return [MAPPING, MAPPINGS.index(type(value)), self._pairs(value)]

    def _defaultdict(self, value: Any) -> list:
        _check_factory(value.default_factory)
        return [DEFAULTDICT, self.write(value.default_factory), self._pairs(value)]

    def _deque(self, value: Any) -> list:
        return [DEQUE, None, value.maxlen, self._all(value), []]

    def _members(self, value: Any) -> list:
        before = len(self._number)
        members = sorted(self._all(value), key=msgspec.msgpack.encode)  # a set has no order that would last
        if len(self._number) != before:
            raise _refusal("members of a set must be numbers, text, tuples of them, or classes")
        return members

    def _random(self, value: Any) -> list:
        state = value.getstate()
        if state == _UNSEEDED:
            return [RANDOM]
        version, words, gauss_next = state
        return [RANDOM, version, np.array(words, "<u4").tobytes(), gauss_next]

    def _array(self, value: Any) -> list:
        _check_numbers(value.dtype)
        # The layout is kept: sums of products differ in the last bit between layouts.
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        return [ARRAY, value.dtype.str, list(value.shape), order, value.tobytes(order)]

    def _partial(self, value: Any) -> list:
        if not isinstance(value.func, type):
            raise _refusal(f"functools.partial of {value.func!r}, which is no class")
        return [PARTIAL, self.write(value.func), self._all(value.args), self._pairs(value.keywords)]

    def _method(self, value: Any) -> list:
        self._class(type(value.__self__))
        return [METHOD, self.write(value.__self__), value.__func__.__name__]


# Immutable, so written in full each time; no number.
_UNSHARED: dict[type, Callable[[_Writer, Any], list]] = {
    tuple: lambda w, v: [TUPLE, w._all(v)],
    frozenset: lambda w, v: [FROZENSET, w._members(v)],
    FunctionType: lambda w, v: [NAME, w._class(v)],
    BuiltinFunctionType: lambda w, v: [NAME, w._class(v)],
    functools.partial: _Writer._partial,
    MethodType: _Writer._method,
}
_SHARED: dict[type, Callable[[_Writer, Any], list]] = {
    list: lambda w, v: [LIST, w._all(v)],
    set: lambda w, v: [SET, w._members(v)],
    dict: _Writer._mapping,
    collections.OrderedDict: _Writer._mapping,
    collections.Counter: _Writer._mapping,
    collections.defaultdict: _Writer._defaultdict,
    collections.deque: _Writer._deque,
    random.Random: _Writer._random,
    np.ndarray: _Writer._array,
}


# --- lists to objects

_UNFINISHED = object()


class _StateReader:
    """One graph on its way in. Objects get their numbers in the order in which the writer gave them."""

    def __init__(self, classes: list[list]) -> None:
        self._classes = [(_find(module, name), layouts) for module, name, *layouts in classes]
        self._seen: list[Any] = []

    def read(self, node: Any) -> Any:
        if type(node) is not list:
            if isinstance(node, (dict, msgspec.msgpack.Ext)):
                raise _refusal(f"no kind of value is written as a msgpack {type(node).__name__}")
            return node
        kind, *parts = node
        return _READERS[kind](self, *parts)

    def _known(self, value: Any) -> Any:
        self._seen.append(value)
        return value

    def _all(self, nodes: list) -> list:
        return [self.read(node) for node in nodes]

    def _fill(self, mapping: Any, nodes: list) -> Any:
        for key, value in zip(nodes[::2], nodes[1::2], strict=True):
            key = self.read(key)
            mapping[key] = self.read(value)
        return mapping

    def _named_class(self, number: int) -> type:
        cls = self._classes[number][0]
        if not isinstance(cls, type):
            raise _refusal(f"{cls!r} stands where a class must")
        return cls

    def _reference(self, number: int) -> Any:
        value = self._seen[number]
        if value is _UNFINISHED:
            raise _refusal("a reference to an object that is not made yet")
        return value

    def _object(self, number: int, layout: int, *nodes: Any) -> Any:
        cls = self._named_class(number)
        if not _is_attributes(cls):
            raise _refusal(f"{cls.__module__}.{cls.__qualname__} does not keep its state in attributes")
        attributes, slots = self._classes[number][1][layout - 2]
        if not _slots(cls).issuperset(slots):
            raise _refusal(f"{cls.__qualname__} has no slots {slots!r:.80}")
        value = self._known(object.__new__(cls))
        held = self._all(list(nodes))
        state = dict(zip(attributes, held))
        if len(held) != len(attributes) + len(slots):
            raise _refusal(f"{cls.__qualname__} has {len(held)} values for other attributes")
        if hasattr(cls, "__setstate__"):
            value.__setstate__(state)
        elif state:
            vars(value).update(state)
        for name, part in zip(slots, held[len(attributes) :]):
            object.__setattr__(value, name, part)
        return value

    def _rust_object(self, number: int, arguments: list, state: Any) -> Any:
        cls = self._named_class(number)
        if not cls.__module__.startswith(RUST):
            raise _refusal(f"{cls.__module__}.{cls.__qualname__} is no class of {RUST}")
        place = len(self._seen)
        self._seen.append(_UNFINISHED)
        made_of, state = self._all(arguments), self.read(state)
        try:
            value: Any = cls.__new__(cls, *made_of)
            if state is not None:
                value.__setstate__(state)
        except BaseException as error:  # a panic in Rust is no Exception
            if type(error).__name__ == "PanicException":
                raise _refusal(f"{cls.__qualname__} refuses its state: {error!s:.120}") from error
            raise
        self._seen[place] = value
        return value

    def _list(self, nodes: list) -> list:
        value = self._known([])
        value.extend(self._all(nodes))
        return value

    def _mapping(self, which: int, nodes: list) -> Any:
        return self._fill(self._known(MAPPINGS[which]()), nodes)

    def _defaultdict(self, factory: Any, nodes: list) -> Any:
        value = self._known(collections.defaultdict())
        value.default_factory = self.read(factory)
        _check_factory(value.default_factory)
        return self._fill(value, nodes)

    def _deque(self, number: int | None, maxlen: int | None, nodes: list, attributes: list) -> Any:
        cls = collections.deque if number is None else self._named_class(number)
        if not issubclass(cls, collections.deque):
            raise _refusal(f"{cls!r} is no deque")
        value: Any = self._known(collections.deque.__new__(cls))
        collections.deque.__init__(value, maxlen=maxlen)
        collections.deque.extend(value, self._all(nodes))
        if attributes:
            self._fill(vars(value), attributes)
        return value

    def _set(self, nodes: list) -> set:
        value = self._known(set())
        value.update(self._all(nodes))
        return value

    def _partial(self, function: Any, arguments: list, keywords: list) -> Any:
        cls = self.read(function)
        if not isinstance(cls, type):
            raise _refusal(f"functools.partial of {cls!r}, which is no class")
        return functools.partial(cls, *self._all(arguments), **self._fill({}, keywords))

    def _method(self, owner: Any, name: str) -> Any:
        owner = self.read(owner)
        cls = type(owner)
        _find(*_address(cls))
        if name.startswith("__") or not isinstance(getattr(cls, name), FunctionType):
            raise _refusal(f"{cls.__qualname__}.{name} is no method")
        return MethodType(getattr(cls, name), owner)

    def _random(self, version: int = 0, words: bytes = b"", gauss_next: float | None = None) -> random.Random:
        value = self._known(random.Random(0))
        if words:
            value.setstate((version, tuple(np.frombuffer(words, "<u4").tolist()), gauss_next))
        return value

    def _array(self, dtype: str, shape: list[int], order: Any, data: bytes) -> np.ndarray:
        return self._known(self._numbers(dtype, data).reshape(shape, order=order).copy("K"))

    def _scalar(self, dtype: str, data: bytes) -> Any:
        return self._numbers(dtype, data)[0]

    def _numbers(self, dtype: str, data: bytes) -> np.ndarray:
        _check_numbers(np.dtype(dtype))
        return np.frombuffer(data, dtype)


_READERS: dict[int, Callable[..., Any]] = {
    REFERENCE: _StateReader._reference,
    OBJECT: _StateReader._object,
    RUST_OBJECT: _StateReader._rust_object,
    LIST: _StateReader._list,
    TUPLE: lambda r, nodes: tuple(r._all(nodes)),
    MAPPING: _StateReader._mapping,
    DEFAULTDICT: _StateReader._defaultdict,
    DEQUE: _StateReader._deque,
    SET: _StateReader._set,
    FROZENSET: lambda r, nodes: frozenset(r._all(nodes)),
    NAME: lambda r, number: r._classes[number][0],
    PARTIAL: _StateReader._partial,
    METHOD: _StateReader._method,
    RANDOM: _StateReader._random,
    ARRAY: _StateReader._array,
    SCALAR: _StateReader._scalar,
}

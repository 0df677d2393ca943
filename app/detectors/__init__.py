"""Every detector there is, found by its file's name.

A module of this package with ``STATE`` and ``step`` is a kernel detector; one with ``adapters`` and
``adapter`` offers detectors of a library. ``api.py`` describes their declarations.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from app.detectors.api import Adapter, Params
from app.detectors.kinds import KINDS, VALUE
from app.errors import ConfigurationError

SCALES = ("deviations", "own_past", "surprise")
SCOPES = ("metric", "channel", "source")
ROLES = ("score", "episodes")
TARGETS = ("spikes", "shifts", "runs", "gaps")
INVARIANT = ("scale", "shift")


@dataclass(frozen=True)
class Kernel:
    """A detector that is one plain file."""

    name: str
    version: int
    params: Params
    state: Any
    step: Callable
    band: Callable | None
    lasts: Callable | None
    why: Callable | None
    scope: str
    opens_episodes: bool  # its role is "episodes"
    scale: str
    alert_at: str
    explanation: str | tuple[str, ...]  # by what ``why`` says
    kinds: tuple[str, ...]  # of the episodes that it opens, by what ``why`` says
    targets: str
    invariant: tuple[str, ...]
    seasonal: bool
    module: ModuleType

    def fields(self, p: Mapping[str, Any]) -> list[tuple]:
        """The fields of its state with these (complete) parameters; none for one that only reads the window."""
        return list(self.state(self.params.values(p)) if callable(self.state) else self.state)

    @property
    def reads_window(self) -> bool:
        return getattr(self.module, "WINDOW", "window_size") is not None

    def window_points(self, p: Mapping[str, Any]) -> int:
        """How large the window must be at least with these parameters."""
        return int(p.get("window_size") or 0) if self.reads_window else 0


def _kernel(name: str, module: ModuleType) -> Kernel:
    found = Kernel(
        name,
        module.VERSION,
        module.PARAMS,
        module.STATE,
        module.step,
        getattr(module, "band", None),
        getattr(module, "lasts", None),
        getattr(module, "why", None),
        _one_of(module, "SCOPE", SCOPES),
        _one_of(module, "ROLE", ROLES) == "episodes",
        _one_of(module, "SCALE", SCALES),
        module.ALERT_AT,
        module.EXPLANATION,
        _kinds(module),
        _one_of(module, "TARGETS", TARGETS),
        tuple(getattr(module, "INVARIANT", ())),
        getattr(module, "SEASONAL", False),
        module,
    )
    if not set(found.invariant) <= set(INVARIANT):
        raise TypeError(f"{module.__name__}: INVARIANT may hold {', '.join(INVARIANT)}, got {found.invariant!r}")
    for needed in ("warmup", found.alert_at):
        if needed not in found.params.declared:
            raise TypeError(f"{module.__name__}: PARAMS must have {needed!r}")
    if not callable(found.state) and not _flat(found.state):
        raise TypeError(f"{module.__name__}: STATE must have fields of one dimension, got {found.state!r}")
    return found


def _kinds(module: ModuleType) -> tuple[str, ...]:
    """One for each of its sentences."""
    sentences = 1 if isinstance(module.EXPLANATION, str) else len(module.EXPLANATION)
    given = getattr(module, "KINDS", (VALUE,) * sentences)
    found = (given,) if isinstance(given, str) else tuple(given)
    if len(found) != sentences or not set(found) <= set(KINDS):
        raise TypeError(
            f"{module.__name__}: KINDS must have one of {', '.join(KINDS)} for each EXPLANATION ({sentences}), "
            f"got {given!r}"
        )
    return found


def _one_of(module: ModuleType, name: str, allowed: Sequence[str]) -> str:
    found = getattr(module, name, allowed[0])
    if found not in allowed:
        raise TypeError(f"{module.__name__}: {name} must be one of {', '.join(allowed)}, got {found!r}")
    return found


def _flat(fields: Sequence[tuple]) -> bool:
    """Whether CPython can hold every field as a number, a list or further fields."""
    for _, kind, *shape in fields:
        if (shape and len(shape[0]) > 1) or not (isinstance(kind, str) or _flat(kind)):
            return False
    return True


KERNELS: dict[str, Kernel] = {}  # by method; complete from here on
_libraries: list[ModuleType] = []


def register(module: ModuleType) -> None:
    """Make a kernel detector, or a library's adapters, known. Done for every module of this package."""
    if hasattr(module, "STATE") and hasattr(module, "step"):
        name = getattr(module, "NAME", module.__name__.rpartition(".")[2])
        KERNELS[name] = _kernel(name, module)
    elif hasattr(module, "adapters") and hasattr(module, "adapter"):
        _libraries.append(module)


def names() -> list[str]:
    """Methods that ``find`` knows; of libraries, those they list."""
    return sorted([*KERNELS, *(name for library in _libraries for name in library.adapters())])


def find(method: str) -> Kernel | Adapter:
    """The detector of this name; ConfigurationError listing the known ones."""
    if method in KERNELS:
        return KERNELS[method]
    for library in _libraries:
        if adapter := library.adapter(method):
            return adapter
    raise ConfigurationError(f"no detector is called {method!r}; known are {', '.join(names())}")


def kernel(method: str) -> Kernel:
    """A detector that is a plain file, by its name."""
    return KERNELS[method]


def with_allowed(detector: Kernel | Adapter, given: Mapping[str, Any], allow_classes: Sequence[str]) -> dict[str, Any]:
    """Parameters with the classes that detection.allow_classes names, for a detector that takes them."""
    allowed = {"allow_classes": list(allow_classes)} if "allow_classes" in detector.params.declared else {}
    return {**given, **allowed}


def check(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a detector, with what is given in place of defaults; ConfigurationError if they do not fit."""
    return find(method).params.check(method, given)


for _found in pkgutil.iter_modules(__path__):
    register(importlib.import_module(f"{__name__}.{_found.name}"))

"""Compiled code on disk: a file for each function and types of its arguments, named by all that it was made of.

The files stand in $FAUST_ANOMALY_CACHE, else in the user's cache directory. A name holds two hashes: of the source of
the function and of every function it calls, of the constants they take from elsewhere, of the types and of the versions
of Python, numpy and numba; and of the processor that it was compiled for. So stale code is never run, and two
profiles with a detector in common share its compiled code. Of processes that need the same code
at the same time one compiles it and the others wait, so that they share the work; what a killed one has compiled is
there for the next. Without a writable place all is compiled in memory, at each start. What stands there is run, so the
directory must be one that only the program's user can write to.

What an image brings along stands in $FAUST_ANOMALY_COMPILED, which is looked into first and never written to: it
belongs to root. What it lacks is compiled as if it were not there, and the log says once why.

numba's own cache asks for the age of one file, that of the function itself, and keeps the code for several types behind
one index: two processes that compile for different types at the same time overwrite each other's index, and the code
for one window's size may then be found under that of another.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import IO, Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows: each process compiles for itself
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
CHECK = hashlib.sha256().digest_size  # a file begins with the hash of the rest
CONSTANTS = (bool, int, float, str, bytes, tuple)


def directory() -> Path:
    """Where compiled code is kept from one start to the next."""
    if given := os.environ.get("FAUST_ANOMALY_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home()
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "faust-anomaly"


def brought_along() -> Path | None:
    """Where code stands that was compiled before the program came to this machine, if anywhere."""
    given = os.environ.get("FAUST_ANOMALY_COMPILED")
    return Path(given) if given else None


def called_by(function: FunctionType) -> tuple[list[FunctionType], dict[str, Any]]:
    """All that it calls, directly or not, itself first; and the constants of modules that these read."""
    found: dict[FunctionType, None] = {}
    constants: dict[str, Any] = {}

    def visit(one: FunctionType) -> None:
        if one in found:
            return
        found[one] = None
        for name in _names(one.__code__):
            value = one.__globals__.get(name)
            if isinstance(value, FunctionType):
                visit(value)
            elif isinstance(value, CONSTANTS):
                constants[f"{one.__module__}.{name}"] = value

    visit(function)
    return list(found), constants


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@cache
def content(function: FunctionType) -> bytes:
    """A hash of all that its compiled code is made of but types and processor."""
    import numba
    from numba import config

    functions, constants = called_by(function)
    # Compiled code has for some functions what another module says.
    modules = {one.__module__ for one in functions} | {f"{__package__}.{name}" for name in ("jit", "native", "stages")}
    made_of = [
        sys.version,
        np.__version__,
        numba.__version__,
        str(vars(config)["OPT"]),
        str(vars(config)["BOUNDSCHECK"]),
    ]
    made_of += [inspect.getsource(sys.modules[name]) for name in sorted(modules) if name in sys.modules]
    made_of.append(repr(sorted(constants.items())))
    return hashlib.sha256("\0".join(made_of).encode()).digest()


class CodeCache:
    """Of one function. numba's dispatcher asks it before it compiles, and gives it what it has compiled."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self.cache_path = str(directory())  # numba reads it
        self._locks: dict[Path, IO] = {}  # held from the question to the answer

    def name(self, types: Any, context: Any) -> str:
        """Of the file for these types of arguments, wherever it stands."""
        function, codegen = self._function, context.codegen()
        what = hashlib.sha256(content(function) + repr(types).encode()).hexdigest()[:32]
        processor = hashlib.sha256(repr(codegen.magic_tuple()).encode()).hexdigest()[:16]
        return f"{function.__module__}.{function.__qualname__}.{what}.{processor}"

    def is_kept(self, types: Any, context: Any) -> bool:
        """Whether there is nothing to compile."""
        name, before = self.name(types, context), brought_along()
        return (directory() / name).exists() or (before is not None and (before / name).exists())

    def load_overload(self, types: Any, context: Any) -> Any:
        """The compiled code, or None where there is none, or a damaged one: then it is to be compiled here.

        numba's own cache first has all that numba can compile imported, with SciPy's linear algebra; the compiler does
        that itself, and compiled code needs none of it.
        """
        from numba.core import serialize
        from numba.core.compiler import CompileResult

        name = self.name(types, context)
        data = _read(before / name) if (before := brought_along()) else None
        if data is None:
            data = self._compiled_here(directory() / name)
        if data is None and before:
            _say_once(before, name)
        return None if data is None else CompileResult._rebuild(context, *serialize.loads(data))

    def _compiled_here(self, path: Path) -> bytes | None:
        """By an earlier process, or by one that is at it. None: this one is to do it."""
        data = _read(path)
        if data is None and path not in self._locks and (lock := _lock(path)):
            self._locks[path] = lock
            if data := _read(path):  # compiled by the one that had it
                self._locks.pop(path).close()
        return data

    def save_overload(self, types: Any, result: Any) -> None:
        """Keep it, where that is possible."""
        from numba.core import serialize

        path = directory() / self.name(types, result.target_context)
        try:
            _write(path, serialize.dumps(result._reduce()))
        finally:  # written or not: others wait
            if lock := self._locks.pop(path, None):
                Path(lock.name).unlink(missing_ok=True)
                lock.close()


def lacks(before: Path, name: str) -> str:
    """Why a file of this name is not among what was brought along."""
    what = name.rpartition(".")[0]
    function = what.rpartition(".")[0]
    try:
        found = [one.name for one in before.iterdir()]
    except OSError as error:
        return error.strerror or repr(error)
    if name in found:
        readable = os.access(before / name, os.R_OK)
        return f"the file of {function} {'is damaged' if readable else 'cannot be read'}"
    if any(one.startswith(f"{what}.") for one in found):
        return "it is for another processor"
    return f"it lacks {function} as this program and its settings need it"


_said: set[Path] = set()


def _say_once(before: Path, name: str) -> None:
    if before not in _said:
        _said.add(before)
        kept = directory().is_dir() and os.access(directory(), os.W_OK)
        then = "it is kept there" if kept else "that cannot be written to, so each start compiles"
        place = f"compiling into {directory()}; {then}"
        level = logging.INFO if kept else logging.WARNING
        log.log(level, "compiled code in %s: %s; %s", before, lacks(before, name), place)


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    return data[CHECK:] if hashlib.sha256(data[CHECK:]).digest() == data[:CHECK] else None


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: a full disk costs the next start its time, and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as new:
            new.write(hashlib.sha256(data).digest() + data)
        os.replace(new.name, path)
    except OSError:
        return


def _lock(path: Path) -> IO | None:
    """Wait until no other process is compiling this; None where nothing can be written. A killed process lets go."""
    if fcntl is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(f"{path}.lock", "w")  # noqa: SIM115 - held until the code is there
    except OSError:
        return None
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock

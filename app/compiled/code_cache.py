"""Compiled code on disk: a file for each function and types of its arguments, named by all that it was made of.

The files stand in $FAUST_ANOMALY_CACHE, else in the user's cache directory. A name holds a hash of the source of the
function and of every function it calls, of the constants they take from elsewhere, of the types, of the versions of
Python, numpy and numba, and of the processor: nothing stale is ever run, and whatever needs the same code, as two
profiles with a detector in common, finds it compiled. Of processes that need the same code at the same time one
compiles it and the others wait, so that they share the work; what a killed one has compiled is there for the next.
Without a writable place all is compiled in memory, at each start. What stands there is run, so the directory must be
one that only the program's user can write to.

numba's own cache asks for the age of one file, that of the function itself, and keeps the code for several types behind
one index: two processes that compile for different types at the same time overwrite each other's index, and the code
for one window's size may then be found under that of another.
"""

from __future__ import annotations

import hashlib
import inspect
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

    def path(self, types: Any, context: Any) -> Path:
        """Of the file for these types of arguments."""
        how = repr((types, context.codegen().magic_tuple()))
        name = hashlib.sha256(content(self._function) + how.encode()).hexdigest()[:32]
        return directory() / f"{self._function.__module__}.{self._function.__qualname__}.{name}"

    def load_overload(self, types: Any, context: Any) -> Any:
        """The compiled code, or None where there is none, or a damaged one: then it is to be compiled here."""
        from numba.core import serialize
        from numba.core.compiler import CompileResult

        context.refresh()
        path = self.path(types, context)
        data = _read(path)
        if data is None and path not in self._locks and (lock := _lock(path)):
            self._locks[path] = lock
            if data := _read(path):  # compiled by the one that had it
                self._locks.pop(path).close()
        return None if data is None else CompileResult._rebuild(context, *serialize.loads(data))

    def save_overload(self, types: Any, result: Any) -> None:
        """Keep it, where that is possible."""
        from numba.core import serialize

        path = self.path(types, result.target_context)
        try:
            _write(path, serialize.dumps(result._reduce()))
        finally:  # written or not: others wait
            if lock := self._locks.pop(path, None):
                Path(lock.name).unlink(missing_ok=True)
                lock.close()


def _read(path: Path) -> bytes | None:
    data = path.read_bytes() if path.is_file() else b""
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

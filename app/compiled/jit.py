"""Functions that numba compiles where it can be imported, and CPython runs as they stand where it cannot.

Each is compiled by itself, and kept on disk: see ``code_cache``. What it calls are plain functions, which become part
of it. ``address`` is for code that other compiled code calls without knowing what it is: a detector's step is
compiled for its own state, parameters and window, independent of the other detectors.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

from app.compiled.code_cache import CodeCache, called_by
from app.compiled.patches import name_records_by_content, use_cache

AVAILABLE = importlib.util.find_spec("numba") is not None
# Arrays are looked at, never made or kept: without counting references code is compiled, and runs, faster. Options are
# the same everywhere, else numba compiles what functions with different ones call once for each.
OPTIONS: Any = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True, "no_cpython_wrapper": True}


def compiled(function: Callable) -> Callable:
    """The function, compiled by numba at the first call, without holding the GIL; unchanged without numba."""
    if not AVAILABLE:
        return function
    from app.compiled.stages import ForPython

    return _dispatcher(function, ForPython)


def address(function: Callable, returns: Any, *takes: Any) -> int:
    """Address of the code for these types (numba's), which is compiled now unless it was; ``native`` calls it."""
    from numba.core.typing import signature

    dispatcher = by_address(function)
    dispatcher.compile(signature(returns, *takes))
    result = dispatcher.overloads[takes]
    found: int = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    return found


def is_kept(function: Callable, returns: Any, *takes: Any) -> bool:
    """Whether ``address`` has nothing to compile."""
    from numba.core.typing import signature

    dispatcher = by_address(function)
    known: bool = takes in dispatcher.overloads
    return known or dispatcher._cache.is_kept(signature(returns, *takes), dispatcher.targetctx)


@cache
def by_address(function: Callable) -> Any:
    """numba's dispatcher of a function that is called by its address."""
    from app.compiled.stages import ByAddress

    return _dispatcher(function, ByAddress)


def _dispatcher(function: Any, stages: Any) -> Any:
    import numba

    name_records_by_content()
    made = numba.njit(**OPTIONS, pipeline_class=stages)(function)
    use_cache(made, _Cache(function))
    return made


class _Cache(CodeCache):
    def load_overload(self, types: Any, context: Any) -> Any:
        found = super().load_overload(types, context)
        if found is None:
            # Not when the function is decorated: those further down in its module are not there yet.
            let_be_called(*called_by(self._function)[0][1:])
        return found


_known: set[Callable] = set()


def let_be_called(*functions: Callable) -> None:
    """Let compiled code call them; they stay plain functions to CPython."""
    from numba import extending

    from app.compiled.stages import Part

    for function in functions:
        if function not in _known:
            _known.add(function)
            extending.register_jitable(**OPTIONS, pipeline_class=Part)(function)


def is_known(function: Callable) -> None:
    """Compiled code has something else in its place: see ``native``."""
    _known.add(function)

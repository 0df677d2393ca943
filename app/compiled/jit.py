"""Functions that numba compiles where it can be imported, and CPython runs as they stand where it cannot."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

AVAILABLE = importlib.util.find_spec("numba") is not None


def compiled(function: Callable) -> Callable:
    """By numba, without holding the GIL, kept on disk where that is possible; unchanged without numba."""
    if not AVAILABLE:
        return function
    import numba

    try:
        return numba.njit(error_model="numpy", nogil=True, cache=True)(function)
    except RuntimeError:  # no place to keep it
        return numba.njit(error_model="numpy", nogil=True)(function)

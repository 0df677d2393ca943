"""What is changed in numba from outside: written for numba 0.68.1, held by tests/unit/compiled/test_patches.py."""

import hashlib
from typing import Any


def name_records_by_content() -> None:
    """Let numba name compiled code by what a record type is, not by when this process first saw it.

    numba puts the number it counted up for a record type into the names of functions over it
    (core/types/npytypes.py: Record.mangling_args). In a cache on disk, code of two processes then shares
    names though the records differ, and whichever is loaded first is called for both: a window of 20
    points walked as one of 100. test_code_cached_by_two_processes_stays_apart fails without this.
    """
    from numba.core.types import Record

    def named(self: Any) -> tuple[str, tuple[str]]:
        return "Record", ("r" + hashlib.sha256(self.name.encode()).hexdigest()[:32],)

    Record.mangling_args = property(named)  # type: ignore[method-assign, assignment]


def use_cache(dispatcher: Any, cache: Any) -> None:
    """Let a dispatcher load and save what it compiles with this cache; ``cache=True`` gives it numba's own.

    numba's own depends on the age of one source file, and two processes can overwrite each other's index: see
    ``app/compiled/code_cache.py``.
    """
    dispatcher._cache = cache

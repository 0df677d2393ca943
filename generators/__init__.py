"""Sources of raw-data, one file each; found by the file's name. README.md says how to add one."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules

from generators.kit import Record, Remark


def names() -> list[str]:
    """The generators there are."""
    return sorted(module.name for module in iter_modules(__path__) if module.name != "kit")


def load(name: str) -> Callable[..., Iterator[Record | Remark]]:
    """The function ``records`` of a generator."""
    return import_module(f"generators.{name}").records

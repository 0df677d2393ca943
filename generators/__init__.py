"""Generators of example points, one file each, found by the file's name. CONTRIBUTING.md says how to add one."""

import ast
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import get_data, iter_modules

from generators.api import GeneratedRecord, Remark


def names() -> list[str]:
    """The generators there are."""
    return sorted(module.name for module in iter_modules(__path__) if module.name != "api")


def about(name: str) -> str:
    """The first line of a generator's docstring, without loading it."""
    source = get_data(__name__, f"{name}.py") or b""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def load(name: str) -> Callable[..., Iterator[GeneratedRecord | Remark]]:
    """The function ``records`` of a generator."""
    return import_module(f"generators.{name}").records

"""Kernels keep to what CPython and compiled code compute alike: read from their source."""

import ast
import inspect
from pathlib import Path

import pytest
from sample_detectors import faulty

from app import detectors
from app.compiled import numeric
from app.detectors import api
from app.detectors.support import block_maxima, exponentially_weighted, forecast, interval, predictors, window
from app.scoring import calibration, deviation_rules, ensemble, episodes, pairs, passes

SUPPORT = (numeric, window, exponentially_weighted, forecast, predictors, interval, block_maxima)
SHARED = {m.__name__: m for m in (*SUPPORT, calibration, ensemble, episodes, deviation_rules, pairs)}
FILES = {name: k.module for name, k in detectors.KERNELS.items()} | SHARED
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
MODULES = {"math", "np", "numpy", "random", "time"}  # a parameter of that name hides them
CALLS = {"abs", "min", "max", "len", "range", "float"}  # builtins that are alike
OWN = {"numeric": {"int"}}  # whole() is where int() is checked


def faults(source, imports_from, extra=frozenset()):
    """Sentences, each with its line, on what a kernel file may not do."""
    tree = ast.parse(source)
    local = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.module not in imports_from):
            yield f"{node.lineno}: imports more than {', '.join(sorted(imports_from))}"
        elif isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name for alias in node.names}
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        names = {arg.arg for arg in function.args.args}
        for node in ast.walk(function):
            if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow | ast.MatMult):
                yield f"{node.lineno}: ** is not alike in the last bit"
            elif isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
                if called not in local | imported | CALLS | extra:
                    yield f"{node.lineno}: calls {called}()"
            elif isinstance(node, ast.Try | ast.Raise | ast.With | ast.Lambda | ast.Global | COMPREHENSIONS):
                yield f"{node.lineno}: {type(node).__name__} in a kernel"
            elif isinstance(node, ast.Name) and node.id in MODULES - names:
                yield f"{node.lineno}: names {node.id}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in ("f2", "u4", "i2", "u8"):
            yield f"{node.lineno}: a field of {node.value}; counters and numbers have 64 bits (i8, f8)"
    yield from unrounded(tree)
    yield from unbounded(tree)


def fields_of(tree, kind):
    """Names of the fields of a kind that the file declares."""
    return {
        field.elts[0].value
        for field in ast.walk(tree)
        if isinstance(field, ast.Tuple)
        and len(field.elts) >= 2
        and all(isinstance(e, ast.Constant) for e in field.elts[:2])
        and field.elts[1].value == kind
    }


def unbounded(tree):
    """Counts in i4 or i1 that no min() or comparison ends: CPython goes on where compiled code begins anew."""
    counts = fields_of(tree, "i4") | fields_of(tree, "i1")
    counts -= fields_of(tree, "f8")  # of two of one name neither is known
    for node in ast.walk(tree):
        for target, value in assigned(node):
            if field_of(target) in counts and not is_bounded(ast.unparse(target), value):
                yield f"{node.lineno}: {ast.unparse(target)} has 32 bits and no end; min(.., MANY), or i8"


def is_bounded(target, value):
    if isinstance(value, ast.IfExp):
        ends = isinstance(value.test, ast.Compare) and target in ast.unparse(value.test)
        return ends or (is_bounded(target, value.body) and is_bounded(target, value.orelse))
    return not isinstance(value, ast.BinOp)


def unrounded(tree):
    """What differs of fields of f4: CPython computes with 64 bits, compiled code with 32 where both sides have 32.

    A value that is written must be rounded by ``single``: where it is written, or where its name was assigned. Another
    field of f4 and the numbers 0 and 1 are exact. Two fields are not subtracted and so on without a number of 64 bits.
    """
    singles = fields_of(tree, "f4")
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        given = {}
        for node in ast.walk(function):
            for target, value in assigned(node):
                if isinstance(target, ast.Name):
                    given.setdefault(target.id, []).append(value)
        rounded = {name for name, values in given.items() if all(is_single(v, singles, set()) for v in values)}
        for node in ast.walk(function):
            for target, value in assigned(node):
                if field_of(target) in singles and not is_single(value, singles, rounded):
                    yield f"{node.lineno}: writes {ast.unparse(value)} to a field of f4 without single()"
            if isinstance(node, ast.BinOp) and field_of(node.left) in singles and field_of(node.right) in singles:
                yield f"{node.lineno}: {ast.unparse(node)} has 32 bits in compiled code; 1.0 * one of them has 64"


def assigned(node):
    """(target, value) of an assignment; the value None where it is computed with what was there."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] * len(target.elts)
                yield from zip(target.elts, values)
            else:
                yield target, node.value
    elif isinstance(node, ast.AugAssign):
        yield node.target, ast.BinOp(node.target, node.op, node.value)


def field_of(node):
    """The last name of ``s.name[i]`` or ``s.name``, else None."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else None


def is_single(value, singles, rounded):
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "single"
    if isinstance(value, ast.Constant):
        return value.value in (0, 1)
    return field_of(value) in singles or (isinstance(value, ast.Name) and value.id in rounded)


def of(name):
    module = FILES[name]
    allowed = {"app.compiled.numeric", "app.detectors.support.block_maxima", "math"}
    allowed = {"app.detectors.api"} if name in detectors.KERNELS else allowed
    return list(faults(inspect.getsource(module), allowed, OWN.get(name.rpartition(".")[2], set())))


@pytest.mark.parametrize("name", sorted(FILES))
def test_kernels_compute_alike_in_both_engines(name):
    assert of(name) == []


def test_the_passes_compute_alike_in_both_engines():
    shared = ("calibration", "cells", "deviation_rules", "ensemble", "episodes", "pairs")
    allowed = {"app.compiled.numeric", *(f"app.scoring.{name}" for name in shared)}
    assert list(faults(inspect.getsource(passes), allowed)) == []


@pytest.mark.parametrize("name", sorted(detectors.KERNELS))
def test_a_detector_imports_only_what_the_api_offers(name):
    tree = ast.parse(inspect.getsource(FILES[name]))
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
    assert imported <= set(api.__all__)


BAD = {
    "x ** 2": "**",
    "sum(s.h)": "sum()",
    "math.exp(x)": "math.exp()",
    "np.sqrt(x)": "np.sqrt()",
    "int(x)": "int()",
    "pow(x, 2.0)": "pow()",
    "round(x, 3)": "round()",
    "[v for v in s.h][0]": "ListComp",
    "s.h.mean()": "s.h.mean()",
}


@pytest.mark.parametrize("expression", BAD)
def test_a_kernel_that_would_differ_is_flagged(expression):
    found = list(faults(f"def step(s, p, x, at, w):\n    return {expression}\n", {"app.detectors.api"}))
    assert any(BAD[expression] in fault for fault in found)


COUNT = "STATE = [('n', 'i4'), ('m', 'i4', (2,))]\n\n\ndef step(s, p, x, at, w):\n"


@pytest.mark.parametrize("write", ["s.n += 1", "s.m[0] = s.m[1] + 1", "s.n = s.n + 1 if x > 0.0 else 0"])
def test_a_count_of_32_bits_without_an_end_is_flagged(write):
    found = list(faults(f"{COUNT}    {write}\n", set()))
    assert len(found) == 1 and "32 bits and no end" in found[0]


@pytest.mark.parametrize(
    "write", ["s.n = min(s.n + 1, 9)", "s.m[0] = 0", "s.n = s.n + 1 if s.n < 9 else 1", "s.n = at"]
)
def test_one_that_ends_is_not(write):
    assert not list(faults(f"{COUNT}    {write}\n", set()))


SINGLE = "STATE = [('n', 'i8'), ('h', 'f4', (9,)), ('m', 'f4')]\n\n\ndef step(s, p, x, at, w):\n"


@pytest.mark.parametrize(
    "write",
    [
        "s.m = x",
        "s.h[0] = 0.1",
        "s.h[0] += single(x)",
        "s.n, s.m = single(x), x",
        "y = single(x)\n    y = y * x\n    s.m = y",
    ],
)
def test_a_write_to_single_precision_that_is_not_rounded_is_flagged(write):
    found = list(faults(f"{SINGLE}    {write}\n", set(), {"single"}))
    assert len(found) == 1 and "without single()" in found[0]


@pytest.mark.parametrize("expression", ["s.h[1] - s.h[0]", "s.m / s.h[0]"])
def test_arithmetic_in_single_precision_is_flagged(expression):
    found = list(faults(f"{SINGLE}    return {expression}\n", set(), {"single"}))
    assert len(found) == 1 and "32 bits" in found[0]
    assert not list(faults(f"{SINGLE}    return {expression.replace('s.', '1.0 * s.', 1)}\n", set(), {"single"}))


@pytest.mark.parametrize("write", ["s.m = single(x)", "s.h[0] = s.h[1]", "s.m = 0.0", "y = single(x)\n    s.h[1] = y"])
def test_a_write_to_single_precision_that_is_rounded_is_not(write):
    assert not list(faults(f"{SINGLE}    {write}\n", set(), {"single"}))


@pytest.mark.parametrize("line", ["import math", "from random import random", "STATE = [('n', 'i2')]"])
def test_a_file_that_brings_other_things_is_flagged(line):
    assert list(faults(line, {"app.detectors.api"}))


def test_a_sound_file_is_not_flagged():
    assert not list(faults(Path(faulty.__file__).read_text(), {"app.detectors.api"}))

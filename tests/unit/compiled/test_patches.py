"""What is changed in numba: when its version or the code read changes, read it again."""

import hashlib
import inspect
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba.core import codegen, compiler, dispatcher, typed_passes
from numba.core.types import Record

from app.compiled import patches, stages

ROOT = Path(__file__).parents[3]

READ = {  # what patches and stages take the place of
    Record: "8ad9ecb060234842",
    codegen.CPUCodeLibrary.finalize: "4b4c34b83488a72f",
    codegen.CPUCodeLibrary._optimize_functions: "9439219fa946f1ad",
    codegen.CPUCodeLibrary._optimize_final_module: "e405bd473752613b",
    compiler.DefaultPassBuilder.define_untyped_pipeline: "0cb11451d06eef49",
    compiler.DefaultPassBuilder.define_typed_pipeline: "bd5ccc7ef772a33a",
    compiler.DefaultPassBuilder.define_nopython_lowering_pipeline: "9e7ddc0e96eaaecf",
    dispatcher.Dispatcher.enable_caching: "8c75d787fa6845ba",
    dispatcher.Dispatcher.compile: "0ab4aee15e79bb1d",
    compiler.CompileResult._rebuild: "44fa9dc2255883ab",
    compiler.CompileResult._reduce: "5f86eacfa5202c20",
    typed_passes.BaseNativeLowering.run_pass: "0b482df4865451f4",
}


@pytest.mark.parametrize("module", [patches, stages])
def test_they_are_for_this_version(module):
    assert f"numba {numba.__version__}" in module.__doc__


@pytest.mark.parametrize("function", READ, ids=lambda function: function.__qualname__)
def test_the_source_is_the_one_that_was_read(function):
    assert hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16] == READ[function]


RECORDS = """
import numpy as np
from numba import from_dtype
from numba.core import itanium_mangler
records = [from_dtype(np.dtype([("n", "i8"), ("ring", "f8", (size,))])) for size in (11, 12)]
names = [itanium_mangler.mangle_type(record) for record in records]
print(names[0] != names[1], *(f"Li{record._code}E" in name for record, name in zip(records, names)))
"""


@pytest.mark.parametrize(("change", "numbered"), [("", "True"), ("patches.name_records_by_content()", "False")])
def test_records_are_named_by_content_and_not_by_a_number(change, numbered):
    """Without the change there is a number, which each process counts by itself; once it is gone, so is the reason."""
    code = f"from app.compiled import patches\n{change}\n{RECORDS}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True", numbered, numbered]

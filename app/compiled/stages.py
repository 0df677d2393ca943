"""The stages in which numba compiles a function here: those of its own that our functions need.

numba optimises each function that another one calls, and makes machine code of it, as if it were to be called from
anywhere; then it does so for the caller, with a copy in it. Here such a function is only a part of its callers. And
stages are left out that are for closures, context managers, comprehensions, array expressions and counted references.
Both together: 9.4 s of computing at a first start instead of 14.1. How to choose stages is in numba's developer manual
(https://numba.readthedocs.io/en/stable/developer/custom_pipeline.html); the rest is written for numba 0.68.1.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode


class _NoCodegen:
    """Of a part: it has no environment of its own."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        pass


class _Library(JITCodeLibrary):
    def _optimize_functions(self, ll_module: Any) -> None:
        # Not each by itself: what comes to it in the end is the same.
        ll_module.data_layout = self._codegen._data_layout


class _PartLibrary(_Library):
    """LLVM code that others link into theirs as it is."""

    codegen = _NoCodegen

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0  # there is no machine code


class _WholeLibrary(_Library):
    """LLVM code of a function with all that it calls."""

    def _optimize_final_module(self) -> None:
        # Once: numba first lets functions flow together, so that counted references meet.
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class _Stage(LoweringPass):
    def __init__(self) -> None:
        LoweringPass.__init__(self)


@register_pass(mutates_CFG=False, analysis_only=True)
class _IntoPart(_Stage):
    _name = "into_part"
    library: type = _PartLibrary

    def run_pass(self, state: Any) -> bool:
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return False


@register_pass(mutates_CFG=False, analysis_only=True)
class _IntoWhole(_IntoPart):
    _name = "into_whole"
    library = _WholeLibrary


@register_pass(mutates_CFG=False, analysis_only=True)
class _LetPythonCall(_Stage):
    """After types were found: by then options have reached the functions that are called, which stay without."""

    _name = "let_python_call"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_cpython_wrapper = False
        state.flags.release_gil = True
        return False


class ByAddress(CompilerBase):
    """Of a function that is called by its address."""

    into: tuple[type, ...] = (_IntoWhole,)

    def define_pipelines(self) -> list[PassManager]:
        stages = PassManager("nopython")
        until_types: Any = (TranslateByteCode, FixupArgs, IRProcessing, ReconstructSSA, NopythonTypeInference)
        for stage in (*until_types, PreLowerStripPhis, IRLegalization, *self.into, NativeLowering, NoPythonBackend):
            stages.add_pass(stage, stage.__name__)
        stages.finalize()
        return [stages]


class ForPython(ByAddress):
    """Of a function that CPython calls; the GIL is not held."""

    into = (_IntoWhole, _LetPythonCall)


class Part(ByAddress):
    """Of a function that others call."""

    into = (_IntoPart,)

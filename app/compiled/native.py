"""How compiled code reaches rows and detectors: by address, where CPython uses objects.

Numbers in a table say where in the row of a metric a detector's state is, and its code is called by address: so the
loops over points know no detector, and are compiled once for all sets of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from app.compiled import jit


def in_place_of(function: Any) -> Callable:
    """Decorates a definition of ``function`` for compiled code: as numba.extending.intrinsic does, but with a
    function that CPython can call.

    It takes numba's typing context and the arguments' types, and returns a signature and what makes LLVM code.
    """
    from numba.core import types
    from numba.core.typing.templates import infer, infer_global, make_intrinsic_template

    def register(definition: Any) -> Any:
        typing = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_ONLY)
        definition.__signature__ = inspect.Signature([typing, *inspect.signature(function).parameters.values()])
        template = make_intrinsic_template(function, definition, function.__name__)
        infer(template)
        infer_global(function, types.Function(template))
        jit.is_known(function)
        return definition

    return register


class Arguments:
    """The arguments of a call that is being compiled, as LLVM values."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any) -> None:
        self.context, self.builder, self.types, self.values = context, builder, signature.args, values

    def field(self, i: int, name: str) -> Any:
        """Of the record that is argument i."""
        kind, value = self.types[i], self.values[i]
        return self.context.get_getattr(kind, name)(self.context, self.builder, kind, value, name)

    def moved(self, i: int, by: Any) -> Any:
        """The address that is argument i, so many bytes further on."""
        return self.builder.add(self.values[i], by)

    def row(self, array: int, i: int) -> Any:
        """The address of a row of an array u1[:, :]."""
        of = self.context.make_array(self.types[array])(self.context, self.builder, self.values[array])
        size = self.builder.extract_value(of.shape, 1)
        start = self.builder.ptrtoint(of.data, size.type)
        return self.builder.add(start, self.builder.mul(size, self.values[i])), size

    def pointer(self, address: Any) -> Any:
        from numba.core import types

        return self.builder.inttoptr(address, self.context.get_value_type(types.voidptr))

    def record(self, kind: Any, address: Any) -> Any:
        """The record of this type that lies there."""
        return self.builder.inttoptr(address, self.context.get_value_type(kind))

    def call(self, address: Any, returns: Any, *values: tuple[Any, Any]) -> Any:
        """What the code at the address returns for these values, each with its type; an address stands for a record.

        An error goes on to the caller, as by any other call.
        """
        from numba.core import cgutils, types

        convention = self.context.call_conv
        kinds = [types.voidptr if kind is types.intp else kind for kind, _ in values]
        given = [self.pointer(value) if kind is types.intp else value for kind, value in values]
        code = self.builder.inttoptr(address, convention.get_function_type(returns, kinds).as_pointer())
        status, found = convention.call_function(self.builder, code, returns, kinds, given)
        with cgutils.if_unlikely(self.builder, status.is_error):
            convention.return_status_propagate(self.builder, status)
        return found

"""Where the loops over points find the parts of a metric's row, and the code of detectors.

CPython has rows as objects, with a section d0, d1, .. for each detector, and members with functions in them. Compiled
code has addresses: a cell is that of its row, a member says by how many bytes further on its state and calibration lie,
and at which address the code of its functions. In both, ``p`` is the profile and ``m`` a member: see ``tables``.
"""

from __future__ import annotations

from app.compiled.jit import AVAILABLE
from app.compiled.rows import dtype
from app.detectors.support.calendar import AT
from app.detectors.support.window import MOMENTS
from app.scoring import calibration as calibrations
from app.scoring import ensemble

HEAD = [("at", "i8")]  # what every row begins with


def cell_at(cells, row):
    return cells[row]


def copy(to, i, of, j):
    """Copy row j of ``of`` to row i of ``to``."""
    to[i] = of[j].copy()


def head(cell):
    """What is known of every cell: ``at``, the points its source had learned with its last value."""
    return cell


def moments(cell, p):
    """The moments of its window."""
    return cell.window.moments


def newest(cell, p):
    """The last value of its window."""
    return p.newest(cell.window)


def median_and_push(cell, p, x):
    """The median of its window; then the window learns x."""
    return p.median_and_push(cell.window, x)


def calibration(cell, m):
    return m.section(cell).calibration


def errors(cell, m):
    """The errors of its expected values."""
    return m.section(cell).errors


def clear(cell, m):
    """Reset its state to that of a new one."""
    if m.blank is not None:
        vars(m.state(cell)).update(vars(m.blank.copy()))


def step(cell, p, m, x, at):
    return m.step(m.state(cell), m.params, x, at, cell.window)


def band(cell, p, m, at):
    return m.band_of(m.state(cell), m.params, at, cell.window)


def lasts(cell, p, m, x):
    return m.lasts(m.state(cell), m.params, x, cell.window)


def why(cell, p, m, x):
    return m.why(m.state(cell), m.params, x, cell.window)


def _compiled() -> None:
    """The same for compiled code."""
    from numba import from_dtype
    from numba.core import cgutils, types

    from app.compiled.native import Arguments, in_place_of

    @in_place_of(cell_at)
    def _cell_at(typing, cells, row):
        return types.intp(cells, types.intp), lambda *made: Arguments(*made).row(0, 1)[0]

    @in_place_of(copy)
    def _copy(typing, to, i, of, j):
        def make(*made):
            a = Arguments(*made)
            (target, size), (source, _) = a.row(0, 1), a.row(2, 3)
            cgutils.raw_memcpy(a.builder, a.pointer(target), a.pointer(source), size, 1)
            return a.context.get_dummy_value()

        return types.void(to, types.intp, of, types.intp), make

    head_type = from_dtype(dtype(HEAD))

    @in_place_of(head)
    def _head(typing, cell):
        return head_type(cell), lambda *made: Arguments(*made).record(head_type, made[3][0])

    def has(function, field, fields):
        kind = from_dtype(dtype(fields))

        @in_place_of(function)
        def _record(typing, cell, of):
            def make(*made):
                a = Arguments(*made)
                return a.record(kind, a.moved(0, a.field(1, field)))

            return kind(cell, of), make

    has(moments, "window", MOMENTS)
    has(calibration, "calibration", calibrations.FIELDS)
    has(errors, "errors", ensemble.ERRORS)

    @in_place_of(clear)
    def _clear(typing, cell, m):
        def make(*made):
            a = Arguments(*made)
            cgutils.memset(a.builder, a.pointer(a.moved(0, a.field(1, "state"))), a.field(1, "state_bytes"), 0)
            return a.context.get_dummy_value()

        return types.void(cell, m), make

    def of_window(function, name, returns, *more):
        @in_place_of(function)
        def _call(typing, cell, p, *rest):
            def make(*made):
                a = Arguments(*made)
                window = types.intp, a.moved(0, a.field(1, "window"))
                return a.call(a.field(1, name), returns, window, *zip(more, a.values[2:]))

            return returns(cell, p, *more), make

    f8 = types.float64
    of_window(newest, "newest", f8)
    of_window(median_and_push, "median_and_push", f8, f8)

    def of_member(function, name, returns, *more):
        @in_place_of(function)
        def _call(typing, cell, p, m, *rest):
            def make(*made):
                a = Arguments(*made)
                state = types.intp, a.moved(0, a.field(2, "state"))
                window = types.intp, a.moved(0, a.field(1, "window"))
                params = types.intp, a.field(2, "params")
                return a.call(a.field(2, name), returns, state, params, *zip(more, a.values[3:]), window)

            return returns(cell, p, m, *more), make

    at_type = from_dtype(dtype(AT))
    of_member(step, "step", f8, f8, at_type)
    of_member(band, "band_of", types.UniTuple(f8, 3), at_type)
    of_member(lasts, "lasts", types.int64, f8)
    of_member(why, "why", types.UniTuple(f8, 3), f8)


if AVAILABLE:
    _compiled()

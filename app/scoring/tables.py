"""What the passes know of a profile: numbers in tables, with the same fields for any detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from app.compiled import jit, rows
from app.compiled.numeric import nan
from app.detectors import Kernel
from app.detectors.kinds import KINDS
from app.detectors.support import window
from app.detectors.support.calendar import AT
from app.scoring import ensemble, passes
from app.scoring.passes import ALONE, DEVIATIONS, JOINT, ONE_OF_SEVERAL, OWN_PAST
from app.scoring.profile import EnsembleMember, Profile

PROFILE = [
    ("threshold", "f8"),
    ("close_below", "f8"),
    ("close_points", "i8"),
    ("direction", "i8"),
    ("min_deviation", "f8"),
    ("min_deviation_relative", "f8"),
    ("lowest", "f8"),
    ("highest", "f8"),
    ("resets", "i8"),  # 1: detectors may be reset, as after a drift
    ("by_alerts", "i8"),  # 1: the alert score is the vote of a detector that opens episodes
    ("window", "i8"),  # bytes before it in a row
    ("newest", "i8"),  # addresses of the code of its functions
    ("median_and_push", "i8"),
]
MEMBER = [
    ("learns", "i8"),  # on which cells it runs, and on which its scores are judged: ALONE | ONE_OF_SEVERAL | JOINT
    ("judged", "i8"),
    ("scores", "i8"),  # on which its vote is part of the score
    ("shown", "i8"),  # on which its vote is that of the point
    ("channel", "i8"),  # 1: its scores of a point's metrics come together in a joint one
    ("alerts", "i8"),  # 1: its vote is the alert score
    ("of_values", "i8"),  # 1: it says how far out a value lies
    ("skilled", "i8"),  # 1: it counts by its errors
    ("has_lasts", "i8"),
    ("scale", "i8"),
    ("alert_at", "f8"),
    ("warmup", "i8"),
    ("silent", "i8"),
    ("band", "i8"),  # its first column of bands, and that of its reason; -1: none
    ("reason", "i8"),
    ("kind", "i8"),  # where the kinds of its reasons begin
    ("calibration", "i8"),  # bytes before it in a row, and so the next two
    ("errors", "i8"),
    ("state", "i8"),
    ("state_bytes", "i8"),
    ("params", "i8"),  # addresses
    ("step", "i8"),
    ("band_of", "i8"),
    ("lasts", "i8"),
    ("why", "i8"),
]
GROUP = [("mode", "i8"), ("column", "i8"), ("first", "i8"), ("last", "i8"), ("skilled", "i8")]
SCALES = {"deviations": DEVIATIONS, "own_past": OWN_PAST, "surprise": 2}
LEARNS = {"metric": ALONE | ONE_OF_SEVERAL, "channel": ONE_OF_SEVERAL, "source": ALONE | JOINT}
JUDGED = {**LEARNS, "channel": ONE_OF_SEVERAL | JOINT}
ALL = ALONE | ONE_OF_SEVERAL | JOINT


class Tables(NamedTuple):
    """The passes, and what they know of a profile, for compiled code or for CPython."""

    learn: Callable
    part: Callable
    judge: Callable
    profile: Any
    members: Any
    groups: Any
    parts: Any  # of the groups, one after the other
    kinds: Any  # of the reasons of the members, one after the other: places in KINDS
    weighing: Any  # by column of votes: weights; by member: how much its vote counts in finding the one that leads
    params: list[Any]  # of the members: compiled code has their addresses


_learn, _part, _judge = (jit.compiled(one) for one in (passes.learn, passes.part, passes.judge))


def plain(profile: Profile) -> Tables:
    """For CPython: objects with the same numbers, and with functions where compiled code has addresses."""
    p = {**_of_profile(profile), "newest": window.newest, "median_and_push": window.median_and_push}
    members = [rows.Row.of({**_of_member(profile, m), **_functions(m)}) for m in profile.members]
    groups, parts = _groups(profile)
    of = [rows.Row.of(group) for group in groups]
    kinds, weighing = _kinds(profile), _weighing(profile)
    run = passes.learn, passes.part, passes.judge
    return Tables(*run, [rows.Row.of(p)], members, of, parts, kinds, weighing, [])


def compiled(profile: Profile, address: Callable[..., int] = jit.address) -> Tables:
    """For compiled code. Compiles what these detectors need, unless it was."""
    groups, parts = _groups(profile)
    params = [_params(m) for m in profile.members]
    of_members = [
        {**_of_member(profile, m), **_places(profile, m, own, address)} for m, own in zip(profile.members, params)
    ]
    of_profile = {**_of_profile(profile), **_window_place(profile, address)}
    return Tables(
        _learn,
        _part,
        _judge,
        _records(PROFILE, [of_profile]),
        _records(MEMBER, of_members),
        _records(GROUP, groups),
        np.array(parts, np.int64),
        np.array(_kinds(profile), np.int64),
        np.array(_weighing(profile)),
        params,
    )


def for_no_points(name: str, profile: Profile) -> Tables:
    """For compiled code with this pass alone, and without detectors, which only points need."""
    others: dict[str, Any] = dict.fromkeys({"learn", "part", "judge"} - {name}, lambda *_: None)
    return compiled(profile, lambda *_: 0)._replace(**others)


def needed(profile: Profile) -> list[tuple]:
    """What ``compiled`` compiles: each time the arguments of ``jit.address``."""
    of_members = [one for m in profile.members for one in _code(profile, m, _params(m)).values()]
    return [*of_members, *_window_code(profile).values()]


def _records(fields: rows.Fields, values: Sequence[dict[str, Any]]) -> np.ndarray:
    found = np.zeros(len(values), rows.dtype(fields))
    for i, one in enumerate(values):
        found[i] = tuple(one.get(name, 0) for name, *_ in fields)
    return found


def _of_profile(profile: Profile) -> dict[str, Any]:
    by_alerts = int(profile.opens_episodes)
    return {**profile.episode_rule, **profile.rules, "resets": int(profile.resets), "by_alerts": by_alerts}


def _of_member(profile: Profile, m: EnsembleMember) -> dict[str, Any]:
    scores = any(m.place in group.parts for group in profile.groups)
    alone = profile.joins and m.scope == "metric" and not m.opens_episodes  # else what is said jointly counts
    return {
        "learns": LEARNS[m.scope] if m.is_kernel else 0,
        "judged": JUDGED[m.scope],
        "scores": 0 if not scores else ALONE if alone else ALL,
        "shown": JOINT if m.scope == "channel" else ALL,  # each channel's own is the score of its metric
        "channel": int(m.scope == "channel"),
        "alerts": int(m.opens_episodes),
        "of_values": int(m.looks_at_values),
        "skilled": int(m in profile.skilled),
        "has_lasts": int(isinstance(m.detector, Kernel) and m.detector.lasts is not None),
        "scale": SCALES[m.detector.scale],
        "alert_at": m.alert_at,
        "warmup": m.silent + m.params["warmup"],
        "silent": m.silent,
        "band": 3 * profile.banded.index(m) if m in profile.banded else -1,
        "reason": profile.why(m) if m in profile.reasoned else -1,
        "kind": sum(len(one.kinds) for one in profile.members[: m.place]),
    }


def _groups(profile: Profile) -> tuple[list[dict[str, int]], list[int]]:
    found: list[dict[str, int]] = []
    parts: list[int] = []
    for group in profile.groups:
        skilled = any(m.place in group.parts for m in profile.skilled)
        first, last = len(parts), len(parts) + len(group.parts)
        mode = ensemble.MODES.index(group.mode)
        found.append({"mode": mode, "column": group.column, "first": first, "last": last, "skilled": int(skilled)})
        parts += group.parts
    return found, parts


def _kinds(profile: Profile) -> list[int]:
    return [KINDS.index(kind) for m in profile.members for kind in m.kinds]


def _weighing(profile: Profile) -> list[list[float]]:
    """Weights; and how much a member's vote counts in finding the one that leads: its weight, its ensembles' too."""
    above = {part: group for group in profile.groups for part in group.parts}
    leads = [0.0] * len(profile.weights)
    for m in profile.members:
        column, leads[m.place] = m.place, 1.0
        while group := above.get(column):
            leads[m.place] *= 1.0 if group.mode == "max" else profile.weights[column]
            column = group.column
    return [profile.weights, leads]


def _functions(m: EnsembleMember) -> dict[str, Any]:
    """What a member is for CPython."""
    section = attrgetter(f"d{m.place}")
    if not isinstance(m.detector, Kernel):
        return {"section": section}
    return {
        "section": section,
        "state": attrgetter(f"d{m.place}.state") if m.fields else lambda cell: None,
        "blank": rows.Row(rows.dtype(m.fields)) if m.fields else None,
        "params": m.detector.params.values(m.params),
        "step": _guarded(m.detector.step, nan),
        "band_of": _guarded(m.detector.band, (nan, nan, nan)),
        "lasts": m.detector.lasts,
        "why": m.detector.why,
    }


def _guarded(function: Callable | None, failed: Any) -> Any:
    """Arithmetic that compiled code answers with nan or inf raises in CPython: the same to the caller."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)  # type: ignore[misc]
        except (ArithmeticError, ValueError):
            return failed

    return call


def _params(m: EnsembleMember) -> np.ndarray:
    """The parameters a kernel sees, derived ones too, as a record; none for an adapter."""
    own = vars(m.detector.params.values(m.params)) if isinstance(m.detector, Kernel) else {}
    record = np.zeros(1, rows.dtype([_field(name, value) for name, value in own.items()]))
    for name, value in own.items():
        record[name] = value
    return record


def _field(name: str, value: Any) -> tuple:
    """The numpy field of a parameter: a number, or a table of them."""
    return (name, "f8", (len(value),)) if isinstance(value, list) else (name, "i8" if isinstance(value, int) else "f8")


def _window_place(profile: Profile, address: Callable[..., int]) -> dict[str, int]:
    fields: Any = profile.cell.fields
    code = {name: address(*one) for name, one in _window_code(profile).items()}
    return {"window": fields["window"][1], **code}


def _places(profile: Profile, m: EnsembleMember, params: np.ndarray, address: Callable[..., int]) -> dict[str, int]:
    """Where a member's parts lie in a row; its parameters and its code, in memory."""
    fields: Any = profile.cell.fields
    section, start = fields[f"d{m.place}"][:2]
    found = {name: start + section.fields[name][1] for name in section.names}
    size = section.fields["state"][0].itemsize if m.fields else 0
    code = {name: address(*one) for name, one in _code(profile, m, params).items()}
    return {**found, "state_bytes": size, "params": params.ctypes.data, **code}


def _window_code(profile: Profile) -> dict[str, tuple]:
    from numba import from_dtype
    from numba.core.types import float64

    w = from_dtype(profile.cell["window"])
    return {
        "newest": (window.newest, float64, w),
        "median_and_push": (window.median_and_push, float64, w, float64),
    }


def _code(profile: Profile, m: EnsembleMember, params: np.ndarray) -> dict[str, tuple]:
    from numba import from_dtype
    from numba.core.types import UniTuple, float64, int64, none

    if not isinstance(m.detector, Kernel):
        return {}
    detector, x = m.detector, float64
    s = from_dtype(profile.cell[f"d{m.place}"]["state"]) if m.fields else none
    w = from_dtype(profile.cell["window"]) if m.reads_window else none
    p, at = from_dtype(params.dtype), from_dtype(rows.dtype(AT))
    found = {
        "step": (detector.step, x, s, p, x, at, w),
        "band_of": (detector.band, UniTuple(x, 3), s, p, at, w),
        "lasts": (detector.lasts, int64, s, p, x, w),
        "why": (detector.why, UniTuple(x, 3), s, p, x, w),
    }
    return {name: one for name, one in found.items() if one[0]}

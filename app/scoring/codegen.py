"""The two passes over a batch, written out for a profile's detectors and compiled, or run as they stand.

``learn`` goes through the points in order: is it the last point again, what did each kernel expect, how
odd is it, then learn it. Detectors that are Python objects then fill their columns of the raw scores;
``judge`` turns raw scores into votes, scores and episodes.

The passes are text because a closure over compiled functions is never found in numba's disk cache, and
a module is. It stands in $FAUST_ANOMALY_CACHE, else the user's cache directory, in a file named by the
hash of the text, of the source of everything it calls and of the versions of Python, numpy and numba, so
that nothing stale is ever run. Without a writable place it is compiled in memory (seconds each start).
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from textwrap import indent
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from app.compiled import numeric, rows
from app.detectors import Kernel
from app.detectors.support import exponentially_weighted, forecast, window
from app.scoring import calibration, deviation_rules, ensemble, episodes
from app.scoring.profile import Group, Member, Profile

SHARED = (numeric, window, exponentially_weighted, forecast, calibration, ensemble, episodes, deviation_rules, rows)

_HEAD = '''\
"""Made by app/scoring/codegen.py for the detectors {methods}; do not edit."""

from app.scoring.calibration import above_past, learn as calibrate, on_line, on_surprise, restart
from app.scoring.ensemble import combine, learn_error, share, voted, weigh
from app.scoring.episodes import follow, may_repeat, remember
from app.compiled.numeric import LARGEST, finite, inf, nan, sqrt
from app.compiled.rows import copied
from app.scoring.deviation_rules import counts, outside, within
from app.detectors.support.window import median, newest, push
{imports}

{clears}
def learn(sources, cells, profile, points, values, raw, bands, keep):
    p = profile[0]
    for i in range(len(points)):
        point = points[i]
        source = sources[point.slot]
        again = may_repeat(source, point)
        for c in range(point.first, point.last):
            cell = cells[values[c].row]
            if cell.at != source.seen or newest(cell.window) != values[c].x:
                again = False
        point.repeat = again
        point.lasts = False
        squares = 0.0
        several = point.joint >= 0
        for c in range(point.first, point.last + (1 if several else 0)):
            joint = c == point.last
            if joint:
                c = point.joint
                values[c].x = min(sqrt(squares / (point.last - point.first)), LARGEST)
            value = values[c]
            x = value.x
            if again:
                keep[0] = copied(cells[value.row])
            cell = cells[value.row]
{anew}\
            w = cell.window
            value.count = w.moments.n
            value.middle = median(w)
{steps}\
            push(w, x)
            cell.at = source.seen + 1
            if again:
                cells[value.row] = copied(keep[0])
        if not again:
            remember(source, point)
        source.last = point.offset


def judge(sources, cells, profile, points, values, raw, bands, votes, shares, room):
    p = profile[0]
    own, weights, top_own, top_weights = room[0], room[1], room[2], room[3]
    for k in range(len(weights)):
        weights[k] = p.weights[k]
    for i in range(len(points)):
        point = points[i]
        source = sources[point.slot]
        again = point.repeat
        several = point.joint >= 0
        best = -1.0
        told = 0.0
        teller = -1
        ready = False
        failed = False
        some = False
        beyond = -1
        for c in range(point.first, point.last + (1 if several else 0)):
            joint = c == point.last
            if joint:
                c = point.joint
            value = values[c]
            cell = cells[value.row]
            strongest = -1.0
            lead = -1
            value.expected = nan
            value.lower = nan
            value.upper = nan
            for k in range(len(own)):
                own[k] = nan
{expects}\
            if not joint:
                middle = value.expected if value.expected == value.expected else value.middle
                some = counts(p, value.x, middle) or some
            counted = some if joint else counts(p, value.x, middle)
{votes}{groups}\
            value.score = combine({root}.mode, {root}.parts, own, weights)
            if not joint:
                value.lower = within(p, value.lower)
                value.upper = within(p, value.upper)
                value.expected = within(p, value.expected)
                if beyond < 0 and outside(p, value.x) != 0:
                    beyond = c
                    value.score = 1.0
            if joint or value.score > best or beyond == c:
                best = value.score
                for k in range(len(own)):
                    top_own[k] = own[k]
                    top_weights[k] = weights[k]
                if not joint:
                    point.top = c
                    point.lead = lead
        top = values[point.top]
        point.score = best
        point.alert = {alert}
        point.status = 2 if failed else 1 if ready else 0
        point.direction = 1 if top.x > top.expected else -1 if top.x < top.expected else 0
        if teller >= 0 and told >= p.threshold:
            point.lead = teller
        if beyond >= 0:
            point.score = 1.0
            point.alert = 1.0
            point.top = beyond
            point.lead = -2
            point.direction = outside(p, values[beyond].x)
        point.lasts = point.lasts and some
        if not again:
            source.status = point.status
        follow(source, p, point)
        for k in range(shares.shape[1]):
            shares[i, k] = nan
        if point.anomaly:
{shares}\
'''

_WHERE = {  # detectors of -> the cells of a point they run on
    "metric": "not joint",
    "channel": "several and not joint",
    "source": "joint or not several",
}

_STEP = '''\
                score = step_{k}({state}, p.d{k}.params, x, point.time, w)
                if not finite(score):
                    {clear}
                    score = nan
                raw[c, {k}] = score
'''

_BAND = "                bands[c, {a}], bands[c, {b}], bands[c, {c}] = band_{k}({state}, p.d{k}.params, w)\n"

_ANEW = '''\
            if not again and cell.at <= source.anew:
                cells[value.row] = copied(keep[1])
                cell = cells[value.row]
                value.anew = True
'''

_LASTS = '''\
                if lasts_{k}({state}, p.d{k}.params, x, w):
                    point.lasts = True
'''

_WHY = "                raw[c, {why}] = why_{k}({state}, p.d{k}.params, x, w)\n"

_JOIN = '''\
                if finite(score):
                    squares += score * score
            if joint:
                raw[c, {k}] = x
'''

_VOTE = '''\
                score = float(raw[c, {k}])
                known = cell.d{k}.calibration
                if not finite(score):
                    failed = True
                    if not again:
                        restart(known)
                else:
                    if known.seen >= p.d{k}.warmup:
                        ready = True
                        vote = {vote}
{filter}\
                        if {shown}not votes[i, {k}] >= vote:
                            votes[i, {k}] = vote
{count}\
                    if not again:
                        calibrate(known, score, p.d{k}.silent)
'''

_COUNT = '''\
                        own[{k}] = vote
                        if p.leads[{k}] * vote > strongest:
                            strongest = p.leads[{k}] * vote
                            lead = {k}
'''

_TELL = '''\
                        if vote > told:
                            told = vote
                            teller = {k}
'''

_FILTER = "                        if not counted:\n                            vote = 0.0\n"

_EXPECT = '''\
            if {where} and value.expected != value.expected:
                if cell.d{k}.calibration.seen >= p.d{k}.warmup and finite(float(raw[c, {k}])):
                    value.expected = float(bands[c, {a}])
                    value.lower = float(bands[c, {b}])
                    value.upper = float(bands[c, {c}])
'''

_GROUP = '''\
            if voted(p.g{g}.parts, own) > 0:
                own[{column}] = combine(p.g{g}.mode, p.g{g}.parts, own, weights)
                if not votes[i, {column}] >= own[{column}]:
                    votes[i, {column}] = own[{column}]
'''

_LEAST = "            least = min(least, cell.d{k}.errors.squared if cell.d{k}.errors.seen > 0 else inf)\n"

_WEIGH = '''\
            weights[{k}] = weigh(p.weights[{k}], cell.d{k}.errors, least)
            if not again:
                learn_error(cell.d{k}.errors, value.x, float(bands[c, {a}]))
'''

_SHARES = '''\
            for k in p.g{g}.parts:
                shares[i, k] = share(k, p.g{g}.parts, top_own, top_weights)
'''


def text(profile: Profile) -> str:
    """The module of both passes for these detectors."""
    imports, clears, steps, expects, votes = [], [], [], [], []
    for m in profile.members:
        names = _names(profile, m)
        where = _WHERE[m.scope]
        if isinstance(m.detector, Kernel):
            if m.fields:
                clears.append(f"def clear_{m.place}(s):\n{_zeros('s', m.fields)}\n\n")
            used = [name for name in ("step", "band", "lasts", "why") if getattr(m.detector, name)]
            imports += [f"from {m.detector.module.__name__} import {name} as {name}_{m.place}" for name in used]
            parts = [f"            if {where}:\n", _BAND if m in profile.banded else "", _STEP]
            parts += [_LASTS if m.detector.lasts else "", _WHY if m.detector.why else ""]
            parts += [_JOIN if m.scope == "channel" else ""]
            steps.append("".join(parts).format(**names))
        if m in profile.banded:
            expects.append(_EXPECT.format(**names))
        votes.append(f"            if {'several' if m.scope == 'channel' else where}:\n{_VOTE.format(**names)}")
    root = profile.groups[-1]
    return _HEAD.format(
        methods=", ".join(m.method for m in profile.members),
        imports="\n".join(imports),
        clears="\n".join(clears),
        anew=_ANEW if profile.resets else "",
        steps="".join(steps),
        expects="".join(expects),
        votes="".join(votes),
        groups="".join(_group(profile, group) for group in profile.groups),
        root=f"p.g{root.number}",
        alert="told" if profile.opens_episodes else "best",
        shares="".join(_SHARES.format(g=group.number) for group in profile.groups),
    )


def _names(profile: Profile, m: Member) -> dict[str, Any]:
    """What stands in the text of one detector."""
    k = m.place
    votes = {
        "deviations": f"on_line(score, p.d{k}.alert_at)",
        "own_past": f"on_line(above_past(known, score), p.d{k}.alert_at)",
        "surprise": f"on_surprise(score, p.d{k}.alert_at)",
    }
    # What the channels say jointly is their vote; each channel's own is the score of its metric.
    shown = "joint and " if m.scope == "channel" else ""
    names: dict[str, Any] = {"k": k, "vote": votes[m.detector.scale], "shown": shown, "where": _WHERE[m.scope]}
    scores = any(k in group.parts for group in profile.groups)
    names["count"] = ((_TELL if m.opens_episodes else "") + (_COUNT if scores else "")).format(k=k)
    if profile.joins and m.scope == "metric" and not m.opens_episodes:
        names["count"] = "                        if not several:\n" + indent(names["count"], "    ")
    names["filter"] = _FILTER if m.looks_at_values else ""
    names["state"] = f"cell.d{k}.state" if m.fields else "None"
    names["clear"] = f"clear_{k}({names['state']})" if m.fields else "pass"
    if m in profile.reasoned:
        names["why"] = profile.why(m)
    if m in profile.banded:
        first = 3 * profile.banded.index(m)
        names |= {"a": first, "b": first + 1, "c": first + 2}
    return names


def _group(profile: Profile, group: Group) -> str:
    skilled = [_names(profile, m) for m in profile.skilled if m.place in group.parts]
    lines = ["            least = inf\n", *(_LEAST.format(**names) for names in skilled)] if skilled else []
    lines += [_WEIGH.format(**names) for names in skilled]
    if group is not profile.groups[-1]:
        lines.append(_GROUP.format(g=group.number, column=group.column))
    return "".join(lines)


def _zeros(name: str, fields: rows.Fields) -> str:
    lines = []
    for field, kind, *shape in fields:
        where = f"{name}.{field}"
        if not isinstance(kind, str):
            lines.append(_zeros(where, kind))
            continue
        zero = "0.0" if kind.startswith("f") else "0"
        if shape:
            lines.append(f"    for k in range({shape[0][0]}):\n        {where}[k] = {zero}")
        else:
            lines.append(f"    {where} = {zero}")
    return "\n".join(lines)


def passes(profile: Profile, engine: str) -> tuple[Callable, Callable]:
    """(learn, judge) for these detectors. Compiling happens at the first call."""
    used = {m.detector.module for m in profile.kernels if isinstance(m.detector, Kernel)}
    return _passes(text(profile), tuple(sorted(used, key=lambda module: module.__name__)), engine)


@cache
def _passes(source: str, modules: tuple[ModuleType, ...], engine: str) -> tuple[Callable, Callable]:
    if engine == "python":
        module = _in_memory(source)
        for name, f in vars(module).copy().items():
            if name.startswith(("step_", "band_")):
                setattr(module, name, _guarded(f, 3 if name.startswith("band_") else 1))
        return module.learn, module.judge
    import numba

    name_records_by_content()
    register(*SHARED, *modules)
    path = _file(source, modules)
    module = _from_file(path) if path else _in_memory(source)
    register(module)
    jit = numba.njit(error_model="numpy", nogil=True, cache=path is not None)
    return jit(module.learn), jit(module.judge)


def _guarded(f: Callable, width: int) -> Callable:
    """Arithmetic that compiled code answers with nan or inf raises in CPython: the same to the caller."""

    def call(*args: Any) -> Any:
        try:
            return f(*args)
        except (ArithmeticError, ValueError):
            return numeric.nan if width == 1 else (numeric.nan,) * width

    return call


def name_records_by_content() -> None:
    """Let numba name compiled code by what a record type is, not by when this process first saw it.

    numba 0.68.1 puts the number it counted up for a record type into the names of functions over it
    (core/types/npytypes.py: Record.mangling_args). In its disk cache, code of two processes then shares
    names though the records differ, and whichever is loaded first is called for both: a window of 20
    points walked as one of 100. test_code_cached_by_two_processes_stays_apart fails without this.
    """
    from numba.core.types import Record

    def named(self: Any) -> tuple[str, tuple[str]]:
        return "Record", ("r" + hashlib.sha256(self.name.encode()).hexdigest()[:32],)

    Record.mangling_args = property(named)  # type: ignore[method-assign, assignment]


_registered: set[FunctionType] = set()


def register(*modules: ModuleType) -> None:
    """Let compiled code call the functions of these modules; they stay plain functions to CPython."""
    from numba import extending

    if rows.copied not in _registered:
        _registered.add(rows.copied)  # type: ignore[arg-type]
        extending.overload(rows.copied)(lambda row: lambda row: row)
    for module in modules:
        for f in vars(module).values():
            if isinstance(f, FunctionType) and f.__module__ == module.__name__ and f not in _registered:
                _registered.add(f)
                extending.register_jitable(f)


def _in_memory(source: str) -> ModuleType:
    module = ModuleType("app.passes")
    exec(compile(source, "<app.passes>", "exec"), vars(module))
    return module


def _from_file(path: Path) -> ModuleType:
    name = f"app.passes_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # numba's cache looks it up by name
        spec.loader.exec_module(module)
    return sys.modules[name]


def _file(source: str, modules: tuple[ModuleType, ...]) -> Path | None:
    """The file of this text, written if need be; None where nothing can be written."""
    import numba

    of = [source, sys.version, np.__version__, numba.__version__]
    of += [inspect.getsource(module) for module in (sys.modules[__name__], *SHARED, *modules)]
    path = directory() / f"{hashlib.sha256(chr(0).join(of).encode()).hexdigest()[:32]}.py"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__pycache__").mkdir(exist_ok=True)
        if not os.access(path.parent / "__pycache__", os.W_OK):
            return None
        if not path.exists() or path.read_text() != source:
            with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as new:
                new.write(source)
            os.replace(new.name, path)
    except OSError:
        return None
    return path


def directory() -> Path:
    """Where compiled passes are kept from one start to the next."""
    if given := os.environ.get("FAUST_ANOMALY_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home()
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "faust-anomaly"

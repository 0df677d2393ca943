"""A profile: one set of detection settings, as what a source's rows hold and what is computed on them.

Sections of a row are named d0, d1, .. by place, not by the user's names, so that profiles which differ
only in names and numbers share compiled code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from app import calibration, detectors, ensemble, episodes, rows, window
from app.detectors import Kernel
from app.detectors.kit import Adapter
from app.errors import ConfigurationError

VERSION = 1  # of what pipeline, ensemble and severity make of votes; raise when results would differ
SOURCE = rows.dtype(episodes.FIELDS)


@dataclass(frozen=True)
class Member:
    """A detector of a profile. ``place``: its column of votes, and its section of a row."""

    place: int
    name: str  # the user's
    method: str
    weight: float
    params: dict[str, Any]  # complete
    detector: Kernel | Adapter

    @property
    def is_kernel(self) -> bool:
        return isinstance(self.detector, Kernel)

    @property
    def reads_window(self) -> bool:
        return isinstance(self.detector, Kernel) and self.detector.reads_window

    @property
    def silent(self) -> int:
        """Points at first whose scores mean nothing."""
        silent: Any = self.detector.params.derived.get("silent")
        return int(silent.compute(SimpleNamespace(**self.params))) if silent else 0

    @property
    def alert_at(self) -> float:
        return self.params[self.detector.alert_at if isinstance(self.detector, Kernel) else "alert_at"]

    @property
    def fields(self) -> list[tuple]:
        return self.detector.fields(self.params) if isinstance(self.detector, Kernel) else []


class Section:
    """A part of a row that lives or starts anew as a whole: bytes start:end, under a name and a digest."""

    def __init__(self, name: str, version: int, start: int, end: int, shape: Any, adapter: bool = False) -> None:
        self.name, self.version, self.start, self.end, self.adapter = name, version, start, end, adapter
        self.digest = hashlib.sha256(_canonical(shape)).digest()[:8]


class Profile:
    """``detection`` as settings give it; ConfigurationError where its detectors do not fit."""

    def __init__(self, detection: Any) -> None:
        self.threshold: float = detection.threshold
        self.mode: str = detection.ensemble
        self.members = _members(detection)
        self.detectors: tuple[str, ...] = tuple(m.name for m in self.members)
        self.kernels = [m for m in self.members if m.is_kernel]
        read = [m.detector.window_points(m.params) for m in self.kernels]  # type: ignore[union-attr]
        self.window_points = max(detection.window_points, *read, 2)
        self.adapters: list[tuple[Member, Adapter]] = [
            (m, m.detector) for m in self.members if not isinstance(m.detector, Kernel)
        ]
        self.banded = [m for m in self.kernels if m.detector.band]  # type: ignore[union-attr]
        self.cell = self._cell_type()
        self.sections = self._sections()
        self.config_hash: str = hashlib.sha256(_canonical(self._effective())).hexdigest()[:8]

    def _cell_type(self) -> np.dtype:
        """One metric of one source: its window, and a section per detector."""
        made: list[tuple] = [("at", "i8"), ("window", window.fields(self.window_points))]
        for m in self.members:
            section: list[tuple] = [("calibration", calibration.FIELDS)]
            if m.fields:
                section.append(("state", m.fields))
            made.append((f"d{m.place}", section))
        return rows.dtype(made)

    def _sections(self) -> list[Section]:
        """The sections of a cell's row. A kernel reads the window, so another window starts it anew."""
        fields: Any = self.cell.fields
        window_type, at = fields["window"][:2]
        found = [Section("window", window.VERSION, 0, at + window_type.itemsize, _shape(window_type))]
        for m in self.members:
            kind, at = fields[f"d{m.place}"][:2]
            own = m.detector.params.of_state(m.params)
            shape = [m.method, calibration.VERSION, own, _shape(kind), self.window_points if m.reads_window else 0]
            end = at + kind.itemsize
            found.append(Section("detector:" + m.name, m.detector.version, at, end, shape, adapter=not m.is_kernel))
        assert all(a.end == b.start for a, b in pairwise(found)), "sections are slices without gaps"
        return found

    def _effective(self) -> Any:
        members = [[m.name, m.method, m.detector.version, m.weight, m.params] for m in self.members]
        versions = [VERSION, window.VERSION, calibration.VERSION, episodes.VERSION]
        return [versions, self.mode, self.threshold, self.window_points, members]

    def parameters(self) -> tuple[np.ndarray, list[rows.Row]]:
        """What compiled code, and CPython, read as the profile's numbers: one record, one object."""
        made: list[tuple] = [("threshold", "f8"), ("close_below", "f8"), ("close_points", "i8"), ("mode", "i8")]
        values: dict[str, Any] = {
            "threshold": self.threshold,
            "close_below": self.threshold,
            "close_points": 1,
            "mode": ensemble.MODES.index(self.mode),
        }
        for m in self.members:
            own = _numbers(m)
            section: list[tuple] = [("weight", "f8"), ("alert_at", "f8"), ("warmup", "i8"), ("silent", "i8")]
            if own:
                section.append(("params", [_field(name, value) for name, value in own.items()]))
            made.append((f"d{m.place}", section))
            values[f"d{m.place}"] = {
                "weight": m.weight, "alert_at": m.alert_at,
                "warmup": m.silent + m.params["warmup"], "silent": m.silent, "params": own,
            }
        record = np.zeros(1, rows.dtype(made))
        _fill(record[0], values)
        plain = rows.Row(record.dtype)
        plain.read(record[0])
        return record, [plain]


def _members(detection: Any) -> list[Member]:
    given = dict(detection.detectors)
    if detection.method != "ensemble":
        own = given.get(detection.method)
        given = {detection.method: own or SimpleNamespace(method=detection.method, weight=1.0, params={})}
    if not given:
        raise ConfigurationError("detection.detectors: at least one detector is needed, found none")
    made = []
    for place, (name, one) in enumerate(given.items()):
        method = one.method or name
        detector = detectors.find(method)
        params = detector.params.check(name, detectors.with_allowed(detector, one.params, detection.allow_classes))
        made.append(Member(place, name, method, float(one.weight), params, detector))
    return made


def _numbers(m: Member) -> dict[str, Any]:
    """The parameters a kernel sees, derived ones too; none for an adapter."""
    return vars(m.detector.params.values(m.params)) if isinstance(m.detector, Kernel) else {}


def _field(name: str, value: Any) -> tuple:
    """The numpy field of a parameter: a number, or a table of them."""
    return (name, "f8", (len(value),)) if isinstance(value, list) else (name, "i8" if isinstance(value, int) else "f8")


def _fill(record: Any, values: dict[str, Any]) -> None:
    for name in record.dtype.names:
        if isinstance(values[name], dict):
            _fill(record[name], values[name])
        else:
            record[name] = values[name]


def _shape(kind: np.dtype) -> Any:
    """A type as plain lists: names, places and kinds of its fields."""
    if kind.subdtype:
        return [_shape(kind.subdtype[0]), list(kind.shape)]
    if kind.fields:
        return [[name, kind.fields[name][1], _shape(kind.fields[name][0])] for name in kind.names or ()]
    return kind.str


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()

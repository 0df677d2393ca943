"""A profile: one set of detection settings; it defines the rows of a source and the computation on them.

Sections of a row are named d0, d1, .. by place, not by the user's names, so that profiles which differ
only in names and numbers share compiled code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from app import detectors
from app.compiled import rows
from app.detectors import Kernel, drift
from app.detectors.api import Adapter
from app.detectors.drift import Drift
from app.detectors.kinds import VALUE
from app.detectors.support import window
from app.detectors.support.calendar import Calendar
from app.scoring import calibration, deviation_rules, ensemble, episodes, pairs
from app.scoring.maintenance import Maintenance

VERSION = 3  # of the computation from votes to results; raise when results would differ
SOURCE = rows.dtype(episodes.FIELDS)
PAIR = rows.dtype(pairs.FIELDS)
DRIFT, NO_COLUMN = "drift", -1
QUIET_POINTS = 5  # points in a row that end an episode which a detector of episodes opened
ENSEMBLE = "ensemble"  # the method of a member that is made of other members


@dataclass(frozen=True)
class EnsembleMember:
    """A detector of a profile, or its drift detector. ``place``: its column of votes, and its section of a row."""

    place: int
    name: str  # the user's
    method: str
    params: dict[str, Any]  # complete
    detector: Kernel | Adapter

    @property
    def section(self) -> str:
        """The name of its state in a snapshot."""
        return DRIFT if self.place == NO_COLUMN else "detector:" + self.name

    @property
    def is_kernel(self) -> bool:
        return isinstance(self.detector, Kernel)

    @property
    def reads_window(self) -> bool:
        return isinstance(self.detector, Kernel) and self.detector.reads_window

    @property
    def silent(self) -> int:
        """Number of first points whose scores have no meaning."""
        silent: Any = self.detector.params.derived.get("silent")
        return int(silent.compute(SimpleNamespace(**self.params))) if silent else 0

    @property
    def is_seasonal(self) -> bool:
        """Whether its state depends on hours or weekdays."""
        return isinstance(self.detector, Kernel) and self.detector.seasonal

    @property
    def looks_at_values(self) -> bool:
        """Whether it scores how unusual a value is, and not that it is stuck or late."""
        return not isinstance(self.detector, Kernel) or self.detector.targets in ("spikes", "shifts")

    @property
    def scope(self) -> str:
        """It has one state for each of these: see ``detectors/api.py``."""
        return self.detector.scope if isinstance(self.detector, Kernel) else "metric"

    @property
    def opens_episodes(self) -> bool:
        """Its vote is the alert score, and part of the anomaly score only where no other detector scores."""
        return isinstance(self.detector, Kernel) and self.detector.opens_episodes

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the episodes that it opens, by its reasons."""
        return self.detector.kinds if isinstance(self.detector, Kernel) else (VALUE,)

    @property
    def alert_at(self) -> float:
        return self.params[self.detector.alert_at if isinstance(self.detector, Kernel) else "alert_at"]

    @property
    def fields(self) -> list[tuple]:
        return self.detector.fields(self.params) if isinstance(self.detector, Kernel) else []


@dataclass(frozen=True)
class EnsembleGroup:
    """An ensemble: the columns of votes that it combines, and the column of its own vote. The last one is the whole."""

    number: int
    column: int
    name: str
    mode: str
    parts: tuple[int, ...]


class StateSection:
    """A part of a row that is restored or reset as a whole: bytes start:end, under a name and a digest."""

    def __init__(self, name: str, version: int, start: int, end: int, shape: Any, adapter: bool = False) -> None:
        self.name, self.version, self.start, self.end, self.adapter = name, version, start, end, adapter
        self.digest = hashlib.sha256(_canonical(shape)).digest()[:8]


class Profile:
    """``detection`` as settings give it; ConfigurationError where its detectors do not fit."""

    def __init__(self, detection: Any) -> None:
        self.threshold: float = detection.threshold
        self.rules = _rules(detection)
        self.members, self.groups, self.weights = _ensemble(detection)
        nested = [group.name for group in self.groups[:-1]]
        self.detectors: tuple[str, ...] = (*(m.name for m in self.members), *nested)  # by column of votes
        self.opens_episodes = any(m.opens_episodes for m in self.members)
        self.joins = any(m.scope == "channel" for m in self.members)
        self.pairs = self.joins and self.opens_episodes  # metrics that part open episodes too
        self.kernels = [m for m in self.members if m.is_kernel]
        read = [m.detector.window_points(m.params) for m in self.kernels]  # type: ignore[union-attr]
        own_sizes = detection.effective_method == "auto"  # each has a window_size
        self.window_points = max(2 if own_sizes else detection.window_points, *read, 2)
        self.calendar = Calendar(detection.timezone, detection.holidays.country, detection.holidays.region)
        self.maintenance = Maintenance.of(detection.maintenance, self.calendar.zone)
        self.drift = _drift(detection.drift)
        self.resets = self.drift is not None and detection.drift.reset
        with_models = [*self.members, self.drift] if self.drift else self.members
        self.adapters: list[tuple[EnsembleMember, Adapter]] = [
            (m, m.detector) for m in with_models if not isinstance(m.detector, Kernel)
        ]
        self.looks_for_gaps = any(m.detector.targets == "gaps" for m in self.kernels)  # type: ignore[union-attr]
        self.banded = [m for m in self.kernels if m.detector.band]  # type: ignore[union-attr]
        self.reasoned = [m for m in self.kernels if m.detector.why]  # type: ignore[union-attr]
        by_skill = {part for group in self.groups if group.mode == "skill" for part in group.parts}
        self.skilled = [m for m in self.banded if m.place in by_skill]
        self.cell = self._cell_type()
        self.sections = self._sections()
        self.config_hash: str = hashlib.sha256(_canonical(self._effective())).hexdigest()[:8]

    @property
    def episode_rule(self) -> dict[str, Any]:
        """When episodes open and close."""
        return episode_rule(self.threshold, self.opens_episodes)

    @property
    def deciding(self) -> list[int]:
        """Columns of votes of the detectors that can open an episode."""
        return [m.place for m in self.members if m.opens_episodes or not self.opens_episodes]

    @property
    def learns_first(self) -> int:
        """Points of a source before an episode can open."""
        return min(self.members[k].silent + self.members[k].params["warmup"] for k in self.deciding)

    def why(self, m: EnsembleMember) -> int:
        """The column, after the raw scores, that holds which of its reasons a detector gave."""
        return len(self.members) + 3 * self.reasoned.index(m)

    def _cell_type(self) -> np.dtype:
        """One metric of one source: its window, and a section per detector."""
        made: list[tuple] = [("at", "i8"), ("window", window.fields(self.window_points))]
        for m in self.members:
            section: list[tuple] = [("calibration", calibration.FIELDS)]
            if m in self.skilled:
                section.append(("errors", ensemble.ERRORS))
            if m.fields:
                section.append(("state", m.fields))
            made.append((f"d{m.place}", section))
        return rows.dtype(made)

    def _sections(self) -> list[StateSection]:
        """The sections of a cell's row. A kernel reads the window, so a changed window resets it."""
        fields: Any = self.cell.fields
        window_type, at = fields["window"][:2]
        found = [StateSection("window", window.VERSION, 0, at + window_type.itemsize, _shape(window_type))]
        for m in self.members:
            kind, at = fields[f"d{m.place}"][:2]
            own = m.detector.params.of_state(m.params)
            shape = [m.method, calibration.VERSION, own, _shape(kind), self.window_points if m.reads_window else 0]
            shape += [ensemble.VERSION] if m in self.skilled else []
            shape += [self.calendar.settings] if m.is_seasonal and self.calendar.settings else []
            end = at + kind.itemsize
            found.append(StateSection(m.section, m.detector.version, at, end, shape, adapter=not m.is_kernel))
        if self.drift:  # a model and no bytes of a row
            end, shape = self.cell.itemsize, [self.drift.method, self.drift.params]
            found.append(StateSection(self.drift.section, self.drift.detector.version, end, end, shape, adapter=True))
        assert all(a.end == b.start for a, b in pairwise(found)), "sections are slices without gaps"
        return found

    def _effective(self) -> Any:
        members = [[m.name, m.method, m.detector.version, m.params] for m in self.members]
        groups = [[group.name, group.mode, group.parts] for group in self.groups]
        versions = [VERSION, window.VERSION, calibration.VERSION, ensemble.VERSION, episodes.RULES]
        versions += [pairs.VERSION] if self.pairs else []
        drift = [[self.drift.method, self.drift.detector.version, self.drift.params, self.resets]] if self.drift else []
        # Rules that are not used leave the hash as it was before there were any.
        used = {name: value for name, value in self.rules.items() if value != NO_RULES[name]}
        calendar = {**self.calendar.settings, "versions": self.calendar.versions} if self.calendar.settings else {}
        spans = [["maintenance", *self.maintenance.spans]] if self.maintenance.spans else []
        more = [*drift, *([used] if used else []), *([calendar] if calendar else []), *spans]
        return [versions, groups, self.weights, self.threshold, self.window_points, members, *more]


NO_RULES = {
    "direction": deviation_rules.BOTH, "min_deviation": 0.0, "min_deviation_relative": 0.0,
    "lowest": -math.inf, "highest": math.inf,
}  # fmt: skip


def _rules(detection: Any) -> dict[str, Any]:
    """The numbers that ``app/scoring/deviation_rules.py`` reads."""
    lowest, highest = detection.range_lowest, detection.range_highest
    return {
        "direction": deviation_rules.DIRECTIONS.index(detection.direction),
        "min_deviation": detection.min_deviation,
        "min_deviation_relative": detection.min_deviation_relative,
        "lowest": NO_RULES["lowest"] if lowest is None else lowest,
        "highest": NO_RULES["highest"] if highest is None else highest,
    }


def episode_rule(threshold: float, opens_episodes: bool) -> dict[str, Any]:
    """When episodes open and close: with a detector whose vote opens them, or without."""
    return {
        "threshold": threshold,
        "close_below": 0.5 * threshold if opens_episodes else threshold,
        "close_points": QUIET_POINTS if opens_episodes else 1,
    }


def _ensemble(detection: Any) -> tuple[list[EnsembleMember], list[EnsembleGroup], list[float]]:
    """Members, ensembles (each after its parts), and a weight by column of votes."""
    given = detection.members()
    names = [name for name, one in given.items() if one.method != ENSEMBLE]
    members = []
    for place, name in enumerate(names):
        detector = detectors.find(given[name].method)
        params = detector.params.check(
            name, detectors.with_allowed(detector, given[name].params, detection.allow_classes)
        )
        members.append(EnsembleMember(place, name, given[name].method, params, detector))
    weights = [float(given[name].weight) for name in names]
    columns = {name: place for place, name in enumerate(names)}
    groups: list[EnsembleGroup] = []

    def add(name: str, mode: str, parts: Sequence[str]) -> None:
        for part in parts:
            if part not in columns:  # an ensemble: settings/checks.py has checked that it does not contain itself
                add(part, given[part].ensemble, given[part].members)
                weights.append(float(given[part].weight))
        chosen = [columns[part] for part in parts]
        scoring = [column for column in chosen if column >= len(members) or not members[column].opens_episodes]
        columns[name] = len(members) + len(groups)
        groups.append(EnsembleGroup(len(groups), columns[name], name, mode, tuple(scoring or chosen)))

    nested = {part for one in given.values() if one.method == ENSEMBLE for part in one.members}
    add("", detection.ensemble, [name for name in given if name not in nested])
    return members, groups, weights


def _drift(given: Any) -> EnsembleMember | None:
    if given.method == drift.NONE:
        return None
    params = drift.METHODS[given.method].check("detection.drift", given.params)
    # It is stored as adapters are, and has no scores.
    return EnsembleMember(NO_COLUMN, DRIFT, given.method, params, cast(Adapter, Drift(given.method)))


def _shape(kind: np.dtype) -> Any:
    """A type as plain lists: names, places and kinds of its fields."""
    if kind.subdtype:
        return [_shape(kind.subdtype[0]), list(kind.shape)]
    if kind.fields:
        return [[name, kind.fields[name][1], _shape(kind.fields[name][0])] for name in kind.names or ()]
    return kind.str


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()

"""Scores the points of one partition: points in, an Outcome out, and no other input.

The same points give the same Outcome and the same state however they are split into batches and
whichever engine runs: no clock, no randomness, no environment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from app.compiled import jit, rows
from app.detectors.support.calendar import places
from app.pipeline.adapters import find_drifts, raw_scores
from app.pipeline.by_profile import by_profile
from app.pipeline.explain import explain_anomalies
from app.pipeline.outcome import CELL, POINT, Computed, Outcome, joined
from app.pipeline.placement import Placement
from app.pipeline.points import Points
from app.scoring import tables
from app.scoring.profile import Profile
from app.settings import Settings
from app.state import snapshot
from app.state.expiry import NEVER
from app.state.series import parted
from app.state.sources import NONE, Sources

FREED_BYTES = 16 << 20
_POINT_COLUMNS = (
    *("offset", "named", "index", "slot", "score", "alert", "anomaly", "status", "direction", "maintenance", "drift"),
    *("opened", "changed", "closed", "kind", "reason", "episode_offset", "episode_index", "opened_at"),
    *("peak", "length", "repeat", "lasts", "adapted"),
)


class Pipeline:
    """Every profile of the settings (the default one and each override), compiled once, for all partitions.

    ``detection``: settings of the default profile; ``overrides``: settings by pattern of series, the
    first match wins; ``max_metrics``: distinct metrics that the points of a series may have; ``engine``: "numba" (the
    default where it can be imported) or "python", which gives the same bits more slowly; ``forget_after``: offsets
    of silence after which a series is reset; ``max_sources``: live series a partition may have
    (app/state/expiry.py has both).
    """

    def __init__(
        self,
        detection: Any,
        overrides: Sequence[Any] = (),
        max_metrics: int = 32,
        engine: Literal["numba", "python"] | None = None,
        forget_after: int = NEVER,
        max_sources: int = NEVER,
    ) -> None:
        self.forget_after, self.max_sources = forget_after, max_sources
        self.engine = engine or ("numba" if jit.AVAILABLE else "python")
        self.max_metrics = max_metrics
        self._overrides = overrides
        self.profiles = [Profile(detection)]
        self.profiles += [Profile(detection.overridden(override)) for override in overrides]
        self._placement = Placement(self.profiles, max_metrics, forget_after, max_sources)
        self._tables: list[tables.Tables] = []

    @classmethod
    def of(cls, settings: Settings, max_metrics: int | None = None) -> Pipeline:
        """The one that these settings describe."""
        return cls(
            settings.detection,
            settings.sources,
            settings.input.max_metrics if max_metrics is None else max_metrics,
            forget_after=settings.state.forget_after_records,
            max_sources=settings.state.max_sources,
        )

    def profile_of(self, series: str) -> int:
        """Index into profiles of the settings of a series."""
        source, metric = parted(series)
        for i, override in enumerate(self._overrides, 1):
            if override.applies_to(source, metric):
                return i
        return 0

    def to_compile(self) -> list[tuple]:
        """What of its detectors is not compiled yet: the arguments of ``jit.address``, for each."""
        if self.engine == "python":
            return []
        needed = dict.fromkeys(one for profile in self.profiles for one in tables.needed(profile))
        return [one for one in needed if not jit.is_kept(*one)]

    def compile(self) -> None:
        """Compile every profile (seconds, or tenths from the cache). Call it before joining the group."""
        if not self._tables:
            of = tables.compiled if self.engine == "numba" else tables.plain
            self._tables = [of(profile) for profile in self.profiles]
            sources = self.sources()
            for i, profile in enumerate(self.profiles):
                self._compute(sources, i, np.zeros(0, POINT), np.zeros(0, CELL), profile.pairs)
                for member, adapter in profile.adapters:
                    adapter.make(member.params)  # imports its library: a second, which no point must wait for
            # glibc keeps freed memory up to twice the largest block that was ever freed. Less than what a batch needs,
            # and each batch gets its arrays as new pages from the kernel: a fifth of the time.
            bytearray(FREED_BYTES)

    def compile_pass(self, name: Literal["learn", "part", "judge"]) -> None:
        """Compile one of the passes, which all pipelines share, and no detector. To be called before ``compile``."""
        self._tables = [tables.for_no_points(name, self.profiles[0])]
        self._compute(self.sources(), 0, np.zeros(0, POINT), np.zeros(0, CELL), True)
        self._tables = []

    def sources(self) -> Sources:
        """No sources yet: the state of one partition."""
        kind = rows.ArrayRows if self.engine == "numba" else rows.ObjectRows
        return Sources(self.profiles, self.profile_of, self.max_metrics, kind)

    def max_snapshot_bytes(self) -> int:
        """The largest snapshot any source can have: 256 bytes of name, max_metrics metrics, any profile."""
        return max(snapshot.largest(profile, self.max_metrics) for profile in self.profiles)

    def run(self, sources: Sources, points: Points) -> Outcome:
        """Score every point by what was known before it, then learn it; ``sources`` advances."""
        if not self._tables:
            self.compile()
        if len(points) and points.offset[-1] - points.offset[0] > self.forget_after:
            return joined([self._run(sources, part) for part in _parts(points, self.forget_after)])
        return self._run(sources, points)

    def _run(self, sources: Sources, points: Points) -> Outcome:
        """As ``run``, for points that span at most ``forget_after`` offsets."""
        p, cells, rejected, expired = self._placement.place(sources, points)
        if len(self.profiles) == 1 and not rejected and not self.profiles[0].resets:
            profile = np.zeros(len(p), np.int64)
            found = self._compute(sources, 0, p, cells)
        else:
            profile, found = by_profile(self.profiles, sources, p, cells, self._compute)
        own = cells[: len(points.values)]  # the joint cells of points come after them
        outcome = Outcome(
            profiles=self.profiles,
            profile=profile,
            votes=found.votes,
            shares=found.shares,
            timestamp=p["time"],
            **{name: p[name] for name in _POINT_COLUMNS},
            value=own["x"],
            **{name: own[name] for name in ("expected", "lower", "upper")},
            cell_score=own["score"],
            explanation={},
            figure={},
            attribution={},
            rejected=rejected,
            expired=expired,
        )
        if np.count_nonzero(p["anomaly"]):
            explain_anomalies(outcome, points, p, cells, found)
        for slot, opened in zip(*(column[p["opened"] | p["closed"]].tolist() for column in (p["slot"], p["opened"]))):
            (sources.open.add if opened else sources.open.discard)(slot)
        return outcome

    def _compute(self, sources: Sources, number: int, p: np.ndarray, cells: np.ndarray, part: bool = False) -> Computed:
        """The passes over points of one profile: fills in p and cells as well. ``part``: that pass in any case."""
        profile = self.profiles[number]
        t = self._tables[number]
        of = p["time"], p["slot"], lambda slot: parted(sources.names[slot])[0]
        if profile.maintenance.spans:
            p["maintenance"] = profile.maintenance.places(*of)
        at = places(p["time"], p["last"] - p["first"], profile.calendar)
        if profile.looks_for_gaps and profile.maintenance.spans:
            at["since"] = profile.maintenance.ends(*of)
        raw = np.empty((len(cells), len(profile.members) + 3 * len(profile.reasoned)))
        bands = np.empty((len(cells), 3 * max(1, len(profile.banded))))
        width = len(profile.weights)
        votes, shares = np.full((len(p), width), np.nan), np.empty((len(p), width))
        plain = self.engine == "python"
        if profile.pairs and np.count_nonzero(p["joint"] != NONE):
            part, cells["pair"] = True, sources.pairs_of(number, cells["row"].tolist())
        points: Any = rows.plain(p) if plain else p
        values: Any = rows.plain(cells) if plain else cells
        held, spare = sources.cells[number].for_passes(), sources.keep[number].for_passes()
        where: Any = rows.plain(at) if plain else at
        t.learn(sources.rows.data, held, spare, t.profile, t.members, points, where, values, raw, bands)
        if part:
            cell_of = np.full(self.max_metrics, NONE)
            t.part(sources.pairs.data, t.members, points, values, raw, cell_of)
        if profile.adapters:
            if plain:
                _back(points, p)
                _back(values, cells)
            for place, (member, adapter) in enumerate(profile.adapters):
                if member is profile.drift:
                    continue
                found = raw_scores(adapter, member.params, sources.models[number][place], p, cells)
                raw[: len(found), member.place] = found
        judged = t.profile, t.members, t.groups, t.parts, t.kinds, t.weighing
        room = np.empty((4, width))
        t.judge(sources.rows.data, held, *judged, points, values, raw, bands, votes, shares, room)
        if plain:
            _back(points, p)
            _back(values, cells)
        if profile.drift:
            find_drifts(profile, sources, number, p)
        return Computed(votes, shares, raw, bands)


def _parts(points: Points, span: int) -> Iterator[Points]:
    """The points in parts that each span at most ``span`` offsets."""
    first = 0
    while first < len(points):
        end = bisect_right(points.offset, points.offset[first] + span)
        yield points.select(range(first, end))
        first = end


def _back(plain: list[rows.Row], records: np.ndarray) -> None:
    """Write such objects back to their records."""
    records[:] = [tuple(row.__dict__.values()) for row in plain]

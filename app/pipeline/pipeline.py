"""The points of one partition in, what was found in them out; nothing else enters.

The same points give the same Outcome and the same state however they are split into batches and
whichever engine runs: no clock, no randomness, no environment.
"""

from __future__ import annotations

import importlib.util
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import numpy as np

from app.compiled import rows
from app.detectors.api import Adapter
from app.detectors.drift import Drift
from app.pipeline.adapters import in_runs
from app.pipeline.explain import DEFAULT, explain, outside
from app.pipeline.outcome import BEYOND, CELL, OK, POINT, Outcome, joined
from app.pipeline.placement import Placement
from app.pipeline.points import Points
from app.scoring import codegen
from app.scoring.profile import Member, Profile
from app.settings import Settings
from app.state import snapshot
from app.state.expiry import NEVER
from app.state.sources import NONE, VALUE, Sources, Stored

_POINT_COLUMNS = (
    *("offset", "index", "slot", "score", "alert", "anomaly", "status", "direction", "drift", "opened", "closed"),
    *("episode_offset", "episode_index", "opened_at", "peak", "length", "repeat", "lasts"),
)


class Pipeline:
    """Every profile of the settings (the default one and each override), compiled once, for all partitions.

    ``detection``: settings of the default profile; ``overrides``: settings by pattern of source, the
    first match wins; ``max_metrics``: distinct metrics a source may have; ``engine``: "numba" (the
    default where it can be imported) or "python", which gives the same bits more slowly; ``forget_after``: offsets
    of silence after which a source starts anew; ``max_sources``: live sources a partition may have
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
        self.engine = engine or ("numba" if importlib.util.find_spec("numba") else "python")
        self.max_metrics = max_metrics
        self.patterns = [override.match for override in overrides]
        self.profiles = [Profile(detection)]
        self.profiles += [Profile(detection.overridden(override)) for override in overrides]
        self._placement = Placement(self.profiles, max_metrics, forget_after, max_sources)
        # Columns of votes; and of raw scores, which reasons stand behind.
        self._votes = max(len(profile.weights) for profile in self.profiles)
        self._columns = max(len(profile.weights) + len(profile.reasoned) for profile in self.profiles)
        self._passes: list[tuple[Callable, Callable]] = []
        parameters = [profile.parameters() for profile in self.profiles]
        self._parameters = [record if self.engine == "numba" else plain for record, plain in parameters]

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

    def profile_of(self, source: str) -> int:
        """Index into profiles of a source's settings."""
        for i, pattern in enumerate(self.patterns):
            if fnmatchcase(source, pattern):
                return i + 1
        return 0

    def compile(self) -> None:
        """Compile every profile (seconds, or tenths from the cache). Call it before joining the group."""
        if not self._passes:
            self._passes = [codegen.passes(profile, self.engine) for profile in self.profiles]
            sources = self.sources()
            for i, profile in enumerate(self.profiles):
                self._compute(sources, i, np.zeros(0, POINT), np.zeros(0, CELL))
                for member, adapter in profile.adapters:
                    adapter.make(member.params)  # imports its library: a second, which no point must wait for

    def sources(self) -> Sources:
        """No sources yet: the state of one partition."""
        kind = rows.ArrayRows if self.engine == "numba" else rows.ObjectRows
        return Sources(self.profiles, self.profile_of, self.max_metrics, kind)

    def max_snapshot_bytes(self) -> int:
        """The largest snapshot any source can have: 256 bytes of name, max_metrics metrics, any profile."""
        return max(snapshot.largest(profile, self.max_metrics) for profile in self.profiles)

    def run(self, sources: Sources, points: Points) -> Outcome:
        """Score every point by what was known before it, then learn it; ``sources`` advances."""
        if not self._passes:
            self.compile()
        if len(points) and points.offset[-1] - points.offset[0] > self.forget_after:
            return joined([self._run(sources, part) for part in _short(points, self.forget_after)])
        return self._run(sources, points)

    def _run(self, sources: Sources, points: Points) -> Outcome:
        """As ``run``, for points that span at most ``forget_after`` offsets."""
        p, cells, rejected, expired = self._placement.place(sources, points)
        if len(self.profiles) == 1 and not rejected and not self.profiles[0].resets:
            profile = np.zeros(len(p), np.int64)
            votes, shares, raw, bands = self._compute(sources, 0, p, cells)
        else:
            profile, votes, shares, raw, bands = self._by_profile(sources, p, cells)
        own = cells[: len(points.values)]  # behind them: what several metrics say jointly
        outcome = Outcome(
            profiles=self.profiles,
            profile=profile,
            votes=votes,
            shares=shares,
            timestamp=p["time"],
            **{name: p[name] for name in _POINT_COLUMNS},
            value=own["x"],
            **{name: own[name] for name in ("expected", "lower", "upper")},
            cell_score=own["score"],
            explanation={},
            attribution={},
            rejected=rejected,
            expired=expired,
        )
        if p["anomaly"].any():
            self._explain(outcome, points, p, cells, raw, bands)
        for slot, opened in zip(*(column[p["opened"] | p["closed"]].tolist() for column in (p["slot"], p["opened"]))):
            (sources.open.add if opened else sources.open.discard)(slot)
        return outcome

    def _compute(
        self, sources: Sources, number: int, p: np.ndarray, cells: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Both passes over points of one profile: fills p and cells, returns votes, shares, raw scores and bands."""
        profile = self.profiles[number]
        learn, judge = self._passes[number]
        raw = np.empty((len(cells), len(profile.members) + len(profile.reasoned)))
        bands = np.empty((len(cells), 3 * max(1, len(profile.banded))))
        width = len(profile.weights)
        votes, shares = np.full((len(p), width), np.nan), np.empty((len(p), width))
        plain = self.engine == "python"
        points: Any = _plain(p) if plain else p
        values: Any = _plain(cells) if plain else cells
        state = sources.rows.data, sources.cells[number].data, self._parameters[number]
        learn(*state, points, values, raw, bands, sources.keep[number].data)
        if profile.adapters:
            if plain:
                _back(points, p)
                _back(values, cells)
            for place, (member, adapter) in enumerate(profile.adapters):
                if member is profile.drift:
                    continue
                found = _adapted(adapter, member.params, sources.models[number][place], p, cells)
                raw[: len(found), member.place] = found
        judge(*state, points, values, raw, bands, votes, shares, np.empty((4, width)))
        if plain:
            _back(points, p)
            _back(values, cells)
        if profile.drift:
            self._drift(sources, number, p)
        return votes, shares, raw, bands

    def _drift(self, sources: Sources, number: int, p: np.ndarray) -> None:
        """Say at which points the scores of their source have drifted; there its detectors may start anew."""
        profile = self.profiles[number]
        member, drift = cast(tuple[Member, Drift], profile.adapters[-1])
        models = sources.models[number][-1]
        at = np.flatnonzero((p["status"] == OK) & ~p["repeat"])
        for i, slot, score in zip(at.tolist(), p["slot"][at].tolist(), p["score"][at].tolist()):
            row = sources.first_row(slot)
            model = models[row]
            if model is None:
                model = models[row] = drift.make(member.params)
            elif type(model) is Stored:
                model = models[row] = drift.loads(model, member.params)
            if drift.update(model, score):
                p["drift"][i] = True
                if profile.resets:
                    sources.rows.put(slot, "anew", sources.rows.get(slot, "seen"))

    def _by_profile(
        self, sources: Sources, p: np.ndarray, cells: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """As ``_compute``, for points of several profiles or with some rejected; before it, each point's profile."""
        placed = p["slot"] != NONE
        profile = np.where(placed, sources.profile[p["slot"]], 0)
        votes, shares = np.full((2, len(p), self._votes), np.nan)
        raw = np.full((len(cells), self._columns), np.nan)
        bands = np.full((len(cells), 3 * self._columns), np.nan)
        for number, chosen in self._parts(profile, placed, p["slot"]):
            sizes = p["last"][chosen] - p["first"][chosen]
            last = np.cumsum(sizes)
            where = np.repeat(p["first"][chosen] - (last - sizes), sizes) + np.arange(sizes.sum())
            own, joint = p[chosen], p["joint"][chosen]
            own["joint"][joint != NONE] = len(where) + np.arange((joint != NONE).sum())
            where = np.concatenate([where, joint[joint != NONE]])
            values = cells[where]
            own["first"], own["last"] = last - sizes, last
            found = self._compute(sources, number, own, values)
            own["first"], own["last"], own["top"] = p["first"][chosen], p["last"][chosen], where[own["top"]]
            own["joint"] = joint
            p[chosen], cells[where] = own, values
            for whole, part, place in zip((votes, shares, raw, bands), found, (chosen, chosen, where, where)):
                whole[place, : part.shape[1]] = part
        return profile, votes, shares, raw, bands

    def _parts(self, profile: np.ndarray, placed: np.ndarray, slots: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(profile, positions) of points that are scored together.

        Where a drift starts detectors anew the next point of the source must be scored by new ones: no two points of
        one source together.
        """
        for number in np.unique(profile[placed]).tolist():
            chosen = np.flatnonzero(placed & (profile == number))
            if not self.profiles[number].resets:
                yield number, chosen
                continue
            order = np.argsort(slots[chosen], kind="stable")
            by_slot = slots[chosen][order]
            first = np.searchsorted(by_slot, by_slot)  # where its source begins
            turn = np.empty(len(chosen), np.int64)
            turn[order] = np.arange(len(chosen)) - first
            for wave in range(turn.max() + 1):
                yield number, chosen[turn == wave]

    def _explain(
        self, outcome: Outcome, points: Points, p: np.ndarray, cells: np.ndarray, raw: np.ndarray, bands: np.ndarray
    ) -> None:
        """Attribution of every anomaly, and a sentence by the detector that voted most for it."""
        at = np.flatnonzero(p["anomaly"])
        leads = list(zip(outcome.profile[at].tolist(), p["lead"][at].tolist()))
        scores = cells["score"].tolist()
        for i, first, last in zip(at.tolist(), p["first"][at].tolist(), p["last"][at].tolist()):
            names = points.metrics[first:last] if points.metrics is not None else [VALUE]
            outcome.attribution[i] = dict(zip(names, scores[first:last]))
        for number, lead in dict.fromkeys(leads):
            profile = self.profiles[number]
            if lead == BEYOND:
                led = at[[pair == (number, lead) for pair in leads]]
                for i, value in zip(led.tolist(), cells["x"][p["top"][led]].tolist()):
                    outcome.explanation[i] = outside(value, profile.rules["lowest"], profile.rules["highest"])
            if lead < 0:
                continue  # no detector voted
            member = profile.members[lead]
            led = at[[pair == (number, lead) for pair in leads]]
            top, joint = p["top"][led], p["joint"][led]
            ran = np.where((member.scope == "source") & (joint != NONE), joint, top)
            banded = member in profile.banded
            expected = bands[top, 3 * profile.banded.index(member)] if banded else cells["expected"][top]
            count = np.minimum(cells["count"][ran], member.params.get("window_size") or profile.window_points)
            columns = (cells["x"][top], raw[ran, member.place], expected, count)
            template = getattr(member.detector, "explanation", "") or DEFAULT
            templates = [template] * len(led)
            if member in profile.reasoned:
                templates = [template[int(why)] for why in raw[ran, profile.why(member)].tolist()]
            for i, said, row in zip(led.tolist(), templates, zip(*(column.tolist() for column in columns))):
                outcome.explanation[i] = explain(said, member.name, *row)


def _short(points: Points, span: int) -> Iterator[Points]:
    """The points in parts that each span at most so many offsets."""
    first = 0
    while first < len(points):
        end = bisect_right(points.offset, points.offset[first] + span)
        yield points.select(range(first, end))
        first = end


def _adapted(
    adapter: Adapter, params: Mapping[str, Any], models: list[Any], p: np.ndarray, cells: np.ndarray
) -> list[float]:
    """Raw scores of a detector that is a Python object; nan where it failed, and then it starts anew."""
    scores = []
    sizes = (p["last"] - p["first"]).tolist()
    cells = cells[: sum(sizes)]  # without those for what several metrics say jointly
    times = np.repeat(p["time"], sizes).tolist()
    repeats = np.repeat(p["repeat"], sizes).tolist()
    if hasattr(adapter, "score_many"):
        return in_runs(adapter, params, models, cells, times, repeats)
    columns = (cells[name].tolist() for name in ("row", "x", "anew"))
    for row, x, anew, t, again in zip(*columns, times, repeats):
        model = None if anew else models[row]
        if model is None:
            model = adapter.make(params)
        elif type(model) is Stored:
            model = models[row] = adapter.loads(model, params)
        try:
            score = float(adapter.score_one(model, x, t))
            if not again:
                models[row] = model
                adapter.learn_one(model, x, t)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 (River's Rust panics are no Exception; the vote is left out: degraded)
            score = np.nan
        if not np.isfinite(score):
            score = np.nan
            if not again:
                models[row] = None
        scores.append(score)
    return scores


def _plain(records: np.ndarray) -> list[rows.Row]:
    names = records.dtype.names or ()
    return [rows.Row.of(dict(zip(names, values))) for values in records.tolist()]


def _back(plain: list[rows.Row], records: np.ndarray) -> None:
    records[:] = [tuple(row.__dict__.values()) for row in plain]

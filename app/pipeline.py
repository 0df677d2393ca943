"""The points of one partition in, what was found in them out; nothing else enters.

The same points give the same Outcome and the same state however they are split into batches and
whichever engine runs: no clock, no randomness, no environment.
"""

from __future__ import annotations

import importlib.util
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from app import compile, rows, silence, snapshot
from app.adapted import in_runs
from app.detectors.kit import Adapter
from app.explain import DEFAULT, explain, outside
from app.outcome import BEYOND, CELL, OK, POINT, Outcome, Rejected, joined
from app.profile import Profile
from app.silence import NEVER, Lapsed, Seats
from app.sources import JOINT, NONE, VALUE, Sources, Stored

if TYPE_CHECKING:
    from app.drift import Drift
    from app.profile import Member
    from app.records import Points
    from app.settings import Settings

__all__ = ["Outcome", "Pipeline", "Rejected"]

_POINT_COLUMNS = (
    *("offset", "index", "slot", "score", "alert", "anomaly", "status", "direction", "drift", "opened", "closed"),
    *("episode_offset", "episode_index", "opened_at", "peak", "length", "repeat", "lasts"),
)
LARGEST = 1e150  # a value's size; the window's variance stays finite


class Pipeline:
    """Every profile of the settings (the default one and each override), compiled once, for all partitions.

    ``detection``: settings of the default profile; ``overrides``: settings by pattern of source, the
    first match wins; ``max_metrics``: distinct metrics a source may have; ``engine``: "numba" (the
    default where it can be imported) or "python", which gives the same bits more slowly; ``forget_after``: offsets
    of silence after which a source starts anew; ``max_sources``: live sources a partition may have
    (app/silence.py has both).
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
        self._joins = any(profile.joins for profile in self.profiles)
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
            self._passes = [compile.passes(profile, self.engine) for profile in self.profiles]
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
        p, cells, rejected, lapsed = self._placed(sources, points)
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
            lapsed=lapsed,
        )
        if p["anomaly"].any():
            self._explain(outcome, points, p, cells, raw, bands)
        for slot, opened in zip(*(column[p["opened"] | p["closed"]].tolist() for column in (p["slot"], p["opened"]))):
            (sources.open.add if opened else sources.open.discard)(slot)
        return outcome

    def _placed(
        self, sources: Sources, points: Points
    ) -> tuple[np.ndarray, np.ndarray, list[Rejected], list[Lapsed]]:
        """The points with the slots and rows they belong to; those that have none are rejected."""
        n = len(points)
        p, cells = np.zeros(n, POINT), np.zeros(len(points.values), CELL)
        cells["x"] = points.values
        p["time"], p["own"], p["joint"] = points.timestamp, points.own_time, NONE
        p["offset"], p["index"] = points.offset, points.index
        if points.start is None:
            p["first"] = np.arange(n)
            p["last"] = p["first"] + 1
        else:
            p["first"], p["last"] = points.start[:-1], points.start[1:]
        rejected: list[Rejected] = []
        if not (np.abs(cells["x"]) <= LARGEST).all() or not np.isfinite(p["time"]).all():
            raise ValueError(f"points must be finite, values at most {LARGEST:g} in size")
        known = sources.slots.get
        p["slot"] = [known(source, NONE) for source in points.source]
        late = silence.late(sources, p["slot"], p["offset"], self.forget_after)
        new = int((p["slot"] == NONE).sum())  # points, so at least as many as sources
        full = (new > 0 or late is not None) and len(sources) + new > self.max_sources
        lapsed: list[Lapsed] = []
        if points.metrics is not None or late is not None or full:
            cells["row"], rejected = self._rows(sources, points, p, late, full, lapsed)
        else:
            if new:
                p["slot"] = [sources.slot(source) for source in points.source]
            if sources.add_values(p["slot"]):
                cells["row"] = sources.value_row[p["slot"]]
                p["joint"] = sources.joint_row[p["slot"]]
            else:
                cells["row"], rejected = self._rows(sources, points, p, None, False, lapsed)
        if sources.open and n:
            lapsed += silence.lapsed(sources, p["slot"], p["offset"], self.forget_after)
        lapsed.sort(key=lambda one: (one.position, one.source))
        return p, _with_joint(p, cells) if self._joins else cells, rejected, lapsed

    def _rows(
        self,
        sources: Sources,
        points: Points,
        p: np.ndarray,
        late: np.ndarray | None,
        full: bool,
        lapsed: list[Lapsed],
    ) -> tuple[np.ndarray, list[Rejected]]:
        """The row of each cell by its metric's name, point by point; a rejected point changes nothing.

        ``late``: see silence.late; ``full``: there may be as many sources as allowed. Appends to ``lapsed``.
        """
        found = np.full(len(points.values), NONE, np.int64)
        rejected = []
        slots, lates = p["slot"].tolist(), None if late is None else late.tolist()
        joint = p["joint"]  # for now the row of what several metrics say jointly, not the cell
        here: set[int] = set()  # slots of points placed so far
        seats = Seats(sources, p["offset"], self.forget_after, self.max_sources) if full else None
        bounds = points.start or range(len(points) + 1)
        for i, source in enumerate(points.source):
            first, last = bounds[i], bounds[i + 1]
            names = points.metrics[first:last] if points.metrics is not None else [VALUE]
            if slots[i] == NONE:  # unless an earlier point of this batch was its first
                slots[i] = sources.slots.get(source, NONE)
            anew = slots[i] == NONE or (lates is not None and lates[i] and slots[i] not in here)
            known = {} if anew else sources.metrics(slots[i])
            missing = [name for name in names if name not in known]
            if missing and len(known) - (JOINT in known) + len(missing) > self.max_metrics:
                rejected.append(Rejected(i, "too_many_metrics", self._too_many(source, known, missing)))
                slots[i] = NONE
                continue
            if anew and seats and not seats.take(points.offset[i]):
                rejected.append(Rejected(i, "too_many_sources", self._too_many_sources(source)))
                slots[i] = NONE
                continue
            if anew and slots[i] != NONE:
                self._start_anew(sources, slots[i], points.offset, i, lapsed)
            elif seats and not anew:
                seats.keep(slots[i])
            if missing:
                slots[i] = sources.slot(source)
                for name in missing:
                    sources.add_metric(slots[i], name)
                known = sources.metrics(slots[i])
            if len(known) > 1 and JOINT not in known and self.profiles[int(sources.profile[slots[i]])].joins:
                sources.add_metric(slots[i], JOINT)
                known = sources.metrics(slots[i])
            # As it is at this point: a later one of the batch may bring the second metric.
            joint[i] = known.get(JOINT, NONE)
            here.add(slots[i])
            found[first:last] = [known[name] for name in names]
        p["slot"] = slots
        return found, rejected

    def _start_anew(self, sources: Sources, slot: int, offsets: list[int], i: int, lapsed: list[Lapsed]) -> None:
        """Empty the row of a source that was silent for too long before point i."""
        last = sources.rows.get(slot, "last")
        if slot in sources.open:
            at = bisect_right(offsets, last + self.forget_after)
            lapsed.append(silence.end_episode(sources, slot, at))
        sources.restart(slot)
        sources.rows.put(slot, "previous", silence.previous(last, offsets[i], self.forget_after))

    def _too_many_sources(self, source: str) -> str:
        return (
            f"source {source!r} is new, and its partition has as many live sources as it may, {self.max_sources}; "
            "raise state.max_sources if the memory is there, or lower state.forget_after_records"
        )

    def _too_many(self, source: str, known: dict[str, int], missing: list[str]) -> str:
        has = len(known.keys() - {JOINT})
        return (
            f"source {source!r} may have {self.max_metrics} metrics, has {has}, and this point brings "
            f"{len(missing)} more ({missing[0]!r} first); raise input.max_metrics or send them as other sources"
        )

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
        member, drift = cast("tuple[Member, Drift]", profile.adapters[-1])
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
            ran = np.where((member.of == "source") & (joint != NONE), joint, top)
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


def _with_joint(p: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The cells, and behind them one for each point with a row for what its metrics say jointly."""
    several = np.flatnonzero(p["joint"] != NONE)
    more = np.zeros(len(several), CELL)
    more["row"] = p["joint"][several]
    p["joint"][several] = len(cells) + np.arange(len(several))
    return np.concatenate([cells, more]) if len(several) else cells


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

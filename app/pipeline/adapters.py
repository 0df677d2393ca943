"""A batch's points through detectors that are Python objects: of River, of scikit-learn, and those that find drifts.

A detector that fails has no vote on the point (its raw score is nan) and is reset: the next point gets a new model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from app.detectors.api import Adapter
from app.detectors.drift import Drift
from app.pipeline.outcome import OK
from app.scoring.profile import EnsembleMember, Profile
from app.state.sources import Sources, Stored


def raw_scores(
    adapter: Adapter, params: Mapping[str, Any], models: list[Any], p: np.ndarray, cells: np.ndarray
) -> list[float]:
    """Raw score of each cell. ``models``: by row of a metric, changed."""
    sizes = (p["last"] - p["first"]).tolist()
    cells = cells[: sum(sizes)]  # without joint cells
    times = np.repeat(p["time"], sizes).tolist()
    skipped = np.repeat(p["repeat"] | (p["maintenance"] >= 0), sizes).tolist()
    in_order = _by_metric if hasattr(adapter, "score_many") else _point_by_point
    return in_order(adapter, params, models, cells, times, skipped)


def find_drifts(profile: Profile, sources: Sources, number: int, p: np.ndarray) -> None:
    """Set ``drift`` of the points at which the scores of their source have drifted; reset its detectors if asked to.

    ``number``: of the profile.
    """
    member, drift = cast(tuple[EnsembleMember, Drift], profile.adapters[-1])
    models = sources.models[number][-1]
    at = np.flatnonzero((p["status"] == OK) & ~p["repeat"] & (p["maintenance"] < 0))
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


def _point_by_point(
    adapter: Adapter,
    params: Mapping[str, Any],
    models: list[Any],
    cells: np.ndarray,
    times: list[float],
    skipped: list[bool],
) -> list[float]:
    scores = []
    columns = (cells[name].tolist() for name in ("row", "x", "reset"))
    for row, x, reset, t, skip in zip(*columns, times, skipped):
        model = None if reset else models[row]
        if model is None:
            model = adapter.make(params)
        elif type(model) is Stored:
            model = models[row] = adapter.loads(model, params)
        try:
            score = float(adapter.score_one(model, x, t))
            if not skip:
                models[row] = model
                adapter.learn_one(model, x, t)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 (River's Rust panics are no Exception; the vote is left out: degraded)
            score = np.nan
        if not np.isfinite(score):
            score = np.nan
            if not skip:
                models[row] = None
        scores.append(score)
    return scores


def _by_metric(
    adapter: Any,
    params: Mapping[str, Any],
    models: list[Any],
    cells: np.ndarray,
    times: list[float],
    skipped: list[bool],
) -> list[float]:
    """The same as point by point, for a detector that scores many points of one metric at once."""
    scores = np.full(len(cells), np.nan)
    rows = cells["row"]
    order = np.argsort(rows, kind="stable")
    by_row = [at for at in np.split(order, np.flatnonzero(np.diff(rows[order])) + 1) if len(at)]
    for at in by_row:  # all models before the first is needed: what loads() begins goes on in the background
        if type(models[row := rows[at[0]]]) is Stored:
            models[row] = adapter.loads(models[row], params)
    skip, reset = np.array(skipped, bool), cells["reset"]
    for at in by_row:
        row = rows[at[0]]
        for part in np.split(at, np.flatnonzero(np.diff(skip[at]) | reset[at][1:]) + 1):
            xs, ts = cells["x"][part].tolist(), [times[i] for i in part]
            if reset[part[0]]:
                models[row] = None
            if skip[part[0]]:
                scores[part] = [_score_only(adapter, params, models[row], x, t) for x, t in zip(xs, ts)]
            else:
                scores[part] = _score_and_learn(adapter, params, models, row, xs, ts)
    return scores.tolist()


def _score_and_learn(
    adapter: Any, params: Mapping[str, Any], models: list[Any], row: int, xs: Sequence[float], ts: Sequence[float]
) -> list[float]:
    scores: list[float] = []
    while len(scores) < len(xs):
        if models[row] is None:
            models[row] = adapter.make(params)
        begun = len(scores)
        try:
            for score in adapter.score_many(models[row], xs[begun:], ts[begun:]):
                scores.append(float(score))
                if not np.isfinite(score):
                    break
            else:
                return scores
            scores[-1] = np.nan
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 (as in _point_by_point)
            scores.append(np.nan)
        models[row] = None
    return scores


def _score_only(adapter: Any, params: Mapping[str, Any], model: Any, x: float, t: float) -> float:
    """The score of a point that is not learned."""
    try:
        score = float(adapter.score_one(adapter.make(params) if model is None else model, x, t))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001
        return np.nan
    return score if np.isfinite(score) else np.nan

"""A batch's points through a detector that is a Python object and scores many points of one metric at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.state.sources import Stored


def in_runs(
    adapter: Any,
    params: Mapping[str, Any],
    models: list[Any],
    cells: np.ndarray,
    times: list[float],
    repeats: list[bool],
) -> list[float]:
    """Raw score of each cell; nan where it failed, and then the model starts anew.

    The same as point by point. ``models``: by row, changed; ``times``, ``repeats``: of each cell's point.
    """
    scores = np.full(len(cells), np.nan)
    rows = cells["row"]
    order = np.argsort(rows, kind="stable")
    of_rows = [at for at in np.split(order, np.flatnonzero(np.diff(rows[order])) + 1) if len(at)]
    for at in of_rows:  # all before the first is needed: what is begun here goes on in the background
        if type(models[row := rows[at[0]]]) is Stored:
            models[row] = adapter.loads(models[row], params)
    again, anew = np.array(repeats, bool), cells["anew"]
    for at in of_rows:
        row = rows[at[0]]
        for part in np.split(at, np.flatnonzero(np.diff(again[at]) | anew[at][1:]) + 1):
            xs, ts = cells["x"][part].tolist(), [times[i] for i in part]
            if anew[part[0]]:
                models[row] = None
            if again[part[0]]:
                scores[part] = [_answer(adapter, params, models[row], x, t) for x, t in zip(xs, ts)]
            else:
                scores[part] = _learned(adapter, params, models, row, xs, ts)
    return scores.tolist()


def _learned(
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
        except BaseException:  # noqa: BLE001 (as in pipeline._adapted)
            scores.append(np.nan)
        models[row] = None
    return scores


def _answer(adapter: Any, params: Mapping[str, Any], model: Any, x: float, t: float) -> float:
    """Of a point that was learned before."""
    try:
        score = float(adapter.score_one(adapter.make(params) if model is None else model, x, t))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001
        return np.nan
    return score if np.isfinite(score) else np.nan

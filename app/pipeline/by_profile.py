"""Computes a batch whose sources have different profiles: one profile after the other, joined in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from app.pipeline.outcome import Computed
from app.scoring.profile import Profile
from app.state.sources import NONE, Sources

Compute = Callable[[Sources, int, np.ndarray, np.ndarray], Computed]  # points of the profile with this number


def by_profile(
    profiles: Sequence[Profile], sources: Sources, p: np.ndarray, cells: np.ndarray, compute: Compute
) -> tuple[np.ndarray, Computed]:
    """The profile of each point, and what ``compute`` gives for all of them; rejected points are left out."""
    placed = p["slot"] != NONE
    profile = np.where(placed, sources.profile[p["slot"]], 0)
    width = max(len(one.weights) for one in profiles)
    columns = max(len(one.weights) + 3 * len(one.reasoned) for one in profiles)
    votes, shares = np.full((2, len(p), width), np.nan)
    raw, bands = np.full((len(cells), columns), np.nan), np.full((len(cells), 3 * columns), np.nan)
    for number, chosen in _parts(profiles, profile, placed, p["slot"]):
        points, values, where = _part(p, cells, chosen)
        found = compute(sources, number, points, values)
        for name in ("first", "last", "joint"):  # places in all cells again
            points[name] = p[name][chosen]
        for name in ("top", "one", "other"):
            points[name] = where[points[name]]
        p[chosen], cells[where] = points, values
        for whole, part, place in zip((votes, shares, raw, bands), found, (chosen, chosen, where, where)):
            whole[place, : part.shape[1]] = part
    return profile, Computed(votes, shares, raw, bands)


def _part(p: np.ndarray, cells: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Copies of the chosen points and of their cells, as a batch of their own; and where those cells were."""
    points, joint = p[chosen], p["joint"][chosen]
    has_joint = joint != NONE
    sizes = points["last"] - points["first"]
    last = np.cumsum(sizes)
    where = np.repeat(points["first"] - (last - sizes), sizes) + np.arange(sizes.sum())
    points["first"], points["last"] = last - sizes, last
    points["joint"][has_joint] = len(where) + np.arange(has_joint.sum())
    where = np.concatenate([where, joint[has_joint]])
    return points, cells[where], where


def _parts(
    profiles: Sequence[Profile], profile: np.ndarray, placed: np.ndarray, slots: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """(profile, positions) of points that are scored together.

    Where a drift resets detectors, the next point of the source must be scored by the new ones: no two points of one
    source are scored together.
    """
    for number in np.unique(profile[placed]).tolist():
        chosen = np.flatnonzero(placed & (profile == number))
        if not profiles[number].resets:
            yield number, chosen
            continue
        order = np.argsort(slots[chosen], kind="stable")
        by_slot = slots[chosen][order]
        first = np.searchsorted(by_slot, by_slot)  # where its source begins
        turn = np.empty(len(chosen), np.int64)
        turn[order] = np.arange(len(chosen)) - first
        for wave in range(turn.max() + 1):
            yield number, chosen[turn == wave]

"""What explains an anomaly: the score of each metric, and a sentence of the detector that voted for it most."""

from __future__ import annotations

import numpy as np

from app.pipeline.outcome import BEYOND, Computed, Outcome
from app.pipeline.points import Points
from app.scoring.profile import Member, Profile
from app.state.sources import NONE

DEFAULT = "{value} is unusual: {name} scores it {score}"
OUTSIDE = "{value} is {side} {bound}, the {end} plausible value"


def explain_anomalies(outcome: Outcome, points: Points, p: np.ndarray, cells: np.ndarray, found: Computed) -> None:
    """Fill in attribution and explanation of every anomaly."""
    at = np.flatnonzero(p["anomaly"])
    scores = cells["score"].tolist()
    for i in at.tolist():
        outcome.attribution[i] = dict(zip(points.names(i), scores[points.cells(i)]))
    leads = list(zip(outcome.profile[at].tolist(), p["lead"][at].tolist()))
    for number, lead in dict.fromkeys(leads):
        profile = outcome.profiles[number]
        led = at[[pair == (number, lead) for pair in leads]]
        if lead == BEYOND:
            lowest, highest = profile.rules["lowest"], profile.rules["highest"]
            sentences = [outside(value, lowest, highest) for value in cells["x"][p["top"][led]].tolist()]
        elif lead >= 0:
            sentences = _by_detector(profile, profile.members[lead], p[led], cells, found)
        else:
            continue  # no detector voted
        outcome.explanation.update(zip(led.tolist(), sentences))


def _by_detector(profile: Profile, member: Member, points: np.ndarray, cells: np.ndarray, found: Computed) -> list[str]:
    """The detector's sentence for each of these points."""
    top, joint = points["top"], points["joint"]
    scored = np.where((member.scope == "source") & (joint != NONE), joint, top)  # the cell that it scored
    banded = member in profile.banded
    expected = found.bands[top, 3 * profile.banded.index(member)] if banded else cells["expected"][top]
    count = np.minimum(cells["count"][scored], member.params.get("window_size") or profile.window_points)
    columns = (cells["x"][top], found.raw[scored, member.place], expected, count)
    template = getattr(member.detector, "explanation", "") or DEFAULT
    templates = [template] * len(points)
    if member in profile.reasoned:
        templates = [template[int(why)] for why in found.raw[scored, profile.why(member)].tolist()]
    rows = zip(*(column.tolist() for column in columns))
    return [explain(one, member.name, *row) for one, row in zip(templates, rows)]


def figure(number: float) -> str:
    """Four significant figures, and every digit before the point: for reading, not for computing."""
    return f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"


def explain(template: str, name: str, value: float, score: float, expected: float, count: int) -> str:
    """``score``: the detector's raw score; ``expected``: nan when unknown; ``count``: points it looked back on.

    The part of a template after a semicolon is left out where no value is expected.
    """
    if expected != expected:
        template = template.partition(";")[0]
    return template.format(
        name=name,
        value=figure(value),
        score=figure(score),
        expected=figure(expected),
        side="below" if value < expected else "above",
        count=count,
    )


def outside(value: float, lowest: float, highest: float) -> str:
    """The sentence for a value outside the plausible range of the settings."""
    above = value > highest
    return OUTSIDE.format(
        value=figure(value),
        side="above" if above else "below",
        bound=figure(highest if above else lowest),
        end="highest" if above else "lowest",
    )

"""Explains anomalies: the score of each metric, and a sentence of the detector with the highest vote."""

from __future__ import annotations

import numpy as np

from app.compiled.numeric import nan
from app.pipeline.outcome import Computed, Figure, Outcome
from app.pipeline.points import Points
from app.scoring.passes import APART, BEYOND
from app.scoring.profile import EnsembleMember, Profile
from app.state.sources import NONE

DEFAULT = "{value} is unusual: {name} scores it {score}"
JOINTLY = "all metrics together: "  # the value is then their common distance from their levels
UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0))
NO_FIGURE = Figure(nan, nan)
PARTED = "the last 20 values are on average {figure} from what {other} lets expect; the usual error is {usual}"
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
            subjects = _subjects(points, p[led])
            values = cells["x"][p["top"][led]].tolist()
            sentences = [one + outside(value, lowest, highest) for one, value in zip(subjects, values)]
        elif lead == APART:
            figures = [Figure(*both) for both in zip(p["figure"][led].tolist(), p["usual"][led].tolist())]
            others = [points.metrics[k] for k in p["other"][led].tolist()] if points.metrics else []
            said = [parted(other, figure) for other, figure in zip(others, figures)]
            sentences = [subject + one for subject, one in zip(_subjects(points, p[led]), said)]
            outcome.figure.update(zip(led.tolist(), figures))
        elif lead >= 0:
            sentences, figures = _by_detector(profile, profile.members[lead], p[led], cells, found, points)
            outcome.figure.update((i, one) for i, one in zip(led.tolist(), figures) if one is not NO_FIGURE)
        else:
            continue  # no detector voted
        outcome.explanation.update(zip(led.tolist(), sentences))


def _by_detector(
    profile: Profile, member: EnsembleMember, p: np.ndarray, cells: np.ndarray, found: Computed, points: Points
) -> tuple[list[str], list[Figure]]:
    """The detector's sentence for each of these points, and what it is about."""
    top, joint = p["top"], p["joint"]
    jointly = (member.scope == "source") & (joint != NONE)
    scored = np.where(jointly, joint, top)  # the cell that it scored
    banded = member in profile.banded
    expected = found.bands[top, 3 * profile.banded.index(member)] if banded else cells["expected"][scored]
    count = np.minimum(cells["count"][scored], member.params.get("window_size") or profile.window_points)
    template = getattr(member.detector, "explanation", "") or DEFAULT
    templates, figures = [template] * len(p), [NO_FIGURE] * len(p)
    if member in profile.reasoned:
        why = found.raw[scored, profile.why(member) :][:, :3].tolist()
        templates = [template[int(reason)] for reason, *_ in why]
        figures = [Figure(about, usual) for _, about, usual in why]
    columns = (cells["x"][scored], found.raw[scored, member.place], expected, count)
    numbers = zip(*(column.tolist() for column in columns))
    sentences = [
        explain(one, member.name, value, score, middle, looked_at, figure)
        for one, (value, score, middle, looked_at), figure in zip(templates, numbers, figures, strict=True)
    ]
    subjects = [JOINTLY if both else one for both, one in zip(jointly.tolist(), _subjects(points, p))]
    return [subject + said for subject, said in zip(subjects, sentences)], figures


def _subjects(points: Points, p: np.ndarray) -> list[str]:
    """The metric that each of these points is about, where it has several."""
    several, top = p["last"] - p["first"] > 1, p["top"]
    return [
        f"{points.metrics[k]}: " if many and points.metrics else "" for many, k in zip(several.tolist(), top.tolist())
    ]


def digits(number: float) -> str:
    """Four significant figures, and every digit before the point: for reading, not for computing."""
    return f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"


def explain(
    template: str,
    name: str,
    value: float,
    score: float,
    expected: float,
    count: int,
    figure: Figure = NO_FIGURE,
) -> str:
    """``score``: the detector's raw score; ``expected``: nan when unknown; ``count``: points it looked at.

    The part of a template after a semicolon is left out where no value is expected.
    """
    if expected != expected and "{expected}" in template:
        template = template.partition(";")[0]
    return template.format(
        name=name,
        value=digits(value),
        score=digits(score),
        expected=digits(expected),
        side="below" if value < expected else "above",
        count=count,
        figure=digits(abs(figure.about)) if "{beside}" in template else digits(figure.about),
        usual=digits(figure.usual),
        beside="below" if figure.about < 0.0 else "above",
        middle=digits(value - figure.about),
        span=span(figure.usual),
    )


def span(days: float) -> str:
    """A number of days in the unit in which it reads best, three significant figures: 36.4 hours."""
    unit, seconds = next((one for one in UNITS if 86400.0 * days >= 2.0 * one[1]), ("seconds", 1.0))
    length = 86400.0 * days / seconds
    return f"{length:.0f} {unit}" if length >= 100.0 else f"{length:.3g} {unit}"


def parted(other: str, figure: Figure) -> str:
    """The sentence for a metric that went together with another one."""
    return PARTED.format(other=other, figure=digits(figure.about), usual=digits(figure.usual))


def outside(value: float, lowest: float, highest: float) -> str:
    """The sentence for a value outside the plausible range of the settings."""
    above = value > highest
    return OUTSIDE.format(
        value=digits(value),
        side="above" if above else "below",
        bound=digits(highest if above else lowest),
        end="highest" if above else "lowest",
    )

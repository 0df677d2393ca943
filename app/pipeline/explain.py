"""A sentence for an anomaly, in the words of the detector that voted for it most."""

DEFAULT = "{value} is unusual: {name} scores it {score}"


OUTSIDE = "{value} is {side} {bound}, the {end} plausible value"


def figure(number: float) -> str:
    """Four significant figures, and every digit before the point: for reading, not for computing."""
    return f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.4g}"


def explain(template: str, name: str, value: float, score: float, expected: float, count: int) -> str:
    """``score``: the detector's raw score; ``expected``: nan when unknown; ``count``: points it looked back on.

    What a template says behind a semicolon is left out where nothing is known to be expected.
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
    """Of a value outside the range that the settings give."""
    above = value > highest
    return OUTSIDE.format(
        value=figure(value),
        side="above" if above else "below",
        bound=figure(highest if above else lowest),
        end="highest" if above else "lowest",
    )

"""Votes of several detectors to one score."""

from app.numeric import rounded

WEIGHTED_AVERAGE, MAX = 0, 1
MODES = ("weighted_average", "max")  # setting -> its place here


def combine(mode, total, weight, highest):
    """Score in 0..1 of the votes that count: the sum of weight x vote, the sum of weights, the highest vote."""
    if mode == MAX:
        return highest
    return rounded(total / weight) if weight > 0.0 else 0.0

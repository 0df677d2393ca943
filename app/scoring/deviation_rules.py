"""Which deviations count according to the settings. Applied when votes are computed, so the state does not change.

A value on the side of its expected value that does not count, or too close to it, scores 0 in every detector that
looks at values; a value outside the plausible range scores 1. Without an expected value, the median of the window is
used.
"""

BOTH, ABOVE, BELOW = 0, 1, 2
DIRECTIONS = ("both", "above", "below")  # setting -> its place here


def counts(p, x, expected):
    """Whether x deviates far enough, on a side that counts. ``expected``: nan means that it does."""
    away = x - expected
    if away != away:
        return True
    if (p.direction == ABOVE and away <= 0.0) or (p.direction == BELOW and away >= 0.0):
        return False
    return abs(away) >= p.min_deviation and abs(away) >= p.min_deviation_relative * abs(expected)


def outside(p, x):
    """1 above the plausible range, -1 below, 0 inside."""
    return 1 if x > p.highest else -1 if x < p.lowest else 0


def within(p, bound):
    """A bound of the band, cut to the plausible range; nan stays nan."""
    return p.lowest if bound < p.lowest else p.highest if bound > p.highest else bound

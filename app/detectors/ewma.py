"""Distance from an exponentially weighted mean, in exponentially weighted standard deviations.

Fits a level that drifts slowly; remembers longer than the window and forgets smoothly. Blind to seasons, and to a
drift slower than its half-life. O(1) time and memory.

Score: float in [0, 1e9], standard deviations; 0.0 is the most normal. A point is an anomaly above ``threshold``.

References
----------
.. [1] S. W. Roberts (1959), Control chart tests based on geometric moving averages, Technometrics 1, pages 239-250.
.. [2] T. Finch (2009), Incremental calculation of weighted mean and variance, University of Cambridge, section 4.

Examples
--------
>>> from app.detectors.api import run
>>> [round(z, 2) for z in run("ewma", [9.0, 11.0, 9.0, 11.0, 10.0, 20.0], warmup=4)]
[0.0, 0.0, 0.0, 0.0, 0.0, 11.19]
"""

from app.detectors.api import (
    WEIGHTED,
    decay_of,
    derived,
    deviation,
    deviations_of,
    floored,
    learn_weighted,
    param,
    params,
)

VERSION = 1
PARAMS = params(
    half_life=param(200.0, "age, in points, at which a point counts half", at_least=1),
    threshold=param(3.0, "standard deviations at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    decay=derived(lambda p: decay_of(p.half_life)),
)
STATE = [("level", WEIGHTED)]
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} is {score} standard deviations {side} the weighted mean {expected} of its past"


def band(s, p, at, w):
    reach = p.threshold * floored(deviations_of(s.level), s.level.mean)
    return s.level.mean, s.level.mean - reach, s.level.mean + reach


def step(s, p, x, at, w):
    """Score x by what was known before it, then learn it."""
    score = abs(deviation(x, s.level.mean, deviations_of(s.level)))
    learn_weighted(s.level, x, p.decay)
    return score

"""Difference from the previous value, in standard deviations of the differences so far.

Fits series that cannot jump: temperatures, fill levels, counters that rise evenly. Finds jumps inside the usual range
of values; blind to slow drifts. The point after a spike scores as high as the spike. A step is from one point to the
next, however long the time between them. O(1) time and memory.

Score: float in [0, 1e9], standard deviations of the steps; 0.0 is the most normal. A point is an anomaly above
``threshold``.

References
----------
.. [1] U.S. Integrated Ocean Observing System (2020), Manual for Real-Time Quality Control of In-situ Temperature
   and Salinity Data, version 2.1: test 7, rate of change, at three standard deviations.

Examples
--------
>>> from app.detectors.api import run
>>> [round(z, 2) for z in run("rate_of_change", [10.0, 11.0, 12.0, 14.0, 15.0, 16.0, 11.0], warmup=4)]
[0.0, 0.0, 0.0, 0.0, 0.71, 0.58, 15.5]
"""

from app.detectors.api import (
    WEIGHTED,
    before,
    count,
    decay_of,
    derived,
    deviation,
    deviations_of,
    floored,
    learn_weighted,
    nan,
    param,
    params,
)

VERSION = 1
PARAMS = params(
    half_life=param(200.0, "age, in points, at which a step counts half", at_least=1),
    threshold=param(3.0, "standard deviations of the steps at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    decay=derived(lambda p: decay_of(p.half_life)),
)
STATE = [("steps", WEIGHTED)]
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "the step to {value} is {score} standard deviations of the steps so far {side} the usual one"


def band(s, p, at, w):
    if count(w) == 0:
        return nan, nan, nan
    expected = before(w, 1) + s.steps.mean
    reach = p.threshold * floored(deviations_of(s.steps), s.steps.mean)
    return expected, expected - reach, expected + reach


def step(s, p, x, at, w):
    """Score the step to x by the steps before it, then learn it."""
    if count(w) == 0:
        return 0.0
    change = x - before(w, 1)
    score = abs(deviation(change, s.steps.mean, deviations_of(s.steps))) if s.steps.seen > 0 else 0.0
    learn_weighted(s.steps, change, p.decay)
    return score

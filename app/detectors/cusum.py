"""CUSUM: cumulative sums of the deviations from the mean, less a slack, on either side. Finds small shifts of the mean.

Fits series with a constant mean: finds a shift of one standard deviation within about ten points, which detectors of
single points miss. A single spike does not reach the threshold, as a value counts at most 4 deviations. Do not use it
for seasonal series: it takes seasons for shifts. After an alert the sums are reset to 0, so that alerts repeat while
the shift lasts and stop soon after; the mean follows a lasting shift with its half-life. O(1) time and memory.

Score: float in [0, 1e9], standard deviations, summed; 0.0 is the most normal; 0.0 for the first 20 points. A point
is an anomaly above ``threshold``: with slack .5 and threshold 8, normal noise exceeds it once in ten thousand points
(average run length); with 5, once in 465.

References
----------
.. [1] E. S. Page (1954), Continuous inspection schemes, Biometrika 41, pages 100-115.
.. [2] D. C. Montgomery (2012), Introduction to Statistical Quality Control, 7th edition, section 9.1: the tabular
   form, and that sums are set to 0 after a signal.

Examples
--------
>>> from app.detectors.api import run
>>> scores = run("cusum", [9.0, 11.0] * 20 + [12.0] * 6, warmup=4)
>>> [round(z, 1) for z in scores[-7:]]
[0.5, 2.0, 3.4, 4.7, 5.9, 7.0, 8.1]
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
    half_life=param(500.0, "age, in points, at which a point counts half in the mean", at_least=1),
    slack=param(0.5, "allowance subtracted from each deviation: half of the shift to be found", at_least=0),
    threshold=param(8.0, "sum of deviations at which a point alerts", above=0),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    decay=derived(lambda p: decay_of(p.half_life)),
)
STATE = [("level", WEIGHTED), ("above", "f8"), ("below", "f8")]
SCALE = "deviations"
ALERT_AT = "threshold"
TARGETS = "shifts"
INVARIANT = ("scale", "shift")
KINDS = "level"
EXPLANATION = "at {value} the deviations {side} the mean {expected} have summed up to {score}: the level has shifted"

SETTLED = 20  # points before mean and deviation are used
MOST = 4.0  # deviations that one value counts


def band(s, p, at, w):
    """The values with which a sum would reach the threshold, if they were not clipped."""
    one = floored(deviations_of(s.level), s.level.mean)
    lower = max(0.0, p.threshold + p.slack - s.below) * one
    upper = max(0.0, p.threshold + p.slack - s.above) * one
    return s.level.mean, s.level.mean - lower, s.level.mean + upper


def step(s, p, x, at, w):
    """Sum up how far x lies from what was known before it, then learn it."""
    if max(s.above, s.below) >= p.threshold:
        s.above = 0.0
        s.below = 0.0
    if s.level.seen >= SETTLED:
        z = min(max(deviation(x, s.level.mean, deviations_of(s.level)), -MOST), MOST)
        s.above = max(0.0, s.above + z - p.slack)
        s.below = max(0.0, s.below - z - p.slack)
    learn_weighted(s.level, x, p.decay)
    return max(s.above, s.below)

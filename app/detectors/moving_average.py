"""Distance from the moving average of the last points, in their standard deviations.

The simplest detector: fits a mean that is constant or changes slowly compared with the noise; blind to seasons, and
a spike inside the window hides the next one. O(1) time and memory.

Score: float in [0, 1e9], standard deviations; 0.0 is the most normal. A point is an anomaly above
``threshold_multiplier``.

References
----------
.. [1] W. A. Shewhart (1931), Economic Control of Quality of Manufactured Product: limits at three sigma.
.. [2] T. Finch (2009), Incremental calculation of weighted mean and variance, University of Cambridge.

Examples
--------
>>> from app.detectors.api import run
>>> run("moving_average", [9.0, 11.0, 9.0, 11.0, 10.0, 20.0], window_size=4, warmup=4)
[0.0, 0.0, 0.0, 0.0, 0.0, 11.758942438532781]
"""

from app.detectors.api import MOMENTS, average, deviation, floored, param, params, slide, spread

VERSION = 1
PARAMS = params(
    window_size=param(0, "points averaged; 0: all of window_points", at_least=0, at_most=4096),
    threshold_multiplier=param(3.0, "standard deviations at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE = [("recent", MOMENTS)]
SCALE = "deviations"
ALERT_AT = "threshold_multiplier"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} is {score} standard deviations {side} the mean {expected} of the last {count} points"


def band(s, p, at, w):
    mean = average(s.recent)
    reach = p.threshold_multiplier * floored(spread(s.recent), mean)
    return mean, mean - reach, mean + reach


def step(s, p, x, at, w):
    """Score x by what was known before it, then learn it."""
    score = abs(deviation(x, average(s.recent), spread(s.recent)))
    slide(s.recent, w, x, p.window_size if p.window_size > 0 else len(w.ring))
    return score

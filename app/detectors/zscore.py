"""Distance from the mean of the window, in its standard deviations, without state.

Like ``moving_average`` over all of ``window_points``; the cheapest detector. Blind to seasons. O(1) time, no memory
beside the window.

Score: float in [0, 1e9], standard deviations; 0.0 is the most normal.

References
----------
.. [1] B. Iglewicz, D. Hoaglin (1993), How to Detect and Handle Outliers, ASQC, section 3.

Examples
--------
>>> from app.detectors.api import run
>>> run("zscore", [9.0, 11.0, 9.0, 11.0, 10.0, 20.0], warmup=4)
[0.0, 0.0, 0.0, 0.0, 0.0, 11.180339887498949]
"""

from app.detectors.api import floored, mean, param, params, std, z

VERSION = 1
PARAMS = params(
    threshold=param(3.0, "standard deviations at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE: list[tuple] = []
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} is {score} standard deviations {side} the mean {expected} of the last {count} points"


def band(s, p, at, w):
    middle = mean(w)
    reach = p.threshold * floored(std(w), middle)
    return middle, middle - reach, middle + reach


def step(s, p, x, at, w):
    return abs(z(w, x))

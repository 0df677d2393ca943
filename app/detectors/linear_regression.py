"""Distance from where the straight line through the last points goes on, in standard errors of that prediction.

Fits a level that climbs or falls evenly: disks that fill, counters, slow drifts, where a mean always lags behind.
Blind to seasons, and after a step or spike its line leans for a whole window. The points are taken to be evenly
spaced. O(window) time, no memory beside the window.

Score: float in [0, 1e9], standard errors; 0.0 is the most normal; 0.0 for the first three points. A point is an
anomaly above ``threshold`` of them.

References
----------
.. [1] N. R. Draper, H. Smith (1998), Applied Regression Analysis, 3rd edition, section 3.1: the standard error of a
   single predicted value, s sqrt(1 + 1/n + (x - mean of x)**2 / sum of squares of x).

Examples
--------
>>> from app.detectors.api import run
>>> [round(z, 2) for z in run("linear_regression", [1.0, 2.0, 3.1, 4.0, 5.1, 6.0, 9.0], warmup=4)]
[0.0, 0.0, 0.0, 0.0, 0.53, 1.34, 25.22]
"""

from app.detectors.api import before, count, deviation, floored, nan, param, params, sqrt

VERSION = 1
PARAMS = params(
    window_size=param(0, "points the line is fitted to, at least 3; 0: all of window_points", at_least=0, at_most=4096),
    threshold=param(3.0, "standard errors at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE: list[tuple] = []
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} is {score} standard errors {side} {expected}, where the line of the last {count} points leads"


def forecast(p, w):
    """The next value on the line of least squares, and its standard error. Needs three values."""
    n = min(count(w), p.window_size) if p.window_size > 0 else count(w)
    newest = before(w, 1)  # sums are around it: those of values around 1e9 would drown what differs
    middle = 0.5 * (n + 1)  # ages go from 1 to n
    total = 0.0
    moment = 0.0
    for age in range(1, n + 1):
        y = before(w, age) - newest
        total += y
        moment += (middle - age) * y
    level = total / n
    squares = n * (float(n) * n - 1.0) / 12.0  # of ages around the middle
    slope = moment / squares
    left = 0.0
    for age in range(1, n + 1):
        residual = before(w, age) - newest - level - slope * (middle - age)
        left += residual * residual
    error = sqrt(left / (n - 2) * (1.0 + 1.0 / n + middle * middle / squares))
    return newest + level + slope * middle, error


def band(s, p, at, w):
    if count(w) < 3:
        return nan, nan, nan
    expected, error = forecast(p, w)
    reach = p.threshold * floored(error, expected)
    return expected, expected - reach, expected + reach


def step(s, p, x, at, w):
    if count(w) < 3:
        return 0.0
    expected, error = forecast(p, w)
    return abs(deviation(x, expected, error))

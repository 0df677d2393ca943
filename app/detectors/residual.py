"""Distance from what was expected: by the last value, or by the hour of the day, whichever foretells better here.

The dense score of the default: it says of every point how odd it is, and gives the expected value and its band.
Two predictors stand side by side (``app/detectors/support/forecast.py``): an autoregression on the last value and the
mean of the hour of the day (UTC). Each distance counts in its predictor's mean absolute error and with its predictor's
weight, the inverse square of that error; the root of the sum of their squares is the score. Without a setting, the hour
decides on data with a daily course, the last value on data that wander or keep to their level.

Fits one number at a time, at any level and scale. Blind to what is odd by its shape or its duration only: a value
that is stuck inside the usual range foretells itself. Not for deciding whom to wake: on spiky data several of a
hundred points lie far out, which ``novelty`` knows and this does not.

Time: the hour of the day is that of the event time. A gap moves nothing but the hour; a time before the last one,
or the same, is scored by its own hour, and counts as no time passed. A constant series scores 0.0; its first change
scores up to 1e9. Sparse counts (zeros, seldom more) are scored by their rarely changing mean.

Score: float in [0, 1e9], in mean absolute errors of the predictor; 0.0 is the most normal, and 0.0 for the first
21 points. Below 1 is usual; of normal noise 1 point in 25 lies above 2 and none of 20,000 above 4.

O(1) time, 368 bytes.

References
----------
.. [1] J. M. Bates, C. W. J. Granger (1969), The Combination of Forecasts, Operational Research Quarterly 20(4):
   weights by inverse squared errors.
.. [2] S. Haykin (2002), Adaptive Filter Theory, 4th edition, section 9.3: recursive least squares.
.. [3] P. J. Huber (1964), Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35(1):
   what is learned is cut.

Examples
--------
>>> from app.detectors.api import run
>>> [round(z, 2) for z in run("residual", [9.0, 11.0, 10.0] * 20 + [10.0, 20.0])[-2:]]
[0.01, 11.19]
"""

from app.detectors.api import FORECAST, derived, expected, param, params, residual

VERSION = 1
PARAMS = params(
    threshold=param(8.0, "mean absolute errors at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    silent=derived(lambda p: 21),
)
STATE = [("forecast", FORECAST)]
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} is {score} usual errors {side} the expected {expected}"


def band(s, p, w):
    """What the better predictor expects, and where its part of the score reaches the threshold."""
    middle, one = expected(s.forecast)
    return middle, middle - p.threshold * one, middle + p.threshold * one


def step(s, p, x, t, w):
    """Score x by what was known before it, then learn it."""
    weighed, _ = residual(s.forecast, x, t)
    return weighed

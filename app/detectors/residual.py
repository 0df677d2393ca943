"""Forecast error of two predictors, the last value and the hour of the day, weighted by their accuracy.

The anomaly score of the default set: it scores every point, and gives the expected value and its band. There are two
predictors (``app/detectors/support/forecast.py``): an autoregression on the last value and the mean of the hour of the
day. Each error is divided by the mean absolute error of its predictor and weighted by the inverse square of that
error; the score is the root of the sum of squares. So, without a setting, the hour decides for data with a daily
season, the last value for random walks and constant levels.

Fits each metric by itself, at any level and scale. Blind to anomalies of shape or duration only: a value that is stuck
inside the usual range predicts itself. Not for alerts alone: on data with many spikes several percent of the points
score high, which ``novelty`` takes into account and this does not.

Time: the hour of the day is that of the event time. A gap changes only the hour; a point with an earlier
time, or the same, is scored by its own hour, and no time has passed. A constant series scores 0.0; its first change
scores up to 1e9. Sparse counts (zeros, seldom more) are scored by their rarely changing mean.

Score: float in [0, 1e9], in mean absolute errors of the predictor; 0.0 is the most normal, and 0.0 for the first
21 points. Scores below 1 are usual; of normal noise 1 point in 25 lies above 2 and none of 20,000 above 4.

O(1) time, 368 bytes.

References
----------
.. [1] J. M. Bates, C. W. J. Granger (1969), The Combination of Forecasts, Operational Research Quarterly 20(4):
   weights by inverse squared errors.
.. [2] S. Haykin (2002), Adaptive Filter Theory, 4th edition, section 9.3: recursive least squares.
.. [3] P. J. Huber (1964), Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35(1):
   what is learned is clipped.

Examples
--------
>>> from app.detectors.api import run
>>> [round(z, 2) for z in run("residual", [9.0, 11.0, 10.0] * 20 + [10.0, 20.0])[-2:]]
[0.01, 11.19]
"""

from app.detectors.api import FORECAST, derived, expected, param, params, residual

VERSION = 2
PARAMS = params(
    threshold=param(8.0, "mean absolute errors at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    silent=derived(lambda p: 21),
)
STATE = [("forecast", FORECAST)]
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
SEASONAL = True
EXPLANATION = "{value} is {score} usual errors {side} the expected {expected}"


def band(s, p, at, w):
    """The value expected by the better predictor, and where its part of the score reaches the threshold."""
    middle, one = expected(s.forecast, at.time, at.week)
    return middle, middle - p.threshold * one, middle + p.threshold * one


def step(s, p, x, at, w):
    """Score x by what was known before it, then learn it."""
    weighed, _ = residual(s.forecast, x, at.time, at.week)
    return weighed

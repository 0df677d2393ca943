"""Distance from the mean of all points so far, in their standard deviations: River's StandardAbsoluteDeviation.

The plainest of River's learners, which never forgets: it knows what is usual over the whole life of a source, where the
window knows the last points only. Fits a level that holds still; blind to seasons, and slow to accept another level.
The same numbers as River's object gives (within the last bit of a float), a hundred times faster; River's median in
the place of the mean is had by ``method: river``. O(1) time, 24 bytes.

Score: float in [0, 1e9], standard deviations (of a sample, not a population); 0.0 is the most normal.

References
----------
.. [1] River 0.26.1, river/anomaly/sad.py.
.. [2] B. P. Welford (1962), Note on a method for calculating corrected sums of squares and products,
   Technometrics 4(3), pages 419-420.

Examples
--------
>>> from app.detectors.api import MAX_DEVIATION, run
>>> [round(z, 2) for z in run("StandardAbsoluteDeviation", [9.0, 11.0, 9.0, 11.0, 10.0, 20.0], warmup=4)]
[0.0, 0.0, 0.0, 0.0, 0.0, 10.0]
"""

from app.detectors.api import MAX_DEVIATION, floored, param, params, sqrt

NAME = "StandardAbsoluteDeviation"
VERSION = 1
PARAMS = params(
    threshold=param(3.0, "standard deviations at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE = [("seen", "i8"), ("mean", "f8"), ("m2", "f8")]
WINDOW = None
SCALE = "deviations"
ALERT_AT = "threshold"
EXPLANATION = "{value} is {score} standard deviations {side} the mean {expected} of all points so far"
NOT_NOTHING = 1e-10  # River adds it to the deviation, so that a constant has one: [1]


def deviation_so_far(s):
    return sqrt(s.m2 / (s.seen - 1)) if s.seen > 1 else 0.0


def band(s, p, at, w):
    reach = p.threshold * floored(deviation_so_far(s), s.mean)
    return s.mean, s.mean - reach, s.mean + reach


def step(s, p, x, at, w):
    """Score x by what was known before it, then learn it."""
    score = min(abs(x - s.mean) / (deviation_so_far(s) + NOT_NOTHING), MAX_DEVIATION) if s.seen > 0 else 0.0
    s.seen += 1
    delta = x - s.mean
    s.mean += delta / s.seen
    s.m2 += delta * (x - s.mean)
    return score

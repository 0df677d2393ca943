"""Distance from the mean of this hour of the day, or of the week, in standard deviations.

Fits daily or weekly seasons: traffic, load, power, temperature. Finds a value that is normal by day and anomalous at
night. Blind to trends, and to seasons of another length. O(1) time, O(season_hours) memory.

Hours are those of the event time. Each hour has an exponentially weighted mean (``half_life``); all hours share one
standard deviation, as with hourly points a single hour has too few to estimate it. Values are clipped at 6 deviations
from the mean of their hour when learned. An hour without earlier points scores 0.0, so there are no scores in the first
season: a day, or a week. A late point is scored and learned in its own hour.

Score: float in [0, 1e9], standard deviations; 0.0 is the most normal. A point is an anomaly above ``threshold``.
The band is that of the point's own hour.

References
----------
.. [1] R. J. Hyndman, G. Athanasopoulos (2021), Forecasting: Principles and Practice, 3rd edition, section 5.2: the
   seasonal means.

Examples
--------
>>> from app.detectors.api import run
>>> days = [20.0 + hour + 0.5 * (day % 2) for day in range(8) for hour in range(24)]
>>> scores = run("seasonal", [*days, 40.0], times=[3600.0 * i for i in range(8 * 24 + 1)])
>>> round(max(scores[24:-1]), 1), scores[-1] > 50.0
(1.0, True)
"""

from app.detectors.api import (
    SQUARES,
    cut_error,
    decay_of,
    derived,
    deviation,
    floored,
    learn_error,
    nan,
    param,
    params,
    rms,
    whole,
)

VERSION = 2
PARAMS = params(
    season_hours=param(
        24, "hours in a season: 24 (of the day), 168 (of the week) or another divisor of 168", at_least=1, at_most=168
    ),
    half_life=param(14.0, "age, in seasons, at which a value counts half", above=0),
    threshold=param(3.0, "standard deviations at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    decay=derived(lambda p: decay_of(p.half_life)),
    hourly=derived(lambda p: decay_of(p.half_life * p.season_hours)),
)
STATE = lambda p: [  # noqa: E731
    ("means", "f8", (p.season_hours,)),
    ("weights", "f8", (p.season_hours,)),  # 0: an hour not seen
    ("residuals", SQUARES),
    ("hour", "i8"),  # of the last point, in the week
    ("time", "f8"),  # of the last point
]
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
SEASONAL = True
EXPLANATION = "{value} is {score} standard deviations {side} {expected}, the usual value of the hour"

SETTLED = 20  # residuals before their deviation is used


def band(s, p, at, w):
    i = whole(at.week / 3600.0) % p.season_hours
    if s.weights[i] == 0.0:
        return nan, nan, nan
    reach = p.threshold * floored(rms(s.residuals), s.means[i])
    return s.means[i], s.means[i] - reach, s.means[i] + reach


def step(s, p, x, at, w):
    """Score x by the mean of its hour, then learn it."""
    hour = whole(at.week / 3600.0)
    i = hour % p.season_hours
    entered = hour != s.hour or abs(at.time - s.time) >= 3600.0
    learned = x
    score = 0.0
    if s.weights[i] > 0.0:
        if s.residuals.seen >= SETTLED:
            score = abs(deviation(x, s.means[i], rms(s.residuals)))
        residual = x - s.means[i]
        learned = s.means[i] + cut_error(s.residuals, residual)
        learn_error(s.residuals, residual, p.hourly if entered else 1.0)
    s.weights[i] = (p.decay if entered else 1.0) * s.weights[i] + 1.0
    s.means[i] += (learned - s.means[i]) / s.weights[i]
    s.hour = hour
    s.time = at.time
    return score

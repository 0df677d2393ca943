"""Distance beyond the window's quartiles, in interquartile ranges: Tukey's fences.

Fits skewed values too, as each side is measured from its own quartile, and noise with outliers in it: up to a
quarter of the window may be outliers. Blind to seasons. O(1) time, no memory beside the window. Where the
quartiles are equal, 1.349 standard deviations replace the range of 0.

Score: float in [0, 1e9], interquartile ranges; 0.0 between the quartiles. A point is an anomaly above
``threshold``: 1.5 is Tukey's inner fence (of normal noise 7 in 1000 points lie outside), 3.0 his outer
fence (2 in a million).

References
----------
.. [1] J. W. Tukey (1977), Exploratory Data Analysis, Addison-Wesley, section 2C: inner and outer fences.

Examples
--------
>>> from app.detectors.api import run
>>> run("iqr", [9.0, 11.0, 9.0, 11.0, 10.0, 12.0, 20.0], warmup=4)
[0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 5.142857142857143]
"""

from app.detectors.api import count, deviation, floored, median, param, params, quantile, std

VERSION = 1
PARAMS = params(
    threshold=param(3.0, "interquartile ranges beyond a quartile at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE: list[tuple] = []
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} lies {score} interquartile ranges {side} the middle half of the last {count} points"

OF_NORMAL = 1.3489795  # the interquartile range of a normal variable, in standard deviations


def reach(w, low, high):
    return high - low if high > low else OF_NORMAL * std(w)


def band(s, p, at, w):
    low, high = quantile(w, 0.25), quantile(w, 0.75)
    beyond = p.threshold * floored(reach(w, low, high), median(w))
    return median(w), low - beyond, high + beyond


def step(s, p, x, at, w):
    if count(w) == 0:
        return 0.0
    low, high = quantile(w, 0.25), quantile(w, 0.75)
    if low <= x <= high:
        return 0.0
    return abs(deviation(x, low if x < low else high, reach(w, low, high)))

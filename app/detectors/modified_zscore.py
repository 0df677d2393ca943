"""Distance from the median of the window, by the median absolute deviation: the modified z-score.

Fits what ``zscore`` fits, and noise with outliers in it: up to half of the window may be outliers before they
move the median or hide the next one. Blind to seasons; its threshold is meant for a normal distribution, and a source
whose values lie close together with long tails alerts often. O(log window) time, no memory beside the window. Where
more than half of the values are equal that deviation is 0; then the mean absolute deviation, scaled likewise, is used
(O(window)).

Score: float in [0, 1e9], standard deviations if the values were normal; 0.0 is the most normal. A point is an
anomaly above ``threshold`` of them.

References
----------
.. [1] B. Iglewicz, D. Hoaglin (1993), How to Detect and Handle Outliers, ASQC, section 3: the score
   0.6745 (x - median) / MAD and the threshold 3.5.
.. [2] R. C. Geary (1935), The ratio of the mean deviation to the standard deviation as a test of normality,
   Biometrika 27, pages 310-332: 1.2533 mean deviations of a normal variable are a standard deviation.

Examples
--------
>>> from app.detectors.api import run
>>> run("modified_zscore", [9.0, 11.0, 9.0, 11.0, 10.0, 20.0], warmup=4)
[0.0, 0.0, 0.0, 0.0, 0.0, 6.745]
"""

from app.detectors.api import count, deviation, floored, mad, mean_distance, median, param, params

VERSION = 1
PARAMS = params(
    threshold=param(3.5, "standard deviations at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE: list[tuple] = []
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} is {score} robust standard deviations {side} the median {expected} of the last {count} points"

OF_MAD = 0.6745  # [1]: the median absolute deviation of a normal variable, in standard deviations
OF_MEAN_DEVIATION = 1.253314137  # [2]: square root of pi / 2


def scale(w, middle):
    found = mad(w) / OF_MAD
    return found if found > 0.0 else OF_MEAN_DEVIATION * mean_distance(w, middle)


def band(s, p, at, w):
    middle = median(w)
    reach = p.threshold * floored(scale(w, middle), middle)
    return middle, middle - reach, middle + reach


def step(s, p, x, at, w):
    if count(w) == 0:
        return 0.0
    middle = median(w)
    return abs(deviation(x, middle, scale(w, middle)))

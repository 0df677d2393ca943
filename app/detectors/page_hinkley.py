"""Page-Hinkley test: distance of the cumulative sum of deviations from its minimum or maximum.

Like ``cusum``, for smaller and slower shifts. It is reset after an alert: mean, deviation and sums are learned again
from the next point on, so that a lasting shift is reported once. A single spike does not reach the threshold, as a
value counts at most 6 deviations. Do not use it for seasonal series: it takes seasons for shifts. O(1) time and
memory.

Score: float in [0, 1e9], standard deviations, summed; 0.0 is the most normal; 0.0 for the first ``min_instances``
points. A point is an anomaly above ``threshold``. River's PageHinkley has the same formula with parameters in the unit
of the values; delta and threshold here are in standard deviations, and fit any source.

References
----------
.. [1] E. S. Page (1954), Continuous inspection schemes, Biometrika 41, pages 100-115.
.. [2] D. V. Hinkley (1971), Inference about the change-point from cumulative sum tests, Biometrika 58, pages
   509-523.
.. [3] J. Montiel et al. (2021), River: machine learning for streaming data in Python, JMLR 22: drift.PageHinkley.

Examples
--------
>>> from app.detectors.api import run
>>> scores = run("page_hinkley", [9.0, 11.0] * 20 + [14.0, 12.0] * 30, warmup=4)
>>> [round(z, 1) for z in scores[47:57]]
[13.1, 14.5, 15.1, 16.4, 17.0, 18.3, 18.8, 20.0, 20.5, 0.0]
"""

from app.detectors.api import MAX_DEVIATION, WEIGHTED, cut, deviations_of, learn_weighted, param, params

VERSION = 2
PARAMS = params(
    min_instances=param(30, "points after a reset before the first score", at_least=2),
    delta=param(0.25, "allowance subtracted from each deviation: half of the shift to be found", at_least=0),
    threshold=param(20.0, "sum of deviations at which a point alerts", above=0),
    alpha=param(0.9999, "factor of the sum at each point (forgetting factor)", at_least=0.5, at_most=1),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE = [
    ("level", WEIGHTED),
    ("increase", "f8"),
    ("decrease", "f8"),
    ("lowest", "f8"),
    ("highest", "f8"),
    ("found", "i8"),
]
SCALE = "deviations"
ALERT_AT = "threshold"
TARGETS = "shifts"
INVARIANT = ("scale", "shift")
KINDS = "drift"
EXPLANATION = "at {value} the deviations from the running mean have summed up to {score}: the level has shifted"

MOST = 4.0  # deviations that one value counts


def restart(s):
    s.level.mean = 0.0
    s.level.var = 0.0
    s.level.weight = 0.0
    s.level.seen = 0
    s.increase = 0.0
    s.decrease = 0.0
    s.found = 0


def step(s, p, x, at, w):
    """Learn x, and sum up how far it lies from the mean of all since the start."""
    if s.found == 1:
        restart(s)
    learned = cut(s.level, x)
    learn_weighted(s.level, learned, 1.0)
    one = deviations_of(s.level)
    away = min(max(learned - s.level.mean, -MOST * one), MOST * one)
    s.increase = p.alpha * s.increase + away - p.delta * one
    s.decrease = p.alpha * s.decrease + away + p.delta * one
    s.lowest = min(s.lowest, s.increase) if s.level.seen > 1 else s.increase
    s.highest = max(s.highest, s.decrease) if s.level.seen > 1 else s.decrease
    if s.level.seen < p.min_instances or one == 0.0:
        return 0.0
    score = min(max(s.increase - s.lowest, s.highest - s.decrease) / one, MAX_DEVIATION)
    s.found = 1 if score >= p.threshold else 0
    return score

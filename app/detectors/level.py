"""Distance of a metric's recent mean from its long-term mean: its part of the joint signal of a source.

For sources with several metrics (sensors of one machine). The mean of the last ``window_size`` points is compared with
the mean of all normal points, in units of the usual variation of such means: the square root of their mean squared
distance from the long-term mean plus the mean squared change between blocks of ``window_size`` points that lie ``LAG``
blocks apart. While a metric is out of range it is not learned, for at most ``hold_points`` points in a row, so that a
fault does not become normal while it lasts, and a permanent change of level is accepted. The root mean square over a
source's metrics is the joint signal: a distance like Hotelling's T squared [1] without correlations, which cannot be
estimated from a few hundred points.

Fits machines with a constant operating level: faults that shift several metrics a little, or increase their variance.
Slow: a spike of one point has the weight 1/20. Blind to shapes and seasons, and to constant metrics, which have no
scale.

Timestamps are not used: gaps, duplicates and backward times change nothing. Constant metrics score 0.0.

Score: float in [0, 1e9], in units of the metric's usual variation; about 1 is normal, above ``gate`` the
metric is out of range; 0.0 for the first 100 points.

O(window_size) time, 168 bytes.

References
----------
.. [1] H. Hotelling (1947), Multivariate Quality Control, in Eisenhart et al., Techniques of Statistical Analysis.
.. [2] D. C. Montgomery (2009), Introduction to Statistical Quality Control, 6th edition, section 6.2: points out of
   control are left out when limits are set.

Examples
--------
>>> from app.detectors.api import run
>>> calm = [float((7 * i) % 10) for i in range(200)]
>>> [round(z, 2) for z in run("level", [*calm, *(x + 5.0 for x in calm[:20])])[199::10]]
[0.16, 51.88, 103.75]
"""

from app.detectors.api import MAX_DEVIATION, before, count, derived, param, params, sqrt

VERSION = 1
LAG = 6  # blocks between two that are compared
UNSCORED = 100  # points before the variation of the means is known
PARAMS = params(
    window_size=param(20, "points whose mean is the level", at_least=2, at_most=4096),
    gate=param(2.5, "score above which the metric is out of range and not learned", above=0),
    hold_points=param(500, "most points in a row that are not learned", at_least=0),
    threshold=param(8.0, "score at which a point alerts", above=0, keeps_state=True),
    warmup=param(1, "points scored before the first vote", at_least=1, keeps_state=True),
    silent=derived(lambda p: UNSCORED),
)
STATE = [
    ("n", "i8"),  # points seen
    ("learned", "i8"),  # of them
    ("mean", "f8"),  # of points learned
    ("wander", "f8"),  # mean squared distance of levels from it
    ("drift", "f8"),  # mean squared change of a block's mean over LAG blocks
    ("weight", "f8"),  # of the changes in it
    ("held", "i8"),  # points not learned, less those in range since
    ("sum", "f8"),  # of the block's values
    ("good", "i8"),  # points of the block that were learned
    ("means", "f8", (LAG,)),  # of the last blocks
    ("shares", "f8", (LAG,)),  # of their points that were learned
]
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
SCOPE = "channel"
KINDS = "level"
EXPLANATION = "{score} times as far from its usual level as {name} usually is"


def step(s, p, x, at, w):
    """Score x by what was known before it, then learn it."""
    total = x
    past = min(count(w), p.window_size - 1)
    for age in range(1, past + 1):
        total += before(w, age)
    level = total / (past + 1)
    score = 0.0
    if s.n >= UNSCORED:
        spread = sqrt(s.wander + s.drift)
        if spread > 1e-9 * abs(s.mean):
            score = min(abs(level - s.mean) / spread, MAX_DEVIATION)
    s.sum += x
    if _learns(s, p, score):
        s.good += 1
        s.learned += 1
        s.mean += (x - s.mean) / s.learned
        if s.n >= p.window_size:
            distance = level - s.mean
            s.wander += (distance * distance - s.wander) / s.learned
    s.n += 1
    if s.n % p.window_size == 0:
        _end_block(s, p.window_size)
    return score


def _learns(s, p, score):
    """Is this point learned? Counts those that are not."""
    if score <= p.gate:
        s.held = max(s.held - 1, 0)
        return True
    if s.held >= p.hold_points:
        return True
    s.held += 1
    return False


def _end_block(s, size):
    place = (s.n // size - 1) % LAG
    mean = s.sum / size
    share = s.good / size
    if s.n > size * LAG:
        weight = share * s.shares[place]
        if weight > 0.0:
            change = mean - s.means[place]
            s.weight += weight
            s.drift += weight / s.weight * (change * change - s.drift)
    s.means[place] = mean
    s.shares[place] = share
    s.sum = 0.0
    s.good = 0

"""Raw scores to votes in 0..1, 0.8 at the alert line k: z / (z + k / 4), for a surprise e 1 - .2 * 10**-(e - k).

z is the raw score itself where a detector measures in standard deviations; otherwise its one-sided
distance from that detector's past scores of this metric, in their standard deviations. A score far
above its past is cut before it is learned, so that one outlier does not hide the next.
"""

from app.compiled.numeric import LN_10, MAX_VALUE, deviation, exp, rounded, sqrt

FIELDS = [("seen", "i8"), ("mean", "f8"), ("var", "f8")]  # seen: points learned since the detector (re)started
VERSION = 1

SETTLED = 20  # scores before any is cut
CUT = 6.0  # standard deviations above the mean at which a score is learned
SHORTEST = 0.001  # share of the newest score: a memory of about 1000 points


def on_line(z, k):
    """The vote of a score z whose alert line is k > 0."""
    return rounded(z / (z + 0.25 * k)) if z > 0.0 else 0.0


def on_surprise(e, k):
    """The vote of a surprise e, a decimal logarithm of rarity: ten times rarer is ten times closer to 1."""
    return rounded(max(0.0, 1.0 - 0.2 * exp(LN_10 * (k - e)))) if e > 0.0 else 0.0


def above_past(c, raw):
    """Standard deviations of a raw score above its past."""
    return deviation(min(max(raw, -MAX_VALUE), MAX_VALUE), c.mean, sqrt(c.var))


def learn(c, raw, silent):
    """Learn a raw score, except the first ``silent`` ones, which have no meaning."""
    c.seen += 1
    if c.seen <= silent:
        return
    known = c.seen - silent
    delta = min(max(raw, -MAX_VALUE), MAX_VALUE) - c.mean
    if known > SETTLED and c.var > 0.0:
        delta = min(delta, CUT * sqrt(c.var))
    share = max(1.0 / known, SHORTEST)
    c.mean += share * delta
    c.var = (1.0 - share) * (c.var + share * delta * delta)


def restart(c):
    c.seen = 0
    c.mean = 0.0
    c.var = 0.0

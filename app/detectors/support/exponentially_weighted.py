"""Exponentially weighted mean and variance, or mean square: each later value multiplies the weights by ``decay``.

Unbiased from the first value on, as sums are divided by the sum of the weights so far:
T. Finch (2009), Incremental calculation of weighted mean and variance, University of Cambridge, section 4.

Values are clipped at CUT standard deviations, errors at CUT root mean squares, so that one outlier of 1e12 does not
dominate the statistics of days; a permanent change of level is learned all the same, as the variance grows with every
clipped value. Kernels: see ``detectors/api.py``.
"""

from app.compiled.numeric import LN_2, exp, floored, sqrt

WEIGHTED = [("mean", "f8"), ("var", "f8"), ("weight", "f8"), ("seen", "i8")]
SQUARES = [("square", "f8"), ("weight", "f8"), ("seen", "i8")]  # of errors: around 0, not around their mean
SETTLED = 20  # values before clipping begins
CUT = 6.0  # standard deviations from the mean at which a value is clipped


def decay_of(half_life):
    """The decay with which a value counts half after ``half_life`` later ones."""
    return exp(-LN_2 / half_life)


def deviations_of(m):
    """Standard deviation of the values as a population; 0.0 of none."""
    return sqrt(m.var)


def cut(m, x):
    """x, clipped for learning."""
    if m.seen < SETTLED or not m.var > 0.0:
        return x
    reach = CUT * floored(sqrt(m.var), m.mean)
    return min(max(x, m.mean - reach), m.mean + reach)


def learn_weighted(m, x, decay):
    """Learn x; 0 < decay <= 1, see ``decay_of``."""
    delta = cut(m, x) - m.mean
    m.seen += 1
    m.weight = decay * m.weight + 1.0
    share = 1.0 / m.weight
    m.mean += share * delta
    m.var = (1.0 - share) * (m.var + share * delta * delta)


def rms(m):
    """Root mean square of the errors; 0.0 of none."""
    return sqrt(m.square)


def cut_error(m, error):
    """An error, clipped for learning."""
    if m.seen < SETTLED or not m.square > 0.0:
        return error
    reach = CUT * sqrt(m.square)
    return min(max(error, -reach), reach)


def learn_error(m, error, decay):
    """Learn an error; 0 < decay <= 1."""
    learned = cut_error(m, error)
    m.seen += 1
    m.weight = decay * m.weight + 1.0
    m.square += (learned * learned - m.square) / m.weight

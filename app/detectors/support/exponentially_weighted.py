"""Mean and variance, or mean square, that forget: a weight falls by the factor ``decay`` with every later value.

Exact for any number of values, as the weights so far are divided by (a mean that starts at 0 would lean towards it):
T. Finch (2009), Incremental calculation of weighted mean and variance, University of Cambridge, section 4.

A value far out is learned cut to CUT standard deviations, an error to as many root mean squares, so that one outlier
of 1e12 does not blind a memory of days; a true change of level is taken in all the same, as the variance grows with
every cut value. Kernels: see ``detectors/api.py``.
"""

from app.compiled.numeric import floored, sqrt

WEIGHTED = [("mean", "f8"), ("var", "f8"), ("weight", "f8"), ("seen", "i8")]
SQUARES = [("square", "f8"), ("weight", "f8"), ("seen", "i8")]  # of errors: around 0, not around their mean
SETTLED = 20  # values before any is cut
CUT = 6.0  # standard deviations from the mean at which a value is learned


def deviations_of(m):
    """Standard deviation of the values as a population; 0.0 of none."""
    return sqrt(m.var)


def cut(m, x):
    """x as it is learned."""
    if m.seen < SETTLED or not m.var > 0.0:
        return x
    reach = CUT * floored(sqrt(m.var), m.mean)
    return min(max(x, m.mean - reach), m.mean + reach)


def learn_weighted(m, x, decay):
    """Take in x; 0 < decay <= 1, half to the power of 1 / half-life."""
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
    """An error as it is learned."""
    if m.seen < SETTLED or not m.square > 0.0:
        return error
    reach = CUT * sqrt(m.square)
    return min(max(error, -reach), reach)


def learn_error(m, error, decay):
    """Take in an error; 0 < decay <= 1."""
    learned = cut_error(m, error)
    m.seen += 1
    m.weight = decay * m.weight + 1.0
    m.square += (learned * learned - m.square) / m.weight

"""In which interval around a prediction a stated share of the values lies, by the errors of the series itself.

A histogram of the errors, those above and those below the prediction apart, in units of their own mean size (of about
the last 100). Bins are a sixth of an octave wide; a bin counts half after 690 errors. The interval's edge on each side
is the size that half of the missing share exceeds: conformal prediction for a stream [1]_, with the weights of a
recent past in place of a fixed calibration set [2]_. The first errors stand beside a normal distribution that counts
as 80 of them.

Kernels, O(48) time at worst, see ``detectors/api.py``.

References
----------
.. [1] V. Vovk, A. Gammerman, G. Shafer (2005), Algorithmic Learning in a Random World, chapter 2.
.. [2] R. F. Barber, E. J. Candes, A. Ramdas, R. J. Tibshirani (2023), Conformal prediction beyond exchangeability,
   Annals of Statistics 51(2), section 3.
"""

from app.compiled.numeric import LN_2, exp, log, single, whole

BINS = 48
OCTAVE = 6.0  # bins
MIDDLE = 24.0  # the bin that begins at 1 unit
NORMAL = 40.0  # weight of the normal distribution on each side
OLDER = 1.001001001001001  # times the weight of an error that of the next one is
EDGES = 4  # errors after which the edges are recomputed
SHARE = 0.01  # of the newest error in their mean size
INTERVAL = [
    ("unit", "f8"),  # mean size of an error
    ("learned", "i8"),
    ("weight", "f8"),  # of the next error
    ("total", "f8"),  # weight of all errors
    ("below", "f4", (BINS,)),
    ("above", "f4", (BINS,)),
    ("down", "f8"),  # the edges, in units
    ("up", "f8"),
]


def begin_interval(c, outside):
    """Set up the state; ``outside``: the share of the values beyond both edges, 0..1."""
    c.weight = 1.0
    c.total = 0.0
    c.unit = 0.0
    c.learned = 0
    for b in range(BINS):
        z = exp((b + 0.5 - MIDDLE) / OCTAVE * LN_2) / 1.2533141373155  # a normal's mean size is .798 of its deviation
        share = NORMAL * 0.7978845608028654 * exp(-0.5 * z * z) * z * LN_2 / OCTAVE
        c.below[b] = single(share)
        c.above[b] = c.below[b]
        c.total += 2.0 * c.below[b]
    c.up = _edge(c.above, 0.5 * outside * c.total)
    c.down = c.up


def learn_interval(c, error, unit, smallest, outside, most):
    """Learn an error; ``unit``: the mean size it is measured in; ``most``: its size is cut here for their mean.

    One not larger than ``smallest`` counts half on each side.
    """
    size = abs(error)
    if c.unit > 0.0:
        b = _bin(size / unit)
        c.weight *= OLDER
        if size <= smallest:
            c.below[b] = single(c.below[b] + 0.5 * c.weight)
            c.above[b] = single(c.above[b] + 0.5 * c.weight)
        elif error > 0.0:
            c.above[b] = single(c.above[b] + c.weight)
        else:
            c.below[b] = single(c.below[b] + c.weight)
        c.total += c.weight
        if c.weight > 1e6:
            for i in range(BINS):
                c.below[i] = single(c.below[i] / c.weight)
                c.above[i] = single(c.above[i] / c.weight)
            c.total /= c.weight
            c.weight = 1.0
        if c.learned % EDGES == 0 or c.learned < EDGES:
            want = 0.5 * outside * c.total
            c.up = _edge(c.above, want)
            c.down = _edge(c.below, want)
    c.learned += 1
    c.unit += max(1.0 / c.learned, SHARE) * (min(size, most) - c.unit)


def _bin(size):
    if size <= 1e-9:
        return 0
    place = log(size) / LN_2 * OCTAVE + MIDDLE
    return min(max(whole(place), 0), BINS - 1)


def _edge(weights, want):
    """The size that errors of the weight ``want`` exceed."""
    have = 0.0
    b = BINS - 1
    while b > 0 and have + weights[b] < want:
        have += weights[b]
        b -= 1
    part = min((want - have) / weights[b], 1.0) if weights[b] > 0.0 else 0.0
    return exp((b + 1.0 - MIDDLE - part) / OCTAVE * LN_2)

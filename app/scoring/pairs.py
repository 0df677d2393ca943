"""Two metrics of a vector that were always correlated, and separate, while each is within its own usual range.

Each metric has a *mate*: the metric that explains most of its variance. The value expected from the mate is a line,
fitted by least squares over all points, of which about the last 5,000 count [1]_. Metrics are tried as mates in turn,
100 points each; one replaces the mate if it leaves at most half of the variance that the mate leaves.

They go together where, for 500 points in a row, the line explains at least .8 of the variance and the errors lie on
both sides of it in turn: they change sides at 1 point in 10 or more. Two walks, or two daily courses of another shape,
lie near a line too, but their errors stay on one side for long: what is not stationary is no equilibrium that could be
left [2]_.

They part where the mean size of the last 20 errors is rarer than ``LINE``; each of them is cut at 4 usual ones, or at
3 times the mean size that one block in ten has, so that about 7 are large. It is ranked among the highest of each of
the last 128 blocks of 50 points (``block_maxima``), as ``prediction_interval`` ranks its signs, with the same allowance
for many metrics, many episodes and the first points. That also finds a metric that lags behind its mate, or stands
still while the mate goes on.

Points of an episode are not learned. It ends when the last 20 errors were as usual at 20 points in a row
(*recovered*), or after 200 points (*adapted*): then the fit of the line starts again. If another detector has just
opened an episode for one of the two, or for all metrics jointly, no second one is reported; those points are not
learned either.

Blind to metrics that never come in one point, to lines with bends or steps, and to what the usual error hides.

O(20) time for each metric of a point, 552 bytes a metric; sources with one metric have none of it.

References
----------
.. [1] T. Finch (2009), Incremental calculation of weighted mean and variance, University of Cambridge, section 4; the
   covariance likewise.
.. [2] R. F. Engle, C. W. J. Granger (1987), Co-Integration and Error Correction, Econometrica 55(2), section 2.
"""

from app.compiled.numeric import LN_10, log, sqrt
from app.detectors.support.block_maxima import BLOCK, MAXIMA, begin_maxima, end_block, size_of, surprise

VERSION = 1
LAST = 20  # errors that are looked at
# Means, and moments around them.
FIT = [("n", "i8"), ("x", "f8"), ("y", "f8"), ("xx", "f8"), ("xy", "f8"), ("yy", "f8")]
FIELDS = [
    ("place", "i8"),  # of the metric among those of its source, by when each was first seen
    ("mate", "i8"),  # 1 + its place; 0: none
    ("tried", "i8"),  # likewise
    ("turn", "i8"),  # points of the trial
    ("line", FIT),  # of the mate
    ("trial", FIT),
    ("unit", "f8"),  # mean size of an error
    ("turns", "f8"),  # share of errors on another side than the last one
    ("side", "i8"),  # of the last one; 1 above
    ("together", "i8"),  # points in a row
    ("errors", "f8", (LAST,)),
    ("seen", "i8"),  # of them
    ("size", MAXIMA),  # of the last ones
    ("in_block", "i8"),  # points
    ("told", "f8"),  # recent reported episodes, with decay
    ("since", "i8"),  # points since another detector reported it
    ("open", "i8"),  # 0, UNREPORTED or REPORTED
    ("age", "i8"),  # points of the episode so far
    ("usual", "i8"),  # of them the last ones at which the last errors were as usual
]
TRIAL = 100  # points
SHARE = 0.8  # of the variance, from which on two go together
TURNS = 0.1  # share of errors that change sides, likewise
TOGETHER = 500  # points, likewise
MEMORY = 0.0002  # share of the newest point in the line
UNIT = 0.005  # of the newest error in the mean size
LEAST = 0.01  # of a standard deviation: smaller errors count as that
CUT, CUTS = 4.0, 3.0  # usual errors, or times the line of mean sizes, at which an error is cut for their mean
MOST = 6.0  # usual errors, at which one is cut for the line
LINE = 2.8  # surprise at which an episode opens
YOUNG, OLD = 2.0, 2000.0  # so much higher at first, until so many points are known
FORGOTTEN = 0.99965  # of an episode at each point: half after 2,000
HIGHEST = 8.0  # of a surprise: rarer is the same
LONGEST = 200  # points of an episode
RECENT = 40  # points for which an episode of another detector counts as the same event
UNREPORTED, REPORTED = 1, 2  # episodes
NOTHING, LASTS, ADAPTED, RECOVERED = 0, 1, 2, 3  # what ``follow_mate`` says


def begin(s):
    """Set up the state of a metric, but for its place."""
    _drop_mate(s)
    s.tried = 0
    s.turn = 0
    s.told = 0.0
    s.since = 0
    s.open = 0


def _drop_mate(s):
    s.mate = 0
    _begin_line(s)
    begin_maxima(s.size, False)
    s.in_block = 0


def _begin_line(s):
    clear(s.line)
    s.unit = 0.0
    s.turns = 0.0
    s.side = 0
    s.together = 0
    s.seen = 0


def clear(fit):
    fit.n = 0
    fit.x = 0.0
    fit.y = 0.0
    fit.xx = 0.0
    fit.xy = 0.0
    fit.yy = 0.0


def learn_point(fit, x, y):
    fit.n += 1
    share = max(1.0 / fit.n, MEMORY)
    dx = x - fit.x
    dy = y - fit.y
    fit.x += share * dx
    fit.y += share * dy
    fit.xx = (1.0 - share) * (fit.xx + share * dx * dx)
    fit.xy = (1.0 - share) * (fit.xy + share * dx * dy)
    fit.yy = (1.0 - share) * (fit.yy + share * dy * dy)


def explained(fit):
    """The share of the variance of y that x explains, 0..1."""
    return fit.xy / fit.xx * (fit.xy / fit.yy) if fit.xx > 0.0 and fit.yy > 0.0 else 0.0


def error_of(fit, x, y):
    """How far y is above the line."""
    slope = fit.xy / fit.xx if fit.xx > 0.0 else 0.0
    return y - fit.y - slope * (x - fit.x)


def try_mate(s, y, x, has, places, reported):
    """Learn one more point of the metric that is tried as a mate, if it has one; then perhaps take it.

    ``places``: of metrics; the next one is tried after TRIAL points.
    """
    if s.tried > 0:
        s.turn += 1
        if has and not reported:
            learn_point(s.trial, x, y)
        if s.turn < TRIAL:
            return
        share = explained(s.trial)
        if s.open == 0 and 2 * s.trial.n >= TRIAL and share >= SHARE:
            left = 1.0 - explained(s.line) if s.mate > 0 else 1.0
            if 1.0 - share < 0.5 * left:
                _drop_mate(s)
                s.mate = s.tried
                s.line.n = s.trial.n
                s.line.x = s.trial.x
                s.line.y = s.trial.y
                s.line.xx = s.trial.xx
                s.line.xy = s.trial.xy
                s.line.yy = s.trial.yy
                s.unit = 0.8 * sqrt(max(1.0 - share, 0.0) * s.line.yy)  # a normal's mean size is .8 of its deviation
    s.turn = 0
    clear(s.trial)
    following = s.tried
    for _ in range(3):  # past itself and the mate
        following = following + 1 if following < places else 1
        if following != s.place + 1 and following != s.mate:
            break
    s.tried = following if following != s.place + 1 and following != s.mate else 0


def usual(s):
    """The usual error."""
    return max(s.unit, LEAST * sqrt(s.line.yy))


def last_size(s):
    """The mean size of the last 20 errors."""
    total = 0.0
    for i in range(LAST):
        total += abs(s.errors[i])
    return total / LAST


def is_above(s):
    """Is the last value above the line?"""
    return s.errors[(s.seen - 1) % LAST] > 0.0


def follow_mate(s, y, x, metrics, reported):
    """One more point of the metric and its mate: (surprise, LASTS or ..). The surprise is 0.0 where none begins.

    ``reported``: another detector reports one of them, or all metrics jointly.
    """
    s.told *= FORGOTTEN
    s.since = 0 if reported else s.since + 1
    error = error_of(s.line, x, y)
    unit = usual(s)
    s.errors[s.seen % LAST] = error
    s.seen += 1
    size = 0.0
    if s.seen >= LAST and unit > 0.0:
        cut = max(CUT, CUTS * s.size.above) * unit
        for i in range(LAST):
            size += min(abs(s.errors[i]), cut)
        size /= LAST * unit
    score = 0.0
    says = NOTHING
    if s.open == 0 and s.together >= TOGETHER and size > s.size.above:
        need = LINE + (log(1.0 + s.told) + log(1.0 * metrics)) / LN_10
        if s.line.n < OLD:
            need += YOUNG * (1.0 - s.line.n / OLD)
        rarity = surprise(s.size, size)
        if rarity >= need:
            s.open = UNREPORTED if s.since < RECENT else REPORTED
            s.age = 0
            s.usual = 0
            s.size.highest = max(s.size.highest, min(size, size_of(s.size, need)))
            if s.open == REPORTED:
                score = LINE + min(rarity, HIGHEST) - need
                s.told += 1.0
    if s.open > 0:
        s.age += 1
        s.usual = s.usual + 1 if size <= s.size.above and s.usual < LAST else 0
        adapted = s.age > LONGEST and s.usual == 0
        if adapted or s.usual == LAST:
            if s.open == REPORTED:
                says = ADAPTED if adapted else RECOVERED
            s.open = 0
            if adapted:
                _begin_line(s)
        elif s.open == REPORTED:
            says = LASTS
    elif s.since >= LAST:
        _learn(s, x, y, error, unit, size)
    return score, says


def _learn(s, x, y, error, unit, size):
    n = s.line.n
    cut = error
    if n >= 30 and unit > 0.0:
        cut = min(max(error, -MOST * unit), MOST * unit)
    learn_point(s.line, x, y - error + cut)
    s.unit += max(1.0 / (n + 1), UNIT) * (abs(cut) - s.unit)
    side = 1 if error > 0.0 else 0
    s.turns += UNIT * ((1.0 if side != s.side else 0.0) - s.turns)
    s.side = side
    known = s.turns >= TURNS and explained(s.line) >= SHARE
    s.together = s.together + 1 if known else 0
    if s.seen >= LAST and n >= TRIAL:
        s.size.highest = max(s.size.highest, size)
        s.in_block += 1
        if s.in_block >= BLOCK:
            s.in_block = 0
            end_block(s.size)

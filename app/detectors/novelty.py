"""Novel values, reported where an episode starts: the alert score of the default set.

Four features are observed, each by its distance to the nearest earlier value of the same feature, so that a value
that has occurred before, however rarely, is not novel (numbers are kept in single precision):

- the value,
- its distance from the last values at this hour of the week; where an hour has more than 30 points, from the
  last values,
- its distance from a slow mean (of about 400 points),
- the logarithm of the standard deviation of the last ``window_size`` points, this one included.

How rare is such a distance? Its logarithm is ranked among the highest of each of the last 180 blocks of 50 points
of this source; above the highest twentieth of them, the tail is an exponential. That gives each a surprise, a decimal
logarithm; their weighted sum, as in Fisher's method, is the total. Blocks of maxima need no assumption on the values
and are comparable between sources.

Not every surprise is reported. A total counts only

- at a point that lies 2 mean absolute errors from what was expected (``app/detectors/support/forecast.py``),
- where it is the highest of the last 64 points, and above the last peak, which is halved every 100 points,
- less what is due to repeats: the logarithm of 1 + the number of such peaks before, at least three quarters as high,
  each counting half after 2000 points: a source with such peaks every day reports them no more.
- less an allowance that falls from .3 to 0 between 250 and 500 points, where much is rare because little is known.

Fits every kind of series without a setting: levels, daily and weekly courses, spikes, sparse counts. Blind to windows
of which every part was seen before (something that is missing, a known shape at the wrong time of the hour), and
without scores for the first 250 points. On plain noise it reports about once before point 750, as the range of the
noise is not known yet, and later once in 2000 points.

What it says of a point is that feature whose surprise is largest: a record (a value beyond all before), a value unusual
for its hour, a value far from its mean, or values that scatter as they seldom do. A usual distance is the root mean
square of all so far, a usual standard deviation their geometric mean. A value between two that were seen
counts half, and only beside one of the others.

Time: the hour of the week is that of the event time, and everything else counts points: gaps, duplicates and backward
times are scored by their own hour and change nothing else. Constant series score 0.0; their first change is reported.

Score: surprise, a decimal logarithm in [0, 6]: 0.0 at most points; .6 is worth an alert, and 1 more is ten
times as rare.

O(log 48) time at most points, O(48) where a value is kept, and once in 50 points O(8 * 180); 3.7 KB.

References
----------
.. [1] E. Knorr, R. Ng (1998), Algorithms for Mining Distance-Based Outliers in Large Datasets, VLDB, section 2.
.. [2] S. Coles (2001), An Introduction to Statistical Modeling of Extreme Values, sections 3.1 (block maxima) and 4.2
   (exponential excesses over a high threshold).
.. [3] R. A. Fisher (1932), Statistical Methods for Research Workers, 4th edition, section 21.1: adding logarithms.
.. [4] R. Laxhammar, G. Falkman (2010), Conformal prediction for distribution-independent anomaly detection in
   streaming vessel data, StreamKDD: rarity by rank.

Examples
--------
>>> from app.detectors.api import run
>>> calm = [float((7 * i) % 10) for i in range(600)]
>>> [round(e, 2) for e in run("novelty", [*calm, 60.0, 61.0])[-3:]]
[0.0, 6.0, 0.0]
"""

from app.detectors.api import (
    FORECAST,
    LN_10,
    MOMENTS,
    derived,
    deviation,
    exp,
    inf,
    log,
    param,
    params,
    reached,
    residual,
    single,
    slide,
    spread,
    sqrt,
    whole,
)

VERSION = 2
PARAMS = params(
    threshold=param(0.6, "surprise at which a point alerts, a decimal logarithm", above=0, keeps_state=True),
    window_size=param(20, "points of which the standard deviation is observed", at_least=2, at_most=4096),
    warmup=param(1, "points scored before the first vote", at_least=1, keeps_state=True),
    silent=derived(lambda p: FEWEST * BLOCK),
)
KEPT = 48  # values that stand for all seen
BLOCK = 50  # points
BLOCKS = 180  # whose maxima are kept
FEWEST = 5  # blocks before anything is rare
HOLD = 64  # points of which a total must be the highest
PEAKS = 32  # that are remembered
SEEN = [
    ("n", "i8"),  # values seen
    ("values", "f4", (KEPT + 1,)),  # some of them, in order; of values, how far from the first
    ("kept", "i8"),  # how many these are
    ("narrowest", "f8"),  # the gap that the value dropped last has left
    ("mean", "f8"),
    ("var", "f8"),  # both of what was watched, cut at 6 standard deviations
    ("highest", "f8"),  # distance of this block, in standard deviations
    ("maxima", "u1", (BLOCKS,)),  # of the last blocks: 10 * (log(distance + .001) + 7), rounded up
    ("line", "f8"),  # above it the tail begins
    ("scale", "f8"),  # of the tail
    ("top", "i8"),  # maxima at the line or above
]
STATE = [
    ("forecast", FORECAST),
    ("value", SEEN),
    ("weekly", SEEN),
    ("slow", SEEN),
    ("noise", SEEN),
    ("recent", MOMENTS),
    ("week", "f4", (168,)),  # how far from the first the last values of an hour of the week, averaged
    ("weeks", "u1", (168,)),  # how many they are, at most 2
    ("hour", "u1"),  # of the last point
    ("stay", "u1"),  # points in this hour so far, at most 255
    ("many", "u1"),  # the hour before it had more than MANY
    ("first", "f8"),  # value
    ("since", "f8"),  # its time
    ("overall", "f8"),  # mean
    ("slow_mean", "f8"),
    ("place", "i8"),  # points in this block
    ("blocks", "i8"),  # full ones so far
    ("totals", "f4", (HOLD,)),  # of the last points
    ("peak", "f8"),  # decaying
    ("peaks", "f4", (PEAKS,)),  # totals that were the highest of their time
    ("peaked", "f4", (PEAKS,)),  # at which point
    ("told", "i8"),  # peaks reported so far
    ("said", "i8"),  # which of EXPLANATION says best what was the largest surprise at the last point
    ("figure", "f8"),  # that it is about
    ("usual", "f8"),  # what it is compared with
]
SCALE = "surprise"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
SEASONAL = True
SCOPE = "source"
ROLE = "episodes"
KINDS = ("record", "season", "level", "noise", "level", "record", "value")
EXPLANATION = (
    "{value} is the highest of all {figure} values so far, in {span}",
    "{value} is {figure} {beside} {middle}, the mean at this hour of the week; the usual distance is {usual}",
    "{value} is {figure} {beside} {middle}, the mean of about 400 points; the usual distance is {usual}",
    "the last {count} values have a standard deviation of {figure}, usually {usual}",
    "{value} is {figure} {beside} {middle}, the mean of the last values; the usual distance is {usual}",
    "{value} is the lowest of all {figure} values so far, in {span}",
    "{value} is {figure} {beside} {middle}, the mean of all values so far; the usual distance is {usual}",
)

GATE = 2.0  # mean absolute errors
HIGHEST, AT_THIS_HOUR, FROM_MEAN, SCATTERED, AMONG_LAST, LOWEST, SO_FAR = 0, 1, 2, 3, 4, 5, 6  # sentences
RECORD, BETWEEN = 1.0, 0.5  # weight of the surprise of a value, beyond all values and between some
WEEKLY, SLOW, NOISE = 1.0, 0.5, 0.5  # weights of the others
NORM = 0.6324555320336759  # 1 / square root of the sum of their squares
MOST = 6.0  # of a total: rarer is the same
NEAREST, FARTHEST = 1e-3, 1e12  # standard deviations: what is nearer, or farther, is the same
TAIL = 0.05  # share of the maxima in it
DECAY = 0.9930924954370359  # of the peak: half after 100 points
HALVED = 0.00034657359027997265  # log(2) / 2000: a peak counts half after 2000 points
SLOWNESS = 2.0 / 801.0  # share of the newest value in the slow mean
LATELY = 0.4  # and in the mean of the last weeks
MANY = 30  # points in an hour


def step(s, p, x, at, w):
    """Score x by what was known before it, then learn it."""
    n = s.forecast.n
    if n == 0:
        s.first = x
        s.since = at.time
    hour = whole(at.week / 3600.0)
    _enter(s, hour)
    is_known = s.weeks[hour] > 0
    by_hour = s.first + s.week[hour] if is_known else s.overall
    weekly = x - by_hour if n > 0 else 0.0
    slow = x - s.slow_mean if n > 0 else 0.0
    steady = 1e-3 * sqrt(s.forecast.var)
    slide(s.recent, w, x, p.window_size)
    scatter = spread(s.recent)
    noise = scatter + steady
    _, residue = residual(s.forecast, x, at.time, at.week)
    listens = residue >= GATE and s.blocks >= FEWEST
    y = single(x - s.first)
    is_record = s.value.kept > 0 and not s.value.values[0] <= y <= s.value.values[s.value.kept - 1]
    usual_weekly = _usual_size(s.weekly) if listens else 0.0
    usual_slow = _usual_size(s.slow) if listens else 0.0
    usual_noise = exp(s.noise.mean) if listens else 0.0
    surprise_value = (RECORD if is_record else BETWEEN) * _watch(s, s.value, y, listens)
    surprise_week = WEEKLY * _watch(s, s.weekly, weekly, listens)
    surprise_slow = SLOW * _watch(s, s.slow, slow, listens)
    surprise_noise = 0.0
    if n >= p.window_size and noise > 0.0:
        surprise_noise = NOISE * _watch(s, s.noise, log(noise), listens)
    total = surprise_week + surprise_slow + surprise_noise
    if is_record or total > 0.0:
        total += surprise_value
    total = single(min(NORM * total, MOST))  # as it is kept, so that an equal one is not higher
    if is_record and surprise_value >= max(surprise_week, surprise_slow, surprise_noise):
        _say(s, HIGHEST if y > s.value.values[0] else LOWEST, float(n + 1), max(at.time - s.since, 0.0) / 86400.0)
    elif surprise_week >= max(surprise_slow, surprise_noise):
        lately = s.many or s.stay > MANY
        _say(s, AMONG_LAST if lately else AT_THIS_HOUR if is_known else SO_FAR, weekly, usual_weekly)
    elif surprise_slow >= surprise_noise:
        _say(s, FROM_MEAN, slow, usual_slow)
    else:
        _say(s, SCATTERED, scatter, usual_noise)
    # Otherwise the sentence would not be plausible: a number between others, near to what is usual.
    if s.said in (AT_THIS_HOUR, FROM_MEAN, AMONG_LAST, SO_FAR) and deviation(abs(s.figure), 0.0, s.usual) < 2.0:
        total = 0.0
    score = 0.0
    if _is_high(s, n, total):
        score = max(0.0, total - log(1.0 + _repeats(s, n, total)) / LN_10 - _early_allowance(s))
        _remember_peak(s, n, total)
    s.totals[n % HOLD] = single(total)
    s.peak = max(s.peak * DECAY, total)
    _learn_course(s, x, n, hour)
    s.place += 1
    if s.place == BLOCK:
        _end_block(s)
    return score


def why(s, p, x, w):
    """Which of the sentences fits best, the figure it is about, and what is usual."""
    return float(s.said), s.figure, s.usual


def _say(s, sentence, figure, usual):
    s.said = sentence
    s.figure = figure
    s.usual = usual


def _usual_size(c):
    """Root mean square of what was watched."""
    return sqrt(c.var + c.mean * c.mean)


def _enter(s, hour):
    """Count the points of an hour; where they are many, the next hour goes on from their last values.

    Its first points would else be compared with those of a week ago, or with all, and are farther from these than any
    of the hundreds before from its neighbours: of 200 random walks with points each .4 s, 60 opened a false episode
    within 100 points of the first full hour.
    """
    if hour != s.hour:
        s.many = s.stay > MANY
        if s.many:
            s.week[hour] = s.week[s.hour]
            s.weeks[hour] = 2
        s.hour = hour
        s.stay = 0
    s.stay = min(s.stay + 1, 255)


def _learn_course(s, x, n, hour):
    weeks = s.weeks[hour]
    last = s.week[hour]
    off = x - s.first - last
    if weeks > 0:  # else one outlier would make the next value at this hour a week later look odd
        most = 4.0 * _usual_size(s.weekly)
        off = min(max(off, -most), most)
    s.week[hour] = single(last + off * max(LATELY, 1.0 / (weeks + 1)))
    if weeks < 2:
        s.weeks[hour] = weeks + 1
    s.overall += (x - s.overall) / (n + 1)
    s.slow_mean += (x - s.slow_mean) * max(SLOWNESS, 1.0 / (n + 1))


def _watch(s, c, y, listens):
    """The surprise of y among what c has seen, at least 0.0; then learn it."""
    y = single(y)
    place = _below(c, y)
    sd = sqrt(c.var)
    distance = 0.0
    if c.n >= 6:
        distance = y - c.values[place - 1] if place > 0 else inf
        if place < c.kept:
            distance = min(distance, c.values[place] - y)
        # Beside a constant anything else is far.
        distance = distance / sd if distance < FARTHEST * sd else FARTHEST if distance > 0.0 else 0.0
    surprise = max(0.0, _rarity(s, c, log(distance + NEAREST))) if listens else 0.0
    c.highest = max(c.highest, distance)
    _keep(c, y, place)
    delta = y - c.mean
    if c.n > 20 and c.var > 0.0:
        delta = min(max(delta, -6.0 * sd), 6.0 * sd)
    c.n += 1
    rate = 1.0 / c.n
    c.mean += rate * delta
    c.var = (1.0 - rate) * (c.var + rate * delta * delta)
    return surprise


def _rarity(s, c, size):
    """The decimal logarithm of how seldom a block has a distance of this size (its logarithm), or a larger one."""
    known = min(s.blocks, BLOCKS)
    # The longer one listens, the more one hears: the line rises with the logarithm of time.
    often = 0.6 * log((s.blocks + 1) / 20.0)
    if size > c.line:
        return (log((known + 1) / (c.top + 1)) - often + (size - c.line) / c.scale) / LN_10
    as_high = 0
    for i in range(known):
        if 0.1 * c.maxima[i] - 7.0 >= size:
            as_high += 1
    if as_high == known:
        return 0.0
    return (log((known + 1) / (as_high + 1)) - often) / LN_10


def _below(c, y):
    """How many of the values kept are smaller than y."""
    low, high = 0, c.kept
    while low < high:
        middle = (low + high) >> 1
        if c.values[middle] < y:
            low = middle + 1
        else:
            high = middle
    return low


def _keep(c, y, place):
    """Let y stand among the values, if none is as near as those that had to go."""
    if place < c.kept and (
        c.values[place] == y or (place > 0 and c.kept == KEPT and _gap(c, place - 1, place) <= c.narrowest)
    ):
        return
    for i in range(c.kept, place, -1):
        c.values[i] = c.values[i - 1]
    c.values[place] = single(y)
    c.kept += 1
    if c.kept > KEPT:
        _drop(c)


def _gap(c, i, j):
    # 1.0: compiled code would subtract in single precision, CPython never does.
    return 1.0 * c.values[j] - c.values[i]


def _drop(c):
    """Give up the value that leaves the narrowest gap; never the lowest or the highest."""
    c.narrowest = inf
    place = 1
    for i in range(1, KEPT):
        gap = _gap(c, i - 1, i + 1)
        if gap < c.narrowest:
            c.narrowest = gap
            place = i
    for i in range(place, KEPT):
        c.values[i] = c.values[i + 1]
    c.kept = KEPT


def _end_block(s):
    place = s.blocks % BLOCKS
    s.blocks += 1
    s.place = 0
    size = min(s.blocks, BLOCKS)
    _end(s.value, place, size)
    _end(s.weekly, place, size)
    _end(s.slow, place, size)
    _end(s.noise, place, size)


def _end(c, place, size):
    """Keep the highest distance of the block, and find line and scale of the tail."""
    tenths = 10.0 * (log(c.highest + NEAREST) + 7.0)
    code = whole(tenths)
    c.maxima[place] = min(code + 1 if code < tenths else code, 255)
    c.highest = 0.0
    c.top = size - whole((1.0 - TAIL) * size)
    lowest = 255
    highest = 0
    for i in range(size):
        lowest = min(lowest, c.maxima[i])
        highest = max(highest, c.maxima[i])
    line = reached(c, size, c.top, lowest, highest)
    above = 0
    for i in range(size):
        if c.maxima[i] > line:
            above += c.maxima[i] - line
    # Two more, from the range of all maxima: a tail of one point is none.
    wide = 0.1 * (highest - lowest) / max(log(float(size)) + 0.577, 1.0)
    c.line = 0.1 * line - 7.0
    c.scale = max((0.1 * above + 2.0 * wide) / (c.top + 2), 1e-3)


def _is_high(s, n, total):
    """Is it the highest of the last HOLD totals, and above the peak?"""
    if total <= s.peak:
        return False
    highest = 0.0
    for i in range(HOLD):
        highest = max(highest, s.totals[i])
    return total > highest


def _early_allowance(s):
    """How much rarer, a decimal logarithm, it must be while the past is short: .3 after 250 points, 0.0 from 500 on."""
    return max(0.0, 3.0 / s.blocks - 0.3) if s.blocks > 0 else 0.0


def _repeats(s, n, total):
    """Number of earlier reported peaks of about this height, each halved with its age in points."""
    found = 0.0
    for i in range(min(s.told, PEAKS)):
        age = n - s.peaked[i]
        if age > HOLD and s.peaks[i] >= 0.75 * total:
            found += exp(-age * HALVED)
    return found


def _remember_peak(s, n, total):
    """Remember a peak; one that follows another within HOLD points takes its place."""
    last = (s.told - 1) % PEAKS
    if s.told > 0 and n - s.peaked[last] <= HOLD:
        s.peaks[last] = single(max(s.peaks[last], total))
        s.peaked[last] = single(float(n))
        return
    s.peaks[s.told % PEAKS] = single(total)
    s.peaked[s.told % PEAKS] = single(float(n))
    s.told += 1

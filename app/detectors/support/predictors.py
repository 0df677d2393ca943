"""What the next value of a series should be, by seven simple predictors that compete.

CONSTANT   the mean of the last 3,000 values
SLOW       the mean of the last 50 values
DAY        the mean of the values in this 5-minute slot of the day
WEEK       the mean of the values in this hour of the week
DAY_NEXT   DAY, and a share of how far the last value was from its own slot's mean
LAGS       an autoregression on the last five values, by recursive least squares with forgetting [1]_
LAST       the last value

Each has the mean square of its last 500 errors; the least one is the best predictor, with a small preference for the
one that was best before, and for those that change less. What is learned is cut (4 or 5 mean absolute errors), so that
an outlier is not taught at its full size [2]_. A mean of a slot or hour follows faster when its values have been far
off for three days in a row (two weeks, for an hour of the week), since then the course has changed.

LAGS and LAST need the values just before: after a pause of more than five usual intervals they say nothing.

Kernels, O(1) time, see ``detectors/api.py``. The means of slots and hours are kept in single precision, as distances
from the first value of the series, which they must not exceed by 3e38.

References
----------
.. [1] S. Haykin (2002), Adaptive Filter Theory, 4th edition, section 9.3: recursive least squares.
.. [2] P. J. Huber (1964), Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35(1).
"""

from app.compiled.numeric import inf, single, sqrt, whole

CONSTANT, SLOW, DAY, WEEK, DAY_NEXT, LAGS, LAST = 0, 1, 2, 3, 4, 5, 6
ALL = 7
WITHOUT_LAST_VALUES = 4  # so many, the first ones, do not need the values just before
ORDER = 5  # of the autoregression
SIZE = ORDER + 1
HALF = SIZE * (SIZE + 1) // 2
SLOT = 300.0  # s
SLOTS = 288  # of a day
HOURS = 168  # of a week
MOST_OFF = 100  # values far off that are counted
PREDICTORS = [
    ("n", "i8"),  # values seen
    ("time", "f8"),  # the latest
    ("interval", "f8"),  # between values, s
    ("first", "f8"),  # value
    ("last", "f8"),  # value
    ("mean", "f8"),
    ("var", "f8"),  # both of values cut at 6 standard deviations
    ("sd", "f8"),  # 0.0 where it is rounding noise
    ("constant", "f8"),
    ("constant_weight", "f8"),
    ("level", "f8"),
    ("level_weight", "f8"),
    ("lags", "f8", (ORDER,)),  # the last values, in standard deviations from the mean
    ("coefficients", "f8", (SIZE,)),
    ("inverse", "f8", (HALF,)),  # of the correlation matrix: its rows from the diagonal on
    ("product", "f8"),  # of distances from DAY, one after the other: their autocovariance
    ("product_self", "f8"),  # and their variance
    ("off_day", "f8"),  # the last one
    ("next", "f8", (ALL,)),  # what each predicts
    ("squared", "f8", (ALL,)),  # mean squared error
    ("absolute", "f8", (ALL,)),  # mean absolute error
    ("errors", "u2", (ALL,)),  # errors learned, at most 1000
    ("asked", "f8"),  # the time that ``next`` is for,
    ("asked_n", "i8"),  # after so many values
    ("best", "i4"),
    ("best_slow", "i4"),  # of those that do not need the values just before
    ("slot", "i8"),  # of the last value; -1: none
    ("hour", "i8"),
    ("day", "f4", (SLOTS,)),  # mean less the first value
    ("day_seen", "u1", (SLOTS,)),
    ("day_off", "i1", (SLOTS,)),  # values far off, one after the other; negative: those below
    ("week", "f4", (HOURS,)),
    ("week_seen", "u1", (HOURS,)),
    ("week_off", "i1", (HOURS,)),
]


def clip(x, limit):
    return min(max(x, -limit), limit)


def begin_predictors(f, x):
    """Set up the state for the first value x."""
    place = 0
    for i in range(SIZE):
        f.coefficients[i] = 0.0
        for j in range(i, SIZE):
            f.inverse[place] = 10.0 if i == j else 0.0
            place += 1
    f.coefficients[1] = 0.5
    for k in range(ALL):
        f.squared[k] = 0.0
        f.absolute[k] = 0.0
        f.errors[k] = 0
    if f.n > 0:  # else they are 0, and a new series need not touch them
        for i in range(SLOTS):
            f.day_seen[i] = 0
            f.day_off[i] = 0
        for i in range(HOURS):
            f.week_seen[i] = 0
            f.week_off[i] = 0
    for i in range(ORDER):
        f.lags[i] = 0.0
    f.n = 0
    f.slot = -1
    f.hour = -1
    f.first = x
    f.last = x
    f.constant = x
    f.constant_weight = 0.0
    f.level = x
    f.level_weight = 0.0
    f.mean = x
    f.var = 0.0
    f.sd = 0.0
    f.product = 0.0
    f.product_self = 0.0
    f.off_day = 0.0


def smallest(f):
    """No error counts as smaller: a thousandth of a standard deviation, and rounding noise."""
    return 1e-9 * abs(f.mean) + 1e-3 * f.sd + 1e-300


def slot_of(at):
    return whole(at.week / SLOT) % SLOTS


def predict(f, at):
    """Fill in what each predictor says of ``at``, and which are best; False where the last values are too long ago."""
    fresh = f.n > 0 and at.time - f.time <= 5.0 * f.interval + 1e-9
    if f.asked == at.time and f.asked_n == f.n and f.n > 0:
        return fresh  # ``band`` has asked before
    f.asked = at.time
    f.asked_n = f.n
    slot = slot_of(at)
    hour = whole(at.week / 3600.0)
    f.next[CONSTANT] = f.constant
    f.next[SLOW] = f.level
    day = f.first + f.day[slot] if f.day_seen[slot] > 0 else f.level
    f.next[DAY] = day
    f.next[WEEK] = f.first + f.week[hour] if f.week_seen[hour] > 0 else day
    share = f.product / f.product_self if f.product_self > 0.0 else 0.0
    f.next[DAY_NEXT] = day + min(max(share, 0.0), 1.0) * f.off_day if fresh else day
    y = f.coefficients[0]
    for i in range(ORDER):
        y += f.coefficients[i + 1] * f.lags[i]
    f.next[LAGS] = f.mean + f.sd * y if f.sd > 0.0 else f.last
    f.next[LAST] = f.last
    f.best = _best(f, slot, hour, fresh, ALL, f.best)
    f.best_slow = _best(f, slot, hour, fresh, WITHOUT_LAST_VALUES, f.best_slow)
    return fresh


def _knows(f, k, slot, hour, fresh):
    if k >= LAGS:
        return fresh
    if k in (DAY, DAY_NEXT):
        return f.day_seen[slot] > 0
    return k != WEEK or f.week_seen[hour] > 0


def _best(f, slot, hour, fresh, number, before):
    best = CONSTANT
    least = inf
    for k in range(number):
        if _knows(f, k, slot, hour, fresh) and (f.errors[k] >= 10 or k <= SLOW):
            error = f.squared[k]
            if k in (SLOW, LAGS):
                error *= 1.1025
            elif k == DAY_NEXT:
                error *= 1.0609
            elif k == LAST:
                error *= 1.21
            if k == before:
                error *= 0.95
            if error < least:
                least = error
                best = k
    return best


def learn_errors(f, x, at, fresh, limit):
    """Learn how far off each prediction of x was, at most ``limit`` (0.0: no limit)."""
    if f.n == 0:
        return
    slot = slot_of(at)
    hour = whole(at.week / 3600.0)
    for k in range(ALL):
        if _knows(f, k, slot, hour, fresh):
            error = abs(x - f.next[k])
            if f.n > 30 and limit > 0.0:
                error = min(error, limit)
            f.errors[k] = min(f.errors[k] + 1, 1000)
            share = 0.002 if f.errors[k] >= 500 else 1.0 / f.errors[k]
            f.squared[k] += share * (error * error - f.squared[k])
            f.absolute[k] += share * (error - f.absolute[k])


def learn_means(f, x, limit):
    """Learn x in the predictors that are means of all values; CONSTANT at most so far away (0.0: no limit)."""
    f.constant_weight = min(f.constant_weight + 1.0, 3000.0)
    f.level_weight = min(f.level_weight + 1.0, 50.0)
    off = x - f.constant
    f.constant += (clip(off, limit) if f.n > 30 and limit > 0.0 else off) / f.constant_weight
    f.level += (x - f.level) / f.level_weight


def learn_course(f, x, at, fresh, calm):
    """Learn x in all other predictors. In an episode (not ``calm``) a mean does not follow a value far off it."""
    off = x - f.next[DAY]  # before this value, which may be the first of its slot
    _learn_slot(f, x, slot_of(at), calm)
    _learn_hour(f, x, whole(at.week / 3600.0), calm)
    if calm and fresh and f.errors[DAY] > 0:
        limit = 5.0 * f.absolute[DAY]
        now = clip(off, limit)
        before = clip(f.off_day, limit)
        f.product = 0.998 * f.product + now * before
        f.product_self = 0.998 * f.product_self + before * before
    f.off_day = off
    if f.sd > 0.0 and fresh and f.n >= 20:  # the deviation of the first few values can be far too small a unit
        _learn_lags(f, (x - f.mean) / f.sd)
    if calm or f.n < 30:
        delta = x - f.mean
        if f.n > 20 and f.var > 0.0:
            delta = clip(delta, 6.0 * sqrt(f.var))
        share = 1.0 / (min(f.n, 5000) + 1.0)
        f.mean += share * delta
        f.var = (1.0 - share) * (f.var + share * delta * delta)
    sd = sqrt(f.var)
    f.sd = sd if sd > 1e-12 * abs(f.mean) else 0.0
    for k in range(ORDER - 1, 0, -1):
        f.lags[k] = f.lags[k - 1]
    f.lags[0] = clip((x - f.mean) / f.sd, 1e4) if f.sd > 0.0 else 0.0
    f.last = x
    if f.n > 0:
        gap = min(max(at.time - f.time, 0.0), 1e7)
        if f.n == 1 or f.interval == 0.0:
            f.interval = gap
        else:
            f.interval += (min(gap, 3.0 * f.interval) - f.interval) * max(1.0 / f.n, 0.02)
    f.time = max(at.time, f.time) if f.n > 0 else at.time
    f.n += 1


def _learn_slot(f, x, slot, calm):
    entered = slot != f.slot
    f.slot = slot
    seen = f.day_seen[slot]
    y = x - f.first
    if seen == 0:
        f.day[slot] = single(y)
        f.day_seen[slot] = 1
        return
    share = min(1.0, max(f.interval, 1e-9) / SLOT)  # of a slot that one value is
    error = y - f.day[slot]
    step = max(0.12 * share, 1.0 / (seen + 1.0))
    limit = 4.0 * f.absolute[DAY]
    if f.errors[DAY] > 20 and abs(error) > limit:
        if entered or share >= 1.0:
            f.day_off[slot] = _off(f.day_off[slot], error)
        if abs(f.day_off[slot]) >= 3:
            f.day[slot] = single(f.day[slot] + 0.7 * error)
        elif calm:
            f.day[slot] = single(f.day[slot] + clip(error, limit) * step)
    else:
        if entered:
            f.day_off[slot] = 0
        f.day[slot] = single(f.day[slot] + error * step)
        f.day_seen[slot] = min(seen + 1, 250)


def _learn_hour(f, x, hour, calm):
    entered = hour != f.hour
    f.hour = hour
    seen = f.week_seen[hour]
    y = x - f.first
    if seen == 0:
        if f.errors[WEEK] > 20:  # else a whole hour would be expected to be as one outlier
            y = f.next[WEEK] - f.first + clip(x - f.next[WEEK], 4.0 * f.absolute[WEEK])
        f.week[hour] = single(y)
        f.week_seen[hour] = 1
        return
    error = y - f.week[hour]
    step = max(0.3 * min(1.0, max(f.interval, 1e-9) / 3600.0), 1.0 / (seen + 1.0))
    limit = 4.0 * f.absolute[WEEK]
    if f.errors[WEEK] > 20 and abs(error) > limit:
        if entered:
            f.week_off[hour] = _off(f.week_off[hour], error)
        if abs(f.week_off[hour]) >= 2:
            f.week[hour] = single(f.week[hour] + 0.5 * error)
        elif calm:
            f.week[hour] = single(f.week[hour] + clip(error, limit) * step)
    else:
        if entered:
            f.week_off[hour] = 0
        f.week[hour] = single(f.week[hour] + error * step)
        f.week_seen[hour] = min(seen + 1, 250)


def _off(count, error):
    """The count after one more value far off on the side of the error; the other side starts at 0 again."""
    if error > 0.0:
        return min(max(count, 0) + 1, MOST_OFF)
    return max(min(count, 0) - 1, -MOST_OFF)


def _learn_lags(f, y):
    p = f.inverse
    error = y - f.coefficients[0]
    for i in range(ORDER):
        error -= f.coefficients[i + 1] * f.lags[i]
    if f.errors[LAGS] > 30:
        error = clip(error, 5.0 * f.absolute[LAGS] / f.sd)
    a, b, c, d, e = f.lags[0], f.lags[1], f.lags[2], f.lags[3], f.lags[4]
    g0 = p[0] + p[1] * a + p[2] * b + p[3] * c + p[4] * d + p[5] * e
    g1 = p[1] + p[6] * a + p[7] * b + p[8] * c + p[9] * d + p[10] * e
    g2 = p[2] + p[7] * a + p[11] * b + p[12] * c + p[13] * d + p[14] * e
    g3 = p[3] + p[8] * a + p[12] * b + p[15] * c + p[16] * d + p[17] * e
    g4 = p[4] + p[9] * a + p[13] * b + p[16] * c + p[18] * d + p[19] * e
    g5 = p[5] + p[10] * a + p[14] * b + p[17] * c + p[19] * d + p[20] * e
    gains = (g0, g1, g2, g3, g4, g5)
    scale = 1.0 / (0.999 + g0 + g1 * a + g2 * b + g3 * c + g4 * d + g5 * e)
    trace = p[0] + p[6] + p[11] + p[15] + p[18] + p[20]
    grown = 1.0 / 0.999 if trace < 1e4 else 1.0  # without a limit it grows without end where a value never changes
    place = 0
    for i in range(SIZE):
        gain = gains[i] * scale
        f.coefficients[i] += gain * error
        for j in range(i, SIZE):
            p[place] = (p[place] - gain * gains[j]) * grown
            place += 1


def move(f, delta):
    """The level has changed by so much for good."""
    f.constant += delta
    f.level += delta
    for i in range(SLOTS):
        f.day[i] = single(f.day[i] + delta)
        f.day_off[i] = 0
    for i in range(HOURS):
        f.week[i] = single(f.week[i] + delta)
        f.week_off[i] = 0
    # Else what the new level has taught so far would be forgotten soonest of all.
    f.constant_weight = min(f.constant_weight, 200.0)
    f.level_weight = min(f.level_weight, 20.0)

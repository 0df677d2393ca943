"""What one number should be next, by two simple predictors, and how far off it was.

- *step*: an autoregression on the last value, x' = bias + slope x, fitted to all points so far by recursive
  least squares (both in running standard deviations);
- *hour*: the mean of the values at this hour of the day, of about the last ten days.

Each predictor has its own running mean absolute error, and a distance is measured in it. The two are weighted
by the inverse squares of their errors ([1], section 2): on data with a daily course the hour wins, elsewhere the
step, without anybody choosing. The hour's error counts only .6, as the step foretells a fault from its second point
on, so that of two that do equally well the hour says more (measured on hourly data: average precision .75 with it, .71
without). What is learned is cut (5 root mean square errors, 4 mean absolute errors, 6 standard deviations), so that
an outlier is not taught at its full size ([2]).

Kernels, O(1) time: they run as they stand and compiled, see ``detectors/api.py``. Values are finite, at most
``MAX_VALUE`` in size. A time before the last one, or the same, is a step of 0 s; a gap counts as at most an hour.

References
----------
.. [1] J. M. Bates, C. W. J. Granger (1969), The Combination of Forecasts, Operational Research Quarterly 20(4).
.. [2] P. J. Huber (1964), Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35(1).
.. [3] S. Haykin (2002), Adaptive Filter Theory, 4th edition, section 9.3: recursive least squares.
"""

from app.compiled.numeric import MAX_DEVIATION, floored, sqrt, whole

FORECAST = [
    ("n", "i8"),  # points learned
    ("mean", "f8"),
    ("var", "f8"),  # both of values cut at 6 standard deviations
    ("last", "f8"),  # the newest value
    ("time", "f8"),  # its time
    ("interval", "f8"),  # between points, a running mean, s
    ("bias", "f8"),
    ("slope", "f8"),
    ("p00", "f8"),  # the inverse correlation matrix of recursive least squares
    ("p01", "f8"),
    ("p11", "f8"),
    ("squared", "f8"),  # the step's mean squared error, in standard deviations
    ("step_error", "f8"),  # the step's mean absolute error
    ("hour_error", "f8"),  # the hour's
    ("hour_points", "i8"),  # errors in it
    ("overall", "f8"),  # the mean of all values, for an hour not seen yet
    ("hours", "f8", (24,)),
    ("counts", "u2", (24,)),
]

READY = 20  # points learned before the first distance
FORGET = 0.9999  # of recursive least squares: a memory of about 10,000 points
SHORTEST = 0.0005  # share of the newest error: a memory of about 2000 points
DAY = 0.1  # share of a new day in the mean of its hour
HOUR = 0.6  # so much of the hour's error counts
FLOOR = 1e-3  # of a standard deviation: no error is smaller
FARTHEST = 1e6  # standard deviations: the last value counts as no farther from the mean
MOST = 65535  # that counts can hold


def within(x, limit):
    return min(max(x, -limit), limit)


def residual(f, x, t, week):
    """How far x is from what was expected at time t, then learn it: two distances in mean absolute errors, 0..1e9.

    ``t`` in epoch s; ``week`` in s since Monday 00:00.

    The first is the root of the sum of their squares, each with its predictor's weight; the second the larger one.
    """
    n = f.n
    if n == 0:
        f.p00 = 1.0
        f.p11 = 1.0
    hour = whole(week / 3600.0) % 24
    sd = sqrt(f.var)
    unit = sd if sd > 0.0 else 1.0
    past = within((f.last - f.mean) / unit, FARTHEST) if n > 0 else 0.0
    by_step = within((x - f.mean) / unit - f.bias - f.slope * past, MAX_DEVIATION)
    by_hour = x - _usual(f, hour) if n > 0 else 0.0
    weighed = 0.0
    plain = 0.0
    if n > READY:
        share = _share(f)
        plain = abs(by_step) * unit / max(f.step_error, _floor(f))
        weighed = (1.0 - share) * plain
        if f.hour_points > READY:
            far = abs(by_hour) / max(f.hour_error, _floor(f))
            plain = max(plain, far)
            weighed = sqrt(weighed * weighed + share * share * far * far)
    if sd > 0.0:  # else there is no unit yet
        _learn_step(f, by_step, past, unit)
    _learn_hour(f, by_hour, x, t, hour)
    delta = x - f.mean
    if n > READY and f.var > 0.0:
        delta = within(delta, 6.0 * sd)
    rate = 1.0 / (n + 1)
    f.mean += rate * delta
    f.var = (1.0 - rate) * (f.var + rate * delta * delta)
    f.last = x
    f.time = t
    f.n = n + 1
    return min(weighed, MAX_DEVIATION), min(plain, MAX_DEVIATION)


def expected(f, t, week):
    """What the better predictor expects of a point at time t, and the distance from it at which it says 1.0."""
    share = _share(f)
    if share > 0.5:
        return _usual(f, whole(week / 3600.0) % 24), max(f.hour_error, _floor(f)) / share
    sd = sqrt(f.var)
    unit = sd if sd > 0.0 else 1.0
    past = within((f.last - f.mean) / unit, FARTHEST)
    return f.mean + unit * (f.bias + f.slope * past), max(f.step_error, _floor(f)) / (1.0 - share)


def _share(f):
    """The weight of the hour, 0..1: the inverse squares of both errors."""
    if f.hour_points <= READY:
        return 0.0
    ratio = HOUR * max(f.hour_error, _floor(f)) / max(f.step_error, _floor(f))
    return 1.0 / (1.0 + ratio * ratio)


def _floor(f):
    return max(floored(FLOOR * sqrt(f.var), f.mean), 1e-30)


def _usual(f, hour):
    return f.hours[hour] if f.counts[hour] > 0 else f.overall


def _learn_step(f, error, past, unit):
    n = f.n
    if n > READY and f.squared > 0.0:
        error = within(error, 5.0 * sqrt(f.squared))
    k0 = f.p00 + f.p01 * past
    k1 = f.p01 + f.p11 * past
    gain = max(FORGET + k0 + past * k1, FORGET)
    f.bias += k0 * (error / gain)
    f.slope += k1 * (error / gain)
    # Without a limit they grow without end where a value never changes.
    f.p00 = min((f.p00 - k0 * k0 / gain) / FORGET, 1e6)
    f.p01 = (f.p01 - k0 * k1 / gain) / FORGET
    f.p11 = min((f.p11 - k1 * k1 / gain) / FORGET, 1e6)
    rate = max(SHORTEST, 1.0 / (n + 1))
    f.squared += rate * (error * error - f.squared)
    if n > 1:
        f.step_error += rate * (abs(error) * unit - f.step_error)


def _learn_hour(f, error, x, t, hour):
    n = f.n
    if n == 0:
        f.overall = x
        f.hours[hour] = x
        f.counts[hour] = 1
        return
    f.interval += (min(max(t - f.time, 0.0), 3600.0) - f.interval) * max(1.0 / n, 0.01)
    if f.hour_points > READY and f.hour_error > 0.0:
        error = within(error, 4.0 * f.hour_error)
    c = f.counts[hour]
    if c > 0:
        f.hour_points += 1
        f.hour_error += (abs(error) - f.hour_error) * max(SHORTEST, 1.0 / f.hour_points)
        per_hour = max(1.0, 3600.0 / max(f.interval, 1e-9))
        f.hours[hour] += error * max(DAY / per_hour, 1.0 / (c + 1))
    else:
        f.hours[hour] = x
    f.overall += error / (n + 1)
    if c < MOST:
        f.counts[hour] = c + 1

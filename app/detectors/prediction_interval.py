"""Values outside the interval in which nearly all were predicted, and four other signs of a fault; opens episodes.

What is expected of a value is said by the best of seven predictors (``support/predictors.py``), and the band around it
holds a share of ``coverage`` of the values (``support/interval.py``). Both are shown in results. An episode opens where
one of these is rarer than ``threshold``:

- *value*: the value lies outside the band. Its distance from the prediction, in distances of the band's edge, is ranked
  among the highest of each of the last 128 blocks of 50 points (``support/block_maxima.py``). Where a daily or weekly
  course is expected there are two more kinds: *season*, a value that would be usual at another time; *missing*, a peak
  that was expected and did not come.
- *level*: the mean of the last 20 distances from the best predictor that does not follow the last values.
- *noise*: the mean size of the last 20 errors.
- *stuck*: a run of equal values, three times as long as any before, and improbable by how often values are equal.

A counter is scored by what was added since the last value, kind *rate*; a value after a reset is not scored. It is
recognized: in its first 30 changes it rose 27 times and did not fall. With ``counter`` 1 it is one from the first value
on, with -1 never.

What is rare must be rarer where many are looked at: the line rises by log10 of the metrics of a point, and by log10 of
1 + the number of recent episodes (each counts half after 2,000 points). It is up to 2 higher in the first 2,000 points.

Memory. Points of a reported episode are not learned, neither by the predictors nor as a usual size: the same fault is
reported again. The episode ends

- when 5 values in a row are as usual (*recovered*);
- when 200 values lie at a level that does not move (*adapted*): the predictors move there. When the former level
  returns, they go back at once, and that is reported as well;
- or after 1,000 points.

A value that is out of the band at the same time of day (5 minutes) on the next day, or thrice within a week, is a
habit: it is not reported, unless it takes twice as long as before.

Fits every kind of series without a setting. Blind to values that are new but expected, as a record on a trend:
``novelty`` is for those.

Time: slots and hours are those of the calendar. After a pause of more than 5 usual intervals the last values predict
nothing. Late points are scored at their own time and learned.

Score: surprise less what the line is above ``threshold``: 0.0 where no episode opens, else a decimal logarithm from
``threshold`` up; 1 more is ten times as rare. 0.0 for the first 60 points.

O(1) time at most points, O(3 * 10 * 128) once in 50, O(456) when a level is accepted; 5.0 KB.

References
----------
.. [1] R. F. Barber, E. J. Candes, A. Ramdas, R. J. Tibshirani (2023), Conformal prediction beyond exchangeability,
   Annals of Statistics 51(2).
.. [2] S. Coles (2001), An Introduction to Statistical Modeling of Extreme Values, sections 3.1 and 4.2.
.. [3] J. M. Bates, C. W. J. Granger (1969), The Combination of Forecasts, Operational Research Quarterly 20(4):
   predictors compete by their recent errors.

Examples
--------
>>> from app.detectors.api import run
>>> calm = [float((7 * i) % 10) for i in range(2600)]
>>> [round(e, 2) for e in run("prediction_interval", [*calm, 60.0, 7.0, 4.0])[-3:]]
[8.0, 0.0, 0.0]
"""

from app.detectors.api import (
    BLOCK,
    CONSTANT,
    DAY,
    DAY_NEXT,
    INTERVAL,
    LN_10,
    MAXIMA,
    PREDICTORS,
    SLOT,
    SLOTS,
    WEEK,
    begin_interval,
    begin_maxima,
    begin_predictors,
    clip,
    derived,
    end_block,
    inf,
    learn_course,
    learn_errors,
    learn_interval,
    learn_means,
    log,
    move,
    nan,
    param,
    params,
    predict,
    single,
    size_of,
    slot_of,
    smallest,
    surprise,
    whole,
)

VERSION = 1
PARAMS = params(
    threshold=param(2.5, "surprise at which a point alerts, a decimal logarithm", above=0),
    coverage=param(0.99, "share of the values that lie inside the band", at_least=0.5, at_most=0.9999),
    counter=param(
        0,
        "1: the values are a counter; -1: they are none; 0: that is found out",
        at_least=-1,
        at_most=1,
    ),
    warmup=param(1, "points scored before the first vote", at_least=1, keeps_state=True),
    silent=derived(lambda p: 60),
)
LAST = 20  # values whose mean is the level, and whose errors are the noise
HABITS = 12
OPEN = [
    ("kind", "i4"),
    ("age", "u2"),  # points so far
    ("usual", "u1"),  # points in a row that were as usual
    ("told", "i4"),  # 1: reported; 0: a habit, not reported
    ("habit", "i4"),  # which; -1: none
    ("run", "i4"),  # of equal values
    ("reach", "f8"),  # of the band when it opened
    ("mean", "f8", (2,)),  # distance from the prediction, in the former and the later 100 of 200 points
    ("size", "f8", (2,)),  # mean distance from these means
]
STATE = [
    ("predictors", PREDICTORS),
    ("interval", INTERVAL),
    ("value", MAXIMA),
    ("level", MAXIMA),
    ("noise", MAXIMA),
    ("place", "u1"),  # points in this block
    ("distances", "f4", (LAST,)),  # from the slow prediction
    ("sizes", "f4", (LAST,)),  # of errors
    ("summed", "i4"),  # of them
    ("values", "f4", (LAST,)),  # less the first one of all
    ("slow", "f4", (LAST,)),  # the slow predictions of them, less the same
    ("distance_sum", "f8"),
    ("size_sum", "f8"),
    ("run", "i4"),  # equal values in a row, less 1
    ("longest", "f8"),  # run outside episodes, slowly forgotten
    ("longest_now", "i4"),  # run outside reported episodes, in this thousand of runs
    ("longest_before", "i4"),  # and in the thousand before
    ("runs", "i4"),
    ("repeats", "i4"),  # values equal to the one before
    ("stuck", "f8"),  # episodes of that kind lately
    ("told", "f8"),  # recent reported episodes, with decay
    ("open", "i4"),  # 1: inside an episode
    ("episode", OPEN),
    ("back", "f8"),  # from this level to the former one
    ("moved", "i4"),  # 1: there was a former one
    ("habit_slot", "u2", (HABITS,)),  # of the day
    ("habit_side", "u1", (HABITS,)),  # 1 above, 0 below
    ("habit_seen", "u1", (HABITS,)),  # how often; 0: no habit
    ("habit_day", "i4", (HABITS,)),  # the last one
    ("habit_points", "u2", (HABITS,)),  # of the longest episode
    ("says", "i4"),  # what lasts() answers
    ("reason", "i4"),  # which sentence
    ("figure", "f8"),  # that it is about
    ("usual", "f8"),  # what that is compared with
    ("counter", "i4"),  # 1: it is one; 2: it is none
    ("raw", "f8"),  # the last value, of a counter too
    ("rises", "i4"),
    ("falls", "i4"),
    ("changes", "i4"),
]
SCALE = "surprise"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
SEASONAL = True
ROLE = "episodes"
WINDOW = None
# Sentences, and the first six of them are kinds of episodes too; RATE and those that follow are about a counter.
VALUE, SEASON, MISSING, LEVEL, NOISE, STUCK = 0, 1, 2, 3, 4, 5
RATE, RATE_LEVEL, RATE_NOISE, RATE_STUCK, RESET, CHANGED = 6, 7, 8, 9, 10, 11
KINDS = ("value", "season", "missing", "level", "noise", "stuck", "rate", "rate", "noise", "stuck", "rate", "value")
EXPLANATION = (
    "{value} is {figure} {beside} the expected {expected}; the usual error is {usual}",
    "{value} is {figure} {beside} {expected}, which is expected at this time; the usual error is {usual}",
    "{value}, but {expected} is expected at this time: {figure} {beside} it; the usual error is {usual}",
    "the last 20 values are {figure} on average, and {usual} was expected",
    "the last 20 values are on average at least {figure} from what was expected; the usual error is {usual}",
    "unchanged at {value} for {figure} points; outside episodes lately never for more than {usual}",
    "{value} is {figure} more than at the last point, and {usual} more was expected",
    "the last 20 points added {figure} on average, and {usual} was expected",
    "what the last 20 points added is on average at least {figure} from what was expected; the usual error is {usual}",
    "{figure} points in a row added the same; outside episodes lately never more than {usual} did",
    "{figure} after {usual}: the counter began anew",
    "{value} after {figure} values of {usual}",
)

YOUNG, OLD = 2.0, 2000.0  # so much higher is the line at first, until so many points are known
FORGOTTEN = 0.99965  # of an episode at each point: half after 2,000
FEWEST = 8  # blocks before levels and noise are ranked
LEAST = 30  # points before errors, and changes before a counter, are known
RUNS = 1000  # whose longest is known
PART = 100  # points of which two must agree before a level is accepted
MANY = 1 << 30  # where counts end: they have 32 bits
LONGEST = 1000  # points of an episode
USUAL = 5  # points in a row that end it
REMEMBERED = 0.6  # of the required surprise, as which a reported value is learned: the same one is reported again
MOST = 8.0  # of a surprise: rarer is the same


def band(s, p, at, w):
    """The best prediction, and the interval in which a share of ``coverage`` lies."""
    if s.predictors.n == 0:
        return nan, nan, nan
    predict(s.predictors, at)
    f = s.predictors.next[s.predictors.best]
    down, up = _reach(s, f)
    if s.counter == 1:
        return s.raw + f, s.raw + max(f - down, 0.0), s.raw + f + up
    return f, f - down, f + up


def _reach(s, f):
    """How far the band's edges are from the prediction: below, above."""
    floor = smallest(s.predictors)
    unit = max(s.interval.unit, floor)
    least = 2e-7 * abs(f) + floor
    return max(s.interval.down * unit, least), max(s.interval.up * unit, least)


def step(s, p, x, at, w):
    """Score x by what was known before it, then learn it."""
    first = s.changes == 0
    restart = first
    before = s.raw
    s.raw = x
    s.says = 0
    if first:
        s.counter = 1 if p.counter == 1 else 2 if p.counter == -1 else 0
    elif x > before:
        s.rises = min(s.rises + 1, MANY)
    elif x < before:
        s.falls = min(s.falls + 1, MANY)
    s.changes = min(s.changes + 1, MANY)
    if p.counter == 0:
        if s.counter == 0 and s.changes == LEAST + 1 and s.falls == 0 and s.rises >= 0.9 * LEAST:
            s.counter = 1
            restart = True
        elif s.counter == 1 and s.falls > 0.02 * s.changes + 3.0:
            s.counter = 2
            restart = True
    y = x
    if s.counter == 1:
        if x < before and not first:
            _say(s, RESET, x, before)
            return 0.0
        y = x - before if not first else 0.0
        restart = restart or s.predictors.n == 0
    # Each call stands once: compiled code has a copy of what is called for every call.
    if restart:
        _begin(s, p, y)
    return _score_value(s, p, y, at) if s.counter != 1 or not first else 0.0


def lasts(s, p, x, w):
    """1 in an episode, 2 where its cause has become normal, 3 where it is over."""
    return s.says


def why(s, p, x, w):
    """Which sentence, the figure that it is about, and what is usual."""
    return float(s.reason), s.figure, s.usual


def _say(s, sentence, figure, usual):
    s.reason = sentence
    s.figure = figure
    s.usual = usual


def _begin(s, p, x):
    begin_predictors(s.predictors, x)
    begin_interval(s.interval, 1.0 - p.coverage)
    begin_maxima(s.value, True)
    begin_maxima(s.level, False)
    begin_maxima(s.noise, False)
    s.place = 0
    s.open = 0
    s.moved = 0
    s.run = 0
    s.longest = 0.0
    s.longest_now = 0
    s.longest_before = 0
    s.runs = 0
    s.repeats = 0
    s.told = 0.0
    s.stuck = 0.0
    _clear_sums(s)
    for i in range(HABITS):
        s.habit_seen[i] = 0
        s.habit_day[i] = -1000


def _clear_sums(s):
    for i in range(LAST):
        s.distances[i] = 0.0
        s.sizes[i] = 0.0
    s.distance_sum = 0.0
    s.size_sum = 0.0


def _score_value(s, p, x, at):
    f = s.predictors
    n = f.n
    fresh = predict(f, at)
    expected = f.next[f.best]
    floor = smallest(f)
    unit = max(s.interval.unit, floor)
    slow_unit = max(f.absolute[f.best_slow], floor)
    down, up = _reach(s, expected)
    error = x - expected
    distance = x - f.next[f.best_slow]
    out = error / up if error > 0.0 else -error / down
    same = n > 0 and abs(x - f.last) <= 1e-9 * abs(x)
    s.run = min(s.run + 1, MANY) if same else s.run
    s.values[s.summed % LAST] = single(x - f.first)
    s.slow[s.summed % LAST] = single(x - distance - f.first)
    _sum(s, clip(distance, 3.0 * slow_unit), min(abs(error), 4.0 * unit))
    known = s.summed >= LAST
    level = abs(s.distance_sum) / LAST / slow_unit if known else 0.0
    noise = s.size_sum / LAST / unit if known else 0.0
    s.told *= FORGOTTEN
    odd = same or s.open == 1 or out > 1.0
    if s.level.blocks >= FEWEST:  # as many as those of noise
        odd = odd or level > s.level.above or noise > s.noise.above
    need = _required_surprise(s, p, n, at.metrics) if odd else inf
    calm = True
    score = 0.0
    if s.counter == 1:
        _say(s, RATE, x, expected)
    elif not same and s.run >= LEAST and 2 * (s.repeats + s.run) >= n:
        _say(s, CHANGED, s.run + 1.0, f.last)  # errors of a constant have no size
    else:
        _say(s, VALUE, error, s.interval.unit)
    if odd and s.open == 0 and n >= p.silent:
        lively = slow_unit > 2.0 * floor and 2 * s.repeats <= n  # else the series is constant but for steps
        kind, rarity = _rarest(s, need, out, level, noise, same, lively)
        if rarity >= need:
            _open(s, at, kind, error, max(up, down))
            _explain(s, kind)
            if s.reason == VALUE:
                _compare_with_other_times(s, x, error, max(up, down))
            score = p.threshold + min(rarity, MOST) - need if s.episode.told == 1 else 0.0
    if s.open == 1:
        calm = False
        if s.episode.age > 0:
            _explain(s, s.episode.kind if same or s.episode.kind != STUCK else VALUE)
            if s.reason == VALUE and _by_time(f):
                s.reason = SEASON
        near = 1.3 * s.episode.reach
        usual = abs(error) <= near and abs(distance) <= max(5.0 * slow_unit, near)
        if _follow(s, usual, same, level, noise, distance, slow_unit, floor) and score == 0.0:
            score = p.threshold
    _learn_evidence(s, need, calm, out, level, noise, known)
    _learn(s, x, at, error, unit, floor, fresh, calm, 1.0 - p.coverage)
    if not same:
        if n > 0 and calm:
            s.longest = max(0.9995 * s.longest, float(s.run))
        if calm or s.episode.told == 0 or s.episode.age == 1:
            s.longest_now = max(s.longest_now, s.run)
        s.runs = s.runs + 1 if s.runs < 2 * RUNS else RUNS + 1
        if s.runs % RUNS == 0:
            s.longest_before = s.longest_now
            s.longest_now = 0
        s.repeats = min(s.repeats + s.run, MANY)
        s.run = 0
    return score


def _sum(s, distance, size):
    """Let them take the place of the oldest of the last 20."""
    i = s.summed % LAST
    distance = single(distance)
    size = single(size)
    s.distance_sum += distance - s.distances[i]
    s.size_sum += size - s.sizes[i]
    s.distances[i] = distance
    s.sizes[i] = size
    s.summed = s.summed + 1 if s.summed < 2 * LAST else LAST + 1


def _required_surprise(s, p, n, metrics):
    """The surprise from which on an episode opens."""
    need = p.threshold + log(1.0 + s.told) / LN_10
    if metrics > 1:
        need += log(float(metrics)) / LN_10
    if n < OLD:
        need += YOUNG * (1.0 - n / OLD)
    return need


def _rarest(s, need, out, level, noise, same, lively):
    """Which sign of a fault is the rarest, and how rare; one of the last 20 values must be .3 rarer than others."""
    kind = VALUE
    rarity = surprise(s.value, out) if out > 1.0 else 0.0
    if rarity < need and lively:
        by_level = surprise(s.level, level) - 0.3 if s.level.blocks >= FEWEST else 0.0
        by_noise = surprise(s.noise, noise) - 0.3 if s.noise.blocks >= FEWEST else 0.0
        if by_level > rarity:
            kind = LEVEL
            rarity = by_level
        if by_noise > rarity:
            kind = NOISE
            rarity = by_noise
    if same and s.runs >= 50 and s.run >= 3.0 * s.longest + 8.0:
        often = (s.repeats + 1.0) / (s.predictors.n + 2.0)
        by_run = (-s.run * log(often) - log(s.predictors.n + 1.0)) / LN_10
        if often < 0.3 and by_run > 3.0 and min(by_run, 6.0) > rarity:
            kind = STUCK
            rarity = min(by_run, 6.0)
    return kind, rarity


def _open(s, at, kind, error, reach):
    e = s.episode
    quiet = False
    e.habit = -1
    if kind == VALUE:
        if s.moved == 1 and abs(error - s.back) <= 1.5 * reach:
            move(s.predictors, s.back)
            s.back = -s.back
        quiet = _is_habit(s, at, error > 0.0)
    s.open = 1
    e.reach = reach
    e.kind = kind
    e.age = 0
    e.usual = 0
    e.run = 0
    e.told = 0 if quiet else 1
    if not quiet:
        s.told += 1.0


def _explain(s, kind):
    """Note the sentence, and its figures, if something else than the value by itself is meant."""
    rate = s.counter == 1
    if kind == LEVEL:
        total = 0.0
        slow = 0.0
        for i in range(LAST):
            total += s.values[i]
            slow += s.slow[i]
        first = s.predictors.first
        _say(s, RATE_LEVEL if rate else LEVEL, first + total / LAST, first + slow / LAST)
    elif kind == NOISE:
        _say(s, RATE_NOISE if rate else NOISE, s.size_sum / LAST, s.interval.unit)
    elif kind == STUCK:
        longest = max(s.longest_now, s.longest_before)
        _say(s, RATE_STUCK if rate else STUCK, s.run + 1.0, longest + 1.0)


def _by_time(f):
    """Is it expected of this time of the day or week? On its first day a series cannot know."""
    return (f.best == DAY or f.best == WEEK or f.best == DAY_NEXT) and f.n * f.interval >= 86400.0


def _compare_with_other_times(s, x, error, reach):
    """Choose the reason: a value that would be usual at another time of the day, or a peak that did not come."""
    f = s.predictors
    if not _by_time(f):
        return
    lowest = inf
    highest = -inf
    for i in range(SLOTS):
        if f.day_seen[i] > 0:
            lowest = min(lowest, f.first + f.day[i])
            highest = max(highest, f.first + f.day[i])
    if lowest - reach <= x <= highest + reach:
        beyond = abs(x - error - f.constant)
        peak = beyond > max(3.0 * f.absolute[CONSTANT], 2.0 * abs(x - f.constant))
        s.reason = MISSING if peak else SEASON


def _is_habit(s, at, above):
    """Note when it happened, and whether that is a habit: the day before at this time too, or thrice in a week."""
    slot = slot_of(at)
    day = whole(at.time / 86400.0)
    side = 1 if above else 0
    slots = s.predictors.interval / SLOT
    near = max(1, whole(slots) + 1) if slots > 1.0 else 1
    oldest = 0
    for i in range(HABITS):
        if s.habit_day[i] < s.habit_day[oldest]:
            oldest = i
        apart = abs(s.habit_slot[i] - slot)
        apart = min(apart, SLOTS - apart)
        if s.habit_seen[i] > 0 and s.habit_side[i] == side and apart <= near and s.predictors.interval < 40000.0:
            age = day - s.habit_day[i]
            if age == 0:
                return False
            known = age == 1 or (s.habit_seen[i] >= 3 and age <= 7)
            s.habit_seen[i] = min(s.habit_seen[i] + 1, 255) if known else 1
            s.habit_day[i] = day
            s.episode.habit = i
            return known
    s.habit_slot[oldest] = slot
    s.habit_side[oldest] = side
    s.habit_day[oldest] = day
    s.habit_seen[oldest] = 1
    s.habit_points[oldest] = 0
    s.episode.habit = oldest
    return False


def _follow(s, usual, same, level, noise, distance, slow_unit, floor):
    """One more point of the episode; whether the episode is reported only now."""
    e = s.episode
    s.says = e.told
    if same:
        e.run = s.run
    if e.kind == STUCK:
        usual = usual and not same
    elif e.kind == LEVEL:
        usual = usual and level <= s.level.above
    elif e.kind == NOISE:
        usual = usual and noise <= s.noise.above
    e.usual = e.usual + 1 if usual else 0
    at = e.age % (2 * PART)
    part = at // PART
    if at == 0:
        for i in range(2):
            e.mean[i] = 0.0
            e.size[i] = 0.0
    k = at - PART * part + 1.0
    if k > 1.0:
        e.size[part] += (abs(distance - e.mean[part]) - e.size[part]) / k
    e.mean[part] += (distance - e.mean[part]) / k
    adapted = False
    if at == 2 * PART - 1:
        agree = abs(e.mean[0] - e.mean[1]) <= 2.0 * slow_unit + 0.1 * abs(e.mean[1])
        lively = e.size[1] > 0.2 * slow_unit or slow_unit <= 10.0 * floor
        adapted = (agree and lively) or e.age >= LONGEST
    over = e.usual >= USUAL
    if over or adapted:
        _close(s, adapted and not over)
        return False
    e.age += 1
    if e.told == 0 and s.habit_seen[e.habit] > 1 and e.age > 2 * s.habit_points[e.habit] + 12:
        e.told = 1
        s.says = 1
        s.told += 1.0
        return True
    return False


def _close(s, adapted):
    e = s.episode
    s.open = 0
    s.says = 0 if e.told == 0 else 2 if adapted else 3
    if e.kind == STUCK:
        # Thrice, and it is usual.
        s.stuck = 0.9 * s.stuck + 1.0
        s.longest = max(s.longest, e.run * min(0.12 * s.stuck, 0.4))
    if e.habit >= 0:
        s.habit_points[e.habit] = min(max(s.habit_points[e.habit], e.age), 65535)
    _clear_sums(s)
    if adapted:
        move(s.predictors, e.mean[1])
        s.back = -e.mean[1]
        s.moved = 1


def _learn_evidence(s, need, calm, out, level, noise, known):
    """Learn how far out values are; of an episode only its first point, as if it were just rare enough to open one."""
    if calm:
        if s.predictors.n >= LEAST:
            s.value.highest = max(s.value.highest, min(out, size_of(s.value, need)) if out > 1.0 else out)
        if known:
            s.level.highest = max(s.level.highest, level)
            s.noise.highest = max(s.noise.highest, noise)
    elif s.open == 1 and s.episode.age == 1:
        if s.episode.kind == VALUE:
            s.value.highest = max(s.value.highest, min(out, size_of(s.value, REMEMBERED * need)))
        elif s.episode.kind == LEVEL:
            s.level.highest = max(s.level.highest, min(level, size_of(s.level, need)))
        elif s.episode.kind == NOISE:
            s.noise.highest = max(s.noise.highest, min(noise, size_of(s.noise, need)))
    s.place += 1
    if s.place >= BLOCK:
        s.place = 0
        end_block(s.value)
        if known:
            end_block(s.level)
            end_block(s.noise)


def _learn(s, x, at, error, unit, floor, fresh, calm, outside):
    f = s.predictors
    if f.n >= 5 and (calm or s.episode.age <= LAST):  # else a long fault would widen the band
        most = max(10.0 * unit, f.sd) if f.n > 60 and s.interval.unit > 0.0 else inf
        learn_interval(s.interval, error, unit, floor, outside, most)
    if calm:
        learn_errors(f, x, at, fresh, max(50.0 * unit, f.sd))
        learn_means(f, x, max(4.0 * unit, f.sd))
    learn_course(f, x, at, fresh, calm)

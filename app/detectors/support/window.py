"""The last values of one metric, and what is known of them without looking at each.

A ring of values in order of arrival, their positions in order of size, and their mean and variance.
The moments are updated in O(1) around a base near the values (a variance as a sum of squares is wrong
at a mean of 1e9). They are recomputed from the values each time the ring has been filled once, and as soon as the
variance has fallen to 1/1000 of its highest: the rounding error of a spike of 1e12 that has just left would be larger
than the rest.
Measured: that keeps the relative error of the deviation below 1e-9.

A point is pushed after it was scored, so a detector sees the past only. Values are finite, at most
``MAX_VALUE`` in size. Kernels: they run as they stand and compiled, see ``detectors/api.py``.
"""

from app.compiled.numeric import deviation, sqrt, whole

MOMENTS = [("base", "f8"), ("drift", "f8"), ("m2", "f8"), ("peak", "f8"), ("n", "i8"), ("lap", "i8")]
VERSION = 1  # raise when an old window would mean something else


def fields(points):
    """Fields of a window of so many points (2..65536)."""
    small = "u1" if points <= 256 else "u2"
    return [("moments", MOMENTS), ("head", "i8"), ("ring", "f8", (points,)), ("order", small, (points,))]


def before(w, age):
    """The value so many points ago; 1 is the newest. 1 <= age <= number of values."""
    i = w.head - age
    return w.ring[i + len(w.ring) if i < 0 else i]


def newest(w):
    """The last value; 0.0 of none."""
    return before(w, 1)


def slide(m, w, x, size):
    """Learn x into m, the moments of the last ``size`` values. Call it before x is pushed into w."""
    if m.n < size:
        if m.n == 0:
            m.base = x
        m.n += 1
        y = x - m.base
        delta = y - m.drift
        m.drift += delta / m.n
        m.m2 += delta * (y - m.drift)
    else:
        y = x - m.base
        gone = before(w, size) - m.base
        delta = y - gone
        past = m.drift
        m.drift = past + delta / size
        m.m2 += delta * ((y - m.drift) + (gone - past))
    m.peak = max(m.peak, m.m2)
    m.lap += 1
    if m.lap >= size or m.m2 * 1e3 < m.peak:
        _recompute(m, w, x)


def _recompute(m, w, x):
    total = 0.0
    for age in range(1, m.n):
        total += before(w, age) - x
    m.base = x + total / m.n
    y = x - m.base
    total = y
    squares = y * y
    for age in range(1, m.n):
        y = before(w, age) - m.base
        total += y
        squares += y * y
    m.drift = total / m.n
    m.m2 = max(0.0, squares - total * m.drift)
    m.peak = m.m2
    m.lap = 0


def average(m):
    return m.base + m.drift


def spread(m):
    """Standard deviation of the values as a population; 0.0 of none."""
    return sqrt(m.m2 / m.n) if m.m2 > 0.0 else 0.0


def push(w, x):
    """Learn x; the oldest value leaves when the window is full."""
    n = w.moments.n
    size = len(w.ring)
    slide(w.moments, w, x, size)
    place = _below(w, x, n)
    i = w.head
    if n == size:  # position i moves from the rank of the value that leaves to the rank of x
        rank = _below(w, w.ring[i], n)
        while w.order[rank] != i:
            rank += 1
        if rank < place:
            place -= 1
            for k in range(rank, place):
                w.order[k] = w.order[k + 1]
        else:
            for k in range(rank, place, -1):
                w.order[k] = w.order[k - 1]
    else:
        for k in range(n, place, -1):
            w.order[k] = w.order[k - 1]
    w.order[place] = i
    w.ring[i] = x
    w.head = i + 1 if i + 1 < size else 0


def median_and_push(w, x):
    """The median so far; then learn x."""
    middle = median(w)
    push(w, x)
    return middle


def _below(w, x, n):
    """How many of the n values are smaller than x."""
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if w.ring[w.order[middle]] < x:
            low = middle + 1
        else:
            high = middle
    return low


def _not_above(w, x, n):
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if w.ring[w.order[middle]] <= x:
            low = middle + 1
        else:
            high = middle
    return low


def count(w):
    return w.moments.n


def mean(w):
    return average(w.moments)


def std(w):
    return spread(w.moments)


def lowest(w):
    """The smallest value; 0.0 of none."""
    return w.ring[w.order[0]] if w.moments.n > 0 else 0.0


def highest(w):
    """The largest value; 0.0 of none."""
    return w.ring[w.order[w.moments.n - 1]] if w.moments.n > 0 else 0.0


def z(w, x):
    """Standard deviations of x above the mean of the window; 0.0 of an empty one."""
    return deviation(x, average(w.moments), spread(w.moments)) if w.moments.n > 0 else 0.0


def percentile(w, x):
    """Share of the values below x, 0..1; one equal to x counts half; 0.5 of an empty window."""
    n = w.moments.n
    return (_below(w, x, n) + _not_above(w, x, n)) / (2.0 * n) if n > 0 else 0.5


def median(w):
    """The value in the middle, between two the mean of both; 0.0 of none. O(1)."""
    return quantile(w, 0.5)


def quantile(w, share):
    """The value that this share (0..1) of the values lies below, on a line between two neighbours; 0.0 of none. O(1).

    Definition 7 of R. J. Hyndman, Y. Fan (1996), Sample quantiles in statistical packages, The American
    Statistician 50, pages 361-365: the one of numpy, R and spreadsheets.
    """
    n = w.moments.n
    if n == 0:
        return 0.0
    place = share * (n - 1)
    k = whole(place)
    low = w.ring[w.order[k]]
    part = place - k
    return low + part * (w.ring[w.order[k + 1]] - low) if part > 0.0 else low


def mad(w):
    """Median of the values' distances from their median (not scaled to a standard deviation); 0.0 of none. O(log n)."""
    n = w.moments.n
    if n == 0:
        return 0.0
    middle = median(w)
    half = _farthest_of(w, middle, n // 2 + 1)
    return half if n & 1 else 0.5 * (_farthest_of(w, middle, n // 2) + half)


def _farthest_of(w, middle, k):
    """How far from ``middle`` the farthest of the k values nearest to it lies: they stand together in their order."""
    low, high = 0, w.moments.n - k
    while low < high:
        i = (low + high) >> 1
        if middle - w.ring[w.order[i]] > w.ring[w.order[i + k]] - middle:
            low = i + 1
        else:
            high = i
    return max(middle - w.ring[w.order[low]], w.ring[w.order[low + k - 1]] - middle)


def mean_distance(w, x):
    """Mean of the values' distances from x; 0.0 of none. O(n)."""
    n = w.moments.n
    total = 0.0
    for age in range(1, n + 1):
        total += abs(before(w, age) - x)
    return total / n if n > 0 else 0.0

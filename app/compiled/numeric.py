"""Arithmetic for kernels: the same bits in CPython, numba and on every IEEE machine.

``exp`` and ``log`` of a C library differ in the last bit between machines; these are made of + - * /
only (the polynomials of fdlibm, Sun Microsystems 1993: e_log.c, e_exp.c; within 1 unit in the last place).
"""

from math import frexp, inf, ldexp, nan, sqrt

__all__ = [
    "LN_2",
    "LN_10",
    "MAX_DEVIATION",
    "MAX_VALUE",
    "MAX_VALUE_TEXT",
    "deviation",
    "exp",
    "finite",
    "floored",
    "inf",
    "log",
    "nan",
    "rounded",
    "single",
    "sqrt",
    "whole",
]

LN_2, LN_10 = 0.6931471805599453, 2.302585092994046
MAX_DEVIATION = 1e9  # a deviation is cut here: no score is infinite
MAX_VALUE, MAX_VALUE_TEXT = 1e150, "1e150"  # size of a value: its square, and so the variance of a window, stays finite


def finite(x):
    return x - x == 0.0


def log(x):
    """Natural logarithm; -inf at 0, nan below."""
    if not x > 0.0:
        return -inf if x == 0.0 else nan
    if x == inf:
        return x
    m, k = frexp(x)
    if m < 0.7071067811865476:
        m *= 2.0
        k -= 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    odd = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    tail = s * (half + (even + odd)) + k * 1.90821492927058770002e-10
    return k * 6.93147180369123816490e-01 - ((half - tail) - f)


def exp(x):
    """e to the x; inf above 709, 0 below -708."""
    if x != x:
        return x
    if x > 709.0:
        return inf
    if x < -708.0:
        return 0.0
    k = whole(1.44269504088896338700e00 * x + (0.5 if x >= 0.0 else -0.5))
    high = x - k * 6.93147180369123816490e-01
    low = k * 1.90821492927058770002e-10
    r = high - low
    t = r * r
    c = r - t * (
        1.66666666666666019037e-01
        + t
        * (
            -2.77777777770155933842e-03
            + t * (6.61375632143793436117e-05 + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))
        )
    )
    y = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    return ldexp(y, k)


def single(x):
    """x in single precision, as a field of f4 holds it; cut at 3e38 either side, 0.0 below 1e-37 in size."""
    x = min(max(x, -3e38), 3e38)
    if abs(x) < 1e-37:
        return 0.0
    high = x * 536870913.0  # 2**29 + 1: T. J. Dekker (1971), A floating-point technique, Numerische Mathematik 18
    return high - (high - x)


def whole(x):
    """x without its fraction, as an integer; 0 where it is not finite, cut at 2**53 either side."""
    if not finite(x):
        return 0
    if x > 9007199254740992.0:
        return 9007199254740992
    if x < -9007199254740992.0:
        return -9007199254740992
    return int(x)


def floored(std, mean):
    """A standard deviation, at least 1e-9 of the mean: rounding noise of a constant gives no scale."""
    return max(std, 1e-9 * abs(mean))


def deviation(x, mean, std):
    """How many standard deviations x lies above the mean (negative: below); at most MAX_DEVIATION either side."""
    distance = x - mean
    std = floored(std, mean)
    if abs(distance) < MAX_DEVIATION * std:
        return distance / std
    if distance == 0.0:
        return 0.0
    return MAX_DEVIATION if distance > 0.0 else -MAX_DEVIATION


def rounded(score):
    """A score of 0..1 rounded to 6 decimals, half up: the score shown is the one that was compared."""
    return whole(score * 1e6 + 0.5) / 1e6

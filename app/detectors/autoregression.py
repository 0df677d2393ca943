"""Distance from what the last values predict, by a linear model that is learned as it goes: AR(n), recursively.

Fits what follows from its own recent past: smooth signals, oscillations, levels that wander; finds the point that
breaks the pattern though its value is common. Blind to anything longer than its order. O(order**2) time and memory.

Score: float in [0, 1e9], root mean squares of its errors so far; 0.0 is the most normal. A point is an anomaly above
``threshold`` of them. The first points, 3 * order + 2 of them, are predicted by the last value.

The model is x[t] = c + a[1] x[t-1] + .. + a[order] x[t-order], of least squares over all points, an older one weighted
by ``forgetting_factor`` to the power of its age. The triangular factor of the weighted equations is kept and each
point rotated into it: that is the same answer as the recursion of their inverse, which loses its accuracy and
grows without bound while a source is constant. It is written in differences from the newest value, so that
coefficients that equal points do not determine are left out, and the last value is predicted. An outlier is learned
with at most 6 errors from its prediction.

References
----------
.. [1] W. M. Gentleman (1973), Least squares computations by Givens transformations without square roots, IMA Journal
   of Applied Mathematics 12, pages 329-336.
.. [2] S. Haykin (2002), Adaptive Filter Theory, 4th edition, chapter 9: recursive least squares with a forgetting
   factor, and chapter 11: its square-root forms.

Examples
--------
>>> from app.detectors.api import run
>>> wave = [0.0, 5.0, 5.0, 0.0, -5.0, -5.0] * 8  # x[t] = x[t-1] - x[t-2]
>>> scores = run("autoregression", [*wave, 5.0], order=2)
>>> max(scores[30:-1]) < 0.01, scores[-1] > 3.0
(True, True)
"""

from app.detectors.api import SQUARES, cut_error, derived, deviation, floored, learn_error, param, params, rms, sqrt

VERSION = 1
PARAMS = params(
    order=param(5, "past values that predict the next one", at_least=1, at_most=8),
    forgetting_factor=param(0.999, "weight of a point against that of the next", at_least=0.5, at_most=1),
    threshold=param(3.0, "root mean square errors at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    root=derived(lambda p: sqrt(p.forgetting_factor)),
)
STATE = lambda p: [  # noqa: E731
    ("seen", "i8"),
    ("base", "f8"),  # the first value: the others are taken from it
    ("lags", "f8", (p.order,)),  # the newest first
    ("factor", "f8", ((p.order + 1) * (p.order + 2),)),  # rows of the triangle, each with its right side
    ("row", "f8", (p.order + 2,)),  # the newest equation
    ("coefficients", "f8", (p.order + 1,)),
    ("expected", "f8"),
    ("errors", SQUARES),
]
SCALE = "deviations"
ALERT_AT = "threshold"
INVARIANT = ("scale", "shift")
EXPLANATION = "{value} is {score} times the usual error {side} {expected}, which the values before it lead to"

SAME = 1e-11  # of a column: what is left of it beside the columns before is rounding
MAX_PREDICTION = 1e151  # of a prediction; its square is finite


def band(s, p, at, w):
    reach = p.threshold * floored(rms(s.errors), s.expected)
    return s.expected, s.expected - reach, s.expected + reach


def step(s, p, x, at, w):
    """Score x by what was expected, learn it, and say what to expect next."""
    if s.seen == 0:
        s.base = x
        s.expected = x
    score = abs(deviation(x, s.expected, rms(s.errors)))
    y = s.expected + cut_error(s.errors, x - s.expected) - s.base
    if s.seen > 0:
        learn_error(s.errors, x - s.expected, p.forgetting_factor)
    if s.seen >= p.order:
        equation(s, p)
        s.row[p.order + 1] = y - s.lags[0]
        rotate(s, p)
    for k in range(p.order - 1, 0, -1):
        s.lags[k] = s.lags[k - 1]
    s.lags[0] = y
    s.seen += 1
    change = 0.0
    if s.seen >= 3 * p.order + 2:
        solve(s, p)
        equation(s, p)
        for k in range(p.order + 1):
            change += s.coefficients[k] * s.row[k]
    s.expected = min(max(s.base + y + change, -MAX_PREDICTION), MAX_PREDICTION)
    return score


def equation(s, p):
    """What predicts the next change: 1, the newest value, and the changes before it."""
    s.row[0] = 1.0
    s.row[1] = s.lags[0]
    for k in range(1, p.order):
        s.row[k + 1] = s.lags[k - 1] - s.lags[k]


def rotate(s, p):
    """Take the newest equation into the triangle, whose older ones fade: Givens rotations."""
    width = p.order + 2
    for i in range(p.order + 1):
        at = i * width
        for j in range(i, width):
            s.factor[at + j] *= p.root
        a, b = s.factor[at + i], s.row[i]
        largest = max(abs(a), abs(b))
        if b != 0.0 and largest > 0.0:
            a, b = a / largest, b / largest
            length = sqrt(a * a + b * b)
            cosine, sine = a / length, b / length
            for j in range(i, width):
                u, v = s.factor[at + j], s.row[j]
                s.factor[at + j] = cosine * u + sine * v
                s.row[j] = cosine * v - sine * u


def solve(s, p):
    """The coefficients, from the last row up; 0 for a column that those before it make up."""
    width = p.order + 2
    for i in range(p.order, -1, -1):
        largest = 0.0
        for row in range(i + 1):
            largest = max(largest, abs(s.factor[row * width + i]))
        pivot = s.factor[i * width + i]
        s.coefficients[i] = 0.0
        if abs(pivot) > SAME * largest:
            total = s.factor[i * width + p.order + 1]
            for j in range(i + 1, p.order + 1):
                total -= s.factor[i * width + j] * s.coefficients[j]
            s.coefficients[i] = total / pivot

"""How rare is a number that is larger than nearly all before? By the highest of each block of points.

The logarithms of the highest numbers of the last blocks of 50 points are kept, rounded up to a twentieth. Above the
line that their highest tenth reaches, the tail is an exponential [1]_. So the surprise, a decimal logarithm of how
seldom a block has such a number, needs no assumption on their distribution and means the same for every series.

Kernels, see ``detectors/api.py``: O(1) time, O(10 * 128) at the end of a block.

References
----------
.. [1] S. Coles (2001), An Introduction to Statistical Modeling of Extreme Values, sections 3.1 (block maxima) and 4.2
   (exponential excesses over a high threshold).
"""

from app.compiled.numeric import LN_10, exp, log, whole

BLOCK = 50  # points
BLOCKS = 128  # kept
TAIL = 0.1  # share of the maxima above the line
MAXIMA = [
    ("maxima", "u1", (BLOCKS,)),  # 20 * (log + 6), rounded up
    ("blocks", "i8"),  # so far
    ("highest", "f8"),  # of this block
    ("line", "f8"),  # logarithm above which the tail begins
    ("above", "f8"),  # the same as a number
    ("scale", "f8"),  # of the tail
    ("top", "i8"),  # maxima at the line or above
]


def begin_maxima(c, around_one):
    """Set up the state; ``around_one``: as if six blocks had been seen, with maxima from .78 to 1.35."""
    c.blocks = 0
    c.highest = 0.0
    if around_one:
        for i in range(6):
            c.maxima[i] = 115 + 2 * i + (1 if i > 3 else 0)
        c.blocks = 6
        _fit(c)


def surprise(c, size):
    """0.0 up to the line."""
    if not size > c.above:
        return 0.0
    known = min(c.blocks, BLOCKS)
    return (log((known + 1.0) / (c.top + 1.0)) + (log(size) - c.line) / c.scale) / LN_10


def size_of(c, rarity):
    """The number whose surprise is ``rarity``."""
    known = min(c.blocks, BLOCKS)
    return exp(min(c.line + c.scale * (rarity * LN_10 - log((known + 1.0) / (c.top + 1.0))), 300.0))


def end_block(c):
    place = 20.0 * (log(max(c.highest, 1e-6)) + 6.0)
    code = whole(place)
    c.maxima[c.blocks % BLOCKS] = min(max(code + 1 if code < place else code, 0), 255)
    c.blocks += 1
    c.highest = 0.0
    _fit(c)


def _fit(c):
    size = min(c.blocks, BLOCKS)
    c.top = size - whole((1.0 - TAIL) * size)
    lowest = 255
    highest = 0
    for i in range(size):
        lowest = min(lowest, c.maxima[i])
        highest = max(highest, c.maxima[i])
    line = reached(c, size, c.top, lowest, highest)
    middle = reached(c, size, size - (size - 1) // 2, lowest, highest)
    above = 0
    for i in range(size):
        if c.maxima[i] > line:
            above += c.maxima[i] - line
    # Five more excesses, from the width of the lower maxima and their rounding: a tail of one point is none.
    wide = 0.05 * (line - middle) / 1.88
    c.line = 0.05 * line - 6.0
    c.above = exp(c.line)
    c.scale = max((0.05 * above + 3.0 * wide + 0.12) / (c.top + 5.0), 0.02)


def reached(c, size, number, lowest, highest):
    """The highest line that ``number`` of ``size`` maxima reach, which lie between ``lowest`` and ``highest``."""
    low, high = lowest, highest
    while low < high:
        middle = (low + high + 1) >> 1
        reach = 0
        for i in range(size):
            if c.maxima[i] >= middle:
                reach += 1
        if reach >= number:
            low = middle
        else:
            high = middle - 1
    return low

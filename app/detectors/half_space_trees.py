"""Half-Space Trees: how few of the last points lie near this one, by random binary partitions of the range.

River's HalfSpaceTrees behind its MinMaxScaler, for one metric: the same trees of the same seed and the same scores,
bit for bit. Each tree cuts the range in two again and again at random places; the points of a window are counted in
the cells, and the next window is scored by how full the cells are that a point falls through. Finds values where there
were none lately, between two states too; blind to order and to seasons. The trees are constants of the parameters. A
cell's count is the difference of two running sums over the leaves of its tree, so only leaves are kept:
``2 * n_trees * 2**height`` counts of one byte (two from a ``window_size`` of 256 on) a metric, half of what the nodes
take. O(n_trees * height) time.

River's trees end where the range so far ends: a value far outside falls into the same outermost leaves as the extremes
before. On normal, uniform, exponential, seasonal, autocorrelated and two-state series, a point 14 standard deviations
out scored no higher than 1 in 8 to 1 in 1000 of the points before it. So trees reach ``margin`` times the range
further on either side here (River's ``limits``), where the cells are empty; with ``margin=0`` they are those of
River's default limits. And since scores crowd together below 1, what is compared with its past is minus the logarithm
of 1 - River's score. With both, and with the first window, which has no scores, kept out of that past, the same point
lies at least 6 deviations above it (most often 15), where one normal point in 750 lies above 5, the default threshold.

Score: float in [0, 10], natural logarithm; 0.0 in the first ``window_size`` points, before there is a window to
compare with.

References
----------
.. [1] S. C. Tan, K. M. Ting, T. F. Liu (2011), Fast Anomaly Detection for Streaming Data, IJCAI, pages 1511-1516.
.. [2] River 0.26.1, river/anomaly/hst.py and river/tree/padded.py.

Examples
--------
>>> from app.detectors.api import run
>>> values = [0.5, 0.45, 0.43, 0.44, 0.445, 0.45, 0.0]
>>> scores = run("HalfSpaceTrees", values, n_trees=5, height=3, window_size=3, warmup=1)
>>> [round(score, 2) for score in scores]
[0.0, 0.0, 0.0, 0.0, 0.0, 0.11, 1.92]
"""

from app.detectors.api import derived, log, param, params, seeded_uniform

NAME = "HalfSpaceTrees"
VERSION = 1
PADDING = 0.15  # a cell is never cut nearer to its edge than this share of it: [2]


def splits(p):
    """Where the trees cut: of each its 2**height - 1 inner nodes, level by level, in shares of the range.

    River draws a node, then all below it to the left, then to the right; for each a feature (there is one) and a place.
    """
    inner = (1 << p.height) - 1
    numbers = seeded_uniform(p.seed, 2 * p.n_trees * inner)
    made = [0.0] * (p.n_trees * inner)
    low, high = [-p.margin] * (2 * inner + 1), [1.0 + p.margin] * (2 * inner + 1)
    turn, nodes = [0] * (2 * inner + 1), [inner] * (2 * inner + 1)  # of drawing; inner nodes from here down
    for tree in range(p.n_trees):
        for node in range(inner):
            a, b = low[node], high[node]
            nearest, farthest = a + PADDING * (b - a), b - PADDING * (b - a)
            at = nearest + (farthest - nearest) * numbers[2 * (tree * inner + turn[node]) + 1]
            made[tree * inner + node] = at
            left, right = 2 * node + 1, 2 * node + 2
            low[left], high[left], low[right], high[right] = a, at, at, b
            nodes[left] = nodes[right] = nodes[node] >> 1
            turn[left] = turn[node] + 1
            turn[right] = turn[left] + nodes[left]
    return made


PARAMS = params(
    n_trees=param(10, "number of trees", at_least=1, at_most=100),
    height=param(8, "depth of the trees", at_least=1, at_most=12),
    window_size=param(250, "points in a reference window, whose counts are the scores", at_least=2, at_most=65_535),
    seed=param(42, "seed of the random trees", at_least=0),
    margin=param(2.0, "extension of the trees beyond the range so far, in ranges", at_least=0, at_most=1000),
    threshold=param(5.0, "deviations above its own past at which a point alerts", above=0, keeps_state=True),
    warmup=param(100, "points scored before the first vote, after the first window", at_least=1, keeps_state=True),
    silent=derived(lambda p: p.window_size),
    few=derived(lambda p: 0.1 * p.window_size),  # a cell of fewer points is not looked into: [1], section 3.3
    most=derived(lambda p: float(p.n_trees * p.window_size * ((2 << p.height) - 1))),
    splits=derived(splits),
)


def STATE(p):
    small = "u1" if p.window_size < 256 else "u2"
    leaves = p.n_trees * (1 << p.height)
    return [
        ("low", "f8"),
        ("high", "f8"),
        ("points", "i8"),  # of the present window
        ("windows", "i8"),  # 1: one is complete
        ("now", small, (leaves,)),  # points of the present window by leaf, tree after tree
        ("past", small, (leaves,)),  # of the window before, in this leaf and those left of it in its tree
    ]


SCALE = "own_past"
WINDOW = None  # the points of its windows are counted, not kept
ALERT_AT = "threshold"
EXPLANATION = "{value} lies where few of the last points were"


def scaled(s, x):
    """x in shares of the range so far; beyond 0..1 outside it."""
    width = s.high - s.low
    return (x - s.low) / width if width != 0.0 else 0.0


def sparseness(s, p, x):
    """River's score of a scaled x: 1.0 less the points in the cells it falls through, weighted by their depth."""
    leaves = 1 << p.height
    total = 0.0
    for tree in range(p.n_trees):
        node, first, size, weight = 0, tree * leaves, leaves, 1.0
        before = 0.0  # points left of the cell
        last = s.past[first + leaves - 1] * 1.0  # points left of its end
        while True:
            total += (last - before) * weight
            if size == 1 or last - before < p.few:
                break
            size >>= 1
            weight *= 2.0
            middle = s.past[first + size - 1] * 1.0
            if x < p.splits[tree * (leaves - 1) + node]:
                node = 2 * node + 1
                last = middle
            else:
                node = 2 * node + 2
                first += size
                before = middle
    return 1.0 - total / p.most


def learn(s, p, x):
    """Count a scaled x in its leaves; a full window takes the place of the one before."""
    leaves = 1 << p.height
    for tree in range(p.n_trees):
        node = 0
        for _ in range(p.height):
            node = 2 * node + (1 if x < p.splits[tree * (leaves - 1) + node] else 2)
        s.now[tree * leaves + node - leaves + 1] += 1
    s.points += 1
    if s.points == p.window_size:
        for tree in range(p.n_trees):
            count = 0
            for leaf in range(tree * leaves, (tree + 1) * leaves):
                count += s.now[leaf]
                s.past[leaf] = count
                s.now[leaf] = 0
        s.points = 0
        s.windows = 1


def step(s, p, x, at, w):
    score = log(1.0 / (1.0 - sparseness(s, p, scaled(s, x)))) if s.windows == 1 else 0.0
    if s.windows == 0 and s.points == 0:
        s.low = x
        s.high = x
    s.low = min(s.low, x)
    s.high = max(s.high, x)
    learn(s, p, scaled(s, x))
    return score

"""A stuck value: a run of equal values longer than all earlier runs of this source.

Fits sensors that freeze and exporters that repeat their last value. A source that is constant from its start, or
usually has long runs, gives no alerts: the reference is its own longest run. Blind to a stuck value with noise of more
than ``tolerance``. O(1) time and memory.

Score: float in [0, inf), length of the current run divided by that of the longest run before it (at least
``min_points``), minus 1: 0.0 up to the same length, 1.0 at twice the length. A point is an anomaly above
``threshold``; so is each later one until the value changes. A finished run is learned with at most twice the longest
length, so that a fault does not hide the next one.

References
----------
.. [1] U.S. Integrated Ocean Observing System (2020), Manual for Real-Time Quality Control of In-situ Temperature
   and Salinity Data, version 2.1: test 8, flat line: five equal values, within a tolerance.

Examples
--------
>>> from app.detectors.api import run
>>> [round(z, 1) for z in run("flatline", [1.0, 2.0, 3.0, 2.0] + [5.0] * 12, warmup=4)[-8:]]
[0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]
>>> max(run("flatline", [5.0] * 200))
0.0
"""

from app.detectors.api import param, params

VERSION = 1
PARAMS = params(
    tolerance=param(0.0, "largest difference from the first value of a run that counts as equal", at_least=0),
    min_points=param(5, "smallest reference length of a run, in points", at_least=2),
    threshold=param(1.0, "excess over the longest run, in its lengths, that alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
)
STATE = [("first", "f8"), ("run", "i8"), ("longest", "i8")]
SCALE = "deviations"
ALERT_AT = "threshold"
TARGETS = "runs"
INVARIANT = ("scale", "shift")
KINDS = "stuck"
EXPLANATION = "stuck at {value}: the run of equal values is longer than the longest before it, and {score} times that"


def step(s, p, x, at, w):
    if s.run > 0 and abs(x - s.first) <= p.tolerance:
        s.run += 1
    else:
        if s.run > 0:  # the first run is learned in full: there is no reference yet
            known = max(s.longest, p.min_points)
            s.longest = max(s.longest, min(s.run, 2 * known) if s.longest > 0 else s.run)
        s.first = x
        s.run = 1
    if s.longest == 0:
        return 0.0
    return max(0.0, s.run / max(s.longest, p.min_points) - 1.0)

"""A gap in time that is longer than the usual interval of this source, reported at the first point after it.

Fits sources with regular points, and with a higher threshold those with random arrivals. Uses timestamps only, not
values. A gap that has not ended cannot be reported, as only points are scored. O(1) time and memory.

Score: float in [0, 1e9], distance of the interval above the mean interval, in standard deviations of the intervals
(at least a quarter of the mean); 0.0 up to the mean. A point is an anomaly above ``threshold``: at 8, this is a gap of
3 intervals of a regular source, and of 9 mean intervals of a source with random arrivals (once in about ten thousand).

A point with the same time as the last one is not scored and not learned. Neither is one with an earlier time: it is
late, and the next interval is measured from the newest time; but after ten in a row the clock was set back, and the
next interval is measured from there. After a span of maintenance the interval is measured from its end, and not
learned. Intervals are clipped at 6 deviations when learned, so that an outage does not hide the next one.

References
----------
.. [1] U.S. Integrated Ocean Observing System (2020), Manual for Real-Time Quality Control of In-situ Temperature
   and Salinity Data, version 2.1: test 1, timing and gap.

Examples
--------
>>> from app.detectors.api import run
>>> run("gaps", [1.0] * 7, times=[0.0, 60.0, 120.0, 180.0, 240.0, 540.0, 600.0], warmup=4)
[0.0, 0.0, 0.0, 0.0, 0.0, 16.0, 0.0]
"""

from app.detectors.api import WEIGHTED, decay_of, derived, deviation, deviations_of, learn_weighted, param, params

VERSION = 1
PARAMS = params(
    half_life=param(50.0, "age, in intervals, at which an interval counts half", at_least=1),
    threshold=param(8.0, "deviations above the mean interval at which a point alerts", above=0, keeps_state=True),
    warmup=param(30, "points learned before the first vote", at_least=1, keeps_state=True),
    decay=derived(lambda p: decay_of(p.half_life)),
)
STATE = [("intervals", WEIGHTED), ("time", "f8"), ("begun", "i8"), ("behind", "i8")]
SCALE = "deviations"
ALERT_AT = "threshold"
TARGETS = "gaps"
INVARIANT = ("scale", "shift")
KINDS = "pause"
EXPLANATION = "before {value} nothing came for longer than usual, by {score} times the usual spread of intervals"

LEAST = 0.25  # least deviation, as a fraction of the mean interval
SETTLED = 20  # intervals before clipping begins
CUT = 6.0  # deviations above the mean at which a learned interval is clipped
BEHIND = 10  # points in a row with an earlier time after which the clock was set back


def step(s, p, x, at, w):
    if s.begun == 0:
        s.begun = 1
        s.time = at.time
        return 0.0
    resumed = at.since > s.time
    interval = at.time - (at.since if resumed else s.time)
    if interval <= 0.0:
        s.behind += 1 if interval < 0.0 else 0
        if s.behind >= BEHIND:
            s.behind = 0
            s.time = at.time
        return 0.0
    s.behind = 0
    s.time = at.time
    if s.intervals.seen == 0:
        if not resumed:
            learn_weighted(s.intervals, interval, p.decay)
        return 0.0
    mean = s.intervals.mean
    spread = max(deviations_of(s.intervals), LEAST * mean)
    if not resumed:
        cut = min(interval, mean + CUT * spread) if s.intervals.seen >= SETTLED else interval
        learn_weighted(s.intervals, cut, p.decay)
    return max(0.0, deviation(interval, mean, spread))

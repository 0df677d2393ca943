"""A detector of episodes, for tests: the size of its source's signal is its surprise.

Above ``hold`` it lasts, below 0 it has become normal.
"""

from app.detectors.api import param, params

VERSION = 1
PARAMS = params(
    threshold=param(3.0, "surprise on the line", above=0, keeps_state=True),
    hold=param(2.0, "signal above which what began goes on", above=0),
    warmup=param(1, "points", at_least=1, keeps_state=True),
)
STATE = [("seen", "i8"), ("last", "f8")]
SCOPE = "source"
ROLE = "episodes"
SCALE = "surprise"
ALERT_AT = "threshold"
EXPLANATION = "{value} reported by {name}, {score} decades"


def step(s, p, x, at, w):
    s.seen += 1
    s.last = x
    return x


def lasts(s, p, x, w):
    return 1 if x > p.hold else 2 if x < 0.0 else 0

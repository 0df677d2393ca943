"""A detector that fails on request, for tests: on 13 it answers inf, on 14 it divides by zero."""

from app.detectors.api import inf, param, params

VERSION = 1
PARAMS = params(threshold=param(3.0, "score on the line", above=0), warmup=param(3, "points", at_least=1))
STATE = [("seen", "i8"), ("last", "f8", (3,)), ("inner", [("total", "f8")])]
SCALE = "own_past"
ALERT_AT = "threshold"
EXPLANATION = "{value} made {name} say {score}"


def step(s, p, x, at, w):
    s.seen += 1
    s.last[s.seen % 3] = x
    s.inner.total += x
    if x == 13.0:
        return inf
    if x == 14.0:
        return 1.0 / (x - 14.0)
    return abs(x)

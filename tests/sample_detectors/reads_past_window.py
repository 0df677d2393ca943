"""A detector, for tests, that reads one value past its window."""

from app.detectors.api import param, params

VERSION = 1
PARAMS = params(threshold=param(3.0, "score on the line", above=0), warmup=param(3, "points", at_least=1))
STATE: list[tuple] = []
SCALE = "own_past"
ALERT_AT = "threshold"
EXPLANATION = "{value} made {name} say {score}"


def step(s, p, x, at, w):
    return w.ring[len(w.ring)]

"""A detector, for tests, whose state depends on a parameter that it declares to judge only."""

from app.detectors.api import param, params

VERSION = 1
PARAMS = params(
    threshold=param(3.0, "score on the line", above=0, keeps_state=True),
    warmup=param(3, "points", at_least=1, keeps_state=True),
)
STATE = [("total", "f8")]
SCALE = "own_past"
ALERT_AT = "threshold"
EXPLANATION = "{value} made {name} say {score}"


def step(s, p, x, at, w):
    s.total += x / p.threshold
    return abs(x)

"""A detector of channels, for tests: a metric's size is its score."""

from app.detectors.api import param, params

VERSION = 1
PARAMS = params(
    threshold=param(4.0, "score on the line", above=0, keeps_state=True),
    warmup=param(1, "points", at_least=1, keeps_state=True),
)
STATE = [("seen", "i8")]
SCOPE = "channel"
SCALE = "deviations"
ALERT_AT = "threshold"
EXPLANATION = "{value} is {score} of {name}"


def step(s, p, x, at, w):
    s.seen += 1
    return abs(x)

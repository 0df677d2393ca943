"""A detector whose state has the size of a parameter, for tests: distance from the value ``lag`` points ago."""

from app.detectors.api import derived, param, params

VERSION = 1
PARAMS = params(
    lag=param(4, "points", at_least=1, at_most=100),
    threshold=param(3.0, "score on the line", above=0),
    warmup=param(4, "points", at_least=1),
    scale=derived(lambda p: 1.0 / p.lag),
)
STATE = lambda p: [("past", "f8", (p.lag,)), ("at", "i8")]  # noqa: E731
SCALE = "own_past"
ALERT_AT = "threshold"
EXPLANATION = "{value} is {score} from what was {name} ago"


def step(s, p, x, at, w):
    score = abs(x - s.past[s.at]) * p.scale
    s.past[s.at] = x
    s.at = (s.at + 1) % p.lag
    return score

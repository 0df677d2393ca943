"""Classes of a user, for detectors of ``method: river``."""

import random
from typing import ClassVar

from river import base


class Change(base.Transformer):
    """The step from the last value."""

    def __init__(self, factor: float = 1.0):
        self.factor = factor
        self.last = {}

    def learn_one(self, x):
        self.last = dict(x)

    def transform_one(self, x):
        return {name: self.factor * (value - self.last.get(name, value)) for name, value in x.items()}


class Distance(base.AnomalyDetector):
    """From the last value."""

    def __init__(self):
        self.last = 0.0

    def learn_one(self, x):
        self.last = x["value"]

    def score_one(self, x):
        return abs(x["value"] - self.last)


class Unstorable(Distance):
    def __init__(self):
        super().__init__()
        self.measure = lambda a, b: abs(a - b)


class Restless(Distance):
    """Draws from the clock."""

    def __init__(self):
        super().__init__()
        self.noise = random.Random()

    def score_one(self, x):
        return self.noise.random()


class Forgetful(Distance):
    """Keeps some of its state where no state is looked for."""

    seen: ClassVar = {}

    def score_one(self, x):
        return len(self.seen.setdefault(id(self), []))

    def learn_one(self, x):
        self.seen[id(self)].append(x)


class Growing(Distance):
    def __init__(self):
        super().__init__()
        self.all = []

    def learn_one(self, x):
        self.all.append(x["value"])


class Counting(Distance):
    """Learns where it scores."""

    def __init__(self):
        super().__init__()
        self.scored = 0

    def score_one(self, x):
        self.scored += 1
        return super().score_one(x) + self.scored


class Failing(Distance):
    def score_one(self, x):
        raise LookupError("nothing there")


class Silent:
    """No estimator of River's."""

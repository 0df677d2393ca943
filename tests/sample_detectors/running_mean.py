"""A library of one detector in two forms, for tests: distance from a running mean; it fails on request."""

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from app import detectors
from app.detectors.api import param, params
from app.errors import StateError


class Running:
    name, version, scale = "running", 1, "own_past"
    params = params(
        forget=param(0.05, "share of the newest", above=0),
        warmup=param(3, "points", at_least=1),
        alert_at=param(3.0, "line", above=0),
    )
    explanation = "{value} is far from what {name} knows"

    def make(self, params):
        return {"mean": 0.0, "share": params["forget"]}

    def score_one(self, model, x, t):
        if x == 13.0:
            raise LookupError("13")
        if x == 14.0:
            return float("nan")
        if x == 15.0:
            raise Panic("15")
        return abs(x - model["mean"])

    def learn_one(self, model, x, t):
        model["mean"] += model["share"] * (x - model["mean"])

    def dumps(self, model):
        return struct.pack("<dd", model["mean"], model["share"])

    def loads(self, data, params):
        if len(data) != 16:
            raise StateError(f"running: must have 16 bytes, found {len(data)}")
        mean, share = struct.unpack("<dd", data)
        return {"mean": mean, "share": share}

    def max_state_bytes(self, params):
        return 16


class RunningInRuns(Running):
    """The same, asked for many points at once."""

    name = "running_in_runs"

    def score_many(self, model, xs, ts):
        for x, t in zip(xs, ts):
            score = self.score_one(model, x, t)
            self.learn_one(model, x, t)
            yield score


class Panic(BaseException):
    """As a panic of River's Rust: not an Exception."""


def adapters():
    return ["running", "running_in_runs"]


def adapter(method):
    return {"running": Running, "running_in_runs": RunningInRuns}.get(method, lambda: None)()


@contextmanager
def added() -> Iterator[None]:
    """This library is among those that settings may name, until the block ends."""
    before = detectors._libraries[:]
    detectors._libraries.append(sys.modules[__name__])
    yield
    detectors._libraries[:] = before

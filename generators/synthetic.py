"""Synthetic points: a wave, a trend or a constant with noise, and anomalies of known kinds.

The same options give the same points, byte for byte; each source has its own random numbers, so more
sources do not change the first ones. Normal points lie within low..high. One anomaly at a time:

\b
spike    one point, 1.05 to 1.55 ranges (high - low) off: always outside low..high
drift    the level moves by half a range to a whole one, for 40 points, then returns
stuck    the value stays what it was, to the last bit, for 25 points
"""

from collections.abc import Iterator, Sequence
from itertools import count
from math import floor, log10, pi, sin
from random import Random
from typing import Annotated, Literal

from app.errors import ConfigurationError
from generators.api import GeneratedRecord, Parameter, Time

Shape = Literal["sine", "trend", "constant"]
Kind = Literal["spike", "drift", "stuck"]
KINDS: tuple[Kind, ...] = ("spike", "drift", "stuck")
DRIFT_POINTS, STUCK_POINTS = 40, 25
NOISE_CUT = 3.0  # standard deviations; without it a normal point could have any value


def records(
    *,
    shape: Annotated[Shape, Parameter("shape of the normal values; a trend rises, then falls")] = "sine",
    frequency: Annotated[float, Parameter("cycles per second of event time", at_least=0.0)] = 0.005,
    low: Annotated[float, Parameter("smallest normal value")] = 0.0,
    high: Annotated[float, Parameter("largest normal value")] = 100.0,
    noise: Annotated[
        float, Parameter("standard deviation of the noise over high - low", at_least=0.0, at_most=0.15)
    ] = 0.02,
    anomaly_probability: Annotated[
        float, Parameter("probability that an anomaly begins at a point", at_least=0.0, at_most=1.0)
    ] = 0.002,
    anomaly: Annotated[tuple[Kind, ...], Parameter("kind of anomaly; can be given several times")] = KINDS,
    calm: Annotated[int, Parameter("points of each source before its first anomaly", at_least=0)] = 1,
    sources: Annotated[int, Parameter("number of sources", at_least=1, at_most=1_000_000)] = 1,
    source: Annotated[str, Parameter("name of the sources, to which -0, -1, ... is added")] = "synthetic",
    points: Annotated[int, Parameter("points of each source; 0: no end", at_least=0)] = 1000,
    interval: Annotated[float, Parameter("seconds between two points of a source", at_least=1e-6)] = 1.0,
    start: Annotated[float, Time("time of the first points")] = 1704067200.0,
    seed: Annotated[int, Parameter("seed of the random numbers")] = 0,
) -> Iterator[GeneratedRecord]:
    """A point of each source in turn, then the next of each."""
    if not 0.0 < high - low <= 1e149:  # so that points with an anomaly are legal, too
        raise ConfigurationError(f"--low, --high: high must be more than low, by at most 1e149, got {low}, {high}")
    series = []
    for i in range(sources):
        random = Random(f"{seed}:{i}")
        normal = _normal(random, shape, frequency * interval, low, high, noise)
        series.append((f"{source}-{i}", _disturbed(random, normal, low, high, anomaly_probability, anomaly, calm)))
    for i in count() if points == 0 else range(points):
        timestamp = start + i * interval
        for name, values in series:
            value, label = next(values)
            yield GeneratedRecord(name, timestamp, {"value": value}, label)


def _normal(random: Random, shape: str, step: float, low: float, high: float, noise: float) -> Iterator[float]:
    """Values within low..high, without end; step: cycles from one point to the next."""
    margin = NOISE_CUT * noise  # distance of the wave from low and high
    phase = random.random()
    for i in count():
        wave = margin + (1.0 - 2.0 * margin) * _wave(shape, (phase + i * step) % 1.0)
        jitter = min(max(random.gauss(0.0, noise), -margin), margin)
        yield min(max(low + (high - low) * (wave + jitter), low), high)


def _disturbed(
    random: Random, normal: Iterator[float], low: float, high: float, chance: float, kinds: Sequence[Kind], calm: int
) -> Iterator[tuple[float, str]]:
    """(value, kind of anomaly or "") for each normal value."""
    size = high - low
    digits = 6 - floor(log10(size))  # more are only longer to read
    value, kind, left, move = 0.0, "", 0, 0.0
    for i, level in enumerate(normal):
        if left == 0:
            kind, move = "", 0.0
            if i >= calm and random.random() < chance:
                kind, sign, far = random.choice(kinds), random.choice((-1.0, 1.0)), 0.5 * random.random()
                left = {"spike": 1, "drift": DRIFT_POINTS, "stuck": STUCK_POINTS}[kind]
                move = sign * size * {"spike": 1.05 + far, "drift": 0.5 + far, "stuck": 0.0}[kind]
        if kind == "":
            value = min(max(round(level, digits), low), high)
        elif kind != "stuck":
            value = round(level + move, digits)
        left -= kind != ""
        yield value, kind


def _wave(shape: str, phase: float) -> float:
    """0..1 over one cycle."""
    if shape == "sine":
        return 0.5 + 0.5 * sin(2.0 * pi * phase)
    if shape == "trend":
        return 1.0 - abs(2.0 * phase - 1.0)
    return 0.5

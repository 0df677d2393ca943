"""What sources are like while nothing is wrong: noise, days, weeks, walks, counts. ``series.py`` adds the faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

DAY = 86400.0
MONDAY = 1704067200.0  # 2024-01-01, 00:00 UTC
STEPS = (10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)  # seconds from one point to the next


@dataclass
class Fault:
    """What an operator would call right about one fault. All are numbers of points from the start of the series."""

    first: int
    found_by: int  # an episode must open from ``first`` to here
    over_by: int | None  # no episode of it may be open later; None: it does not matter
    open_until: int | None = None  # one episode must last at least to here
    alerts: int = 3  # episodes about it, at most
    metric: str | None = None  # that the first episode must name


@dataclass
class Case:
    """One source: its points in the order in which they arrive, and what is right."""

    time: np.ndarray  # f8[n] epoch seconds
    values: dict[str, np.ndarray]  # f8[n] by metric; NaN: the point does not have it
    others: int  # episodes that are about no fault, at most
    quiet_from: int  # the point from which others count: before it the source is still new
    one_by_one: bool = False  # each point is of one metric, which it names
    faults: list[Fault] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.time)

    def fault(self, first: int, within: int, over: int | None, lasts: int | None = None, **more) -> Case:
        """Add a fault: within, over and lasts are numbers of points after its first one."""
        over_by, open_until = (None if after is None else int(first + after) for after in (over, lasts))
        self.faults.append(Fault(int(first), int(first + within), over_by, open_until, **more))
        return self

    def rearranged(self, order: Sequence[int] | np.ndarray) -> Case:
        """The points of these positions, in this order; for series without faults, or with later ones added after."""
        self.time = self.time[order]
        self.values = {metric: x[order] for metric, x in self.values.items()}
        self.quiet_from = len(self) // 5
        return self


@dataclass
class Series:
    """One metric, and what its faults are measured by."""

    x: np.ndarray  # f8[n]
    step: float  # seconds
    level: float
    spread: float  # standard deviation of its noise
    swing: float = 0.0  # half the height of its daily course
    decimals: int | None = None  # None: as many as there are
    start: float = MONDAY

    def __len__(self) -> int:
        return len(self.x)

    @property
    def per_day(self) -> int:
        return round(DAY / self.step)

    @property
    def time(self) -> np.ndarray:
        return self.start + self.step * np.arange(len(self.x))

    def rounded(self) -> np.ndarray:
        return self.x if self.decimals is None else np.round(self.x, self.decimals)

    def case(self, others: int, quiet_from: int | None = None) -> Case:
        new = len(self) // 5 if len(self) >= 500 else 0
        return Case(self.time, {"value": self.rounded()}, others, new if quiet_from is None else quiet_from)


def together(series: dict[str, Series], others: int) -> Case:
    """Several metrics of one source, in one record."""
    first = next(iter(series.values()))
    return Case(first.time, {name: one.rounded() for name, one in series.items()}, others, len(first) // 5)


def one_by_one(series: dict[str, Series], others: int) -> Case:
    """Several metrics of one source, each in a record of its own, one after another."""
    first, count = next(iter(series.values())), len(series)
    values = {}
    for place, (name, one) in enumerate(series.items()):
        values[name] = np.full(len(first) * count, np.nan)
        values[name][place::count] = one.rounded()
    return Case(np.repeat(first.time, count), values, others, len(first) * count // 5, one_by_one=True)


class Draw:
    """Everything that is left to chance; the same seeds draw the same."""

    def __init__(self, *seeds: int) -> None:
        self.random = np.random.default_rng(seeds)

    def between(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """Both ends are included."""
        return int(self.random.integers(low, high + 1))

    def one_of(self, things: Sequence):
        return things[int(self.random.integers(len(things)))]

    def sign(self) -> float:
        return self.one_of((-1.0, 1.0))

    def place(self, series: Series, low: float = 0.5, high: float = 0.8) -> int:
        """Where a fault begins, in shares of the series."""
        return int(self.between(low, high) * len(series))

    def step(self) -> float:
        return self.one_of(STEPS)

    def normal(self, n: int) -> np.ndarray:
        return self.random.standard_normal(n)

    def following(self, n: int, share: float) -> np.ndarray:
        """Noise of standard deviation 1 of which each value keeps a share of the last one, 0 to 1 excluded."""
        x, e = np.zeros(n), self.normal(n)
        x[0] = e[0]
        for i in range(1, n):
            x[i] = share * x[i - 1] + math.sqrt(1.0 - share * share) * e[i]
        return x

    def noise(self, n: int | None = None, *, step: float | None = None, away: bool = False) -> Series:
        """A level and noise, of one of five shapes; with ``away`` the level is far from zero."""
        n = self.whole(2600, 4200) if n is None else n
        step = self.step() if step is None else step
        shape = self.one_of(("normal", "laplace", "autocorrelated", "integers", "two decimals"))
        decimals = {"integers": 0, "two decimals": 2}.get(shape)
        spread = 10.0 ** self.between(-2, 3)
        if decimals is not None:  # a few units of the last digit
            spread = 10.0**-decimals * self.between(2.0, 9.0)
        near = not away and self.random.random() < 0.15
        level = spread * (self.between(-2, 2) if near else self.between(12, 90))
        if not near and self.random.random() < 0.15:
            level = -level
        if shape == "laplace":
            e = self.random.laplace(0.0, math.sqrt(0.5), n)
        else:
            e = self.following(n, self.between(0.3, 0.7)) if shape == "autocorrelated" else self.normal(n)
        return Series(level + spread * e, step, level, spread, decimals=decimals)

    def daily(self, *, days: int | None = None, step: float | None = None, positive: bool = False) -> Series:
        """A daily course with noise: a sine, one with two humps, or busy hours; two weeks to two months of it."""
        step = self.one_of((300.0, 600.0, 900.0, 1800.0)) if step is None else step
        per_day = round(DAY / step)
        days = max(14, round(self.between(2800, 4200) / per_day)) if days is None else days
        spread = 10.0 ** self.between(-2, 3)
        swing = spread * self.between(6, 25)
        level = swing * (self.between(1.3, 5) if positive else self.one_of((self.between(1.3, 5), 0.0, -3.0)))
        hour = 2.0 * math.pi * (np.arange(days * per_day) / per_day + self.random.random())
        shape = self.one_of(("sine", "two humps", "busy hours"))
        if shape == "sine":
            course = np.sin(hour)
        elif shape == "two humps":
            course = 0.7 * np.sin(hour) + 0.4 * np.sin(2.0 * hour + 1.0)
        else:
            course = np.tanh(2.5 * np.sin(hour) - 0.5)
        return Series(level + swing * course + spread * self.normal(len(hour)), step, level, spread, swing)

    def business(self, days: int, *, weekend: float | None = None, clock: tuple[int, int] | None = None) -> Series:
        """Office hours from Monday to Friday, in a zone of its own, a point each quarter of an hour.

        weekend: how busy a day of it is, as a share of others; else as nights are. clock: (day, hours) from which on
        clocks are set forward by so many hours.
        """
        level = 10.0 ** self.between(0, 4)
        night, spread = level * self.between(0.05, 0.3), level * self.between(0.02, 0.04)
        hours = np.arange(days * 96) / 4.0 + self.whole(-8, 9)
        if clock is not None:
            hours = hours + clock[1] * (np.arange(days * 96) >= 96 * clock[0] + 4)
        weekday, hour = hours // 24 % 7, hours % 24
        opens, shuts = self.one_of(((8, 17), (9, 17), (7, 19), (10, 22)))
        busy = (hour >= opens) & (hour < shuts) & ((weekday < 5) | (weekend is not None))
        height = level * np.where(weekday < 5, 1.0, 0.0 if weekend is None else weekend)
        x = np.where(busy, np.maximum(night, height), night) + spread * self.normal(days * 96)
        return Series(x, 900.0, level, spread)

    def walk(self, n: int | None = None, share: float | None = None) -> Series:
        """A walk that returns slowly to its level, or with share 1 never; spread is that of one step."""
        n = self.whole(3000, 4500) if n is None else n
        share = self.between(0.97, 0.995) if share is None else share
        level = 10.0 ** self.between(-1, 4)
        spread, x, e = level * self.between(0.003, 0.015), np.zeros(n), self.normal(n)
        for i in range(1, n):
            x[i] = share * x[i - 1] + e[i]
        return Series(level + spread * x, self.step(), level, spread)

    def partner(self, of: Series, late: int = 0, own: float | None = None) -> tuple[Series, float]:
        """A series that follows another one, and its gain: how many times as far it goes.

        late: points after it. own: its own noise, as a share of the other's standard deviation; else .08 to .2.
        """
        gain, far = self.one_of((-2.0, 0.5, 3.0)), float(np.std(of.x))
        spread = abs(gain) * far * (self.between(0.08, 0.2) if own is None else own)
        x = np.concatenate([of.x[:1].repeat(late), of.x[: len(of) - late]])
        x = gain * x + spread * self.normal(len(of))
        return Series(x, of.step, gain * of.level, spread, abs(gain) * of.swing, start=of.start), gain

    def latency(self, n: int) -> Series:
        """Times of answers: log-normal, the largest of a thousand four to ten times the median."""
        level, width = 10.0 ** self.between(-2, 3), self.between(0.35, 0.6)
        return Series(level * np.exp(width * self.normal(n)), self.step(), level, level * width)

    def error_rate(self, n: int, most: float = 3.0) -> Series:
        """Percent of errors: zero but for a short burst of up to ``most`` now and then."""
        x = np.zeros(n)
        for at in np.flatnonzero(self.random.random(n) < 1 / 120):
            x[at : at + self.whole(1, 4)] = self.between(0.2, most)
        return Series(x, self.step(), 0.0, most, decimals=3)

    def batches(self, days: int) -> tuple[Series, int, int]:
        """Noise with a peak at the same time of each day: the series, the first peak, points that a peak takes."""
        s = self.noise(round(DAY / 300) * days, step=300.0)
        at, width = self.whole(60, 200), self.whole(1, 3)
        for first in range(at, len(s), s.per_day):
            s.x[first : first + width] += self.between(36, 44) * s.spread
        return s, at, width

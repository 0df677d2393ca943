"""Every kind of series: one function each, and in its docstring what an operator would call right.

"Told within 2 points": an episode opens at the first point of the fault or at one of the 2 after it. "Over within 20"
counts from there or, where it says so, from the end of the fault. "2 others": so many episodes may be about nothing,
after the first fifth of the series. Kinds whose name begins with ``calm`` have no fault.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from tests.drills.shapes import Case, Draw, Series, one_by_one, together

DRILLS: dict[str, Callable[[Draw], Case]] = {}


def drill(make: Callable[[Draw], Case]) -> Callable[[Draw], Case]:
    DRILLS[make.__name__] = make
    return make


def right(name: str) -> str:
    """What an operator would call right about a kind: its docstring."""
    return (DRILLS[name].__doc__ or "").strip()


def made(name: str, seed: int, instance: int) -> Case:
    """One series; what else is made does not change it."""
    return DRILLS[name](Draw(seed, zlib.crc32(name.encode()), instance))


# One point


@drill
def spike_in_noise(draw: Draw) -> Case:
    """One value 10 to 15 standard deviations off: found within 1 point, over within 15; 2 others."""
    s = draw.noise()
    at = draw.place(s)
    s.x[at] += draw.sign() * draw.between(10, 15) * s.spread
    return s.case(others=2).fault(at, within=1, over=15)


@drill
def spike_in_daily(draw: Draw) -> Case:
    """One value 12 to 18 standard deviations off a daily course: found within 1 point, over within 20; 2 others."""
    s = draw.daily()
    at = draw.place(s)
    s.x[at] += draw.sign() * draw.between(12, 18) * s.spread
    return s.case(others=2).fault(at, within=1, over=20)


@drill
def spike_in_walk(draw: Draw) -> Case:
    """One value 12 to 16 usual steps off a slow walk: found within 1 point, over within 20; 3 others."""
    s = draw.walk()
    at = draw.place(s)
    s.x[at] += draw.sign() * draw.between(12, 16) * s.spread
    return s.case(others=3).fault(at, within=1, over=20)


@drill
def spike_in_counts(draw: Draw) -> Case:
    """One count far above a Poisson course: found within 1 point, over within 15; 2 others."""
    rate = draw.between(2, 30)
    s = Series(draw.random.poisson(rate, draw.whole(2600, 4200)).astype(float), draw.step(), rate, rate**0.5)
    at = draw.place(s)
    s.x[at] = round(rate + draw.between(12, 18) * s.spread)
    return s.case(others=2).fault(at, within=1, over=15)


@drill
def spike_in_short_history(draw: Draw) -> Case:
    """One value 14 to 20 standard deviations off, after 100 to 180 points: found within 1, over within 15; 1 other."""
    s = draw.noise(draw.whole(210, 260))
    at = draw.whole(100, 180)
    s.x[at] += draw.sign() * draw.between(14, 20) * s.spread
    return s.case(others=1).fault(at, within=1, over=15)


@drill
def blip_of_constant(draw: Draw) -> Case:
    """One other value in a constant: found within 1 point, over within 15; no others."""
    level = draw.one_of((0.0, 1.0, -40.0, 100.0, 21.5))
    s = Series(np.full(draw.whole(2600, 4200), level), draw.step(), level, 0.0)
    at = draw.place(s)
    s.x[at] += draw.sign() * draw.one_of((0.5, 3.0, 20.0))
    return s.case(others=0).fault(at, within=1, over=15)


@drill
def deploy_spikes(draw: Draw) -> Case:
    """A spike of 1 to 3 points at six irregular times: each is found within 1 point, over 15 after it; 2 others."""
    s = draw.noise(4200)
    height, at, case = draw.sign() * draw.between(10, 15) * s.spread, 1200, s.case(others=2)
    for _ in range(6):
        at, width = at + draw.whole(150, 650), draw.whole(1, 3)
        s.x[at : at + width] += height * draw.between(0.9, 1.1)
        case.fault(at, within=1, over=width + 15)
    case.values["value"] = s.rounded()
    return case


@drill
def sensor_dropout(draw: Draw) -> Case:
    """1 to 4 points of 0, -1, -999 or 9999, at two times: each found within 1 point, over 15 after it; 2 others."""
    s, sentinel = draw.daily(positive=True), draw.one_of((0.0, -1.0, -999.0, 9999.0))
    s = Series(20.0 + 5.0 * (s.x - s.level) / s.swing, s.step, 20.0, 5.0 * s.spread / s.swing, 5.0, decimals=2)
    places = [draw.place(s, 0.45, 0.55), draw.place(s, 0.7, 0.85)]
    widths = [draw.whole(1, 4) for _ in places]
    for at, width in zip(places, widths):
        s.x[at : at + width] = sentinel
    case = s.case(others=2)
    for at, width in zip(places, widths):
        case.fault(at, within=1, over=width + 15)
    return case


# Outages


@drill
def short_outage(draw: Draw) -> Case:
    """3 to 40 points of zero: found within 2 points, over 15 after it; 2 others."""
    return outages(draw, count=1)


@drill
def same_outage_twice(draw: Draw) -> Case:
    """The same outage again after days: both found within 2 points, over 15 after it; 2 others."""
    return outages(draw, count=2)


@drill
def same_outage_a_third_time(draw: Draw) -> Case:
    """The same outage three times: each found within 2 points, over 15 after it; 2 others."""
    return outages(draw, count=3)


def outages(draw: Draw, count: int) -> Case:
    s, width = draw.noise(draw.whole(3600, 4400), away=True), draw.one_of((3, 12, 40))
    places = [draw.place(s, 0.35, 0.45)]
    while len(places) < count:
        places.append(places[-1] + draw.whole(700, 1000))
    for at in places:
        s.x[at : at + width] = 0.0
    case = s.case(others=2)
    for at in places:
        case.fault(at, within=2, over=width + 15)
    return case


@drill
def long_outage(draw: Draw) -> Case:
    """300 to 600 points of zero: found within 2, at most twice, open to its end, over 30 after it; 2 others."""
    s, width = draw.noise(draw.whole(3400, 4400), away=True), draw.whole(300, 600)
    at = draw.place(s, 0.5, 0.7)
    s.x[at : at + width] = 0.0
    return s.case(others=2).fault(at, within=2, over=width + 30, lasts=width - 5, alerts=2)


@drill
def outage_in_daily(draw: Draw) -> Case:
    """A daily course is zero for half an hour to 4 hours: found within 2 points, over 20 after it; 2 others."""
    s = draw.daily(positive=True)
    at, width = draw.place(s), max(2, round(draw.between(1800, 14400) / s.step))
    s.x[at : at + width] = 0.0
    return s.case(others=2).fault(at, within=2, over=width + 20)


@drill
def half_traffic(draw: Draw) -> Case:
    """Half of the busy hours' traffic is missing for 2 to 4 hours: found within one, over 20 points after; 2 others."""
    s = draw.daily(positive=True)
    s.x -= 0.8 * (s.level - s.swing)  # so that nights are quiet
    s.x = np.maximum(s.x, 0.0)
    width = round(draw.between(7200, 14400) / s.step)
    day = draw.place(s) // s.per_day * s.per_day
    at = day + int(np.argmax(s.x[day : day + s.per_day])) - width // 2
    s.x[at : at + width] *= 0.5
    return s.case(others=2).fault(at, within=round(3600 / s.step), over=width + 20)


@drill
def resumed_elsewhere(draw: Draw) -> Case:
    """No points for 1 to 3 days, then a level 12 to 20 deviations away: found within 3, over within 300; 2 others."""
    s = draw.noise()
    at = draw.place(s, 0.5, 0.65)
    s.x[at:] += draw.sign() * draw.between(12, 20) * s.spread
    case = s.case(others=2).fault(at, within=3, over=300)
    case.time[at:] += draw.between(1, 3) * 86400.0 // s.step * s.step
    return case


# Lasting changes


@drill
def level_shift(draw: Draw) -> Case:
    """A lasting shift by 10 to 15 standard deviations: found within 3, once or twice, over within 300; 2 others."""
    s = draw.noise(draw.whole(3400, 4400))
    at = draw.place(s, 0.45, 0.65)
    s.x[at:] += draw.sign() * draw.between(10, 15) * s.spread
    return s.case(others=2).fault(at, within=3, over=300, alerts=2)


@drill
def shift_and_back(draw: Draw) -> Case:
    """A lasting shift, back after 700 to 1500 points: both found within 3, once or twice, over within 300; 2 others."""
    s, height, width = draw.noise(4200), draw.sign() * draw.between(10, 15), draw.whole(700, 1500)
    at = draw.place(s, 0.4, 0.5)
    s.x[at : at + width] += height * s.spread
    case = s.case(others=2).fault(at, within=3, over=300, alerts=2)
    return case.fault(at + width, within=3, over=300, alerts=2)


@drill
def step_of_constant(draw: Draw) -> Case:
    """Another constant from some point on: found within 2 points, once or twice, over within 300; 1 other."""
    level = round(10 ** draw.between(-1, 4), 3)
    s = Series(np.full(draw.whole(2800, 4200), level), draw.step(), level, 0.0)
    at = draw.place(s, 0.4, 0.65)
    s.x[at:] = round(level * draw.one_of((-1.0, 0.0, 0.7, 1.3, 2.0)), 3)
    return s.case(others=1).fault(at, within=2, over=300, alerts=2)


@drill
def latency_shift(draw: Draw) -> Case:
    """A heavy-tailed latency becomes 3 to 5 times what it was: found within 40 points, over within 400; 3 others."""
    s = draw.latency(draw.whole(3000, 4200))
    at = draw.place(s, 0.5, 0.65)
    s.x[at:] *= draw.between(3, 5)
    return s.case(others=3).fault(at, within=40, over=400, alerts=4)


@drill
def slow_leak(draw: Draw) -> Case:
    """A level that drifts away by a standard deviation each 40 to 60 points: found within 12 of them; 6 others."""
    s, pace = draw.noise(3600), draw.between(40, 60)
    at, up = draw.place(s, 0.45, 0.55), draw.sign()
    s.x[at:] += up * s.spread * np.minimum(np.arange(len(s) - at) / pace, 22.0)
    return s.case(others=6).fault(at, within=round(12 * pace), over=None, alerts=6)


@drill
def counter_rate(draw: Draw) -> Case:
    """A counter, long after a reset, counts 5 to 8 times as fast: found within 6 points, over 60 after it; 2 others."""
    n, mean = draw.whole(2600, 3600), 10.0 ** draw.between(0, 3)
    rate = mean * np.abs(1.0 + draw.between(0.05, 0.15) * draw.normal(n))
    at, width = int(draw.between(0.7, 0.85) * n), draw.whole(15, 40)
    rate[at : at + width] *= draw.between(5, 8)
    reset = int(draw.between(0.35, 0.55) * n)
    x = np.cumsum(rate)
    x[reset:] -= x[reset]
    return Series(x, draw.step(), 0.0, mean).case(others=2).fault(at, within=6, over=width + 60)


# Other noise, no noise


@drill
def stuck_in_noise(draw: Draw) -> Case:
    """60 to 150 times the same value: found within 50 points, over 30 after it; 2 others."""
    s, width = draw.noise(), draw.whole(60, 150)
    at = draw.place(s)
    s.x[at : at + width] = s.x[at]
    return s.case(others=2).fault(at, within=50, over=width + 30)


@drill
def stuck_in_daily(draw: Draw) -> Case:
    """A daily course stands still for half a day to a day: found within 8 hours, over 40 points after it; 2 others."""
    s = draw.daily()
    at, width = draw.place(s), round(draw.between(0.5, 1.0) * s.per_day)
    s.x[at : at + width] = s.x[at]
    return s.case(others=2).fault(at, within=s.per_day // 3, over=width + 40)


@drill
def noisier(draw: Draw) -> Case:
    """100 to 200 points of 4 to 6 times the usual noise: found within 30 points, over 60 after it; 3 others."""
    s, width = draw.noise(), draw.whole(100, 200)
    at = draw.place(s)
    s.x[at : at + width] += draw.between(4, 6) * s.spread * draw.normal(width)
    return s.case(others=3).fault(at, within=30, over=width + 60, alerts=6)


@drill
def growing_oscillation(draw: Draw) -> Case:
    """A slow oscillation grows to 12 standard deviations within 600 points: found within 500; 4 others."""
    s, period = draw.noise(3600), draw.between(30, 80)
    at = draw.place(s, 0.5, 0.7)
    i = np.arange(len(s) - at)
    s.x[at:] += s.spread * np.minimum(i / 50.0, 12.0) * np.sin(2.0 * np.pi * i / period)
    return s.case(others=4).fault(at, within=500, over=None, alerts=6)


# Days and weeks that are not as usual


@drill
def flat_day(draw: Draw) -> Case:
    """A daily course is missing for a day: found within half a day, over 4 hours after it; 3 others."""
    s = draw.daily()
    at = draw.place(s, 0.65, 0.85) // s.per_day * s.per_day
    s.x[at : at + s.per_day] = s.level + s.spread * draw.normal(s.per_day)
    return s.case(others=3).fault(at, within=s.per_day // 2, over=s.per_day * 7 // 6)


@drill
def missing_batch(draw: Draw) -> Case:
    """The peak of a daily job is missing once, in the third week: found 2 points after it, over within 30; 2 others."""
    s, first, width = draw.batches(20)
    at = first + s.per_day * draw.whole(14, 18)
    s.x[at : at + width] = s.level + s.spread * draw.normal(width)
    return s.case(others=2).fault(at, within=width + 2, over=30)


@drill
def misplaced_batch(draw: Draw) -> Case:
    """A daily job runs 3 to 5 hours early once, in the third week: found within 2 points, over within 25; 2 others."""
    s, first, width = draw.batches(20)
    usual = first + s.per_day * draw.whole(14, 18)
    at = usual - draw.whole(36, 60)
    peak = s.x[usual : usual + width].copy()
    s.x[usual : usual + width], s.x[at : at + width] = s.x[at : at + width].copy(), peak
    return s.case(others=2).fault(at, within=2, over=25)


@drill
def new_daily_job(draw: Draw) -> Case:
    """A job begins to run daily: its first run found within 1 point, over within 20, learned after four; 4 others."""
    s = draw.noise(288 * 20, step=300.0)
    height, width = draw.between(15, 40) * s.spread, draw.whole(1, 3)
    at = s.per_day * draw.whole(6, 8) + draw.whole(0, 287)
    for first in range(at, len(s) - width, s.per_day):
        s.x[first : first + width] += height * draw.between(0.95, 1.05)
    return s.case(others=4).fault(at, within=1, over=20)


@drill
def quiet_weekday(draw: Draw) -> Case:
    """A working day of the fifth week is as quiet as a Sunday: found within 2 hours, over 8 hours after; 2 others."""
    s = draw.business(42)
    busy = s.x > 0.6 * s.level
    begins = np.flatnonzero(busy[1:] & ~busy[:-1]) + 1
    ends = np.flatnonzero(~busy[1:] & busy[:-1]) + 1
    at = int(begins[(begins > 28.5 * 96) & (begins < 32.5 * 96)][draw.whole(0, 2)])
    width = int(ends[ends > at][0]) - at
    quiet = np.flatnonzero(~busy)
    s.x[at : at + width] = s.x[quiet[quiet < at][-width:]]
    return s.case(others=2).fault(at, within=8, over=width + 32)


@drill
def error_incident(draw: Draw) -> Case:
    """Rare short bursts of errors, then 20 to 60 points of 20 to 60 %: found within 2, over 20 after it; 3 others."""
    s, width = draw.error_rate(draw.whole(3000, 4200)), draw.whole(20, 60)
    at = draw.place(s, 0.6, 0.8)
    s.x[at : at + width] = draw.between(20, 60) + 3.0 * draw.normal(width)
    return s.case(others=3).fault(at, within=2, over=width + 20)


# Several metrics


@drill
def one_metric_of_eight(draw: Draw) -> Case:
    """One of eight metrics 12 to 16 deviations off: found within 1 point, and named, over within 20; 3 others."""
    n, step = draw.whole(2000, 2600), draw.step()
    metrics = {f"m{k}": draw.noise(n, step=step) for k in range(8)}
    name = draw.one_of(list(metrics))
    at = draw.place(metrics[name])
    metrics[name].x[at] += draw.sign() * draw.between(12, 16) * metrics[name].spread
    return together(metrics, others=3).fault(at, within=1, over=20, metric=name)


@drill
def all_metrics_at_once(draw: Draw) -> Case:
    """Five metrics are zero for 10 to 40 points: found within 2 points, once or twice, over 20 after it; 3 others."""
    n, step, width = draw.whole(2000, 2600), draw.step(), draw.whole(10, 40)
    metrics = {f"m{k}": draw.noise(n, step=step, away=True) for k in range(5)}
    at = int(draw.between(0.5, 0.8) * n)
    for one in metrics.values():
        one.x[at : at + width] = 0.0
    return together(metrics, others=3).fault(at, within=2, over=width + 20, alerts=2)


@drill
def pair_parts(draw: Draw) -> Case:
    """Two metrics that go together part for 4 to 8 hours: found within 20 points, over 60 after it; 3 others."""
    step = draw.one_of((300.0, 600.0))
    a = draw.daily(step=step)
    gain, spread = draw.one_of((-2.0, 0.5, 3.0)), abs(draw.between(0.5, 1.5)) * a.spread
    b = Series(gain * a.x + spread * draw.normal(len(a)), step, gain * a.level, spread, abs(gain) * a.swing)
    width = round(draw.between(4, 8) * 3600 / step)
    day = draw.place(a) // a.per_day * a.per_day
    at = day + int(np.argmax(np.abs(a.x[day : day + a.per_day] - a.level))) - width // 2  # where both are far out
    b.x[at : at + width] = 2.0 * b.level - b.x[at : at + width]
    return together({"a": a, "b": b}, others=3).fault(at, within=20, over=width + 60)


@drill
def pair_parts_in_range(draw: Draw) -> Case:
    """Two metrics part for 60 to 180 points, each where it may well be: found within 40, over 80 after it; 3 others."""
    a = draw.noise(draw.whole(3000, 4200), away=True)
    b, gain = draw.partner(a)
    width, late = draw.whole(60, 180), draw.whole(8, 40)
    at = draw.place(a, 0.5, 0.75)
    part = slice(at, at + width)
    instead = draw.one_of(
        (a.x[part][::-1], a.x[at - late : at - late + width], a.x[at - 1], a.level + 0.2 * (a.x[part] - a.level))
    )
    b.x[part] += gain * (instead - a.x[part])
    return together({"a": a, "b": b}, others=3).fault(at, within=40, over=width + 80, alerts=2)


@drill
def one_of_six_sent_alone(draw: Draw) -> Case:
    """Metrics sent one by one, one is wrong 20 to 60 times: found within 2, named, open to its end; 6 others."""
    n, step, width = draw.whole(900, 1100), draw.step(), draw.whole(20, 60)
    metrics = {f"m{k}": draw.noise(n, step=step) for k in range(6)}
    place = draw.whole(0, 5)
    wrong = metrics[f"m{place}"]
    at = draw.place(wrong)
    wrong.x[at : at + width] += draw.sign() * draw.between(12, 16) * wrong.spread
    case = one_by_one(metrics, others=6)
    first, last = 6 * at + place, 6 * width - 6 * 4
    return case.fault(first, within=12, over=6 * (width + 15), lasts=last, alerts=2, metric=f"m{place}")


# Nothing wrong


@drill
def calm_noise(draw: Draw) -> Case:
    """Noise: 2 others."""
    return draw.noise(4500).case(others=2)


@drill
def calm_eight_metrics(draw: Draw) -> Case:
    """Noise of eight metrics: 3 others."""
    n, step = draw.whole(2600, 3200), draw.step()
    return together({f"m{k}": draw.noise(n, step=step) for k in range(8)}, others=3)


@drill
def calm_pair(draw: Draw) -> Case:
    """Two metrics of which one follows the other, at once or up to 12 points later; 3 others."""
    a = draw.one_of((draw.noise, draw.daily, draw.walk))()
    return together({"a": a, "b": draw.partner(a, late=draw.one_of((0, 0, draw.whole(1, 12))))[0]}, others=3)


@drill
def calm_eight_in_pairs(draw: Draw) -> Case:
    """Eight metrics that go together by twos, two of them loosely; 4 others."""
    n, step, metrics = draw.whole(2600, 3200), draw.step(), {}
    for k in range(0, 8, 2):
        metrics[f"m{k}"] = draw.noise(n, step=step)
        metrics[f"m{k + 1}"] = draw.partner(metrics[f"m{k}"], own=0.8 if k == 0 else 0.15)[0]
    return together(metrics, others=4)


@drill
def calm_six_sent_alone(draw: Draw) -> Case:
    """Six metrics in records of their own, 900 to 1100 of each: 6 others."""
    n, step = draw.whole(900, 1100), draw.step()
    return one_by_one({f"m{k}": draw.noise(n, step=step) for k in range(6)}, others=6)


@drill
def calm_daily(draw: Draw) -> Case:
    """A daily course: 2 others."""
    return draw.daily().case(others=2)


@drill
def calm_business_weeks(draw: Draw) -> Case:
    """Six weeks of office hours: 2 others."""
    return draw.business(42).case(others=2)


@drill
def calm_weekends(draw: Draw) -> Case:
    """Traffic that falls to a third or half at weekends: 2 others after two weeks."""
    return draw.business(42, weekend=draw.between(0.3, 0.55)).case(others=2, quiet_from=14 * 96)


@drill
def calm_clock_change(draw: Draw) -> Case:
    """Office hours in local time, an hour earlier or later by UTC from the fifth Sunday on: 3 others."""
    return draw.business(42, clock=(27, draw.one_of((-1, 1)))).case(others=3)


@drill
def calm_walk(draw: Draw) -> Case:
    """A slow walk, one in four without a level to which it returns: 3 others."""
    return draw.walk(share=draw.one_of((None, None, None, 1.0))).case(others=3)


@drill
def calm_latency(draw: Draw) -> Case:
    """A log-normal latency: 3 others."""
    return draw.latency(4500).case(others=3)


@drill
def calm_sparse_counts(draw: Draw) -> Case:
    """Zero but for a small count in 1 to 5 % of the points: 2 others."""
    counts = draw.random.integers(1, 4, 4500) * (draw.random.random(4500) < draw.between(0.01, 0.05))
    return Series(counts.astype(float), draw.step(), 0.0, 1.0).case(others=2)


@drill
def calm_counts(draw: Draw) -> Case:
    """Poisson counts: 2 others."""
    rate = draw.between(1, 50)
    return Series(draw.random.poisson(rate, 4500).astype(float), draw.step(), rate, rate**0.5).case(others=2)


@drill
def calm_constant(draw: Draw) -> Case:
    """A constant: no others."""
    level = draw.one_of((0.0, -1.0, round(10 ** draw.between(-2, 5), 4)))
    return Series(np.full(4500, level), draw.step(), level, 0.0).case(others=0)


@drill
def calm_growth(draw: Draw) -> Case:
    """A level that rises or falls evenly, a standard deviation in 150 to 300 points: 2 others."""
    s = draw.noise(4500)
    s.x += draw.sign() * np.arange(4500) * s.spread / draw.between(150, 300)
    return s.case(others=2)


@drill
def calm_doubling_traffic(draw: Draw) -> Case:
    """A daily course that doubles within 4 to 6 weeks: 3 others."""
    s = draw.daily(days=draw.whole(28, 42), step=900.0, positive=True)
    s.x *= 2.0 ** np.linspace(0.0, 1.0, len(s))
    return s.case(others=3)


@drill
def calm_daily_batch(draw: Draw) -> Case:
    """A job with a peak each day: 2 others."""
    s, _, _ = draw.batches(18)
    return s.case(others=2)


@drill
def calm_after_gap(draw: Draw) -> Case:
    """A daily course that goes on as usual after 1 to 3 days without points: 2 others."""
    s = draw.daily()
    case, at = s.case(others=2), draw.place(s)
    width = round(draw.between(1, 3) * s.per_day)
    return case.rearranged(np.r_[0:at, min(at + width, len(s) - s.per_day) : len(s)])


@drill
def calm_late_points(draw: Draw) -> Case:
    """A daily course of which 3 % of the points arrive up to 10 points late: 2 others."""
    case = draw.daily().case(others=2)
    place = np.arange(len(case)) + (draw.random.random(len(case)) < 0.03) * draw.random.uniform(1, 10, len(case))
    return case.rearranged(np.argsort(place, kind="stable"))


@drill
def calm_doubled_points(draw: Draw) -> Case:
    """A daily course of which 3 % of the points arrive late and 3 % twice, at once or later: 2 others."""
    case = draw.daily().case(others=2)
    n = len(case)
    twice = np.flatnonzero(draw.random.random(n) < 0.03)
    late = (draw.random.random(n) < 0.03) * draw.random.uniform(1, 10, n)
    again = draw.random.integers(0, 2, len(twice)) * draw.random.uniform(1, 10, len(twice))
    place = np.concatenate([np.arange(n) + late, twice + late[twice] + again])
    return case.rearranged(np.concatenate([np.arange(n), twice])[np.argsort(place, kind="stable")])


@drill
def calm_counter(draw: Draw) -> Case:
    """A counter that is reset once or twice: 2 others."""
    n = draw.whole(3500, 4500)
    x = np.cumsum(10.0 ** draw.between(0, 3) * np.abs(1.0 + 0.1 * draw.normal(n)))
    for share in sorted(draw.between(0.3, 0.9) for _ in range(draw.whole(1, 2))):
        x[int(share * n) :] -= x[int(share * n)]
    return Series(x, draw.step(), 0.0, 1.0).case(others=2)


@drill
def calm_percent(draw: Draw) -> Case:
    """A percentage that is at 100 for much of the time: 2 others."""
    x = draw.between(97, 101) + draw.between(1, 4) * draw.following(4500, draw.between(0.3, 0.9))
    return Series(np.minimum(x, 100.0), draw.step(), 100.0, 1.0, decimals=draw.one_of((0, 1, 3))).case(others=2)


@drill
def calm_rare_bursts(draw: Draw) -> Case:
    """An error rate of zero with rare short bursts up to 3 %: 3 others."""
    return draw.error_rate(4500).case(others=3)


@drill
def calm_temperature(draw: Draw) -> Case:
    """A year and a half of hourly temperature, with seasons, days and weather: 4 others."""
    hour, begin = np.arange(24 * 540), draw.random.random()
    season = draw.between(7, 12) * np.sin(2.0 * np.pi * (hour / (24 * 365.25) + begin))
    day = draw.between(3, 6) * np.sin(2.0 * np.pi * (hour / 24 + begin))
    weather = draw.between(2, 3) * draw.following(len(hour), 0.985) + 0.3 * draw.normal(len(hour))
    return Series(draw.between(5, 18) + season + day + weather, 3600.0, 10.0, 2.0, decimals=1).case(others=4)


@drill
def calm_memory(draw: Draw) -> Case:
    """Memory that grows until the process restarts, at irregular times: 3 others."""
    n, base, x = draw.whole(3600, 4500), 10.0 ** draw.between(1, 3), []
    while len(x) < n:
        length = draw.whole(120, 320)
        x += list(base * (1.0 + np.arange(length) / 150.0))
    return Series(np.array(x[:n]) + 0.01 * base * draw.normal(n), draw.step(), base, base).case(others=3)


@drill
def calm_disk(draw: Draw) -> Case:
    """A disk that fills and is cleaned at about the same level, in percent: 3 others."""
    n, low, top, x = draw.whole(3600, 4500), draw.between(20, 40), draw.between(70, 85), []
    while len(x) < n:
        end = top + draw.between(-2, 2)
        x += list(np.linspace(low + draw.between(-2, 2), end, draw.whole(180, 300)))
    return Series(np.array(x[:n]) + 0.2 * draw.normal(n), draw.step(), low, 0.2, decimals=1).case(others=3)


@drill
def calm_two_levels(draw: Draw) -> Case:
    """A machine that is on or off for 10 to 120 points in turn: 2 others."""
    s, on, x = draw.noise(4500), 0.0, []
    while len(x) < len(s):
        x += [on] * draw.whole(10, 120)
        on = 1.0 - on
    s.x += np.array(x[: len(s)]) * draw.sign() * draw.between(10, 40) * s.spread
    return s.case(others=2)

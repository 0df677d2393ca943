"""The heads of the default against plain implementations of what their docstrings say, and what they promise of time,
outages and size.

The references keep every value, sort it all and use numpy's own statistics and matrices where the kernels count.
"""

import csv
import math
from bisect import bisect_left, insort
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.points import Pipeline, awkward, gaussian, points, vectors

from app import detectors
from app.compiled import jit, rows
from app.compiled.code_cache import called_by
from app.detectors import level, novelty, residual
from app.detectors.kinds import KINDS
from app.detectors.support import window
from app.detectors.support.calendar import places
from app.scoring.episodes import REASONS
from app.settings import load

LINE = detectors.kernel("novelty").params.declared["threshold"].default
SHIPPED = Path(__file__).parents[3] / "generators" / "series"
START = 1_700_000_000.0


def at(t):
    return rows.plain(places([t]))[0]


class Head:
    """A detector over one series, in CPython, with its window."""

    def __init__(self, name, window_points=100, **given):
        self.kernel = detectors.kernel(name)
        checked = self.kernel.params.check(name, given)
        self.p = self.kernel.params.values(checked)
        self.s = rows.Row(rows.dtype(self.kernel.fields(checked)))
        self.w = rows.Row(rows.dtype(window.fields(window_points)))

    def feed(self, x, t):
        score = self.kernel.step(self.s, self.p, x, at(t), self.w)
        window.push(self.w, x)
        return score

    def band(self, t):
        return self.kernel.band(self.s, self.p, at(t), self.w)

    def run(self, values, times=None):
        times = every(60.0, values) if times is None else times
        return [self.feed(x, t) for x, t in zip(values, times)]


def every(seconds, values):
    return [START + seconds * i for i in range(len(values))]


@cache
def shipped(name, first=0, end=None):
    """(values, times) of a series that comes with the program."""
    with open(SHIPPED / f"{name}.csv") as file:
        lines = list(csv.DictReader(file))[first:end]
    times = [datetime.fromisoformat(line["timestamp"]).replace(tzinfo=UTC).timestamp() for line in lines]
    return [float(line["value"]) for line in lines], times


def daily(n, seconds=300.0, seed=5):
    """A daily course with noise, and its times."""
    times = [START + seconds * i for i in range(n)]
    noise = np.random.default_rng(seed).normal(0.0, 3.0, n)
    return [100.0 + 40.0 * math.sin(2.0 * math.pi * t / 86400.0) + e for t, e in zip(times, noise)], times


SERIES = {
    "gaussian": (gaussian(2000), every(60.0, range(2000))),
    "taxi": shipped("nyc_taxi", 0, 4000),
    "speed, with gaps": shipped("speed_t4013"),
    "clicks": shipped("exchange-2_cpc_results"),
    "cpu": shipped("ec2_cpu_utilization_825cc2", 1000, 3500),
}
on_every_series = pytest.mark.parametrize("name", SERIES)


# --- the references


class Cut:
    """Mean and variance, each value cut at 6 standard deviations once 21 are known."""

    def __init__(self):
        self.n, self.mean, self.var = 0, 0.0, 0.0

    @property
    def sd(self):
        return math.sqrt(self.var)

    @property
    def size(self):
        return math.hypot(self.sd, self.mean)

    def learn(self, x):
        if self.n > 20 and self.sd > 0.0:
            x = float(np.clip(x, self.mean - 6.0 * self.sd, self.mean + 6.0 * self.sd))
        self.n += 1
        past, self.mean = self.mean, self.mean + (x - self.mean) / self.n
        self.var += ((x - past) * (x - self.mean) - self.var) / self.n


class Forecasts:
    """Autoregression by the matrix form of recursive least squares, and the means of the hours."""

    def __init__(self):
        self.values, self.moments = [], Cut()
        self.theta, self.inverse, self.squared, self.step_error = np.zeros(2), np.eye(2), 0.0, 0.0
        self.hours, self.visits, self.overall, self.hour_errors, self.hour_error = {}, {}, 0.0, 0, 0.0
        self.last, self.interval = 0.0, 0.0

    def score(self, x, t):
        n, mean, sd = len(self.values), self.moments.mean, self.moments.sd
        hour = int(t // 3600 % 24)
        step = off = 0.0
        if sd > 0.0:
            row = np.array([1.0, (self.values[-1] - mean) / sd])
            step = (x - mean) / sd - float(row @ self.theta)
        if n:
            off = x - self.hours.get(hour, self.overall)
        distances = [0.0]
        weights = [1.0]
        if n > 20:
            least = max(1e-3 * sd, 1e-9 * abs(mean), 1e-30)
            errors = [max(self.step_error, least), max(self.hour_error, least)]
            distances = [abs(step) * sd / errors[0] if sd else abs(x - mean) / errors[0]]
            if self.hour_errors > 20:
                distances.append(abs(off) / errors[1])
                precision = 1.0 / errors[0] ** 2, 1.0 / (0.6 * errors[1]) ** 2
                weights = [w / sum(precision) for w in precision]
        if sd > 0.0:
            self._learn_step(step, row, sd, n)
        self._learn_hour(off, x, t, hour, n)
        self.moments.learn(x)
        self.values.append(x)
        self.last = t
        return math.hypot(*(d * w for d, w in zip(distances, weights))), max(distances)

    def _learn_step(self, error, row, sd, n):
        if n > 20 and self.squared > 0.0:
            error = float(np.clip(error, -5.0 * math.sqrt(self.squared), 5.0 * math.sqrt(self.squared)))
        gain = self.inverse @ row / (0.9999 + row @ self.inverse @ row)
        self.theta = self.theta + gain * error
        self.inverse = (self.inverse - np.outer(gain, row @ self.inverse)) / 0.9999
        share = max(0.0005, 1.0 / (n + 1))
        self.squared = (1.0 - share) * self.squared + share * error**2
        self.step_error = (1.0 - share) * self.step_error + share * abs(error) * sd

    def _learn_hour(self, off, x, t, hour, n):
        if n == 0:
            self.hours[hour], self.visits[hour], self.overall = x, 1, x
            return
        gap = min(max(t - self.last, 0.0), 3600.0)
        share = max(1.0 / n, 0.01)
        self.interval = (1.0 - share) * self.interval + share * gap
        if self.hour_errors > 20 and self.hour_error > 0.0:
            off = float(np.clip(off, -4.0 * self.hour_error, 4.0 * self.hour_error))
        if hour in self.hours:
            self.hour_errors += 1
            share = max(0.0005, 1.0 / self.hour_errors)
            self.hour_error = (1.0 - share) * self.hour_error + share * abs(off)
            a_day = 0.1 / max(1.0, 3600.0 / self.interval) if self.interval else 0.0
            self.hours[hour] += off * max(a_day, 1.0 / (self.visits[hour] + 1))
            self.visits[hour] += 1
        else:
            self.hours[hour], self.visits[hour] = x, 1
        self.overall += off / (n + 1)


def levels(values):
    """The scores of ``level``, from slices of the series."""
    means, marks, learned, found = [], [], [], []
    mean, wander, drift, weight, held = 0.0, 0.0, 0.0, 0.0, 0
    for i, x in enumerate(values):
        now = float(np.mean(values[max(0, i - 19) : i + 1]))
        score = abs(now - mean) / math.sqrt(wander + drift) if i >= 100 and wander + drift > 0.0 else 0.0
        out = score > 2.5 and held < 500
        held = held + 1 if out else held if score > 2.5 else max(held - 1, 0)
        marks.append(not out)
        if not out:
            learned.append(x)
            mean = mean + (x - mean) / len(learned)
            if i >= 20:
                wander += ((now - mean) ** 2 - wander) / len(learned)
        if i % 20 == 19:
            means.append((float(np.mean(values[i - 19 : i + 1])), float(np.mean(marks[-20:]))))
            if len(means) > 6 and (share := means[-1][1] * means[-7][1]) > 0.0:
                weight += share
                drift += share / weight * ((means[-1][0] - means[-7][0]) ** 2 - drift)
        found.append(score)
    return found


class Rarity:
    """How rare a distance to the nearest value ever seen is, among the highest of each block."""

    def __init__(self):
        self.kept, self.narrowest, self.moments = [], 0.0, Cut()
        self.maxima, self.block = [], [0.0]

    def score(self, y, blocks):
        y = single(y)
        sd, distance = self.moments.sd, 0.0
        if self.moments.n >= 6:
            nearest = min(abs(y - kept) for kept in self.kept)
            distance = min(nearest / sd, 1e12) if sd > 0.0 else 1e12 if nearest else 0.0
        self.block.append(distance)
        surprise = max(0.0, self._surprise(math.log(distance + 1e-3), blocks)) if blocks >= 5 else 0.0
        self._keep(y)
        self.moments.learn(y)
        return surprise

    def _surprise(self, size, blocks):
        known = sorted(self.maxima[-224:])
        n = len(known)
        often = 0.6 * math.log10((blocks + 1) / 20)
        k = int(0.95 * n)
        line, tail = known[k], known[k:]
        if size > line:
            wide = (known[-1] - known[0]) / max(math.log(n) + 0.577, 1.0)
            scale = max((sum(v - line for v in tail) + 2.0 * wide) / (len(tail) + 2), 1e-3)
            return math.log10((n + 1) / (len(tail) + 1)) - often + (size - line) / scale / math.log(10.0)
        lower = bisect_left(known, size)
        return math.log10((n + 1) / (n + 1 - lower)) - often if lower else 0.0

    def _keep(self, y):
        place = bisect_left(self.kept, y)
        if place < len(self.kept):
            if self.kept[place] == y:
                return
            if place and len(self.kept) == 48 and self.kept[place] - self.kept[place - 1] <= self.narrowest:
                return
        insort(self.kept, y)
        if len(self.kept) > 48:
            gaps = np.array(self.kept[2:]) - np.array(self.kept[:-2])
            self.narrowest = gaps.min()
            del self.kept[int(gaps.argmin()) + 1]

    def end(self):
        tenths = min(math.ceil(10.0 * (math.log(max(self.block) + 1e-3) + 7.0)), 255)
        self.maxima.append(0.1 * tenths - 7.0)
        self.block = [0.0]


def single(x):
    return float(np.float32(x))


def novelties(values, times):
    """The scores of ``novelty``, and which of its sentences it says at each point."""
    forecasts, heads = Forecasts(), [Rarity() for _ in range(4)]
    week, slow, totals, told, found, sentences = {}, 0.0, [], [], [], []
    hours = [int(t // 3600 % 168) for t in times]
    first = values[0]
    begun, many = 0, False  # the hour; whether the one before had many points
    for i, (x, t) in enumerate(zip(values, times)):
        hour = hours[i]
        if i and hour != hours[i - 1]:
            many = i - begun > 30
            if many:
                week[hour] = week[hours[i - 1]][0], 2
            begun = i
        steady = 1e-3 * forecasts.moments.sd
        _, far = forecasts.score(x, t)
        usual = first + week[hour][0] if hour in week else float(np.mean(values[:i])) if i else x
        noise = float(np.std(values[i - 19 : i + 1])) + steady if i >= 20 else 0.0
        watched = [x - first, x - usual, x - slow if i else 0.0, *([math.log(noise)] if noise else [])]
        kept = heads[0].kept
        above = bool(kept) and single(x - first) > kept[-1]
        record = above or (bool(kept) and single(x - first) < kept[0])
        sizes = [head.moments.size for head in heads]
        surprises = [head.score(y, i // 50) if head else 0.0 for head, y in zip(heads, watched)]
        by_value, by_week, by_slow, by_noise = np.multiply(
            [*surprises, *[0.0] * (4 - len(surprises))], [1.0 if record else 0.5, 1.0, 0.5, 0.5]
        )
        others = by_week + by_slow + by_noise
        total = min((others + by_value if record or others else 0.0) / math.sqrt(2.5), 6.0)
        if record and by_value >= max(by_week, by_slow, by_noise):
            said = 0 if above else 5
        elif by_week >= max(by_slow, by_noise):
            said = 4 if many or i - begun >= 30 else 1
        else:
            said = 2 if by_slow >= by_noise else 3
        away = {1: (1, x - usual), 4: (1, x - usual), 2: (2, x - slow)}.get(said)
        if far < 2.0 or (away and abs(away[1]) < 2.0 * sizes[away[0]]):
            total = 0.0
        peak = max((v * 0.5 ** ((i - 1 - j) / 100.0) for j, v in enumerate(totals)), default=0.0)
        score = 0.0
        if total > max(peak, *totals[-64:], 0.0):
            often = sum(0.5 ** ((i - j) / 2000.0) for v, j in told[-32:] if i - j > 64 and v >= 0.75 * total)
            young = max(0.0, 150 / (i // 50 * 50) - 0.3) if i >= 50 else 0.0
            score = max(0.0, total - math.log10(1.0 + often) - young)
            if told and i - told[-1][1] <= 64:
                total_before = told.pop()[0]
                told.append((max(total, total_before), i))
            else:
                told.append((total, i))
        totals.append(total)
        found.append(score)
        sentences.append(said)
        past, count = week.get(hour, (0.0, 0))
        off = x - first - past
        if count:
            most = 4.0 * heads[1].moments.size
            off = float(np.clip(off, -most, most))
        week[hour] = single(past + off * max(0.4, 1.0 / (count + 1))), count + 1
        slow += (x - slow) * max(2.0 / 801.0, 1.0 / (i + 1))
        if i % 50 == 49:
            for head in heads:
                head.end()
    return found, sentences


# --- they agree


@on_every_series
def test_residual_is_the_distance_from_both_forecasts_by_their_skill(name):
    values, times = SERIES[name]
    reference = Forecasts()
    expected = [reference.score(x, t)[0] for x, t in zip(values, times)]
    assert Head("residual").run(values, times) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert max(expected) > 2.5


@on_every_series
def test_level_is_the_distance_of_a_short_mean_in_its_own_wander(name):
    values, times = SERIES[name]
    assert Head("level").run(values, times) == pytest.approx(levels(values), rel=1e-6, abs=1e-9)


@on_every_series
def test_novelty_is_the_rarity_of_the_distance_to_all_seen(name):
    values, times = SERIES[name]
    expected, sentences = novelties(values, times)
    head = Head("novelty")
    found, said = zip(*((head.feed(x, t), head.s.said) for x, t in zip(values, times)))
    assert list(found) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert [k for k, e in zip(said, found) if e] == [k for k, e in zip(sentences, expected) if e]


def walks(sources, n):
    return np.cumsum(np.random.default_rng(5).normal(0.0, 1.0, (sources, n)), axis=1)


def repeating(sources, n):
    """As of a simulator, or of something switched on and off by a clock."""
    return np.tile(np.random.default_rng(6).random((sources, 20)) < 0.3, (1, n // 20)).astype(float)


@pytest.mark.parametrize("seconds", [0.4, 20.0, 60.0])
@pytest.mark.parametrize("made", [walks, repeating])
def test_a_full_hour_is_no_news(made, seconds):
    """Many sources told at the first full hours, all at once: their first points there were not like any before."""
    values, at = made(50, 2600), np.arange(2600) - 1500
    times = (math.ceil(START / 3600.0) * 3600.0 + at * seconds).tolist()
    told = np.zeros((50, 2600))
    for found, series in zip(told, values):
        compiled_run("novelty", series.tolist(), times, found)
    starts = (at >= 0) & (at % int(3600 / seconds) < 3)
    assert (told[:, starts] > LINE).sum() <= 1


def test_novelty_of_the_joint_level_of_several_metrics_is_that_of_its_numbers():
    """A joint signal stands at 0 for 100 points and is never below."""
    metrics = [levels(gaussian(900, seed=k)) for k in range(3)]
    joint = np.sqrt(np.mean(np.square(metrics), axis=0)).tolist()
    times = every(1.0, joint)
    assert Head("novelty").run(joint, times) == pytest.approx(novelties(joint, times)[0], rel=1e-5, abs=1e-6)


def test_a_reference_without_one_of_its_parts_is_seen_to_differ():
    """The negative control."""
    values, times = SERIES["taxi"]
    shifted = every(60.0, values)
    assert Head("residual").run(values, times) != pytest.approx(Head("residual").run(values, shifted), rel=1e-2)
    assert Head("novelty").run(values, times) != pytest.approx(Head("novelty").run(values, shifted), rel=1e-2, abs=1e-2)


# --- both engines


@cache
def compiled(name):
    import numba

    from app.compiled.stages import ForPython

    kernel = detectors.kernel(name)
    step, push = kernel.step, window.push
    jit.let_be_called(*called_by(step)[0], *called_by(push)[0])

    @numba.njit(**jit.OPTIONS, pipeline_class=ForPython)
    def over(cells, numbers, values, places, scores):
        for i in range(len(values)):
            cell = cells[0]
            scores[i] = step(cell.s, numbers[0], values[i], places[i], cell.w)
            push(cell.w, values[i])

    return over


def compiled_run(name, values, times, scores):
    """Fill the scores by compiled code; the state at the end."""
    kernel = detectors.kernel(name)
    checked = kernel.params.check(name, {})
    numbers = vars(kernel.params.values(checked))
    p = np.zeros(1, rows.dtype([(n, "i8" if isinstance(v, int) else "f8") for n, v in numbers.items()]))
    for n, v in numbers.items():
        p[n] = v
    cells = np.zeros(1, rows.dtype([("w", window.fields(100)), ("s", kernel.fields(checked))]))
    compiled(name)(cells, p, np.array(values), places(times), scores)
    return cells


def long_awkward():
    """Series of 1500 points: those that have broken detectors, ten times over, and again after a calm start."""
    for name, values in awkward().items():
        yield name, values * 10
        yield f"{name}, after noise", [*gaussian(700), *values, *gaussian(650, seed=8)]


@pytest.mark.parametrize("name", ["residual", "level", "novelty"])
def test_compiled_and_plain_code_agree_in_every_bit_over_long_series(name):
    given = [*long_awkward(), *((label, values[:2500]) for label, (values, _) in SERIES.items())]
    for label, values in given:
        scores, head = np.zeros(len(values)), Head(name)
        times = every(900.0, values)
        cells = compiled_run(name, values, times, scores)
        assert head.run(values, times) == scores.tolist(), label
        assert np.isfinite(scores).all() and scores.min() >= 0.0, label
        plain = np.zeros(1, cells.dtype)
        head.w.write(plain[0]["w"])
        head.s.write(plain[0]["s"])
        assert plain.tobytes() == cells.tobytes(), label


def test_their_states_are_small():
    names = ("residual", "level", "novelty", "prediction_interval")
    kernels = {name: detectors.kernel(name) for name in names}
    sizes = {name: rows.dtype(k.fields(k.params.check(name, {}))).itemsize for name, k in kernels.items()}
    assert sizes == {"residual": 368, "level": 168, "novelty": 3688, "prediction_interval": 4952}
    told = {name: kernels[name].module.__doc__ for name in ("novelty", "prediction_interval")}
    assert all(f"{sizes[name] / 1000:.1f} KB" in text for name, text in told.items()), "their docstrings say so"


# --- what is expected


def test_by_day_the_hour_is_expected_and_elsewhere_the_last_value():
    head = Head("residual")
    values, times = daily(5000)
    head.run(values, times)
    middle, low, high = head.band(times[-1] + 300.0)
    assert middle == pytest.approx(100.0 + 40.0 * math.sin(2.0 * math.pi * (times[-1] + 300.0) / 86400.0), abs=6.0)
    assert low < middle < high
    walk = np.cumsum(np.random.default_rng(1).normal(0.0, 1.0, 3000)).tolist()
    head = Head("residual")
    head.run(walk)
    assert head.band(START + 60.0 * 3000)[0] == pytest.approx(walk[-1], abs=1.0)


@on_every_series
def test_a_value_outside_the_band_alerts_and_the_expected_one_does_not(name):
    values, times = SERIES[name]
    for side in (0, 1, 2):
        head = Head("residual")
        head.run(values[:1000], times[:1000])
        x = head.band(times[1000])[side]
        score = head.feed(x, times[1000])
        assert score >= 8.0 * (1.0 - 1e-9) if side else score < 8.0


# --- time


def test_a_pause_of_days_costs_nothing_where_the_hour_is_known():
    values, times = daily(4000)
    late, later = daily(300, seed=6)
    head = Head("residual")
    head.run(values, times)
    found = head.run(late, [t + 40 * 86400.0 for t in later])
    assert max(found) < 8.0


@pytest.mark.parametrize("name", ["residual", "novelty"])
@pytest.mark.parametrize("times", ["none pass", "backward", "a year between"])
def test_any_times_are_scored(name, times):
    values = [*gaussian(1000), 60.0]
    given = {
        "none pass": [START] * 1001,
        "backward": [START - 60.0 * i for i in range(1001)],
        "a year between": [START + 31_536_000.0 * i for i in range(1001)],
    }[times]
    found = Head(name).run(values, given)
    assert np.isfinite(found).all() and found[-1] == max(found) > (8.0 if name == "residual" else LINE)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e150])
def test_a_constant_series_is_normal_and_its_first_change_is_told(value):
    values = [value] * 600
    assert [max(Head(name).run(values)) for name in ("residual", "novelty", "level")] == [0.0, 0.0, 0.0]
    for name, line in (("residual", 8.0), ("novelty", LINE)):
        assert Head(name).run([*values, value + max(1.0, 0.1 * abs(value))])[-1] > line


def test_sparse_counts_are_quiet_and_a_burst_is_told():
    rng = np.random.default_rng(4)
    values = rng.poisson(0.05, 3000).astype(float).tolist()
    found = Head("novelty").run([*values, *rng.poisson(6.0, 30).astype(float).tolist()])
    assert max(found[3000:3005]) > LINE and sum(e > LINE for e in found[750:3000]) <= 2


def test_of_plain_noise_little_is_told_and_less_later():
    early = late = 0
    for seed in range(20):
        values = gaussian(3000, seed=seed)
        scores = np.zeros(3000)
        compiled_run("novelty", values, every(60.0, values), scores)
        early += int((scores[:750] >= LINE).sum())
        late += int((scores[750:] >= LINE).sum())
    assert early <= 20 * 1.3 and late <= 20 * 2250 / 2000 * 1.2, "its docstring says once, and once in 2000 points"


# --- episodes of the default


def outage(kind):
    rng = np.random.default_rng(3)
    values = gaussian(2200)
    values[1500:1900] = {
        "dropped to zero": [0.0] * 400,
        "noisy about another level": rng.normal(30.0, 4.0, 400).tolist(),
        "noise about zero": rng.normal(0.0, 0.5, 400).tolist(),
    }[kind]
    return values


@cache
def by_default():
    return Pipeline(load(environ={}).detection)


def episodes(made):
    """(first point, kind, point at which it closed, reason) of each episode of the default that is over."""
    outcome = by_default().run(by_default().sources(), made)
    closed = np.flatnonzero(outcome.closed).tolist()
    names = [(KINDS[outcome.kind[i]], i, REASONS[outcome.reason[i]]) for i in closed]
    return [(first, *name) for first, name in zip(np.flatnonzero(outcome.opened).tolist(), names)]


def timed(values, times):
    made = points(values)
    made.timestamp = list(times)
    return made


def test_a_source_that_drops_to_zero_is_one_episode_to_its_end():
    """For as long as it is: a constant is not taken for a new level where there was none."""
    *_, (first, _, closed, reason) = found = episodes(points(outage("dropped to zero")))
    assert len(found) <= 2 and (first, reason) == (1500, "recovered") and 1904 <= closed <= 1906


@pytest.mark.parametrize("kind", ["noisy about another level", "noise about zero"])
def test_an_outage_with_noise_of_its_own_becomes_normal_and_its_end_is_told_too(kind):
    told, back = found = [one for one in episodes(points(outage(kind))) if one[0] >= 1500]
    assert told[0] == 1500 and told[3] == "adapted" and 1690 <= told[2] <= 1900, found
    assert 1900 <= back[0] <= 1915 and back[2] <= back[0] + 220, found


@pytest.mark.parametrize("broken", [1, 3, 8])
def test_so_is_one_of_some_of_eight_metrics(broken):
    values = np.random.default_rng(0).normal(10.0, 2.0, (2500, 8))
    values[1500:1900, :broken] += 8.0
    found = episodes(vectors([{f"m{k}": x for k, x in enumerate(row)} for row in values.tolist()]))
    first, *_ = found = [one for one in found if one[0] >= 1450]
    assert len(found) <= 2 and 1500 <= first[0] <= 1510 and found[-1][2] <= 2120, found


def test_an_outage_in_a_daily_course_lasts_to_its_end():
    values, times = daily(5000)
    values[4000:4400] = [0.0] * 400
    found = [one for one in episodes(timed(values, times)) if one[0] >= 3900]
    assert [one[0] for one in found] == [4000] and 4404 <= found[0][2] <= 4410 and found[0][3] == "recovered"


def test_a_spike_does_not_last_and_a_daily_course_goes_on_beside_it():
    values, times = daily(5000)
    values[4000] = 400.0
    assert [one[:1] + one[2:] for one in episodes(timed(values, times)) if one[0] >= 3900] == [
        (4000, 4005, "recovered")
    ]


def test_a_new_level_becomes_normal():
    (first, _, closed, reason) = episodes(points([*gaussian(1500), *gaussian(1500, seed=8, mean=40.0)]))[-1]
    assert (first, reason) == (1500, "adapted") and closed <= 1900


def test_a_value_stuck_inside_the_usual_range_is_told_until_it_moves():
    values = gaussian(2000)
    values[1500:1900] = [10.5] * 400
    (first, kind, closed, reason) = episodes(points(values))[-1]
    assert 1500 < first < 1520 and (kind, reason) == ("stuck", "recovered") and 1904 <= closed <= 1906


@on_every_series
def test_few_episodes_last_and_not_for_long(name):
    values, times = SERIES[name]
    outcome = by_default().run(by_default().sources(), timed(values, times))
    assert outcome.opened.sum() <= 8 and outcome.anomaly.mean() <= 0.1


# --- level


def test_a_fault_is_not_learned_while_it_lasts_and_a_new_level_is():
    calm = gaussian(1000)
    fault = Head("level")
    assert min(fault.run([*calm, *gaussian(400, seed=8, mean=20.0)])[1030:]) > 7.0
    assert fault.s.learned < 1030
    new = Head("level")
    assert new.run([*calm, *gaussian(40_000, seed=8, mean=20.0)])[-1] < 2.0


def test_a_metric_that_has_never_moved_says_nothing():
    assert max(Head("level").run([*[7.0] * 300, *gaussian(20)])[:301]) == 0.0


def test_their_modules_are_found():
    assert {m.__name__.rpartition(".")[2] for m in (level, novelty, residual)} <= set(detectors.KERNELS)

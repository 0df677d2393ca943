"""Is what a sentence claims of a point true? Recomputed from the raw points, in plain Python and numpy.

Nothing of the detectors is called here. Of a result only these are taken: the expected value that it shows, and whether
it is in an episode. Where a sentence rests on means that results do not show (of the last values, of this time of the
day), these are recomputed as the detector's docstring says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from app.detectors import novelty, prediction_interval
from app.pipeline.explain import JOINTLY, PARTED

LAST = 20  # values of which sentences speak
PARTS = {
    "beside": "above|below",
    "count": r"\d+",
    "span": r"[\d.]+ (?:days|hours|minutes|seconds)",
    "other": r".+",
}
NUMBER = r"-?[\d.]+(?:e[+-]\d+)?"
TEXTS = ("beside", "span", "other")
SECONDS = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
SENTENCES = [
    (module.__name__.rpartition(".")[2], number, template)
    for module in (prediction_interval, novelty)
    for number, template in enumerate(module.EXPLANATION)
] + [("pairs", 0, PARTED)]


def _pattern(template: str) -> re.Pattern:
    """A template as a regular expression with a group for each of its fields."""
    parts = re.split(r"\{(\w+)\}", template)
    made = [re.escape(part) for part in parts[::2]]
    for place, field in enumerate(parts[1::2]):
        made[place] += f"(?P<{field}>{PARTS.get(field, NUMBER)})"
    return re.compile("".join(made))


PATTERNS = {(detector, number): _pattern(template) for detector, number, template in SENTENCES}


def parsed(sentence: str) -> tuple[tuple[str, int], dict[str, str]]:
    """Which detector's which sentence it is, and what stands in its fields."""
    found = [(which, match) for which, pattern in PATTERNS.items() if (match := pattern.fullmatch(sentence))]
    assert len(found) == 1, f"{len(found)} templates fit: {sentence}"
    return found[0][0], found[0][1].groupdict()


def close(said: float, true: float, slack: float = 0.0) -> bool:
    """Equal in the four figures that are printed; ``slack`` is absolute."""
    return abs(said - true) <= 5.1e-4 * abs(true) + slack + 1e-12


def week(time: float) -> float:
    """Seconds since Monday 00:00 UTC."""
    return (time + 3 * 86400.0) % 604800.0


class Series:
    """The raw points of one series, and the results: what they show as expected, and whether they are in an episode."""

    def __init__(
        self,
        time: Sequence[float],
        x: Sequence[float],
        expected: Sequence[float],
        inside: Sequence[bool],
        opened: Sequence[bool],
        told: Sequence[bool],
        shown_from: int,
        counter: bool = False,
        others: dict[str, np.ndarray] | None = None,
    ) -> None:
        """told: prediction_interval votes for an episode; shown_from: the first point at which it expects a value.

        others: the values of the other metrics of its source, by name.
        """
        self.time, self.x = np.asarray(time, float), np.asarray(x, float)
        self.expected, self.told = np.asarray(expected), np.asarray(told)
        self.inside, self.opened = np.asarray(inside), np.asarray(opened)
        self.shown_from, self.counter, self.others = shown_from, counter, others or {}

    @cached_property
    def judged(self) -> np.ndarray:
        """Of a counter, what each point added; NaN where it began anew."""
        if not self.counter:
            return self.x
        added = np.diff(self.x, prepend=np.nan)
        return np.where(added >= 0.0, added, np.nan)

    @cached_property
    def errors(self) -> np.ndarray:
        return np.where(np.isnan(self.judged), np.nan, self.x - self.expected)

    @cached_property
    def age(self) -> np.ndarray:
        """i8[n] points so far of an episode that prediction_interval opened, its last one counts twice; 0: in none."""
        found = np.zeros(len(self.x), int)
        for i in range(1, len(found)):
            if self.told[i]:
                found[i] = 1
            elif found[i - 1] and self.inside[i - 1]:
                found[i] = found[i - 1] + self.inside[i]
        return found

    @cached_property
    def calm(self) -> np.ndarray:
        """bool[n]: outside of such episodes."""
        return ~np.isnan(self.judged) & (self.age == 0)

    @cached_property
    def deviations(self) -> np.ndarray:
        """f8[n] before each point: standard deviation of the values outside of episodes."""
        learned = [i for i, calm in enumerate(self.calm.tolist()) if calm or (i < 30 and not np.isnan(self.judged[i]))]
        var = np.array([*(var for _, var in _moments(self.judged[learned], 5000)), 0.0])
        return np.sqrt(var)[np.searchsorted(learned, np.arange(len(self.x)))]

    @cached_property
    def usual_errors(self) -> np.ndarray:
        """f8[n] before each point: mean size of about the last 100 errors; of an episode the first 20 count.

        Each error is cut at 10 times this mean, or at a standard deviation of the values if that is more.
        """
        found, unit = np.zeros(len(self.x)), 0.0
        for i, (error, sd) in enumerate(zip(np.abs(self.errors).tolist(), self.deviations.tolist())):
            found[i] = unit
            if i >= max(self.shown_from, 5) and error == error and self.age[i] <= LAST:
                share = max(1.0 / (i - 4), 0.01) if i - self.shown_from >= 30 else 1.0 / (i - self.shown_from + 1)
                unit += share * (min(error, max(10.0 * unit, sd) if unit > 0.0 and i > 60 else math.inf) - unit)
        return found

    def slack(self, i: int) -> float:
        """What the errors before the first one shown may still have in the usual error, and rounding."""
        learned = np.count_nonzero(self.age[self.shown_from : i] <= LAST)
        first = 0.99**learned * np.nanmax(np.abs(self.errors[: i + 1]), initial=0.0)
        # Of several metrics, results do not show whose episode it is, and so which errors were learned.
        unknown = (0.1 if self.others else 0.03) * self.usual_errors[i]
        # Nor do they show an episode that was not told because it is a habit.
        lately = slice(max(self.shown_from, i - 500), i)
        if (~self.inside & (np.abs(self.errors) > 4.0 * self.usual_errors))[lately].any():
            unknown = 0.3 * self.usual_errors[i]
        return float(first + unknown + 4e-16 * abs(self.x[i]))

    def last(self, values: np.ndarray, i: int) -> np.ndarray:
        """The last 20 of them up to i."""
        known = values[: i + 1]
        return known[~np.isnan(known)][-LAST:]

    def run(self, i: int) -> int:
        """How many values in a row are equal, this one included."""
        x, first = self.judged, i
        while first > 0 and abs(x[first] - x[first - 1]) <= 1e-9 * abs(x[first]):
            first -= 1
        return i - first + 1

    def longest_run(self, i: int) -> int:
        """The longest run of equal values outside of episodes, of this thousand of runs and the one before."""
        x = self.judged
        now, before, runs, length = 0, 0, 0, 0
        for j in np.flatnonzero(~np.isnan(x[: i + 1])).tolist():
            if length and abs(x[j] - last) <= 1e-9 * abs(x[j]):  # noqa: F821
                length += 1
            else:
                if not self.inside[j] or self.opened[j]:
                    now = max(now, length)
                runs += 1
                if runs % 1000 == 0:
                    before, now = now, 0
                length = 1
            last = x[j]  # noqa: F841
        return max(now, before, 1)

    # The means of which novelty speaks

    @cached_property
    def by_hour(self) -> list[tuple[str, float, float]]:
        """Before each point: of what the mean is with which it is compared, that mean, and the usual distance."""
        found: list[tuple[str, float, float]] = []
        first, overall = float(self.x[0]), 0.0
        distances = Moments()
        table: dict[int, float] = {}
        seen: dict[int, int] = {}
        hour, stay, many = 0, 0, False
        for i, (time, x) in enumerate(zip(self.time.tolist(), self.x.tolist())):
            now = int(week(time) // 3600.0)
            if now != hour:
                many = stay > 30
                if many:
                    table[now], seen[now] = table.get(hour, 0.0), 2
                hour, stay = now, 0
            stay = min(stay + 1, 255)
            known = seen.get(now, 0)
            mean = first + table[now] if known else overall
            found.append(("lately" if many or stay > 30 else "hour" if known else "all", mean, distances.size))
            distances.learn(x - mean if i else 0.0)
            past = table.get(now, 0.0)
            off, most = x - first - past, 4.0 * distances.size if known else math.inf
            table[now] = float(np.float32(past + min(max(off, -most), most) * max(0.4, 1.0 / (known + 1))))
            seen[now] = min(known + 1, 2)
            overall += (x - overall) / (i + 1)
        return found

    @cached_property
    def slow_mean(self) -> list[float]:
        """Before each point: the mean of about the last 400, each of which counts 1/400.5 less than the next."""
        found, mean = [], 0.0
        for i, x in enumerate(self.x.tolist()):
            found.append(mean)
            mean += (x - mean) * max(2.0 / 801.0, 1.0 / (i + 1))
        return found

    @cached_property
    def from_slow(self) -> list[float]:
        """The usual distance from it, before each point."""
        distances = self.x - self.slow_mean
        distances[0] = 0.0
        return [math.sqrt(mean * mean + var) for mean, var in _moments(distances)]

    @cached_property
    def usual_scatter(self) -> list[float]:
        """The geometric mean, before each point, of the standard deviations of 20 values; none counts as 0."""
        least = [1e-3 * math.sqrt(var) for _, var in _moments(self.x)]
        scatter = [float(np.std(self.x[max(0, i - LAST + 1) : i + 1])) + least[i] for i in range(len(self.x))]
        at = [i for i, one in enumerate(scatter) if i >= LAST and one > 0.0]
        found = dict(zip(at, (math.exp(mean) for mean, _ in _moments(np.log([scatter[i] for i in at])))))
        return [found.get(i, 0.0) for i in range(len(self.x))]


class Moments:
    """Mean and variance of values; after 20 of them the next counts as within 6 standard deviations.

    ``most``: of about so many of the last ones.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.n, self.mean, self.var, self.most = 0, 0.0, 0.0, most

    @property
    def size(self) -> float:
        """Root mean square."""
        return math.sqrt(self.mean * self.mean + self.var)

    def learn(self, value: float) -> None:
        delta = value - self.mean
        if self.n > 20 and self.var > 0.0:
            delta = min(max(delta, -6.0 * math.sqrt(self.var)), 6.0 * math.sqrt(self.var))
        rate = 1.0 / (min(self.n, self.most) + 1)
        self.mean += rate * delta
        self.var = (1.0 - rate) * (self.var + rate * delta * delta)
        self.n += 1


def _moments(values: np.ndarray, most: float = math.inf) -> Iterator[tuple[float, float]]:
    """Mean and variance before each of the values."""
    known = Moments(most)
    for value in values.tolist():
        yield known.mean, known.var
        known.learn(value)


def joint(metrics: dict[str, np.ndarray]) -> np.ndarray:
    """The common distance of all metrics from their levels, as app/detectors/level.py says."""
    return np.sqrt(np.mean([np.square(_from_level(x)) for x in metrics.values()], axis=0))


def _from_level(x: np.ndarray, size: int = 20, lag: int = 6, gate: float = 2.5, hold: int = 500) -> np.ndarray:
    scores, mean, wander, learned, held = np.zeros(len(x)), 0.0, 0.0, 0, 0
    good = np.zeros(len(x), bool)
    drift, weight = 0.0, 0.0
    for i in range(len(x)):
        level = float(np.mean(x[max(0, i - size + 1) : i + 1]))
        spread = math.sqrt(wander + drift)
        if i >= 100 and spread > 1e-9 * abs(mean):
            scores[i] = abs(level - mean) / spread
        if scores[i] <= gate:
            held, good[i] = max(held - 1, 0), True
        elif held >= hold:
            good[i] = True
        else:
            held += 1
        if good[i]:
            learned += 1
            mean += (x[i] - mean) / learned
            if i >= size:
                wander += ((level - mean) ** 2 - wander) / learned
        block = (i + 1) // size - 1
        if (i + 1) % size == 0 and block >= lag:
            now, past = (slice(b * size, (b + 1) * size) for b in (block, block - lag))
            share = float(np.mean(good[now]) * np.mean(good[past]))
            if share > 0.0:
                weight += share
                drift += share / weight * ((np.mean(x[now]) - np.mean(x[past])) ** 2 - drift)
    return scores


# What each sentence claims. A check gets the series, the place, the numbers in the sentence; it yields what is false.

Check = Callable[[Series, int, dict[str, Any]], Iterator[str]]


def _distance(
    s: Series, i: int, said: dict[str, Any], origin: float, usual: float, slack: float = 0.0
) -> Iterator[str]:
    """A value is so far above or below its origin, from which it is usually so far."""
    distance = s.x[i] - origin
    if not close(said["figure"], abs(distance), 1e-13 * abs(s.x[i]) + 1e-6 * abs(s.x[0] - origin)):
        yield f"it is {abs(distance):.6g} from {origin:.6g}"
    if distance and said["beside"] != ("above" if distance > 0.0 else "below"):
        yield "it is on the other side"
    if not close(said["usual"], usual, slack):
        yield f"usual is {usual:.6g}"


def _unlike_expected(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    if not close(said["expected"], s.expected[i]):
        yield f"the result shows {s.expected[i]:.6g} as expected"
    usual = s.usual_errors[i]
    # Where errors were next to nothing, what is cut of large ones is known roughly.
    cut = 0.5 * usual if usual < 0.01 * float(np.std(s.x[: i + 1])) else 0.0
    yield from _distance(s, i, said, s.expected[i], usual, s.slack(i) + cut)


def _at_this_time(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    """Besides, a value at this time of the day was nearer to what is expected, and others were as high and low."""
    yield from _unlike_expected(s, i, said)
    at = np.array([week(time) for time in s.time[:i]])
    near = np.abs((at - week(s.time[i]) + 43200.0) % 86400.0 - 43200.0) <= 3600.0
    if not (near & (np.abs(s.x[:i] - s.expected[i]) <= np.abs(s.x[:i] - s.x[i]))).any():
        yield "it was never so at this time"
    if s.opened[i]:
        reach = 12.0 * s.usual_errors[i] + s.slack(i)
        if not s.x[:i].min() - reach <= s.x[i] <= s.x[:i].max() + reach:
            yield "it was never so at another time"


def _missing(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    yield from _at_this_time(s, i, said)
    usual = float(np.median(s.x[:i]))
    if abs(s.x[i] - usual) >= abs(s.expected[i] - usual):
        yield "nothing is missing: what is expected is the usual value"


def _level(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    mean = float(np.mean(s.last(s.judged, i)))
    if not close(said["figure"], mean, 1e-6 * abs(mean - s.judged[0 if not s.counter else 1])):
        yield f"they are {mean:.6g} on average"
    lowest, highest = np.nanmin(s.judged[:i]), np.nanmax(s.judged[:i])
    slack = s.usual_errors[i] + 0.5 * (highest - lowest)  # where a new level was accepted, all that is expected moved
    if not lowest - slack <= said["usual"] <= highest + slack:
        yield "they never had what is said to be expected"


def _noise(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    sizes = s.last(np.abs(s.errors), i)
    if said["figure"] > float(np.mean(sizes)) * 1.0006:
        yield f"they are {np.mean(sizes):.6g} from it"
    places = np.flatnonzero(~np.isnan(s.errors[: i + 1]))[-LAST:]
    if not s.inside[places[:-1]].any() and not s.inside[places[0] - 1]:  # none was counted from anew
        least = float(np.mean(np.minimum(sizes, 4.0 * s.usual_errors[places])))
        if not close(said["figure"], least, s.slack(i)):
            yield f"at least {least:.6g} from it, each counted as 4 usual errors at most"
    if not close(said["usual"], s.usual_errors[i], s.slack(i)):
        yield f"the usual error is {s.usual_errors[i]:.6g}"


def _stuck(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    if said["figure"] != s.run(i):
        yield f"for {s.run(i)} points"
    if said["usual"] != s.longest_run(i):
        yield f"the longest was {s.longest_run(i)}"


def _rate(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    rounding = 4e-16 * abs(s.x[i])
    if not close(said["figure"], s.x[i] - s.x[i - 1], rounding):
        yield f"it is {s.x[i] - s.x[i - 1]:.6g} more"
    if not close(said["usual"], s.expected[i] - s.x[i - 1], rounding):
        yield f"the result shows {s.expected[i] - s.x[i - 1]:.6g} more as expected"


def _began_anew(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    if not (close(said["figure"], s.x[i]) and close(said["usual"], s.x[i - 1]) and s.x[i] < s.x[i - 1]):
        yield f"{s.x[i]:.6g} after {s.x[i - 1]:.6g}"


def _changed(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    if said["figure"] != s.run(i - 1) or not close(said["usual"], s.x[i - 1]):
        yield f"after {s.run(i - 1)} values of {s.x[i - 1]:.6g}"


def _record(highest: bool) -> Check:
    def check(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
        if not (s.x[i] > s.x[:i].max() if highest else s.x[i] < s.x[:i].min()):
            yield "another value is as high or low"
        if said["figure"] != (i + 1 if i + 1 < 10_000 else float(f"{i + 1:.0f}")):
            yield f"of {i + 1} values"
        length, unit = said["span"].split()
        if abs(float(length) * SECONDS[unit] - (s.time[i] - s.time[0])) > 5.1e-3 * (s.time[i] - s.time[0]):
            yield f"in {s.time[i] - s.time[0]} s"

    return check


def _from_mean(of: str) -> Check:
    def check(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
        now, mean, usual = s.by_hour[i]
        if now != of:
            yield f"it is compared with the mean of {now}"
        if not close(said["middle"], mean, 1e-13 * abs(s.x[i]) + 1e-7 * abs(s.x[0] - mean)):
            yield f"that mean is {mean:.6g}"
        yield from _distance(s, i, said, mean, usual)

    return check


def _from_slow_mean(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    if not close(said["middle"], s.slow_mean[i], 1e-13 * abs(s.x[i])):
        yield f"that mean is {s.slow_mean[i]:.6g}"
    yield from _distance(s, i, said, s.slow_mean[i], s.from_slow[i])


def _scatter(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    if said["count"] != LAST:
        yield f"of {LAST} values"
    if not close(said["figure"], float(np.std(s.x[i - LAST + 1 : i + 1]))):
        yield f"it is {np.std(s.x[i - LAST + 1 : i + 1]):.6g}"
    if not close(said["usual"], s.usual_scatter[i]):
        yield f"usual is {s.usual_scatter[i]:.6g}"


def _parted(s: Series, i: int, said: dict[str, Any]) -> Iterator[str]:
    """Least squares by numpy over the points outside of episodes, all of them or those since the end of an episode.

    Results do not show which points were not learned as they were near an episode, nor when the line was begun.
    """
    if said["other"] not in s.others:
        yield f"it has no other metric {said['other']}"
        return
    x, found = s.others[said["other"]], []
    calm = ~s.inside[:i]
    for first in [0, *(np.flatnonzero(calm[1:] & ~calm[:-1]) + 1)]:
        at = np.flatnonzero(calm[first:]) + first
        if len(at) >= 500:
            line = np.polynomial.Polynomial.fit(x[at], s.x[at], 1)
            sizes = np.abs(s.x[at] - line(x[at]))
            sizes = np.minimum(sizes, 6.0 * 1.18 * np.median(sizes))  # a normal's mean size is 1.18 of the median
            last = float(np.mean(np.abs(s.x - line(x))[i - LAST + 1 : i + 1]))
            found.append((last, float(np.average(sizes, weights=0.995 ** np.arange(len(at))[::-1]))))
    if not any(close(said["figure"], last, 0.05 * usual + 0.01 * last) for last, usual in found):
        yield f"they are {', '.join(f'{last:.6g}' for last, _ in found)} from the line"
    if not any(close(said["usual"], usual, 0.15 * usual) for _, usual in found):
        yield f"usual is {', '.join(f'{usual:.6g}' for _, usual in found)}"
    if not all(said["figure"] > 1.5 * usual for _, usual in found) and s.opened[i]:
        yield "that is usual"


CHECKS: dict[tuple[str, int], Check] = {
    ("prediction_interval", prediction_interval.VALUE): _unlike_expected,
    ("prediction_interval", prediction_interval.SEASON): _at_this_time,
    ("prediction_interval", prediction_interval.MISSING): _missing,
    ("prediction_interval", prediction_interval.LEVEL): _level,
    ("prediction_interval", prediction_interval.NOISE): _noise,
    ("prediction_interval", prediction_interval.STUCK): _stuck,
    ("prediction_interval", prediction_interval.RATE): _rate,
    ("prediction_interval", prediction_interval.RATE_LEVEL): _level,
    ("prediction_interval", prediction_interval.RATE_NOISE): _noise,
    ("prediction_interval", prediction_interval.RATE_STUCK): _stuck,
    ("prediction_interval", prediction_interval.RESET): _began_anew,
    ("prediction_interval", prediction_interval.CHANGED): _changed,
    ("novelty", novelty.HIGHEST): _record(highest=True),
    ("novelty", novelty.LOWEST): _record(highest=False),
    ("novelty", novelty.AT_THIS_HOUR): _from_mean("hour"),
    ("novelty", novelty.AMONG_LAST): _from_mean("lately"),
    ("novelty", novelty.SO_FAR): _from_mean("all"),
    ("novelty", novelty.FROM_MEAN): _from_slow_mean,
    ("novelty", novelty.SCATTERED): _scatter,
    ("pairs", 0): _parted,
}


def false(s: Series, i: int, sentence: str, figures: tuple[float, float] | None = None) -> list[str]:
    """What is not true of a sentence on point i, about one metric; ``figures``: figure and usual of its result."""
    which, fields = parsed(sentence)
    said: dict[str, Any] = {name: text if name in TEXTS else float(text) for name, text in fields.items()}
    found = []
    if "value" in said and not close(said["value"], s.x[i]):
        found.append(f"the value is {s.x[i]:.6g}")
    if figures is not None:
        signed = -said["figure"] if said.get("beside") == "below" else said["figure"]
        if not close(figures[0], signed, 5.1e-4 * abs(signed)):
            found.append(f"the result has the figure {figures[0]}")
        if "usual" in said and not close(figures[1], said["usual"], 5.1e-4 * abs(said["usual"])):
            found.append(f"the result has {figures[1]} as usual")
    found += CHECKS[which](s, i, said)
    return found


def subject(sentence: str, metrics: Sequence[str]) -> tuple[str | None, str]:
    """What a sentence on several metrics is about, None: all together; and the sentence without it."""
    if sentence.startswith(JOINTLY):
        return None, sentence.removeprefix(JOINTLY)
    name = next(one for one in metrics if sentence.startswith(f"{one}: "))
    return name, sentence.removeprefix(f"{name}: ")

"""How well results agree with labels: the figures of ``evaluate`` and of the report, and nothing else.

An anomaly is a *window*: a run of labelled points. There are two ways to count.

*Points*: every point inside an episode against every point inside a window: precision, recall, F1, and the
false-alarm rate, the share of the normal points that are inside an episode. The best F1 over all thresholds and the
average precision look at ``anomaly_score`` instead, which ranks the points.

*Alerts*: an alert is the first point of an episode, which is what gets reported. A window is hit by an alert
inside it; its delay runs from its first point to the first such alert. Alerts outside windows are false.

The first points of a series do not count in either: a detector that learns needs some (NAB's probation [1]_: 15 % of
them, at most 750). A window that is only partly counted begins with the first point that counts.

References
----------
.. [1] A. Lavin, S. Ahmad (2015), Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark,
   IEEE ICMLA; scoring as in version 1.1 of https://github.com/numenta/NAB.
.. [2] H. Ren et al. (2019), Time-Series Anomaly Detection Service at Microsoft, KDD, section 5: F1 with a delay, the
   rule of the AIOps challenge of 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

PROBATION, MOST_PROBATION = 0.15, 750  # share of a series, and points
DELAY = 7  # points after a window's first in which it must be found, for delay_f1: as in [2] for data by the minute


class LabelledWindow(NamedTuple):
    """Points start:stop of a series, numbered from 0."""

    start: int
    stop: int


class CostProfile(NamedTuple):
    """NAB's weights: the reward for a window found at once, the costs of a false alert and of a missed window."""

    found: float
    false: float
    missed: float


NAB = {
    "standard": CostProfile(1.0, 0.11, 1.0),
    "reward_low_FP_rate": CostProfile(1.0, 0.22, 1.0),
    "reward_low_FN_rate": CostProfile(1.0, 0.11, 2.0),
}


@dataclass(frozen=True)
class LabelledScores:
    """n results of one source in order, and its labelled windows."""

    time: np.ndarray  # f8[n] epoch seconds
    score: np.ndarray  # f8[n] anomaly scores, in 0..1
    alert: np.ndarray  # f8[n] alert scores, in 0..1
    inside: np.ndarray  # bool[n] inside an episode
    opened: np.ndarray  # bool[n] the first point of an episode
    windows: Sequence[LabelledWindow] = ()  # in order, none empty, none overlapping
    first: int = 0  # points before this one do not count

    @property
    def label(self) -> np.ndarray:
        """bool[n]: inside a window."""
        return mask(len(self.time), self.windows)

    def counted(self) -> LabelledScores:
        """The part that counts, with windows cut to it."""
        windows = [
            LabelledWindow(max(start, self.first) - self.first, stop - self.first) for start, stop in self.windows
        ]
        time, score, alert, inside, opened = (
            each[self.first :] for each in (self.time, self.score, self.alert, self.inside, self.opened)
        )
        return LabelledScores(time, score, alert, inside, opened, [each for each in windows if each.stop > 0])


@dataclass(frozen=True)
class EvaluationMetrics:
    """The figures of ``evaluate``; None where the denominator is 0."""

    points: int  # that count
    labelled: int  # of them inside windows
    windows: int
    hit: int  # windows with an alert in them
    alerts: int
    false_alerts: int  # alerts outside windows
    false_alerts_per_1000: float | None  # normal points
    false_alarm_rate: float | None  # share of the normal points that are inside an episode
    precision: float | None
    recall: float | None
    f1: float | None
    delay_points: float | None  # mean over the windows hit
    delay_s: float | None
    best_f1: float | None  # of points, over all thresholds of the anomaly score; one threshold for all series
    best_threshold: float | None
    average_precision: float | None  # of the anomaly score; mean over the series that have windows
    delay_f1: float | None  # best over all thresholds of the anomaly score, one for all series
    nab: dict[str, float] = field(default_factory=dict)  # by NAB's profile; without windows none


def probation(points: int, share: float = PROBATION) -> int:
    """How many first points do not count; ``share`` is in 0..1."""
    return min(int(share * points), MOST_PROBATION)


def runs(label: np.ndarray) -> list[LabelledWindow]:
    """Windows of a boolean column: each run of true points."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], label.astype(np.int8), [0]))))
    return [LabelledWindow(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]


def windows_between(time: np.ndarray, intervals: Iterable[tuple[float, float]]) -> list[LabelledWindow]:
    """Windows of intervals of time, both ends included; an interval without a point gives none.

    Times that go back inside an interval and leave it make several windows of it.
    """
    found = [each for begin, end in intervals for each in runs((time >= begin) & (time <= end))]
    windows: list[LabelledWindow] = []
    for start, stop in sorted(found):
        start = max(start, windows[-1].stop) if windows else start
        if start < stop:
            windows.append(LabelledWindow(start, stop))
    return windows


def mask(points: int, windows: Iterable[LabelledWindow]) -> np.ndarray:
    """bool[points]: inside a window."""
    inside = np.zeros(points, bool)
    for start, stop in windows:
        inside[start:stop] = True
    return inside


def evaluation_metrics(series: Sequence[LabelledScores]) -> EvaluationMetrics:
    """The figures of one series, or of several together: counts are added before they are divided."""
    parts = [each.counted() for each in series]
    label = np.concatenate([np.zeros(0, bool), *(part.label for part in parts)])
    inside = np.concatenate([np.zeros(0, bool), *(part.inside for part in parts)])
    opened = np.concatenate([np.zeros(0, bool), *(part.opened for part in parts)])
    score = np.concatenate([np.zeros(0), *(part.score for part in parts)])
    delays = [delay for part in parts for window in part.windows if (delay := _delay(part, window)) is not None]
    normal = int((~label).sum())
    right, wrong = int((inside & label).sum()), int((inside & ~label).sum())
    missed, false_alerts = int((~inside & label).sum()), int((opened & ~label).sum())
    best, at = best_f1(score, label)
    precisions = _average_precisions(parts)
    return EvaluationMetrics(
        points=len(label),
        labelled=right + missed,
        windows=sum(len(part.windows) for part in parts),
        hit=len(delays),
        alerts=int(opened.sum()),
        false_alerts=false_alerts,
        false_alerts_per_1000=_share(1000.0 * false_alerts, normal),
        false_alarm_rate=_share(wrong, normal),
        precision=_share(right, right + wrong),
        recall=_share(right, right + missed),
        f1=_share(2 * right, 2 * right + wrong + missed),
        delay_points=_share(sum(points for points, _ in delays), len(delays)),
        delay_s=_share(sum(seconds for _, seconds in delays), len(delays)),
        best_f1=best,
        best_threshold=at,
        average_precision=_share(sum(precisions), len(precisions)),
        delay_f1=delay_f1([(part.score, part.windows) for part in parts]),
        nab=nab(series),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _average_precisions(parts: Sequence[LabelledScores]) -> list[float]:
    """Of each series that has windows: the area under precision over recall, as steps; equal scores are one step."""
    labelled = [part for part in parts if part.windows]
    if not labelled:
        return []
    from sklearn.metrics import average_precision_score  # takes a second to load, and only labels need it

    return [float(average_precision_score(part.label, part.score)) for part in labelled]


def _delay(part: LabelledScores, window: LabelledWindow) -> tuple[int, float] | None:
    """Points and seconds from the window's first point to its first alert; None where it has none."""
    at = np.flatnonzero(part.opened[window.start : window.stop])
    if not len(at):
        return None
    first = int(at[0])
    return first, float(part.time[window.start + first] - part.time[window.start])


def _falling(level: np.ndarray, *counts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Thresholds from high to low, and the sum of each column over all that reaches them."""
    order = np.argsort(-level, kind="stable")
    level = level[order]
    last = np.append(level[1:] != level[:-1], True) if len(level) else np.zeros(0, bool)
    return level[last], *(np.cumsum(each[order])[last] for each in counts)


def best_f1(score: np.ndarray, label: np.ndarray) -> tuple[float | None, float | None]:
    """The highest F1 of points that any threshold gives, and that threshold; None where nothing is labelled."""
    if not label.any():
        return None, None
    level, right, all_ = _falling(score, label.astype(float), np.ones(len(score)))
    f1 = 2.0 * right / (all_ + label.sum())
    best = int(np.argmax(f1))
    return float(f1[best]), float(level[best])


def delay_f1(series: Sequence[tuple[np.ndarray, Sequence[LabelledWindow]]], delay: int = DELAY) -> float | None:
    """The highest F1 that one threshold gives, where a window is found as a whole or not at all [2]_.

    Found: one of its first ``delay + 1`` points reaches the threshold. Then all its points count as found,
    otherwise as missed. None where there is no window.
    """
    level, right, wrong, total = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)], 0
    for score, windows in series:
        normal = score[~mask(len(score), windows)]
        level += [np.array([score[a : min(b, a + delay + 1)].max() for a, b in windows]), normal]
        right += [np.array([b - a for a, b in windows], float), np.zeros(len(normal))]
        wrong += [np.zeros(len(windows)), np.ones(len(normal))]
        total += sum(b - a for a, b in windows)
    if not total:
        return None
    _, found, false = _falling(np.concatenate(level), np.concatenate(right), np.concatenate(wrong))
    return float((2.0 * found / (found + false + total)).max())


def nab(series: Sequence[LabelledScores]) -> dict[str, float]:
    """NAB's score for each profile, at the threshold of the alert score that is best for all series together.

    100 is a detection at the first point of every window and no other; 0 is no detection at all. A detection
    is a point that reaches the threshold. In a window the first counts, the more the earlier. Outside, each costs: less
    shortly after a window. Empty where no window ends after the points that do not count.
    """
    parts = [_nab_parts(each) for each in series]
    windows = sum(1 for each in series for window in each.windows if window.stop > each.first)
    if not windows:
        return {}
    columns = [np.concatenate([part[i] for part in parts]) for i in range(4)]
    _, found, hit, false = _falling(*columns)
    scores = {}
    for name, weigh in NAB.items():
        # Relative to a detector without alerts, which loses `missed` for every window.
        gained = weigh.found * found + weigh.missed * hit + weigh.false * false
        scores[name] = 100.0 * max(0.0, float(gained.max())) / (windows * (weigh.found + weigh.missed))
    return scores


def _nab_parts(each: LabelledScores) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a falling threshold changes: at which level, by how much credit, by how many windows, by what cost."""
    alert, at = each.alert, np.arange(len(each.time))
    cost = np.full(len(at), -1.0)  # no window yet, or one long ago
    level, credit, hit = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    for start, stop in each.windows:
        width, after = stop - start, at >= stop
        widths_after = (at[after] - (stop - 1)) / max(width - 1, 1)
        cost[after] = np.where(widths_after > 3.0, -1.0, _sigmoid(np.minimum(widths_after, 3.0)))
        inside = at[max(start, each.first) : stop]
        if not len(inside):
            continue
        worth = _sigmoid((inside - stop) / width) / _sigmoid(-1.0)
        highest = np.maximum.accumulate(alert[inside])
        record = np.append(True, highest[1:] > highest[:-1])
        # Below the last record only that one is reached; at each lower record the detection moves to an earlier point.
        level.append(highest[record])
        credit.append(worth[record] - np.append(worth[record][1:], 0.0))
        hit.append(np.append(np.zeros(record.sum() - 1), 1.0))
    outside = ~each.label & (at >= each.first)
    none = np.zeros(outside.sum())
    return (
        np.concatenate([*level, alert[outside]]),
        np.concatenate([*credit, none]),
        np.concatenate([*hit, none]),
        np.concatenate([np.zeros(sum(map(len, level))), cost[outside]]),
    )


def _sigmoid(y: np.ndarray | float) -> np.ndarray:
    """NAB's: 1 far before the window's end, 0 at it, -1 long after it."""
    return 2.0 / (1.0 + np.exp(5.0 * np.asarray(y, float))) - 1.0

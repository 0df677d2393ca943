"""The last values of one metric, and an estimator that is refitted on them regularly.

An estimator is first fitted after FIRST to FIRST + SPREAD - 1 points, on all of them; again when their number has
doubled, and so on; then every ``refit_every`` points, on the window. A fit takes milliseconds to tenths of a second,
so it runs in the background (app/detectors/support/background.py) and is used from exactly ``delay`` points after its
start: not earlier if it is ready, and waited for if it is not. So scores depend on points alone. A hash of the first
point shifts the schedule of each source, so that sources that report together are not refitted together. The first
SILENT points lie before the first score in every case.

The state is the values from the start of the window in use, without the estimator, which is fitted on them again. A
constant window needs no estimator: its value scores 0 and any other STILL. A failed fit is a failure of the detector
at the point from which the fit would have been used.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol
from zlib import crc32

import numpy as np

from app.compiled.numeric import MAX_VALUE, MAX_VALUE_TEXT, deviation
from app.detectors.support.background import Task, begin
from app.errors import StateError

FIRST, SPREAD = 50, 25  # points before the first fit, and the number of different schedules
DELAY = 25  # points from the start of a fit to its first use
SILENT = FIRST + SPREAD + DELAY
BEFORE = 20  # values before a point that its features need
FEATURES = 3
FAR = 1e6  # deviations at which a feature is clipped: forests compare in single precision
ODDEST = 100.0  # raw scores are clipped here, so that an early extreme does not hide later ones
STILL = 10.0  # raw score of a different value after a constant window
_HEAD = struct.Struct("<qI")


# --- features


def features(values: np.ndarray, rows: int) -> np.ndarray:
    """float[rows, FEATURES] of the last ``rows`` values: value, change, difference from the mean of BEFORE.

    ``values``: all there are, or at least BEFORE more than ``rows``. The first value of all has no others before it
    and is compared with itself. A row's bits do not depend on what other rows are asked for.
    """
    first = len(values) - rows
    x = values[first:]
    total, count = np.zeros(rows), np.zeros(rows)
    last = x
    for age in range(1, min(BEFORE, len(values) - 1) + 1):
        late = max(0, age - first)  # rows that have nothing so long before
        total[late:] += values[first + late - age : len(values) - age]
        count[late:] += 1.0
        if age == 1:
            last = np.concatenate([x[:late], values[first + late - 1 : -1]])
    mean = np.where(count > 0.0, total / np.maximum(count, 1.0), x)
    return np.column_stack([x, x - last, x - mean])


class Rows(Protocol):
    """Scores of rows of standardised features, higher is odder; each row's bits are its own."""

    def __call__(self, rows: np.ndarray) -> np.ndarray: ...


class Fitted:
    """What scores points between one fit and the next.

    Parameters
    ----------
    fit
        Standardised rows of features -> their own scores, and what gives the scores of any. What it raises is raised.
    values, rows
        As of ``features``: the window.
    contamination
        Share of the window's points that lie beyond the line that scores are counted from; 0: from their mean.
    """

    def __init__(
        self,
        fit: Callable[[np.ndarray], tuple[np.ndarray, Rows]],
        values: np.ndarray,
        rows: int,
        contamination: float,
    ) -> None:
        with np.errstate(all="ignore"):
            self._largest = float(np.abs(values[-rows:]).max()) or 1.0
            own = self._features(values, rows)
            self._centre, spread = own.mean(axis=0), own.std(axis=0)
            # Relative to the largest value: 1e-9 of it is rounding noise of a constant (app/compiled/numeric.py,
            # floored).
            self._scale = np.maximum(spread, 1e-9)
            self._still = bool((spread <= 1e-9).all())
            if self._still:
                return
            scores, self._rows = fit(self._standardised(own))
            if not np.isfinite(scores).all():
                raise ArithmeticError(f"{len(scores)} points were fitted, and not all of their scores are finite")
            self._from, self._unit = float(scores.mean()), float(scores.std())
            self._line = contamination > 0.0
            if self._line:
                self._from = float(np.percentile(scores, 100.0 * (1.0 - contamination)))

    def scores(self, values: np.ndarray, rows: int) -> list[float]:
        """Of the last so many values; not finite where the estimator's are not."""
        with np.errstate(all="ignore"):
            found = self._features(values, rows)
            if self._still:
                return [STILL if abs(x - self._centre[0]) > 1e-9 else 0.0 for x in found[:, 0].tolist()]
            scores = self._rows(self._standardised(found)).tolist()
        low = 0.0 if self._line else -ODDEST
        return [
            min(max(deviation(score, self._from, self._unit), low), ODDEST) if math.isfinite(score) else math.nan
            for score in scores
        ]

    def _features(self, values: np.ndarray, rows: int) -> np.ndarray:
        return features(np.clip(values / self._largest, -MAX_VALUE, MAX_VALUE), rows)

    def _standardised(self, rows: np.ndarray) -> np.ndarray:
        return np.clip((rows - self._centre) / self._scale, -FAR, FAR)


# --- when is fitted


class Fits:
    """The numbers of points after which is fitted: FIRST or some more, that doubled, then regularly.

    ``own``: of the source, any number. Two fits lie at least ``delay`` apart.
    """

    def __init__(self, every: int, own: int) -> None:
        self.every, self.delay = every, delay(every)
        self.early = [FIRST + own % SPREAD]
        while 2 * self.early[-1] <= every - self.delay:
            self.early.append(2 * self.early[-1])
        last = self.early[-1] + self.delay
        self.regular = last + (own - last) % every

    def until(self, n: int) -> int:
        """The last of them that is at most n; 0 when there is none."""
        if n >= self.regular:
            return n - (n - self.regular) % self.every
        i = bisect_right(self.early, n)
        return self.early[i - 1] if i else 0

    def after(self, n: int) -> int:
        """The first of them that is above n."""
        if n >= self.regular:
            return self.until(n) + self.every
        i = bisect_right(self.early, n)
        return self.early[i] if i < len(self.early) else self.regular


def delay(every: int) -> int:
    return min(DELAY, every // 2)


# --- a model


class RefittedModel:
    """The last values of one metric, and the estimators fitted on them."""

    def __init__(self, fit: Callable[[np.ndarray, int], Fitted], size: int, every: int) -> None:
        self._fit, self._size, self._every = fit, size, every
        self.n, self.own = 0, 0  # points learned; a number that differs between sources
        self.values = np.zeros(0)
        self._fits = Fits(every, 0)
        self._scoring: Task[Fitted] | None = None
        self._coming: Task[Fitted] | None = None

    @property
    def first(self) -> int:
        """The number of the first value that is kept."""
        return max(0, self._fits.until(self.n - self._fits.delay) - self._size - BEFORE)

    def steady(self) -> int:
        """How many points come until a fit begins or another one scores; at least 1."""
        n, delay = self.n, self._fits.delay
        return min(self._fits.after(n), self._fits.after(n - delay) + delay) - n

    def scores(self, xs: Sequence[float]) -> list[float]:
        """Of at most ``steady()`` points that would come next, each after the one before. Raises what a fit does."""
        if self._scoring is None:
            return [0.0] * len(xs)
        return self._scoring.result().scores(np.concatenate([self.values, xs]), len(xs))

    def learn(self, xs: Sequence[float], t: float) -> None:
        """At most ``steady()`` points; ``t``: the time of the first."""
        if not self.n:
            self.own = crc32(struct.pack("<dd", t, xs[0]))
            self._fits = Fits(self._every, self.own)
        before = self.first
        self.values = np.concatenate([self.values, xs])
        self.n += len(xs)
        if self._coming and self._fits.until(self.n - self._fits.delay) + self._fits.delay == self.n:
            self._scoring, self._coming = self._coming, None
            self.values = self.values[self.first - before :]
        if self._fits.until(self.n) == self.n:  # where the one before it begins to score, at the earliest
            self._coming = self._begin(self.n, self.first)

    def _begin(self, at: int, first: int) -> Task[Fitted]:
        """A fit on the window of the first ``at`` points; ``first``: the number of the first value kept."""
        rows = min(at, self._size)
        values, fit = self.values[max(0, at - rows - BEFORE - first) : at - first], self._fit
        return begin(lambda: fit(values, rows))  # which does not hold the model: one that is dropped is not fitted

    def dumps(self) -> bytes:
        return _HEAD.pack(self.n, self.own) + self.values.astype("<f8").tobytes()

    def loads(self, data: bytes) -> None:
        """Into a new model; StateError when these are not the bytes of one."""
        n, self.own = _HEAD.unpack_from(data)
        self._fits = Fits(self._every, self.own)
        self.n = n
        if n < 0 or len(data) != _HEAD.size + 8 * (n - self.first):
            raise StateError(f"of {n} points some must be kept, in bytes {_HEAD.size + 8 * (n - self.first)}")
        self.values = np.frombuffer(data, "<f8", offset=_HEAD.size).astype(float)
        if not (np.abs(self.values) <= MAX_VALUE).all():
            raise StateError(f"values must be finite, at most {MAX_VALUE_TEXT} in size")
        scoring, last = self._fits.until(n - self._fits.delay), self._fits.until(n)
        if scoring:
            self._scoring = self._begin(scoring, self.first)
        if last > scoring:
            self._coming = self._begin(last, self.first)


def max_bytes(size: int, every: int) -> int:
    """No ``dumps`` of a RefittedModel is longer."""
    since = max(FIRST + SPREAD, every + delay(every)) + delay(every)  # points from a fit until the next one scores
    return _HEAD.size + 8 * (size + BEFORE + since)

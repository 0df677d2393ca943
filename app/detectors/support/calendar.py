"""Where a value belongs: its time, and where in its week that lies by the calendar, for seasonal detectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.compiled import rows

WEEK_S = 604_800.0
AT = [("time", "f8"), ("week", "f8"), ("metrics", "i8")]  # what kernels see of a point, see ``detectors/api.py``
MONDAY = 345_600.0  # the first Monday 00:00 UTC, epoch s


def weeks(times: Sequence[float] | np.ndarray) -> np.ndarray:
    """Seconds since Monday 00:00 UTC, 0 <= week < 604800, of times in epoch s; float64, as many as the times."""
    since = np.mod(np.asarray(times, np.float64) - MONDAY, WEEK_S)
    return np.minimum(since, np.nextafter(WEEK_S, 0.0))  # the remainder of -1e-20 is rounded to a whole week


def places(times: Sequence[float] | np.ndarray, metrics: int | np.ndarray = 1) -> np.ndarray:
    """``AT`` of points at these times, of so many metrics each."""
    found = np.zeros(len(times), rows.dtype(AT))
    found["time"], found["week"], found["metrics"] = times, weeks(times), metrics
    return found

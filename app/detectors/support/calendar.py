"""The calendar: where in its week a time lies. Seasonal detectors find the hour of the day and of the week by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WEEK_S = 604_800.0
MONDAY = 345_600.0  # the first Monday 00:00 UTC, epoch s


def weeks(times: Sequence[float] | np.ndarray) -> np.ndarray:
    """Seconds since Monday 00:00 UTC, 0 <= week < 604800, of times in epoch s; float64, as many as the times."""
    since = np.mod(np.asarray(times, np.float64) - MONDAY, WEEK_S)
    return np.minimum(since, np.nextafter(WEEK_S, 0.0))  # the remainder of -1e-20 is rounded to a whole week

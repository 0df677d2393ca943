"""Where in its week a time lies."""

import numpy as np

from app.detectors.support.calendar import WEEK_S, weeks


def test_a_week_begins_on_monday():
    assert weeks([345_600.0, 0.0, -0.5, 1_700_000_000.25]).tolist() == [0.0, 259_200.0, 259_199.5, 166_400.25]


def test_no_time_lies_a_whole_week_in():
    times = [np.nextafter(345_600.0, 0.0), -1e-300, 1e300, -1e300, 253_402_300_799.999]
    assert all(0.0 <= week < WEEK_S for week in weeks(times).tolist())

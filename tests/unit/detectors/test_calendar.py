"""Where in its week a time lies: against zoneinfo and dates, point by point."""

from datetime import UTC, date, datetime
from importlib.resources import files
from zoneinfo import ZoneInfo, _zoneinfo  # type: ignore[attr-defined]

import numpy as np
import pytest

from app.detectors.support import calendar
from app.detectors.support.calendar import WEEK_S, Calendar, weeks
from app.errors import ConfigurationError

# The last is half an hour to the east of its own winter, and changes at half past in UTC.
ZONES = ["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati", "Australia/Lord_Howe"]


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_week_begins_on_monday():
    assert weeks([345_600.0, 0.0, -0.5, 1_700_000_000.25]).tolist() == [0.0, 259_200.0, 259_199.5, 166_400.25]


@pytest.mark.parametrize("made", [Calendar(), Calendar("Europe/Berlin", "DE")], ids=["utc", "local"])
def test_no_time_lies_a_whole_week_in(made):
    times = np.array([np.nextafter(345_600.0, 0.0), -1e-300, 1e300, -1e300, 253_402_300_799.999])
    assert all(0.0 <= week < WEEK_S for week in made.weeks(times).tolist())
    assert made.weeks(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("name", ZONES)
def test_local_weeks_are_those_of_the_clock_on_the_wall(name):
    rng, zone = np.random.default_rng(1), ZoneInfo(name)
    changes = [t for t in loaded(name)._trans_utc if t > 0]
    near = [t + d for t in changes for d in (-1.5, -1.0, -0.25, 0.0, 0.25, 1800.0)]
    times = np.array([*rng.uniform(0.0, 7e9, 2000), *near])
    made, one_by_one = Calendar(name), Calendar(name)
    found = made.weeks(times)
    for time, week in zip(times.tolist(), found.tolist()):
        wall = datetime.fromtimestamp(time // 1.0, zone)
        expected = 86400 * wall.weekday() + 3600 * wall.hour + 60 * wall.minute + wall.second + time % 1.0
        assert week == pytest.approx(expected, abs=1e-6)
        assert one_by_one.weeks(np.array([time])).tolist() == [week]


def loaded(name):
    """A zone that tells its changes, as that in C does not."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return _zoneinfo.ZoneInfo.from_file(file)


def test_no_day_has_two_changes_of_the_offset():
    """What ``calendar`` relies on; of every zone there is."""
    names = files("tzdata").joinpath("zones").read_text().split()
    assert len(names) > 500
    for name in names:
        zone = loaded(name)
        days = [t // 86400 for t in zone._trans_utc if t >= 0]
        assert len(set(days)) == len(days), name
        if hasattr(zone._tz_after, "transitions"):  # twice a year for ever, in local time
            assert abs(np.diff(zone._tz_after.transitions(2100)).item()) > 86400 * 7, name


def test_an_unknown_zone_is_refused_and_a_likely_one_is_named():
    with pytest.raises(ConfigurationError, match=r"timezone: .* got 'Berlin'; did you mean Europe/Berlin\?"):
        Calendar("Berlin")
    with pytest.raises(ConfigurationError, match="timezone: must be a name"):
        Calendar("../../etc/passwd")


def test_a_holiday_counts_as_a_sunday_by_the_local_date():
    sunday, friday = 6 * 86400.0, 4 * 86400.0
    made = Calendar("Europe/Berlin", "DE")
    christmas = made.weeks(np.array([at("2026-12-24T22:59:59"), at("2026-12-24T23:00"), at("2026-12-25T22:59:59")]))
    assert christmas.tolist() == [friday - 1.0, sunday, sunday + 86399.0]
    assert Calendar("Europe/Berlin").weeks(np.array([at("2026-12-25T22:59:59")])).tolist() == [friday + 86399.0]


def test_a_region_has_holidays_of_its_own():
    epiphany = np.array([at("2026-01-06T12:00")])  # a Tuesday
    assert [Calendar("UTC", "DE", region).weeks(epiphany)[0] // 86400 for region in (None, "HH", "BY")] == [1, 1, 6]


@pytest.mark.parametrize(
    ("country", "region", "said"),
    [
        ("XX", None, r"holidays\.country: must be one of AD, .*DE, .*, got 'XX'"),
        ("DE", "XX", r"holidays\.region: must be one of BB, .*BY, .*, got 'XX'"),
        ("MT", "XX", r"holidays\.region: must be left out, as MT has none, got 'XX'"),
        (None, "BY", r"holidays\.region: must be given with holidays\.country"),
        ("date", None, r"holidays\.country: must be one of"),  # also a name in that package
    ],
)
def test_unknown_countries_and_regions_are_refused(country, region, said):
    with pytest.raises(ConfigurationError, match=said):
        Calendar("UTC", country, region)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(calendar, "MOST_DAYS", 10)
    made = Calendar("Europe/Berlin", "DE")
    times = np.arange(0.0, 200 * 86400.0, 43_200.0)
    assert made.weeks(times).tolist() == Calendar("Europe/Berlin", "DE").weeks(times).tolist()
    assert len(made._free._known) <= 10 >= len(made._changes._known)


def test_the_days_are_those_up_to_2200():
    assert (date(2200, 1, 1) - date(1970, 1, 1)).days == calendar.DAYS

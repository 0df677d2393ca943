"""Time intervals cover what they cover in Alertmanager."""

import itertools
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from app.alerting.time_intervals import TimeInterval
from app.errors import ConfigurationError


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


NIGHT = {"times": [{"start_time": "00:00", "end_time": "06:00"}, {"start_time": "22:00", "end_time": "24:00"}]}


@pytest.mark.parametrize(
    ("mapping", "inside", "outside"),
    [
        ({}, ["1970-01-01", "2199-12-31T23:59:59"], []),
        (NIGHT, ["2026-03-01T00:00", "2026-03-01T05:59:59", "2026-03-01T23:59"], ["2026-03-01T06:00"]),
        ({"weekdays": ["Saturday", "sunday"]}, ["2026-11-28", "2026-11-29T23:59"], ["2026-11-27T23:59", "2026-11-30"]),
        ({"weekdays": ["monday:friday"]}, ["2026-11-30", "2026-12-04"], ["2026-11-29", "2026-12-05"]),
        ({"days_of_month": ["1:7", -1]}, ["2026-02-07T23:00", "2026-02-28"], ["2026-02-08", "2026-02-27"]),
        ({"days_of_month": ["-3:-1"]}, ["2024-02-27", "2024-02-29", "2026-03-29"], ["2024-02-26", "2026-03-28"]),
        ({"days_of_month": ["29:31"]}, ["2026-01-31", "2024-02-29"], ["2026-02-28", "2026-01-28"]),
        ({"days_of_month": ["28:-1"]}, ["2026-02-28", "2026-03-31"], ["2026-02-27"]),
        ({"months": ["november:december", 1, "3"]}, ["2026-12-01", "2026-01-31", "2026-03-01"], ["2026-02-01"]),
        ({"years": ["2026:2027", 2030]}, ["2026-01-01", "2027-12-31", "2030-06-01"], ["2025-12-31", "2028-01-01"]),
        ({"weekdays": ["sunday"], **NIGHT}, ["2026-11-29T05:00"], ["2026-11-29T07:00", "2026-11-30T05:00"]),
    ],
)
def test_it_covers_what_all_of_its_parts_cover(mapping, inside, outside):
    interval = TimeInterval.of(mapping)
    assert [time for time in inside if not interval.covers(at(time))] == []
    assert [time for time in outside if interval.covers(at(time))] == []


def test_times_are_those_of_its_location_also_when_clocks_change():
    interval = TimeInterval.of({"times": [{"start_time": "08:00", "end_time": "09:00"}], "location": "Europe/Berlin"})
    for day in ("2026-03-28", "2026-03-29", "2026-10-25"):  # on the second clocks go forward, on the third back
        assert interval.covers(at(f"{day}T08:00", "Europe/Berlin")), day
        assert interval.covers(at(f"{day}T08:59:59", "Europe/Berlin")), day
        assert not interval.covers(at(f"{day}T09:00", "Europe/Berlin")), day
    last = TimeInterval.of({"days_of_month": ["-1"], "location": "Europe/Berlin"})
    assert last.covers(at("2026-03-31T12:00")) and not last.covers(at("2026-03-30T12:00"))
    assert last.covers(at("2026-03-30T22:00")), "it is the 31st in Berlin"


def test_weekdays_have_the_order_of_a_week_from_sunday():
    days = [f"2026-11-{day}" for day in range(22, 29)]  # sunday to saturday
    names = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
    for (i, begin), (j, end) in itertools.combinations_with_replacement(enumerate(names), 2):
        interval = TimeInterval.of({"weekdays": [f"{begin}:{end}"]})
        assert [interval.covers(at(day)) for day in days] == [i <= k <= j for k in range(7)]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (["sunday"], "must be a time interval, as weekdays: [sunday], got a list of 1"),
        ({"weekday": ["sunday"]}, "weekday: no such setting; did you mean weekdays?"),
        ({"weekdays": "sunday"}, "weekdays: must be a list of at least one range, got 'sunday'"),
        ({"weekdays": []}, "weekdays: must be a list of at least one range, got a list of 0"),
        ({"weekdays": ["sun"]}, "weekdays[0]: must be a day or a range of days, as monday:friday, got 'sun'"),
        ({"weekdays": ["friday:monday"]}, "weekdays[0]: must be in the order of a week that begins with sunday"),
        ({"times": [{"start_time": "22:00"}]}, "times[0]: must be a mapping of start_time and end_time"),
        ({"times": [{"start_time": "6:00", "end_time": "7:00"}]}, "times[0].start_time: must be a time of day"),
        ({"times": [{"start_time": "22:00", "end_time": "06:00"}]}, "times[0].end_time: must be later than start_time"),
        ({"times": [{"start_time": 1320, "end_time": "24:00"}]}, "got 1320"),
        ({"times": [{"start_time": "00:00", "end_time": "24:01"}]}, "got '24:01'"),
        ({"days_of_month": [0]}, "days_of_month[0]: must be a day of the month or a range of days"),
        ({"days_of_month": ["1:32"]}, "got '1:32'"),
        ({"days_of_month": ["-1:3"]}, "must be a range of days whose end is not before its begin, got '-1:3'"),
        ({"days_of_month": ["29:-1"]}, "must be a range of days whose end is not before its begin, got '29:-1'"),
        ({"months": ["december:january"]}, "months[0]: must be a month or a range of months in order"),
        ({"months": [13]}, "got 13"),
        ({"years": ["2027:2026"]}, "years[0]: must be a year or a range of years in order"),
        ({"years": [True]}, "got True"),
        ({"years": ["1:2:3"]}, "got '1:2:3'"),
        ({"location": "Europe/Berln"}, "location: must be a name as Europe/Berlin or UTC, got 'Europe/Berln'; did you"),
        ({"location": 1}, "location: must be a name as Europe/Berlin or UTC, got 1"),
    ],
)
def test_what_is_none_is_refused_in_words(mapping, said):
    with pytest.raises(ConfigurationError) as error:
        TimeInterval.of(mapping)
    assert said in str(error.value)


def test_all_problems_are_told_at_once_and_the_interval_in_words():
    with pytest.raises(ConfigurationError) as error:
        TimeInterval.of({"weekdays": ["monday", "x"], "months": [0]})
    assert [line.partition(":")[0] for line in str(error.value).split("\n")] == ["weekdays[1]", "months[0]"]
    assert str(TimeInterval.of({"weekdays": ["saturday", "sunday"], **NIGHT, "location": "Europe/Berlin"})) == (
        "saturday sunday, 00:00-06:00 22:00-24:00, Europe/Berlin"
    )
    assert str(TimeInterval.of({})) == "always"

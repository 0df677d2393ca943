"""Spans of time that come again, as Alertmanager writes and means them.

    weekdays: [saturday, sunday]
    times: [{start_time: 22:00, end_time: 24:00}]
    days_of_month: ["1:7", "-1"]     # -1 is the last one
    months: [january:march, december]
    years: ["2026:2028"]
    location: Europe/Berlin          # UTC if it is not said

All that is given has to hold, and of each list one entry; an interval of nothing is always. The end of a time of day
is not in it. A week begins with sunday. Zones are those of the package tzdata.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from app.errors import ConfigurationError
from app.settings.sources import Keys, kind, spell, unknown

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = tuple(month.lower() for month in calendar.month_name[1:])

Ranges = tuple[tuple[int, int], ...]  # from and to, both inside


@dataclass(frozen=True)
class TimeInterval:
    """None: anything."""

    times: Ranges | None = None  # minutes of the day; the end is not in it
    weekdays: Ranges | None = None  # 0: sunday
    days_of_month: Ranges | None = None  # below 0: from its end
    months: Ranges | None = None
    years: Ranges | None = None
    zone: tzinfo = UTC
    words: str = "always"

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> TimeInterval:
        """Raises ConfigurationError with a line for each problem, as ``times[0].end_time: must be ..``."""
        found, problems = read(mapping)
        if problems:
            raise ConfigurationError("\n".join(f"{spell(keys)}: {what}".lstrip(": ") for keys, what in problems))
        return found

    def covers(self, at: float) -> bool:
        """Whether a time, epoch s, lies inside."""
        time = datetime.fromtimestamp(at, self.zone)
        last = calendar.monthrange(time.year, time.month)[1]
        minute = 60 * time.hour + time.minute
        return (
            (self.times is None or any(begin <= minute < end for begin, end in self.times))
            and _inside(time.isoweekday() % 7, self.weekdays)
            and (
                self.days_of_month is None
                or any(_day(begin, last) <= time.day <= _day(end, last) for begin, end in self.days_of_month)
            )
            and _inside(time.month, self.months)
            and _inside(time.year, self.years)
        )

    def __str__(self) -> str:
        return self.words


def _inside(number: int, ranges: Ranges | None) -> bool:
    return ranges is None or any(begin <= number <= end for begin, end in ranges)


def _day(number: int, last: int) -> int:
    return number if number > 0 else last + 1 + number


def read(mapping: Any) -> tuple[TimeInterval, list[tuple[Keys, str]]]:
    """The interval of a mapping, and what is wrong in it; the interval is of use only if nothing is."""
    problems: list[tuple[Keys, str]] = []
    if not isinstance(mapping, Mapping):
        return TimeInterval(), [((), f"must be a time interval, as weekdays: [sunday], got {kind(mapping)}")]
    found: dict[str, Any] = {}
    words: list[str] = []
    for name, given in mapping.items():
        if name == "location":
            try:
                found["zone"] = _zone(given)
            except ConfigurationError as error:
                problems.append(((name,), str(error).removeprefix("timezone: ")))
            words.append(str(given))
        elif name not in PARSERS:
            problems.append(((name,), unknown(name, [*PARSERS, "location"])))
        elif not isinstance(given, list) or not given:
            problems.append(((name,), f"must be a list of at least one range, got {kind(given)}"))
        else:
            ranges = []
            for i, one in enumerate(given):
                try:
                    ranges.append(PARSERS[name](one))
                except _Wrong as wrong:
                    problems.append(((name, i, *wrong.keys), f"must be {wrong.expected}, got {kind(wrong.found)}"))
            found[name] = tuple(ranges)
            words.append(" ".join(map(_in_words, given)))
    return TimeInterval(**found, words=", ".join(words) or "always"), problems


def _in_words(given: Any) -> str:
    return "-".join(map(str, given.values())) if isinstance(given, Mapping) else str(given)


def _zone(name: Any) -> tzinfo:
    if not isinstance(name, str):
        raise ConfigurationError(f"must be a name as Europe/Berlin or UTC, got {kind(name)}")
    if name == "UTC":
        return UTC
    from app.detectors.support.calendar import zone  # here: numpy, for those who have zones

    return zone(name)


class _Wrong(Exception):
    def __init__(self, expected: str, found: Any, keys: Keys = ()) -> None:
        self.expected, self.found, self.keys = expected, found, keys


def _range(given: Any, expected: str, number: Callable[[str], int | None]) -> tuple[int, int]:
    """Of ``a`` or ``a:b``, or of a number, which YAML makes of 15."""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise _Wrong(expected, given)
    ends = [number(part) for part in str(given).lower().split(":")]
    if len(ends) > 2 or None in ends:
        raise _Wrong(expected, given)
    return ends[0], ends[-1]  # type: ignore[return-value]


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,9}", text) else None


def _weekdays(given: Any) -> tuple[int, int]:
    expected = "a day or a range of days, as monday:friday"
    begin, end = _range(given, expected, lambda day: WEEKDAYS.index(day) if day in WEEKDAYS else None)
    if begin > end:
        raise _Wrong("in the order of a week that begins with sunday, or two ranges: friday:saturday, sunday", given)
    return begin, end


def _months(given: Any) -> tuple[int, int]:
    expected = "a month or a range of months in order, as november:december or 1:3"
    begin, end = _range(given, expected, lambda name: MONTHS.index(name) + 1 if name in MONTHS else _integer(name))
    if not 1 <= begin <= end <= 12:
        raise _Wrong(expected, given)
    return begin, end


def _days_of_month(given: Any) -> tuple[int, int]:
    expected = "a day of the month or a range of days, 1 to 31 or -31 to -1 from the end, as 1:7 or -3:-1"
    begin, end = _range(given, expected, _integer)
    if not (1 <= abs(begin) <= 31 and 1 <= abs(end) <= 31):
        raise _Wrong(expected, given)
    # In the shortest month it has to be one, too.
    if (begin < 0 < end) or _day(begin, 28) > _day(end, 28):
        raise _Wrong("a range of days whose end is not before its begin", given)
    return begin, end


def _years(given: Any) -> tuple[int, int]:
    expected = "a year or a range of years in order, as 2026:2028"
    begin, end = _range(given, expected, _integer)
    if begin > end:
        raise _Wrong(expected, given)
    return begin, end


def _times(given: Any) -> tuple[int, int]:
    expected = "a mapping of start_time and end_time, as {start_time: 22:00, end_time: 24:00}"
    if not isinstance(given, Mapping) or set(given) != {"start_time", "end_time"}:
        raise _Wrong(expected, given)
    begin, end = (_minute(given[name], name) for name in ("start_time", "end_time"))
    if begin >= end:
        late = "later than start_time; a span over midnight is two, until 24:00 and from 00:00"
        raise _Wrong(late, given["end_time"], ("end_time",))
    return begin, end


def _minute(text: Any, name: str) -> int:
    if not isinstance(text, str) or not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00", text):
        raise _Wrong("a time of day, 00:00 to 24:00", text, (name,))
    return 60 * int(text[:2]) + int(text[3:])


PARSERS: dict[str, Callable[[Any], tuple[int, int]]] = {
    "times": _times,
    "weekdays": _weekdays,
    "days_of_month": _days_of_month,
    "months": _months,
    "years": _years,
}

"""Time of a value, and its second of the week by the calendar, for detectors with seasons.

Time zones and holidays are those of the packages tzdata and holidays, and not those of the machine: the same points
give the same results everywhere. Both packages are imported only where settings ask for them.

A zone's offset is looked up once for each day, and so is whether a day is a holiday. In no zone a day has two changes
of the offset (tests/unit/detectors/test_calendar.py), so two offsets and the second of the change describe a day.
Times before 1970 and after 2199 have the offset of the nearest day within.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np

from app.compiled import rows
from app.errors import ConfigurationError

# What kernels see of a point, see ``detectors/api.py``.
AT = [("time", "f8"), ("week", "f8"), ("metrics", "i8"), ("since", "f8")]
DAY_S, WEEK_S = 86_400.0, 604_800.0
MONDAY = 345_600.0  # the first Monday 00:00 UTC, epoch s
SUNDAY_S = 6.0 * DAY_S  # its second of the week
DAYS = 84_006  # from 1970 to 2199
MOST_DAYS = 4096  # that are remembered
PLAIN = "UTC"
_AT = rows.dtype(AT)
_BEFORE_NEXT = np.nextafter(WEEK_S, 0.0)


def weeks(times: Sequence[float] | np.ndarray) -> np.ndarray:
    """Seconds since Monday 00:00, 0 <= week < 604800, of times in epoch s; float64, as many as the times."""
    since = np.mod(np.asarray(times, np.float64) - MONDAY, WEEK_S)
    return np.minimum(since, _BEFORE_NEXT)  # the remainder of -1e-20 is rounded to a whole week


class Calendar:
    """The local time of a zone, with the holidays of a country or region. A holiday counts as a Sunday.

    Parameters
    ----------
    timezone
        Its IANA name, such as "Europe/Berlin".
    country
        ISO 3166 code, such as "DE"; None: no holidays.
    region
        As the package holidays names it, such as "BY"; None: the country's own holidays only.

    Raises
    ------
    ConfigurationError
        If one of them is unknown; it begins with the name of the setting.
    """

    def __init__(self, timezone: str = PLAIN, country: str | None = None, region: str | None = None) -> None:
        self.zone = zone(timezone)
        self.settings: dict[str, str] = {}  # those that are not as by default
        self._changes = self._free = None
        if timezone != PLAIN:
            self.settings["timezone"] = timezone
            self._changes = _ByDay(lambda day: _offsets(self.zone, day))
        if is_holiday := holidays_of(country, region):
            self.settings |= {"country": str(country), **({"region": region} if region else {})}
            self._free = _ByDay(is_holiday)

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that it takes its data from."""
        used = {"tzdata": self._changes, "holidays": self._free}
        return {name: version(name) for name, of in used.items() if of}

    def weeks(self, times: np.ndarray) -> np.ndarray:
        """As the function ``weeks``, in local time."""
        if not self.settings or not len(times):
            return weeks(times)
        local = times + self._offset(times) if self._changes else times
        found = weeks(local)
        if self._free:
            days = np.floor(local / DAY_S)
            [free] = self._free.of(days)
            found = np.where(free, SUNDAY_S + np.mod(found, DAY_S), found)
        return found

    def _offset(self, times: np.ndarray) -> np.ndarray:
        """f8[n], s: local time less UTC."""
        change, before, after = self._changes.of(np.floor(times / DAY_S))  # type: ignore[union-attr]
        return np.where(times < change, before, after)


class _ByDay:
    """What ``compute`` says of a day since 1970, once for each."""

    def __init__(self, compute: Callable[[int], tuple]) -> None:
        self._compute = compute
        self._known: dict[int, tuple] = {}

    def of(self, days: np.ndarray) -> tuple[np.ndarray, ...]:
        """Columns, one row for each of these days (whole numbers, at least one of them)."""
        days = np.clip(days, 0, DAYS - 1)
        if (days == days[0]).all():
            return tuple(np.array([value]) for value in self._of(int(days[0])))
        different, places = np.unique(days, return_inverse=True)
        return tuple(np.array(column)[places] for column in zip(*(self._of(int(day)) for day in different)))

    def _of(self, day: int) -> tuple:
        found = self._known.get(day)
        if found is None:
            if len(self._known) >= MOST_DAYS:
                self._known.clear()
            found = self._known[day] = self._compute(day)
        return found


def _offsets(of: tzinfo, day: int) -> tuple[float, float, float]:
    """The time of the change, epoch s, and the offsets before and from then on, s."""

    def offset(time: int) -> float:
        return datetime.fromtimestamp(time, of).utcoffset().total_seconds()  # type: ignore[union-attr]

    low, high = day * int(DAY_S), (day + 1) * int(DAY_S)
    before, after = offset(low), offset(high)
    while before != after and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle) == before else (low, middle)
    return float(high), before, after


@cache
def zone(name: str) -> tzinfo:
    """A time zone of the package tzdata. ConfigurationError if there is none of this name."""
    if name == PLAIN:
        return UTC
    known = files("tzdata").joinpath("zones").read_text("ascii").split()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        more = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"timezone: must be a name as Europe/Berlin or UTC, got {name!r}{more}")
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, name)


def instant(text: str, of: tzinfo) -> float:
    """Epoch s of an ISO 8601 time, which is local to the zone where it has none of its own; a date is its midnight."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=of)).timestamp()


@cache
def holidays_of(country: str | None, region: str | None) -> Callable[[int], tuple[bool]] | None:
    """Whether a day since 1970 is a public holiday there; None without a country. ConfigurationError if unknown."""
    if country is None:
        if region is not None:
            raise ConfigurationError(f"holidays.region: must be given with holidays.country, got {region!r}")
        return None
    import holidays  # here: a tenth of a second

    known: Mapping[str, Sequence[str]] = holidays.list_supported_countries(include_aliases=False)
    if country not in known:
        raise ConfigurationError(f"holidays.country: must be one of {', '.join(sorted(known))}, got {country!r}")
    if region is not None and region not in known[country]:
        there = f"one of {', '.join(known[country])}" if known[country] else f"left out, as {country} has none"
        raise ConfigurationError(f"holidays.region: must be {there}, got {region!r}")
    found = holidays.country_holidays(country, subdiv=region)
    first = date(1970, 1, 1)
    return lambda day: (first + timedelta(days=day) in found,)


UTC_CALENDAR = Calendar()


def places(
    times: Sequence[float] | np.ndarray, metrics: int | np.ndarray = 1, calendar: Calendar = UTC_CALENDAR
) -> np.ndarray:
    """``AT`` of points at these times, epoch s, of so many metrics each, without any maintenance before them."""
    found = np.zeros(len(times), _AT)
    found["time"], found["metrics"], found["since"] = times, metrics, -np.inf
    found["week"] = calendar.weeks(found["time"])
    return found

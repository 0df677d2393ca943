"""Times as programs and people write them, and which form a column has.

    ISO 8601            2023-01-31 13:05:00, 2023-01-31T13:05:00.250+01:00, 2023-01-31 13:05:00 UTC
    numbers             epoch s, ms, us or ns by their size; 20230131, 202301311305, 20230131130500; Excel's days
    RFC 2822            Tue, 31 Jan 2023 13:05:00 GMT
    day or month first  31.01.2023 13:05, 1/31/2023 1:05:00 PM, 31-01-23
    with a month's name 31 Jan 2023 13:05, Jan 31, 2023, 1:05 PM, Tue Jan 31 13:05:00 2023

One form is chosen for a column: the one that reads most cells of a sample. 01/02/2023 can be read in two ways; unless
another cell settles it, it is refused. So are numbers that may be Excel's days or seconds.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from app.errors import ConfigurationError
from app.offline.options import EXCEL, Ambiguous, DateOrder, FileOptions
from app.wire.times import END_OF_TIME, SMALLEST, UNITS, WORDS, unit_of
from app.wire.times import seconds as seconds_of

EXCEL_EPOCH = datetime(1899, 12, 30)
EXCEL_DAYS = 20_000.0, 80_000.0  # 1954..2119: numbers of a time column that may be Excel's days
DATE_WORDS = ("date", "datum", "day", "tag", "fecha", "dia", "jour")
MONTHS = {name: at for at, name in enumerate(calendar.month_abbr) if at} | {
    "Mär": 3,
    "Mrz": 3,
    "Mai": 5,
    "Okt": 10,
    "Dez": 12,
}
ANY_TIME = "an ISO 8601 time or a number"

CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:\s*([AaPp])\.?\s?[Mm]\.?)?(?:\s*Uhr)?"
YEAR = r"(\d{4}|\d{2})"
ZONE = r"(?:\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
AFTER_DATE = rf"(?:(?:,?\s+|T|:|\s+-\s+){CLOCK}{ZONE})?"
WEEKDAY = r"(?:[^\W\d]{2,9}\.?,?\s+)?"
SHAPES = {
    "year first": re.compile(rf"(\d{{4}})([./-])(\d{{1,2}})\2(\d{{1,2}}){AFTER_DATE}"),
    "day first": re.compile(rf"{WEEKDAY}(\d{{1,2}})([./-])(\d{{1,2}})\2(\d{{4}}|\d{{2}}){AFTER_DATE}"),
    "day, month's name": re.compile(
        rf"{WEEKDAY}(\d{{1,2}})(\.?[\s/-])\s*([^\W\d]{{3,9}})\.?,?[\s/-]{YEAR}{AFTER_DATE}"
    ),
    "month's name, day": re.compile(rf"{WEEKDAY}([^\W\d]{{3,9}})(\.?\s)\s*(\d{{1,2}}),?\s+(\d{{4}}){AFTER_DATE}"),
    "ctime": re.compile(rf"[A-Za-z]{{3}}\s+([A-Za-z]{{3}})\s+(\d{{1,2}})\s+{CLOCK}{ZONE}\s+(\d{{4}})"),
}  # fmt: skip
CLOCK_ONLY = re.compile(CLOCK + ZONE)
RFC_2822 = re.compile(
    r"(?:[A-Za-z]{3},\s*)?\d{1,2}\s+[A-Za-z]{3}\s+\d{2,4}\s+\d{1,2}:\d{2}(?::\d{2})?\s+(\S+)(?:\s+\(.*\))?"
)


@dataclass(frozen=True)
class TimeFormat:
    """One form of times.

    ``read`` gives epoch seconds, or a datetime, which without a zone is a local time; ValueError where the text is
    not of this form. ``kind``: "iso", "number" (of ``unit``) or "" for the others.
    """

    name: str
    expected: str
    read: Callable[[str], float | datetime]
    kind: str = ""
    unit: str = ""


def is_time(cell: str) -> bool:
    """A date, perhaps with a time of the day, in any form but that of a number."""
    cell = cell.strip()
    return len(cell) > 5 and any(
        _reads(each, cell) for each in (ISO, *WRITTEN, _numeric("day-first"), _numeric("month-first"))
    )


def is_clock(cell: str) -> bool:
    """A time of the day without a date."""
    return CLOCK_ONLY.fullmatch(cell.strip()) is not None


def is_day(cell: str) -> bool:
    """A date without a time of the day."""
    cell = cell.strip()
    return ":" not in cell and (is_time(cell) or _reads(DIGITS[0], cell))


def is_epoch(cells: Sequence[str]) -> bool:
    """Whole numbers that are times after 1973, most of them, in s, ms, us or ns."""
    found = [cell.strip() for cell in cells]
    times = sum(cell.partition(".")[0].isdecimal() and float(cell) >= SMALLEST and bool(unit_of(float(cell)))
                for cell in found if is_plain_number(cell) and "," not in cell)  # fmt: skip
    return 2 * times > len(found)


def is_plain_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return "_" not in cell


def format_of(where: str, column: str, cells: Sequence[str], options: FileOptions, unit: str | None) -> TimeFormat:
    """The form of a column's times, from some of its cells that are not missing. Raises Ambiguous.

    ``where`` begins the message; ``unit`` is that of numbers, None: found out.
    """
    if options.time_format == EXCEL:
        return EXCEL_DAY
    if options.time_format is not None:
        return _strptime(options.time_format)
    cells = [cell.strip() for cell in cells]
    numbers = [cell for cell in cells if is_plain_number(cell)]
    if numbers and 2 * len(numbers) >= len(cells):
        return _of_numbers(where, column, numbers, unit)
    return _written(where, column, cells, options.date_order)


def _of_numbers(where: str, column: str, cells: Sequence[str], unit: str | None) -> TimeFormat:
    if unit:
        return _number(unit)
    for each in DIGITS:
        if all(_reads(each, cell) for cell in cells):
            return each
    numbers = [float(cell.replace(",", ".", 1)) for cell in cells]
    low, high = min(numbers), max(numbers)
    if EXCEL_DAYS[0] <= low and high < EXCEL_DAYS[1]:
        if any(word in column.lower() for word in DATE_WORDS):
            return EXCEL_DAY
        choice = f"--time-format {EXCEL} or --time-unit s"
        raise Ambiguous(f"{where}: column {column!r} holds {cells[0]!r}, Excel's days or seconds: {choice} says which")
    if all(len(cell) == 4 and "1900" <= cell < "2200" for cell in cells):
        choice = "--time-format %Y or --time-unit s"
        raise Ambiguous(f"{where}: column {column!r} holds {cells[0]!r}, years or seconds: {choice} says which")
    units = [unit_of(number) or "s" for number in numbers]
    return _number(max(UNITS, key=units.count))


def _written(where: str, column: str, cells: Sequence[str], order: DateOrder | None) -> TimeFormat:
    day, month = _numeric("day-first"), _numeric("month-first")
    by_order = {"day-first": [day], "month-first": [month, DOTTED], None: [day, month]}[order]
    forms = [ISO, *WRITTEN, *by_order]
    counts = [sum(_reads(each, cell) for cell in cells) for each in forms]
    best = forms[counts.index(max(counts))]
    if not order and best in (day, month) and counts[-1] == counts[-2]:
        doubtful = [
            cell for cell in cells if _reads(day, cell) and "." not in cell[:4] and day.read(cell) != month.read(cell)
        ]
        if doubtful:
            raise Ambiguous(
                f"{where}: column {column!r}: {doubtful[0]!r} may be {_day(day, doubtful[0])} or "
                f"{_day(month, doubtful[0])}: --date-order day-first or --date-order month-first says which it is"
            )
    if cells and not max(counts):
        choice = "--time-format gives their form, as for strptime; --time names another column"
        raise Ambiguous(
            f"{where}: column {column!r} holds {cells[0]!r}, which is no time in a form that is known: {choice}"
        )
    return best


def _day(form: TimeFormat, cell: str) -> str:
    found = form.read(cell)
    return found.date().isoformat() if isinstance(found, datetime) else ""


class TimeReader:
    """Texts of one form to epoch seconds.

    ``zone`` is that of local times, None: UTC. The hour that is there twice when clocks are set back is read as the
    first one, until the times of a source go back inside it. ``read`` raises ValueError, which says what was expected.
    """

    def __init__(self, form: TimeFormat, zone: ZoneInfo | None) -> None:
        self.form, self.zone, self._read = form, zone, form.read
        self._last: dict[str, float] = {}  # by source: the last time in an hour that is there twice

    def read(self, text: str, source: str = "") -> float:
        try:
            found = self._read(text.strip())
        except (ValueError, OverflowError):
            raise ValueError(f"{self.form.expected}, got {text.strip()!r}") from None
        if isinstance(found, datetime):
            found = found.timestamp() if found.tzinfo else self._local(found, source)
        seconds = found
        if not 0.0 <= seconds < END_OF_TIME:
            raise ValueError(f"a time in 1970..2199, got {text.strip()!r}{self._hint(text)}")
        return seconds

    def _hint(self, text: str) -> str:
        if self.form.kind != "number":
            return ""
        unit = unit_of(float(text.replace(",", ".", 1)))
        return f" (in {WORDS[unit]}, perhaps)" if unit and unit != self.form.unit else ""

    def _local(self, found: datetime, source: str) -> float:
        if self.zone is None:
            return found.replace(tzinfo=UTC).timestamp()
        first, second = (found.replace(tzinfo=self.zone, fold=fold) for fold in (0, 1))
        before, after = first.utcoffset(), second.utcoffset()
        if before == after:
            return first.timestamp()
        assert before is not None and after is not None
        if before < after:
            raise ValueError(f"a time that is there in {self.zone}, got {found}, when clocks were set forward")
        time = first.timestamp()
        last = self._last.get(source)
        # Not of last year: the hour is there once a year.
        if last is not None and time < last < time + 86_400.0:
            time = second.timestamp()
        self._last[source] = time
        return time


def zone_of(name: str | None) -> ZoneInfo | None:
    """ConfigurationError where there is no such zone."""
    if name is None or name.upper() == "UTC":
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigurationError(f"--timezone: expected a name like Europe/Berlin, got {name!r}") from None


def parse_time(text: str) -> float:
    """Epoch seconds of a number of seconds, or of an ISO 8601 time; without zone it is UTC. Raises ValueError."""
    form = _number("s") if is_plain_number(text) else ISO
    return TimeReader(form, None).read(text)


# --- the forms


def _reads(form: TimeFormat, cell: str) -> bool:
    try:
        form.read(cell)
    except (ValueError, OverflowError):
        return False
    return True


def _iso(text: str) -> datetime:
    if text[-4:] in (" UTC", " GMT"):
        found = _iso(text[:-4])
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    if len(text) > 20 and " " in (text[-6], text[-7]):  # 13:05:00 +0100, as Go writes it
        head, _, zone = text.rpartition(" ")
        text = head + zone if zone[0] in "+-" else text
    if text[11:16] == "24:00":  # Python reads it from 3.14 on
        return _iso(text[:11] + "00" + text[13:]) + timedelta(days=1)
    if text[4:5] != "-" and is_plain_number(text):  # 20230131 is decided with the whole column
        raise ValueError
    return datetime.fromisoformat(text)


def _rfc_2822(text: str) -> datetime:
    shape = RFC_2822.fullmatch(text)
    found = parsedate_to_datetime(text) if shape else None
    if shape is None or found is None or (found.tzinfo is None and shape[1] != "-0000"):  # a zone nobody knows
        raise ValueError
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _datetime(year: str, month: int, day: str, clock: Sequence[str | None]) -> datetime:
    hour, minute, second, fraction, half, zone = clock
    y, h = int(year), int(hour or 0)
    if len(year) == 2:
        y += 1900 if y >= 70 else 2000
    if half:
        if not 1 <= h <= 12:
            raise ValueError
        h = h % 12 + 12 * (half in "Pp")
    micro = int((fraction or "0").ljust(9, "0")) // 1000
    next_day = h == 24 and not (int(minute or 0) or int(second or 0) or micro)
    found = datetime(y, month, int(day), 0 if next_day else h, int(minute or 0), int(second or 0), micro)
    found += timedelta(days=next_day)
    if not zone:
        return found
    if zone[0] not in "+-":
        return found.replace(tzinfo=UTC)
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return (found - (offset if zone[0] == "+" else -offset)).replace(tzinfo=UTC)


def _shape(name: str, text: str) -> Sequence[str]:
    found = SHAPES[name].fullmatch(text)
    if found is None:
        raise ValueError
    return found.groups()


def _month(name: str) -> int:
    month = MONTHS.get(name[:3].capitalize())
    if month is None:
        raise ValueError
    return month


def _year_first(text: str) -> datetime:
    year, _, month, day, *clock = _shape("year first", text)
    return _datetime(year, int(month), day, clock)


def _day_first(text: str) -> datetime:
    day, _, month, year, *clock = _shape("day first", text)
    return _datetime(year, int(month), day, clock)


def _dotted(text: str) -> datetime:
    if "/" in text or "-" in text[:8]:
        raise ValueError
    return _day_first(text)


def _month_first(text: str) -> datetime:
    month, separator, day, year, *clock = _shape("day first", text)
    if separator == ".":
        raise ValueError
    return _datetime(year, int(month), day, clock)


def _day_and_name(text: str) -> datetime:
    day, _, month, year, *clock = _shape("day, month's name", text)
    return _datetime(year, _month(month), day, clock)


def _name_and_day(text: str) -> datetime:
    month, _, day, year, *clock = _shape("month's name, day", text)
    return _datetime(year, _month(month), day, clock)


def _ctime(text: str) -> datetime:
    month, day, *clock, year = _shape("ctime", text)
    return _datetime(year, _month(month), day, clock)


def _excel(text: str) -> datetime:
    days = float(text.replace(",", ".", 1))
    if not 0.0 < days < 110_000.0:
        raise ValueError
    return EXCEL_EPOCH + timedelta(milliseconds=round(days * 86_400_000.0))


def _numeric(order: DateOrder) -> TimeFormat:
    return DAY_FIRST if order == "day-first" else MONTH_FIRST


def _number(unit: str) -> TimeFormat:
    def read(text: str) -> float:
        if "_" in text:
            raise ValueError
        return seconds_of(float(text.replace(",", ".", 1)), unit)

    return TimeFormat(f"epoch {WORDS[unit]}", ANY_TIME, read, "number", unit)


def _strptime(given: str) -> TimeFormat:
    return TimeFormat(given, f"a time like {given}", lambda text: datetime.strptime(text, given))


def _digits(name: str, size: int) -> TimeFormat:
    def read(text: str) -> datetime:
        if len(text) != size or not text.isdecimal() or not "1970" <= text < "2200":
            raise ValueError
        parts = [int(text[at : at + 2]) for at in range(4, size, 2)]
        return datetime(int(text[:4]), *parts)  # type: ignore[arg-type]

    return TimeFormat(name, f"a time as {name}", read)


ISO = TimeFormat("ISO 8601", ANY_TIME, _iso, "iso")
DAY_FIRST = TimeFormat("day first", "a time as 31.12.2023 13:05", _day_first)
DOTTED = TimeFormat("day first", "a time as 31.12.2023 13:05", _dotted)  # the day is first wherever dots are written
MONTH_FIRST = TimeFormat("month first", "a time as 12/31/2023 1:05 PM", _month_first)
EXCEL_DAY = TimeFormat("Excel's days", "a number of days since 1899-12-30", _excel)
WRITTEN = (
    TimeFormat("RFC 2822", "a time as Sun, 31 Dec 2023 13:05:00 GMT", _rfc_2822),
    TimeFormat("year first", "a time as 2023/12/31 13:05", _year_first),
    TimeFormat("day, name of the month", "a time as 31 Dec 2023 13:05", _day_and_name),
    TimeFormat("name of the month, day", "a time as Dec 31, 2023 13:05", _name_and_day),
    TimeFormat("ctime", "a time as Sun Dec 31 13:05:00 2023", _ctime),
)
DIGITS = (_digits("YYYYMMDD", 8), _digits("YYYYMMDDhhmm", 12), _digits("YYYYMMDDhhmmss", 14))

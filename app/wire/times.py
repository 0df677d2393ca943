"""Numeric times and their unit.

Where the settings name no unit, it is found by the size of each number alone, without other records, so that every
process and every replay reads a record in the same way. The times from 1970 to 2200 in seconds, and those from March
1973 (10^8 s) to 2200 in the other units, do not overlap:

    s 0..7.26e9   ms 1e11..7.26e12   us 1e14..7.26e15   ns 1e17..7.26e18

Numbers between these ranges are refused: they would be early in 1970 in one unit, or after 2200 in the next.
"""

from __future__ import annotations

import numpy as np

END_OF_TIME = 7_258_118_400.0  # 2200-01-01 UTC
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # name -> how many are a second
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
SMALLEST = 1e8  # s; a time in ms, us or ns whose unit is found out is at least this


def unit_of(number: float) -> str | None:
    """The unit in which this number is a time; None where that is not certain.

    >>> [unit_of(n) for n in (0, 1698401060, 1698401060250, 1698401060250000, 1698401060250000000, 8e9, -1)]
    ['s', 's', 'ms', 'us', 'ns', None, None]
    """
    if 0.0 <= number < END_OF_TIME:
        return "s"
    for name, per_second in UNITS.items():
        if SMALLEST * per_second <= number < END_OF_TIME * per_second:
            return name
    return None


def seconds(number: float, unit: str) -> float:
    """Epoch seconds; nanoseconds are rounded to microseconds, which is the precision of floats of this size.

    >>> seconds(1698401060_123_000_000.0, "ns")
    1698401060.123
    """
    return round(number / 1e3) / 1e6 if unit == "ns" else number / UNITS[unit]


def all_seconds(numbers: list[float], unit: str) -> list[float]:
    """``seconds`` of a list.

    >>> all_seconds([1698401060_123_000_000.0, 1698401060_123_456_789.0], "ns")
    [1698401060.123, 1698401060.123457]
    """
    if unit == "s":
        return numbers
    array = np.array(numbers)
    return (np.rint(array / 1e3) / 1e6 if unit == "ns" else array / UNITS[unit]).tolist()


def hint(number: float, unit: str | None) -> str:
    """A hint for the reason, when a number is not a time in this unit (None: found by size)."""
    if unit is None:
        return "; set input.timestamp_unit" if number > 0.0 else ""
    better = unit_of(number)
    if better is None or better == unit:
        return ""
    return f"; it looks like {WORDS[better]}: set input.timestamp_unit to {better}"

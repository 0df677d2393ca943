"""How a CSV is laid out: what stands between cells, which row is the header, what comes before it.

Spreadsheets and exports put lines before the table (``sep=;``, a title, InfluxDB's annotations, comments) and a row of
units below its header. All of it is found from a sample of the rows.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.offline.numbers import is_missing, is_number
from app.offline.times import is_time

SEPARATORS = ",;\t|"
SAMPLE_ROWS = 1000
FIRST_ROWS = 30  # among which the header is looked for
ANNOTATIONS = ("#group", "#datatype", "#default")  # InfluxDB's, above each of its tables
csv.field_size_limit(32 << 20)  # a line has at most 16 MiB (app.offline.lines)


@dataclass
class Layout:
    """Where the table of a file is. Rows are counted without blank lines."""

    separator: str
    header: list[str]  # the first row of data, where the file is headless
    before: int  # rows before the header
    headless: bool
    units: int  # rows below the header that are no data
    rows: list[list[str]] = field(default_factory=list)  # of data, some of the first ones
    notes: list[str] = field(default_factory=list)


def layout_of(text: str, limit: int = SAMPLE_ROWS) -> Layout | None:
    """Of a file that begins with this text; None where there is no row."""
    separator, declared = _declared(text)
    if not separator:
        separator = max(SEPARATORS, key=lambda each: _likelihood(_rows(text, each, FIRST_ROWS)))
    rows = _rows(text, separator, limit + FIRST_ROWS)
    if len(rows) <= declared:
        return None
    at = _header_row(rows, declared)
    header, data = rows[at], rows[at + 1 :]
    if header[0].startswith("#"):
        header = [header[0].lstrip("# "), *header[1:]]
    headless = _is_data_row(header)
    units = 0 if headless else next((i for i, row in enumerate(data[:3]) if _holds_data(row)), 0)
    layout = Layout(separator, header, at, headless, units, ([header] if headless else []) + data[units:limit])
    if at > declared:
        layout.notes.append(f"left out before the header: {_shown(rows[declared:at])}")
    if units:
        layout.notes.append(f"left out below the header: {_shown(data[:units])}")
    return layout


def _declared(text: str) -> tuple[str, int]:
    """The separator that Excel's first line ``sep=;`` names, and how many rows that line is."""
    first = text.lstrip("\r\n")[:12].splitlines()[:1]
    line = first[0].strip('"') if first else ""
    if line[:4].lower() == "sep=" and len(line) in (4, 5):
        return line[4:] or "\t", 1
    return "", 0


def _rows(text: str, separator: str, limit: int) -> list[list[str]]:
    """The first rows that are not blank."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            if row:
                rows.append(row)
                if len(rows) >= limit:
                    break
    except csv.Error:  # reported when the row is read
        pass
    return rows


def _likelihood(rows: Sequence[Sequence[str]]) -> tuple[float, int]:
    """That this is the table: rows of the same width, of cells that are numbers or times."""
    if not rows:
        return 0.0, 0
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if width < 2:
        return 0.0, len(rows[0])
    cells = [cell for row in rows[1:] for cell in row if not is_missing(cell)]
    typed = sum(_is_data(cell) for cell in cells) / max(len(cells), 1)
    return count / len(rows) * typed, len(rows[0])


def _header_row(rows: Sequence[Sequence[str]], start: int) -> int:
    at = start
    while at + 1 < len(rows) and rows[at][0].startswith("#"):
        is_header = not rows[at + 1][0].startswith("#") and _holds_data(rows[at + 1]) and len(rows[at]) > 1
        if is_header and not rows[at][0].startswith(ANNOTATIONS):
            return at
        at += 1
    width = Counter(len(row) for row in rows[at:]).most_common(1)[0][0]
    if width < 2 or (len(rows[at]) >= width and _holds_data(rows[at])):
        return at
    data = [*map(_holds_data, rows), True]
    first = next(  # row of data: another one, or the names of the columns stand beside it
        (i for i in range(at + 1, len(rows)) if data[i] and (data[i + 1] or _names_columns(rows[i - 1], width))), at
    )
    named = [i for i in range(at, first) if _names_columns(rows[i], width)]
    if len(named) > 1 and named[-2] == named[-1] - 1:
        return named[-2]  # below it are the units
    return named[-1] if named else at


def _names_columns(row: Sequence[str], width: int) -> bool:
    return len(row) >= width - 1 and sum(bool(cell.strip()) for cell in row) > 1 and not _holds_data(row)


def _is_data(cell: str) -> bool:
    return is_number(cell) or is_time(cell)


def _holds_data(row: Sequence[str]) -> bool:
    return any(_is_data(cell) for cell in row if not is_missing(cell))


def _is_data_row(row: Sequence[str]) -> bool:
    """It is no header: only numbers and times in it, or beside text one time, also as epoch seconds or finer."""
    if all(map(_is_data, row)):
        return True
    return sum(is_time(cell) or (len(cell) > 8 and cell.isdecimal()) for cell in map(str.strip, row)) == 1


def _shown(rows: Sequence[Sequence[str]]) -> str:
    text = "; ".join(" ".join(cell.strip() for cell in row if cell.strip()) for row in rows)
    return text if len(text) <= 100 else text[:97] + "..."

"""Which column of a CSV is what, and how a row becomes a point.

No options are needed where names are the usual ones. The time column is called timestamp, datetime, time,
ts or date (case, spaces, ``_`` and ``-`` do not count); without one the number of the row stands for the
time. A source column is called source, sourceId or entity_id; without one all rows are of one source.
label, anomaly, is_anomaly and changepoint are never values, nor is a column without a name. All others are,
several as one vector, except columns of text: the first row that holds a number decides which these are. A file
of numbers only has no header.

A cell that is empty or says NA, NaN, null or None is missing, not zero; a row of missing cells is no
point. A row with any other cell that cannot be read is refused as a whole: a point scored without the
metric that failed would be silently wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from app.compiled.numeric import LARGEST, LARGEST_TEXT
from app.errors import ConfigurationError, InvalidPoint
from app.settings import InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.wire.times import END_OF_TIME

TIME_NAMES = ("timestamp", "datetime", "time", "ts", "date")
SOURCE_NAMES = ("source", "sourceid", "entityid")
LABEL_NAMES = ("label", "anomaly", "isanomaly", "changepoint")
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none"))
NO, YES = frozenset(("", "no", "false", "normal")), frozenset(("yes", "true", "anomaly"))


class CsvPoint(NamedTuple):
    """A point, before it is put into the columns of ``app.pipeline.points.Points``."""

    source: str
    timestamp: float | None  # None: the file has no time column
    values: list[float]  # by name of metric
    metrics: list[str]  # sorted
    label: str  # kind of anomaly, "" where normal


class CsvColumns:
    """The columns of one file, found from its header.

    ``name`` is the file in messages; ``fields`` names columns that are not called as usual; ``source`` is
    the source where there is no such column; ``time_format`` is strptime's. ConfigurationError when a
    column asked for is not there, or none is left for values.
    """

    def __init__(
        self, name: str, header: list[str], fields: InputSettings, source: str, time_format: str | None = None
    ) -> None:
        self.name, self.source = name, source
        self.unit, self.time_format = fields.timestamp_unit or "s", time_format
        self.notes: list[str] = []  # decisions that may surprise
        self.headless = all(is_number(cell) or _is_time(cell) for cell in header)
        self.header = _made_up(header) if self.headless else [cell.strip() for cell in header]
        self.plain = [_plain(each) for each in self.header]
        self.time_at = self._find(TIME_NAMES, fields.timestamp_field, "input.timestamp_field or --time")
        self.source_at = self._find(SOURCE_NAMES, fields.source_field, "input.source_field or --source")
        self.label_at = self._find(LABEL_NAMES[:3])
        self.values = self._sorted(
            [self._find((), each, "input.value_fields or --value") for each in fields.value_fields]
            or [i for i in range(len(header)) if self._may_hold_values(i)]
        )
        self.max_metrics = fields.max_metrics
        self.text_is_known = bool(fields.value_fields) or len(self.values) == 1
        # Points are a number each, not vectors or of a metric with a name.
        self.one_plain_value = [metric for metric, _ in self.values] == ["value"]
        self.good_sources: set[str] = set()

    @property
    def has_labels(self) -> bool:
        return self.label_at is not None

    def row(self, cells: list[str]) -> CsvPoint | None:
        """The point of a row; None when it holds no value; InvalidPoint when it cannot be read."""
        if len(cells) != len(self.header):
            cells = self._fitted(cells)
        if not self.text_is_known:
            self._leave_out_text(cells)
        metrics, values = [], []
        for metric, at in self.values:
            x = _number(metric, cells[at])
            if x is not None:
                metrics.append(metric)
                values.append(x)
        if not values:
            return None
        if len(values) > self.max_metrics:
            limit = f"at most {self.max_metrics} metrics (input.max_metrics)"
            raise InvalidPoint("too_many_metrics", f"expected {limit}, found {len(values)}; --value names some")
        source = self.source if self.source_at is None else self._source(cells[self.source_at])
        timestamp = None if self.time_at is None else self._time(cells[self.time_at])
        label = "" if self.label_at is None else label_of(cells[self.label_at])
        return CsvPoint(source, timestamp, values, metrics, label)

    def _find(self, usual: Iterable[str], wanted: str | None = None, setting: str = "") -> int | None:
        if wanted is None:
            return next((self.plain.index(each) for each in usual if each in self.plain), None)
        for names, each in ((self.header, wanted), (self.plain, _plain(wanted))):
            if each in names:
                return names.index(each)
        found = ", ".join(self.header)
        raise ConfigurationError(f"{self.name}: no column {wanted!r} ({setting}); found {found}")

    def _may_hold_values(self, at: int) -> bool:
        known = self.plain[at] in TIME_NAMES + SOURCE_NAMES + LABEL_NAMES
        return bool(self.header[at]) and not known and at not in (self.time_at, self.source_at)

    def _sorted(self, columns: list) -> list[tuple[str, int]]:
        """By metric, as the cells of a point are."""
        values = sorted((self.header[at], at) for at in columns)
        if not values:
            found = ", ".join(self.header)
            raise ConfigurationError(f"{self.name}: expected a column of values, found {found}")
        for (one, _), (other, _) in pairwise(values):
            if one == other:
                raise ConfigurationError(f"{self.name}: two columns are called {one!r}: rename one")
        for metric, _ in values:
            if len(metric.encode()) > MAX_METRIC_BYTES:
                limit = f"a metric's name of at most {MAX_METRIC_BYTES} bytes"
                raise ConfigurationError(f"{self.name}: expected {limit}, found column {metric!r}")
        return values

    def _fitted(self, cells: list[str]) -> list[str]:
        """Spreadsheets leave out empty cells at the end of a row, or add some."""
        width = len(self.header)
        if any(cell.strip() for cell in cells[width:]):
            raise InvalidPoint("wrong_type", f"expected {width} cells as in the header, found {len(cells)}")
        return (cells + [""] * width)[:width]

    def _leave_out_text(self, cells: list[str]) -> None:
        numbers = [(metric, at) for metric, at in self.values if is_number(cells[at])]
        if any(not _is_missing(cells[at]) for _, at in numbers):
            for metric, at in self.values:
                if (metric, at) not in numbers:
                    self.notes.append(
                        f"{self.name}: column {metric!r} is left out, {cells[at]!r} is not a number "
                        "(--value NAME reads it anyway, --source NAME uses it as the source)"
                    )
            self.values, self.text_is_known = numbers, True
            self.one_plain_value = [metric for metric, _ in numbers] == ["value"]

    def _source(self, cell: str) -> str:
        source = cell.strip()
        if source not in self.good_sources:
            size = len(source.encode())
            if "\ufffd" in source:  # what decoding puts in the place of other bytes
                raise InvalidPoint("bad_source", f"the source must be UTF-8, got {source!r}")
            if not 0 < size <= MAX_SOURCE_BYTES:
                raise InvalidPoint("bad_source", f"the source must have 1 to 256 bytes, got {size}")
            self.good_sources.add(source)
        return source

    def _time(self, cell: str) -> float:
        try:
            return parse_time(cell, self.unit, self.time_format)
        except ValueError as problem:
            column = self.header[self.time_at or 0]
            raise InvalidPoint("bad_timestamp", f"column {column!r} must be {problem}") from None


def parse_time(text: str, unit: str = "s", time_format: str | None = None) -> float:
    """Epoch seconds of a number in the unit, or of an ISO 8601 time; without zone it is UTC.

    With ``time_format`` (strptime's) only that is read. ValueError says what was expected and found.
    """
    text = text.strip()
    try:
        if time_format is not None:
            seconds = _seconds(datetime.strptime(text, time_format))
        elif ":" in text or not is_number(text):
            seconds = _seconds(datetime.fromisoformat(text))
        else:
            seconds = float(text) / (1000.0 if unit == "ms" else 1.0)
    except ValueError:
        expected = f"a time like {time_format}" if time_format else "an ISO 8601 time or a number"
        raise ValueError(f"{expected}, got {text!r}") from None
    if not 0.0 <= seconds < END_OF_TIME:
        hint = " (in milliseconds, perhaps)" if unit == "s" and 0.0 <= seconds / 1000.0 < END_OF_TIME else ""
        raise ValueError(f"a time in 1970..2199, got {text!r}{hint}")
    return seconds


def is_number(cell: str) -> bool:
    """A number, or a cell that says there is none."""
    try:
        float(cell)
    except ValueError:
        return _is_missing(cell)
    return True


def _number(metric: str, cell: str) -> float | None:
    """None where the cell says that there is none."""
    try:
        x = float(cell)
    except ValueError:
        if _is_missing(cell):
            return None
        raise InvalidPoint("wrong_type", f"column {metric!r} must be a number, got {cell!r}") from None
    if -LARGEST <= x <= LARGEST and "_" not in cell:  # float() takes 1_000
        return x
    if x != x:
        return None
    expected = f"a number of at most {LARGEST_TEXT} in size"
    raise InvalidPoint("out_of_range", f"column {metric!r} must be {expected}, got {cell!r}")


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def _is_time(cell: str) -> bool:
    try:
        datetime.fromisoformat(cell.strip())
    except ValueError:
        return False
    return not is_number(cell)


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", " _-@"))


def _made_up(first_row: list[str]) -> list[str]:
    """Names for columns that have none: timestamp, value; several values are column_1 and so on."""
    times = [_is_time(cell) for cell in first_row]
    alone = times.count(False) == 1
    return ["timestamp" if time else "value" if alone else f"column_{at}" for at, time in enumerate(times, 1)]


def label_of(cell: str) -> str:
    """The kind of anomaly that a label says; "" where it says that there is none."""
    kind = cell.strip()
    if kind.lower() in NO:
        return ""
    try:
        return "anomaly" if float(kind) else ""
    except ValueError:
        return "anomaly" if kind.lower() in YES else kind

"""Which column of a table is what, and how a row becomes points.

No options are needed where names are the usual ones, or where the cells leave no doubt:

- *Time*: a column called timestamp, datetime, time, ts, date, Zeit, Datum and the like (case, spaces, ``_``, ``-`` and
  what stands in brackets do not count), else the only one that holds times. A column of dates and one of times of the
  day are one time. Without any the number of the row stands for the time.
- *Source*: a column called source, sourceId or entity_id, else one of text called series, host, device and the like,
  else the column of text by which the times of the file fall into series that each go forward. Without any all rows are
  of one source. A column of text called metric, field or variable names the value: each is a series of its own.
- *Label*: label, anomaly, is_anomaly; changepoint is never a value.
- *Values*: all other columns with a name that hold numbers; several are one vector, or each a source of its own
  (``columns: sources``). Columns of text are left out, which is said.

A column with two possible meanings is refused, with the option that says which is right.

A cell that is empty or says NA, NaN, null or None is missing, not zero; a row of missing cells is no point. A row with
any other cell that cannot be read is refused as a whole: a point scored without the metric that failed would be
silently wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from shlex import quote
from typing import NamedTuple

from app.errors import ConfigurationError, InvalidPoint
from app.offline.csv_layout import ANNOTATIONS
from app.offline.numbers import NumberFormat, is_missing, is_number
from app.offline.numbers import format_of as number_format_of
from app.offline.options import Ambiguous, FileOptions
from app.offline.times import TimeReader, is_clock, is_day, is_epoch, is_time, zone_of
from app.offline.times import format_of as time_format_of
from app.settings import InputSettings
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE

TIME_NAMES = ("timestamp", "datetime", "time", "ts", "date", "zeitstempel", "zeitpunkt", "datumzeit", "zeit", "datum",
              "uhrzeit", "epoch", "unixtime", "eventtime")  # fmt: skip
TIME_WORD = re.compile("time|date|epoch|unix|zeit|datum|^ts")  # in the name of a column of numbers, as timestamp_ms
ALWAYS_TIME = TIME_NAMES[:5]  # never values
SOURCE_NAMES = ("source", "sourceid", "entityid")
SERIES_NAMES = ("series", "host", "hostname", "device", "deviceid", "devicename", "sensor", "sensorid", "machine",
                "machineid", "node", "instance", "tags")  # fmt: skip
HOUR_NAMES, CLOCK_NAMES = ("hour", "stunde", "hr"), ("time", "zeit", "uhrzeit")
METRIC_NAMES = ("metric", "metricname", "field", "fieldname", "variable")
LABEL_NAMES = ("label", "anomaly", "isanomaly", "changepoint")
INFLUX = ("_time", "_value")  # a table of InfluxDB's, where these are:
INFLUX_OWN = ("result", "table", "_start", "_stop")
NO, YES = frozenset(("", "no", "false", "normal")), frozenset(("yes", "true", "anomaly"))
SHOWN = 5  # columns named in one line


class CsvPoint(NamedTuple):
    """A point, before it is put into the columns of ``app.pipeline.points.Points``."""

    source: str
    timestamp: float | None  # None: the file has no time column
    values: list[float]  # by name of metric
    metrics: list[str]  # sorted
    label: str  # kind of anomaly, "" where normal
    metric: str = ""  # of the point's series
    place: int = 0  # of the column, where each is a source


class CsvColumns:
    """The columns of one file, found from its header and some of its rows.

    ``name`` is the file in messages; ``fields`` names columns that are not called as usual; ``source`` is the source
    where there is no such column; ``continental``: cells are separated by ``;``. ConfigurationError when a column asked
    for is not there, none is left for values, or something is in doubt (Ambiguous, which more rows may settle).
    """

    def __init__(
        self,
        name: str,
        header: Sequence[str],
        sample: Sequence[Sequence[str]],
        fields: InputSettings,
        options: FileOptions,
        source: str,
        headless: bool = False,
        continental: bool = False,
    ) -> None:
        self.name, self.source, self.options, self._sample = name, source, options, sample
        self.notes: list[str] = []  # decisions that may surprise
        self.header = _generated_names(header, sample) if headless else [cell.strip() for cell in header]
        self.plain = [_plain(each) for each in self.header]
        self._cells = [self._sampled(at) for at in range(len(self.header))]
        self.max_metrics, self._unit = fields.max_metrics, fields.timestamp_unit
        wide = options.columns == "sources"
        self._clock_digits = 0  # of a column of times of the day that has none of ``:``: 2 are hours, 4 are hhmm
        self.label_at = next((at for at in self._called(LABEL_NAMES[:3]) if not self._mostly(at, is_time)), None)
        self._refuse_times_as_names()
        self.time_at = self._time_columns(options.time or _names_of(fields.timestamp_field))
        self.time = self._time_reader()
        used = {self.label_at, *self.time_at}
        wanted = fields.value_fields
        asked = [self._find(each, "input.value_fields or --value") for each in wanted]
        # Sources are chosen before values: a number may name one.
        self.source_at = self._source_columns(options.source or _names_of(fields.source_field), used | set(asked))
        used |= {*self.source_at, *asked}
        candidates = asked or [at for at in range(len(self.header)) if at not in used and self._may_hold_values(at)]
        self.metric_at = None if wide or asked else self._metric_column(candidates)
        self.values = self._sorted(asked or self._without_text([at for at in candidates if at != self.metric_at]))
        if self.metric_at is not None and len(self.values) > 1:
            self.notes.append(f"{name}: column {self.header[self.metric_at]!r} is left out: there are several values")
            self.metric_at = None
        cells = (cell for _, at in self.values for cell in self._cells[at])
        self.number: NumberFormat = number_format_of(name, cells, options.decimal, continental and self._has_dots())
        # Points are a number each, not vectors or of a metric with a name.
        self.one_plain_value = len(self.values) == 1 and (self.values[0][0] == VALUE or self.metric_at is not None)
        self.wide = wide
        # Text that was left out because all rows looked at have the same: what it is shows when it changes.
        self.constant: dict[int, str] = {}
        if not (self.source_at or wide) and self.time_at:
            self.constant = {at: cells[0] for at, cells in enumerate(self._cells) if self._left_out(at, used)}
        self._last_time = -1.0
        self.good_sources: set[str] = set()
        self._check_width()

    def interpretation(self) -> str:
        """How the columns are read, for the user."""
        zone = self.options.timezone or "UTC"
        time = "the number of the row (no column of times was found)"
        if self.time_at:
            local = "" if self.time.form.kind == "number" else f", {zone} where no zone is said"
            time = f"{self._names(self.time_at)} ({self.time.form.name}{local})"
        source = "source is the name of the file"
        if self.wide:
            after = f"{self._names(self.source_at)} and " if self.source_at else ""
            source = f"source from {after}the name of each column of values"
        elif self.source_at:
            source = f"source from {self._names(self.source_at)}"
        parts = [f"time from {time}", source]
        if self.metric_at is not None:
            parts.append(f"metric from {self.header[self.metric_at]}")
        number = " with a decimal comma" if self.number.decimal == "," else ""
        parts.append(f"values {self._names([at for _, at in self.values])}{number}")
        if self.label_at is not None:
            parts.append(f"labels {self.header[self.label_at]}")
        return ", ".join(parts)

    @property
    def has_labels(self) -> bool:
        return self.label_at is not None

    def is_repeated(self, cells: Sequence[str]) -> bool:
        """The header again, where tables stand one behind the other, or what InfluxDB writes above it."""
        return (cells[:1] and cells[0].startswith(ANNOTATIONS)) or [cell.strip() for cell in cells] == self.header

    def row(self, cells: list[str]) -> list[CsvPoint]:
        """The points of a row: one, one for each column where columns are sources, none where there is no value.

        InvalidPoint when it cannot be read.
        """
        if len(cells) != len(self.header):
            cells = self._fitted(cells)
        metrics, values = [], []
        for metric, at in self.values:
            x = self.number.read(metric, cells[at])
            if x is not None:
                metrics.append(metric)
                values.append(x)
        if not values:
            return []
        if len(values) > self.max_metrics and not self.wide:
            limit = f"at most {self.max_metrics} metrics (input.max_metrics)"
            raise InvalidPoint("too_many_metrics", f"expected {limit}, found {len(values)}; --value names some")
        source = self.source_of([cells[at] for at in self.source_at]) if self.source_at else self.source
        timestamp = self._time(cells, source) if self.time_at else None
        if self.constant and timestamp is not None:
            self._watch(cells, timestamp)
        label = "" if self.label_at is None else label_of(cells[self.label_at])
        if self.wide:
            prefix = f"{source}/" if self.source_at else ""
            each = zip(metrics, values)
            places = {metric: place for place, (metric, _) in enumerate(self.values)}
            return [CsvPoint(prefix + one, timestamp, [x], [VALUE], label, "", places[one]) for one, x in each]
        if self.metric_at is None:
            return [CsvPoint(source, timestamp, values, metrics, label)]
        metric = self.metric_of(cells[self.metric_at])
        return [CsvPoint(source, timestamp, values, [VALUE], label, metric)]

    def source_of(self, cells: Sequence[str]) -> str:
        """The name that these cells make; InvalidPoint where it is none."""
        source = "/".join(cell.strip() for cell in cells)
        if source not in self.good_sources:
            size = len(source.encode())
            if "\ufffd" in source:  # what decoding puts in the place of other bytes
                raise InvalidPoint("bad_source", f"the source must be UTF-8 (or name --encoding), got {source!r}")
            if not 0 < size <= MAX_SOURCE_BYTES:
                raise InvalidPoint("bad_source", f"the source must have 1 to 256 bytes, got {size}")
            self.good_sources.add(source)
        return source

    def metric_of(self, cell: str) -> str:
        """The name of a series of its source; "" for the plain value."""
        metric = cell.strip()
        if not 0 < len(metric.encode()) <= MAX_METRIC_BYTES:
            raise InvalidPoint("bad_metric", f"a metric's name must be 1 to {MAX_METRIC_BYTES} bytes, got {metric!r}")
        return "" if metric == VALUE else metric

    # --- finding them

    def _sampled(self, at: int) -> list[str]:
        return [row[at] for row in self._sample if at < len(row) and not is_missing(row[at])]

    def _called(self, usual: Iterable[str]) -> list[int]:
        """Columns of these names, in the order of the names."""
        return [at for name in usual for at, plain in enumerate(self.plain) if plain == name]

    def _find(self, wanted: str, setting: str) -> int:
        for names, each in ((self.header, wanted), (self.plain, _plain(wanted))):
            if each in names:
                return names.index(each)
        found = ", ".join(self.header)
        raise ConfigurationError(f"{self.name}: no column {wanted!r} ({setting}); found {found}")

    def _names(self, columns: Sequence[int]) -> str:
        names = [" ".join(self.header[at].split()) or f"column {at + 1}" for at in columns[:SHOWN]]
        return (
            " + ".join(names) if columns is self.time_at or columns is self.source_at else _listed(names, len(columns))
        )

    def _refuse_times_as_names(self) -> None:
        if len(times := [each for each in self.header if is_time(each)]) > 1:
            what = f"columns are called {times[0]!r}, {times[1]!r}: times must stand below each other, in a column"
            raise ConfigurationError(f"{self.name}: {what}")

    def _time_columns(self, wanted: Sequence[str]) -> tuple[int, ...]:
        if wanted:
            found = [self._find(each, "input.timestamp_field or --time") for each in wanted]
            if len(found) == 2:
                self._clock_digits = self._digits(found[1])
            return tuple(found)
        named = self._called(TIME_NAMES)
        clocks = [at for at in named if self._mostly(at, is_clock)]
        found = [at for at in named if at not in clocks and (self._cells[at] or not self._sample)]
        if len(found) > 1:
            found = [at for at in found if self._mostly(at, lambda cell: is_number(cell) or is_time(cell))] or found[:1]
        if not found:
            others = [at for at in range(len(self.header)) if at not in named and at != self.label_at]
            found = [at for at in others if self._mostly(at, is_time) and self.header[at] not in INFLUX_OWN]
        if not found:
            found = [
                at for at in range(len(self.header)) if TIME_WORD.search(self.plain[at]) and is_epoch(self._cells[at])
            ]
        days = [at for at in found if self._mostly(at, is_day)]
        clocks = clocks or [at for at in self._called(HOUR_NAMES + CLOCK_NAMES) if days and self._digits(at)]
        if clocks and days:
            self._clock_digits = self._digits(clocks[0])
            return days[0], clocks[0]
        if clocks and not found:
            what = f"column {self.header[clocks[0]]!r} holds times of the day, and no column holds dates"
            raise ConfigurationError(f"{self.name}: {what}: --time DATE --time CLOCK names two columns")
        if len(found) > 1 and self._sample:
            return self._one_of(found)
        return tuple(found[:1] or named[:1])

    def _digits(self, at: int) -> int:
        """Digits of times of the day that are whole numbers, 0: they are not. 7 is 7:00 of an hour, else 0:07."""
        cells = [cell.strip() for cell in self._cells[at]]
        for size, most in ((2, 24), (4, 2400), (6, 240_000)):
            if size == 2 and self.plain[at] not in HOUR_NAMES:
                continue
            if cells and all(cell.isdecimal() and int(cell) <= most for cell in cells):
                return size
        return 0

    def _one_of(self, columns: Sequence[int]) -> tuple[int, ...]:
        """Of several columns of times the first, if the others say the same, or the day of it."""
        readings = {}
        for at in columns:
            try:
                form = time_format_of(self.name, self.header[at], self._cells[at], self.options, self._unit)
                reader = TimeReader(form, zone_of(self.options.timezone))
                readings[at] = [self._try(reader, row, (at,)) for row in self._sample]
            except Ambiguous:
                continue
        # The finer ones first: a day says less than a time.
        finest = sorted(
            readings, key=lambda at: all(time is not None and time % 86_400.0 == 0.0 for time in readings[at])
        )
        for at in finest[1:]:
            for one, other in zip(readings[finest[0]], readings[at]):
                day = other is not None and other % 86_400.0 == 0.0
                if one is not None and other is not None and not (-1.0 <= one - other < (86_400.0 if day else 1.0)):
                    both = f"{self.header[finest[0]]!r} and {self.header[at]!r}"
                    raise Ambiguous(
                        f"{self.name}: the columns {both} hold different times: --time NAME says which counts"
                    )
        for at in columns:
            if at not in finest[:1]:
                self.notes.append(f"{self.name}: column {self.header[at]!r} is left out: it holds times too")
        return tuple(finest[:1] or columns[:1])

    def _time_reader(self) -> TimeReader:
        cells = [text for row in self._sample if not is_missing(text := self._time_text(row))] if self.time_at else []
        name = " + ".join(self.header[at] for at in self.time_at)
        form = time_format_of(self.name, name, cells, self.options, self._unit)
        return TimeReader(form, zone_of(self.options.timezone))

    def time_text(self, cells: Sequence[str]) -> str:
        """What the cells of the columns of the time say together."""
        if len(cells) == 2 and self._clock_digits and cells[1].strip().isdecimal():
            clock = cells[1].strip().zfill(self._clock_digits)
            return f"{cells[0].strip()} {':'.join(re.findall('..', clock.ljust(4, '0')))}"
        return cells[0] if len(cells) == 1 else " ".join(cell.strip() for cell in cells)

    def _time_text(self, cells: Sequence[str], columns: Sequence[int] | None = None) -> str:
        return self.time_text([cells[at] for at in columns or self.time_at if at < len(cells)] or [""])

    def _try(self, reader: TimeReader, row: Sequence[str], columns: Sequence[int]) -> float | None:
        try:
            return reader.read(self._time_text(row, columns))
        except ValueError:
            return None

    def _source_columns(self, wanted: Sequence[str], used: set[int | None]) -> tuple[int, ...]:
        if wanted:
            return tuple(self._find(each, "input.source_field or --source") for each in wanted)
        free = [at for at in range(len(self.header)) if at not in used and self.header[at]]
        texts = [at for at in free if self._is_text(at) and self.plain[at] not in (*METRIC_NAMES, *LABEL_NAMES)]
        named = self._called(SOURCE_NAMES)[:1] or [
            at for at in free if self.plain[at] in SERIES_NAMES and self._names_series(at, free)
        ]
        varying = [at for at in dict.fromkeys([*named, *texts]) if len(set(self._cells[at])) > 1]
        if len(named) > 1:
            named = [at for at in named if at in varying] or named[:1]
        chosen = tuple(named) if len(named) == 1 else ()
        if self._goes_forward(chosen) is not False:
            return chosen
        others = [at for at in varying if at not in chosen]
        alone = [at for at in others if self._goes_forward((*chosen, at))]
        groups = {at: [self._sample_key(row, (at,)) for row in self._sample] for at in alone}
        if not chosen and alone and all(_same_groups(groups[alone[0]], each) for each in groups.values()):
            return (alone[0],)
        ways = [(*chosen, at) for at in alone]
        if not ways and others and self._goes_forward((*chosen, *others)):
            ways = [(*chosen, *others)]
        if not ways:
            numbers = [at for at in free if not self._is_text(at) and at not in chosen and self._few_whole_numbers(at)]
            ways = [(*chosen, at) for at in numbers if self._goes_forward((*chosen, at))]
        if ways:
            options = " or ".join(" ".join(f"--source {quote(self.header[at])}" for at in way) for way in ways)
            what = "the times do not go forward from row to row, as rows of several series are mixed"
            raise Ambiguous(f"{self.name}: {what}: {options} says what names them")
        self.notes.append(
            f"{self.name}: the times do not go forward from row to row: if series are mixed, name --source"
        )
        return chosen

    def _left_out(self, at: int, used: set[int | None]) -> bool:
        chosen = {*used, self.metric_at, *(value_at for _, value_at in self.values)}
        return at not in chosen and self._is_text(at) and len(set(self._cells[at])) == 1

    def set_last_time(self, time: float) -> None:
        """The rows up to this time were read elsewhere."""
        self._last_time = time

    def _watch(self, cells: Sequence[str], time: float) -> None:
        """ConfigurationError where a column that was left out turns out to name the series of a file."""
        for at, text in list(self.constant.items()):
            if cells[at] != text and not is_missing(cells[at]):
                if time <= self._last_time:
                    name = self.header[at]
                    where = f"where column {name!r} changes from {text!r} to {cells[at]!r} the time goes back"
                    choice = f"--source {quote(name)} reads it as the source; without, its series would be mixed"
                    raise ConfigurationError(f"{self.name}: {where}: {choice}")
                del self.constant[at]  # a state
        self._last_time = time

    def _names_series(self, at: int, free: Sequence[int]) -> bool:
        """Whether a column names series: text does, and so do whole numbers that repeat, beside other numbers."""
        if self._is_text(at):
            return True
        cells = self._cells[at]
        whole = (
            bool(cells) and all(cell.strip().isdecimal() for cell in cells) and len(set(cells)) <= len(cells) // 2 + 1
        )
        return whole and any(not self._is_text(other) and self._cells[other] for other in free if other != at)

    def _few_whole_numbers(self, at: int) -> bool:
        cells = self._cells[at]
        return (
            bool(cells) and all(cell.strip().isdecimal() for cell in cells) and len(set(cells)) <= len(cells) // 2 + 1
        )

    def _sample_key(self, row: Sequence[str], columns: Sequence[int]) -> tuple[str, ...]:
        return tuple(row[at] for at in columns if at < len(row))

    def _goes_forward(self, columns: tuple[int, ...]) -> bool | None:
        """Whether the times of each series go forward, if these columns name them; None without times."""
        if not self.time_at:
            return None
        reader = TimeReader(self.time.form, self.time.zone)
        metric = [at for at in self._called(METRIC_NAMES) if self._is_text(at)][:1]
        last: dict[tuple[str, ...], float] = {}
        for row in self._sample:
            time = self._try(reader, row, self.time_at)
            if time is not None:
                key = self._sample_key(row, (*columns, *metric))
                if time <= last.get(key, -1.0):
                    return False
                last[key] = time
        return True

    def _metric_column(self, candidates: Sequence[int]) -> int | None:
        return next((at for at in self._called(METRIC_NAMES) if at in candidates and self._is_text(at)), None)

    def _is_text(self, at: int) -> bool:
        """No cell of it is a number or a time."""
        cells = self._cells[at]
        times = self._mostly(at, is_time) or self._mostly(at, is_clock)
        return bool(cells) and not any(map(is_number, cells)) and not times

    def _mostly(self, at: int, is_one: object) -> bool:
        cells = self._cells[at][:100]
        return bool(cells) and 2 * sum(map(is_one, cells)) >= len(cells)  # type: ignore[call-overload]

    def _may_hold_values(self, at: int) -> bool:
        if not self.header[at]:
            if self._cells[at]:
                self.notes.append(f"{self.name}: column {at + 1} is left out: it has no name")
            return False
        if set(INFLUX) <= set(self.header):
            return self.plain[at] == VALUE or self.plain[at] in METRIC_NAMES
        if self.plain[at] not in ALWAYS_TIME + SOURCE_NAMES + LABEL_NAMES:
            return True
        if self._cells[at] and not any(repr(self.header[at]) in note for note in self.notes):
            self.notes.append(
                f"{self.name}: column {self.header[at]!r} is left out for its name (--value NAME reads it)"
            )
        return False

    def _without_text(self, columns: Sequence[int]) -> list[int]:
        """The columns of numbers; the others are named in notes."""
        numbers = [at for at in columns if not self._cells[at] or any(map(is_number, self._cells[at]))]
        if len(columns) == 1 or not any(self._cells[at] for at in numbers):
            numbers = list(columns)
        for at in columns:
            if at not in numbers:
                self.notes.append(
                    f"{self.name}: column {self.header[at]!r} is left out, {self._cells[at][0]!r} is not a number "
                    "(--value NAME reads it anyway, --source NAME uses it as the source)"
                )
        return numbers

    def _sorted(self, columns: Sequence[int]) -> list[tuple[str, int]]:
        """By metric, as the cells of a point are."""
        alone = len(columns) == 1 and self.plain[columns[0]] == VALUE
        values = sorted((VALUE if alone else self.header[at], at) for at in columns)
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
            if "\ufffd" in metric:
                what = f"the name of column {metric!r} is not UTF-8"
                raise ConfigurationError(
                    f"{self.name}: {what}: --encoding cp1252 reads what Excel writes in Western Europe"
                )
        return values

    def _has_dots(self) -> bool:
        """Whether dates are written as 31.12.2023."""
        return any("." in cell[:4] for at in self.time_at for cell in self._cells[at] if not is_number(cell))

    def _check_width(self) -> None:
        if self.wide:
            return
        found = max(
            (sum(not is_missing(row[at]) for _, at in self.values if at < len(row)) for row in self._sample), default=0
        )
        if found > self.max_metrics:
            limit = f"at most {self.max_metrics} metrics (input.max_metrics)"
            what = f"{found} columns of values ({_listed([metric for metric, _ in self.values[:SHOWN]], found)})"
            choice = "--columns sources reads each as a source of its own, --value NAME chooses some"
            raise ConfigurationError(f"{self.name}: expected {limit}, found {what}: {choice}")

    def _fitted(self, cells: list[str]) -> list[str]:
        """Spreadsheets leave out empty cells at the end of a row, or add some."""
        width = len(self.header)
        if any(cell.strip() for cell in cells[width:]):
            raise InvalidPoint("wrong_type", f"expected {width} cells as in the header, found {len(cells)}")
        return (cells + [""] * width)[:width]

    def _time(self, cells: Sequence[str], source: str) -> float:
        try:
            return self.time.read(self._time_text(cells), source)
        except ValueError as problem:
            column = self._names(self.time_at)
            raise InvalidPoint("bad_timestamp", f"column {column!r} must be {problem}") from None


def _names_of(name: str | None) -> tuple[str, ...]:
    return (name,) if name else ()


def label_of(cell: str) -> str:
    """The kind of anomaly that a label says; "" where it says that there is none."""
    kind = cell.strip()
    if kind.lower() in NO:
        return ""
    try:
        return "anomaly" if float(kind) else ""
    except ValueError:
        return "anomaly" if kind.lower() in YES else kind


def _plain(name: str) -> str:
    """What counts of a name: ``Time [s]`` and ``_time`` are time."""
    without = re.sub(r"[(\[].*?[)\]]", "", name)
    return (without if without.strip() else name).lower().translate(str.maketrans("", "", " _-@./"))


def _generated_names(first_row: Sequence[str], sample: Sequence[Sequence[str]]) -> list[str]:
    """Names for columns that have none: timestamp, value; several values are column_1 and so on."""
    times = [is_time(cell) for cell in first_row]
    if not any(times):
        epochs = [at for at in range(len(first_row)) if is_epoch([row[at] for row in sample if at < len(row)])]
        times = [epochs == [at] for at in range(len(first_row))]
    alone = times.count(False) == 1
    return ["timestamp" if time else "value" if alone else f"column_{at}" for at, time in enumerate(times, 1)]


def _listed(names: Sequence[str], count: int) -> str:
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")


def _same_groups(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(set(zip(one, other))) == len(set(one)) == len(set(other))

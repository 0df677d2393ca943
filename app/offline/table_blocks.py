"""Blocks of a table to points, column by column: pyarrow reads the cells, numpy checks them.

A block with any unusual cell is refused as a whole (``Unusual``) and then read row by row
(``app.offline.csv_columns``), which reports what is wrong. That path is the reference: a test compares both.

pyarrow, and not polars, as both were measured (26.0 and 2.1; Python 3.11, one core): 170 MB installed against 181, and
.29 s for a million rows in blocks of 256 KiB against .36. It reads ISO times with and without zone and decimal commas
while it parses, has wheels for musl and for free-threaded Python, and reads Parquet in batches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from app.compiled.numeric import MAX_VALUE
from app.errors import InvalidPoint
from app.offline.csv_columns import CsvColumns, label_of
from app.offline.row_batch import RowBatch
from app.pipeline.points import Points
from app.wire.times import END_OF_TIME, UNITS

MISSING_AS_WRITTEN = [
    "",
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "nan",
    "null",
    "NULL",
    "None",
    "none",
    "undefined",
    "-",
    "#N/A",
    "#NV",
]


class Unusual(Exception):
    """This block is to be read row by row."""


class Block(NamedTuple):
    """What was read at once."""

    rows: int
    empty: int  # of them without a value
    points: Points
    labels: list[str] | None  # one a point


class BlockReader:
    """Reads blocks of a table whose columns are known."""

    def __init__(self, columns: CsvColumns, separator: str) -> None:
        self._columns, self._separator = columns, separator
        ends = re.escape(separator.encode()) + rb"\r\n"
        self._quoted = re.compile(rb'(\A|[%b])"(?:[^"]|"")*"(?=[%b]|\Z)' % (ends, ends))
        self._value_at = [at for _, at in columns.values]
        self._types: dict[int, pa.DataType] = dict.fromkeys(self._value_at, pa.float64())
        text_at = [*columns.source_at, *columns.time_at, columns.metric_at, columns.label_at, *columns.constant]
        self._types |= {at: pa.string() for at in text_at if at is not None}
        form = columns.time.form
        self._native_time = len(columns.time_at) == 1 and form.kind in ("iso", "number")
        self.possible = columns.time.zone is None or form.kind == "number"
        if self._native_time:
            self._types[columns.time_at[0]] = pa.float64() if form.kind == "number" else pa.timestamp("us")
        overlap = len(self._types) < len(self._value_at) + sum(at is not None for at in text_at)
        self.possible = self.possible and not overlap  # a column asked for twice

    def csv(self, block: bytes, first_row: int) -> Block | None:
        """Whole lines of CSV, of which the first row has this number; None: they are to be read row by row."""
        try:
            return self._points(self._columns_of_csv(block), first_row) if self.possible else None
        except Unusual:
            return None

    def batch(self, batch: pa.RecordBatch, first_row: int) -> Block | None:
        """The same of a batch of Parquet."""
        try:
            return self._points(self._columns_of_batch(batch), first_row) if self.possible else None
        except Unusual:
            return None

    def _columns_of_csv(self, block: bytes) -> dict[int, pa.Array]:
        if b'"' in block and b'"' in self._quoted.sub(rb"\1", block):
            raise Unusual  # a quote that neither opens nor closes a cell: csv and pyarrow read it in different ways
        width = len(self._columns.header)
        for _ in range(2):
            options = pyarrow.csv.ConvertOptions(
                column_types={str(at): each for at, each in self._types.items()},
                include_columns=[str(at) for at in self._types],
                null_values=MISSING_AS_WRITTEN,
                decimal_point=self._columns.number.decimal,
            )
            try:
                table = pyarrow.csv.read_csv(
                    pa.py_buffer(block),
                    pyarrow.csv.ReadOptions(
                        use_threads=False,
                        block_size=len(block) + 1,
                        column_names=[str(at) for at in range(width)],
                    ),
                    pyarrow.csv.ParseOptions(delimiter=self._separator, newlines_in_values=b'"' in block),
                    options,
                )
                return {at: table.column(str(at)).combine_chunks() for at in self._types}
            except (pa.ArrowInvalid, pa.ArrowKeyError):
                if not self._other_times():
                    break
        raise Unusual

    def _columns_of_batch(self, batch: pa.RecordBatch) -> dict[int, pa.Array]:
        try:
            return {at: batch.column(at).cast(each) for at, each in self._types.items()}
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Unusual from error

    def _other_times(self) -> bool:
        """Try ISO times with a zone instead of without, or the other way round: pyarrow wants all alike."""
        at = self._columns.time_at[0] if self._native_time else -1
        if at < 0 or self._columns.time.form.kind != "iso":
            return False
        self._types[at] = pa.timestamp("us", None if self._types[at].tz else "UTC")
        return True

    def _points(self, arrays: dict[int, pa.Array], first_row: int) -> Block:
        columns = self._columns
        rows = len(arrays[self._value_at[0]])
        for at, text in columns.constant.items():
            if set(arrays[at].dictionary_encode().dictionary.to_pylist()) - {text}:
                raise Unusual
        table = np.empty((rows, len(self._value_at)))
        for place, at in enumerate(self._value_at):
            table[:, place] = arrays[at].to_numpy(zero_copy_only=False)
        there = ~np.isnan(table)
        if rows and not (np.abs(table[there]) <= MAX_VALUE).all():
            raise Unusual
        counts = there.sum(axis=1)
        if not columns.wide and rows and counts.max() > columns.max_metrics:
            raise Unusual
        whole = bool(there.all())
        filled = counts > 0
        time = self._times(arrays, rows)
        try:
            source = self._texts(arrays, columns.source_at, columns.source_of)
            metric = self._texts(arrays, (columns.metric_at,), lambda cells: columns.metric_of(cells[0]))
        except InvalidPoint:
            raise Unusual from None
        label = self._texts(arrays, (columns.label_at,), lambda cells: label_of(cells[0]))
        if time is not None and rows:
            columns.set_last_time(float(time[-1]))
        row = np.arange(first_row, first_row + rows)
        if columns.wide:
            return Block(rows, int(rows - filled.sum()), *self._wide(table, there, row, time, source, label))
        keep = None if filled.all() else np.flatnonzero(filled).tolist()
        points = Points(
            row.tolist() if keep is None else row[filled].tolist(),
            [0] * int(filled.sum()),
            _kept(source, keep) or [columns.source] * int(filled.sum()),
            (row.astype(float) if time is None else time)[filled].tolist(),
            [time is not None] * int(filled.sum()),
            (table if whole else table[there]).ravel().tolist(),
            single=len(columns.values) == 1,
        )
        if metric is not None:
            points.metric = _kept(metric, keep)
        elif not columns.one_plain_value:
            names = np.array([name for name, _ in columns.values], object)
            points.metrics = np.broadcast_to(names, table.shape)[there].tolist()
            points.start = [0, *np.cumsum(counts[filled]).tolist()]
        return Block(rows, rows - len(points), points, _kept(label, keep))

    def _wide(
        self,
        table: np.ndarray,
        there: np.ndarray,
        row: np.ndarray,
        time: np.ndarray | None,
        source: list[str] | None,
        label: list[str] | None,
    ) -> tuple[Points, list[str] | None]:
        """A point for each cell."""
        at, place = there.nonzero()
        names = [name for name, _ in self._columns.values]
        places, rows = place.tolist(), at.tolist()
        sources = [names[each] for each in places]
        if source is not None:
            sources = [f"{source[i]}/{name}" for i, name in zip(rows, sources)]
        times = (row.astype(float) if time is None else time)[at].tolist()
        own = [time is not None] * len(rows)
        points = Points(row[at].tolist(), places, sources, times, own, table[there].tolist(), single=True)
        return points, label and [label[i] for i in rows]

    def _times(self, arrays: dict[int, pa.Array], rows: int) -> np.ndarray | None:
        """f8[rows] epoch seconds; None where the file has no times."""
        columns = self._columns
        if not columns.time_at:
            return None
        if self._native_time:
            given = arrays[columns.time_at[0]]
            if given.null_count:
                raise Unusual
            if columns.time.form.kind == "iso":
                time = given.cast(pa.int64()).to_numpy() / 1e6
            else:
                number, unit = given.to_numpy(), columns.time.form.unit
                time = np.round(number / 1e3) / 1e6 if unit == "ns" else number / UNITS[unit]
        else:
            cells = zip(*(arrays[at].to_pylist() for at in columns.time_at))
            read, text = columns.time.read, columns.time_text
            try:
                time = np.fromiter((read(text(each)) for each in cells), float, rows)
            except (ValueError, TypeError):
                raise Unusual from None
        if rows and not (time.min() >= 0.0 and time.max() < END_OF_TIME):
            raise Unusual
        return time

    @staticmethod
    def _texts(arrays: dict[int, pa.Array], at: Sequence[int | None], name_of: object) -> list[str] | None:
        """What the cells of these columns mean, row by row; each different one is asked for once."""
        columns = [arrays[each].fill_null("").dictionary_encode() for each in at if each is not None]
        if not columns:
            return None
        if len(columns) == 1:
            names = [name_of((each,)) for each in columns[0].dictionary.to_pylist()]  # type: ignore[operator]
            return [names[i] for i in columns[0].indices.to_pylist()]
        rows = list(zip(*(each.to_pylist() for each in columns)))
        known = {each: name_of(each) for each in set(rows)}  # type: ignore[operator]
        return [known[each] for each in rows]


def _kept(column: list[str] | None, keep: list[int] | None) -> list[str] | None:
    return column if column is None or keep is None else [column[i] for i in keep]


def slices(block: Block, columns: CsvColumns, most: int) -> Iterator[RowBatch]:
    """The points in even parts of at most so many."""
    points, labels = block.points, block.labels or []
    n = len(points)
    parts = max(1, -(-n // most))
    if parts == 1:
        yield RowBatch(points, labels, columns.has_labels, empty=block.empty)
        return
    edges = [n * part // parts for part in range(parts + 1)]
    for begin, end in pairwise(edges):
        cut = slice(begin, end)
        part = Points(
            points.offset[cut],
            points.index[cut],
            points.source[cut],
            points.timestamp[cut],
            points.own_time[cut],
            metric=points.metric and points.metric[cut],
            single=points.single,
        )
        if points.start is None or points.metrics is None:
            part.values = points.values[cut]
        else:
            cells = slice(points.start[begin], points.start[end])
            part.values, part.metrics = points.values[cells], points.metrics[cells]
            part.start = [at - cells.start for at in points.start[begin : end + 1]]
        yield RowBatch(part, labels[cut], columns.has_labels, empty=0 if begin else block.empty)

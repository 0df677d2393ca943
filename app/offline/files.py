"""Series in CSV, NDJSON or Parquet files, read as points in bounded memory: the one reader of every command.

What a file is shows in its first bytes; gzip is unpacked. CSV: ``app.offline.csv_layout`` finds the table and
``app.offline.csv_columns`` says which column is what. Rows that cannot be read are dead letters, as in the worker.
NDJSON: the lines are records of raw-data, read as from Kafka; one without a time has the number of its row for a time.
Parquet: as CSV, with types.

Rows count from 0 at the first row of data, blank lines not counted; messages name the line of the file, of Parquet
the row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import msgspec

from app.errors import ConfigurationError
from app.offline.csv_columns import CsvColumns, label_of
from app.offline.csv_layout import SAMPLE_ROWS, Layout, layout_of
from app.offline.lines import BOM, Lines
from app.offline.options import Ambiguous, FileOptions
from app.offline.row_batch import RowBatch, add_row, with_notes
from app.settings import InputSettings
from app.wire.reader import Reader

BATCH_POINTS = 4096
PART_BYTES = 1 << 14
MOST_SAMPLED = 8 << 20  # bytes of a file that are looked at while something is in doubt
PARQUET = b"PAR1"


def read(
    file: BinaryIO,
    name: str,
    source: str,
    fields: InputSettings | None = None,
    options: FileOptions | None = None,
    batch_points: int = BATCH_POINTS,
) -> Iterator[RowBatch]:
    """The points of a file in order: some thousands at a time, or what a pipe holds so far.

    ``name`` is the file in messages; ``source`` the source of a table that has no such column; ``fields``
    names columns or fields that are not called as usual; ``options`` say what a table leaves open.

    Raises
    ------
    ConfigurationError
        The file is neither CSV nor NDJSON nor Parquet, has no column of a name asked for, or can be read in two ways.
    """
    fields, options = fields or InputSettings(), options or FileOptions()
    if _is_parquet(file):
        from app.offline.parquet import read_parquet

        return read_parquet(file, name, source, fields, options, batch_points)
    lines = Lines(file, name, options.encoding)
    block = b""
    while not block.strip() and (more := lines.take()):
        block += more
    if block.startswith(PARQUET):
        raise ConfigurationError(f"{name}: Parquet is read from its end: give it as a file, not through a pipe")
    start = block.removeprefix(BOM).lstrip()[:1]
    if not start:
        raise ConfigurationError(f"{name}: expected a CSV header, NDJSON records or Parquet, found nothing")
    if start in (b"{", b"["):
        lines.give_back(block)
        return _ndjson(lines, source, fields, batch_points)
    table = Table(lines, block, source, fields, options)
    return with_notes(table.batches(batch_points), table.notes, table.columns.interpretation())


def _is_parquet(file: BinaryIO) -> bool:
    if not (hasattr(file, "seekable") and file.seekable()):
        return False
    start = file.read(len(PARQUET))
    file.seek(-len(start), 1)
    return start == PARQUET


class Table:
    """A CSV: its layout and columns, found from ``block``, the first lines of it."""

    def __init__(self, lines: Lines, block: bytes, source: str, fields: InputSettings, options: FileOptions) -> None:
        self.lines, self.number = lines, 0
        self._own = (source, fields, options)
        self.layout, self.columns = self._examined(block)
        rows = (row for row in _rows(lines, self.layout.separator) if row.cells or row.problem)
        for _ in range(self.layout.before + (not self.layout.headless)):
            header = next(rows)
            if header.problem:
                raise ConfigurationError(f"{lines.name}:{header.line}: {header.problem}")
        for _ in range(self.layout.units):
            next(rows)
        self.notes = [*(f"{lines.name}: {note}" for note in self.layout.notes), *self.columns.notes]

    def _examined(self, block: bytes) -> tuple[Layout, CsvColumns]:
        """Looks at more of the file as long as something is in doubt, or no row of data is there."""
        lines, limit = self.lines, SAMPLE_ROWS
        while True:
            layout = layout_of(_text(block), limit)
            if layout is None and lines.ended:
                raise ConfigurationError(f"{lines.name}: expected a CSV header, found {_text(block)[:60].strip()!r}")
            if layout is not None and (layout.rows or lines.ended):
                try:
                    columns = self._columns_of(layout)
                    lines.give_back(block)
                    return layout, columns
                except Ambiguous:
                    if limit > SAMPLE_ROWS and (lines.ended or len(block) >= MOST_SAMPLED):
                        raise
                if limit == SAMPLE_ROWS:
                    limit = MOST_SAMPLED
                    continue
            block += lines.take()

    def _columns_of(self, layout: Layout) -> CsvColumns:
        source, fields, options = self._own
        name, continental = self.lines.name, layout.separator == ";"
        return CsvColumns(name, layout.header, layout.rows, fields, options, source, layout.headless, continental)

    def batches(self, most: int) -> Iterator[RowBatch]:
        """Blocks are read at once where that is possible, else row by row."""
        from app.offline.table_blocks import BlockReader, slices

        blocks = BlockReader(self.columns, self.layout.separator)
        while block := self.lines.take():
            pieces = [block]
            while pieces:
                piece = pieces.pop(0)
                found = blocks.csv(piece, self.number)
                if found is not None:
                    self.lines.skipped(piece)
                    self.number += found.rows
                    yield from slices(found, self.columns, most)
                elif piece is block and blocks.possible and len(block) > PART_BYTES and b'"' not in block:
                    pieces = list(_split(block))  # of most parts all cells are as usual
                else:
                    self.lines.give_back(piece)
                    yield from self._row_by_row(most)

    def _row_by_row(self, most: int) -> Iterator[RowBatch]:
        """The lines that are there; rows that are not ready end it."""
        columns, name = self.columns, self.lines.name
        batch = RowBatch(labelled=columns.has_labels)
        for line, cells, problem in _rows(self.lines, self.layout.separator):
            if cells or problem:
                add_row(batch, columns, self.number, f"{name}:{line}", cells, problem, self.layout.separator)
                self.number += 1
            if len(batch.points) >= most:
                yield batch
                batch = RowBatch(labelled=columns.has_labels)
            if not self.lines.ready:
                break
        yield batch


def _split(block: bytes) -> Iterator[bytes]:
    """Parts of some size, each of whole lines."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + PART_BYTES) + 1 or block.find(b"\n", start) + 1 or len(block)
        yield block[start:end]
        start = end


class _CsvRow(NamedTuple):
    line: int
    cells: list[str]
    problem: str = ""


def _rows(lines: Lines, separator: str) -> Iterator[_CsvRow]:
    """The rows, the header too; blank lines have no cells. Bytes that are not UTF-8 affect only their own cell."""
    table = csv.reader(map(_text, lines), delimiter=separator, strict=True)
    while True:
        line = lines.number + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            lost = f"; lost is all up to line {lines.number}: is a quote not closed?" if lines.number > line else ""
            yield _CsvRow(line, [], f"expected CSV, found {error}{lost}")
        else:
            yield _CsvRow(line, cells)


class _Line(NamedTuple):
    """A line in the form of a Kafka record, for ``app.wire.reader.Reader``."""

    offset: int
    timestamp: int  # ms
    value: bytes
    key: bytes | None = None
    headers: tuple = ()


def _ndjson(lines: Lines, source: str, fields: InputSettings, batch_points: int) -> Iterator[RowBatch]:
    reader = Reader(fields, topic=source, partition=0, keyed=False)
    records: list[Any] = []
    number, at = 0, {}
    for line in lines:
        if line := line.strip():
            records.append(_Line(number, number * 1000, line))
            at[number] = lines.number
            number += 1
        if len(records) >= batch_points or (records and not lines.ready):
            points, bad, *_ = reader.read(records)
            batch = RowBatch(points, bad=bad)
            _add_labels(batch, records)
            for dead_letter in bad:
                reason = dead_letter.reason.partition(": ")[2]
                dead_letter.reason = f"{lines.name}:{at[dead_letter.offset]}: {reason}"
            yield batch
            records, at = [], {}


class _Labelled(msgspec.Struct):
    """What a record says about itself; one with a score is a result of ``detect``, whose verdict is no label."""

    label: Any = None
    anomaly: Any = None
    is_anomaly: Any = None
    anomaly_score: Any = None

    def kind(self) -> str | None:
        """None: it does not say."""
        found = next((each for each in (self.label, self.anomaly, self.is_anomaly) if each is not None), None)
        return None if found is None or self.anomaly_score is not None else label_of(str(found))


_decode_labelled = msgspec.json.Decoder(_Labelled | list[_Labelled]).decode


def _add_labels(batch: RowBatch, records: Sequence[_Line]) -> None:
    """The labels of the points of these records, where at least one has any."""
    found: dict[tuple[int, int], str] = {}
    for record in records:
        if b"label" in record.value or b"anomaly" in record.value:
            try:
                given = _decode_labelled(record.value)
            except msgspec.DecodeError:  # it is reported as a dead letter, or is several objects in one line
                continue
            for index, each in enumerate(given if isinstance(given, list) else [given]):
                if (kind := each.kind()) is not None:
                    found[record.offset, index] = kind
    if found:
        batch.labelled = True
        batch.labels = [found.get(each, "") for each in zip(batch.points.offset, batch.points.index)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")

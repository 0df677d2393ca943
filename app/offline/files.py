"""Series in CSV or NDJSON files, read as points in bounded memory: the one reader of every command.

CSV: ``app.offline.csv_columns`` says which column is what; comma, semicolon or tab is found from the header. Rows that
cannot be read are dead letters, as in the worker. NDJSON: the lines are records of raw-data, read as from
Kafka; one without a time has the number of its row for a time.

Rows count from 0 at the first row of data, blank lines not counted; messages name the line of the file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import msgspec

from app.errors import ConfigurationError, InvalidPoint
from app.offline.csv_columns import CsvColumns, CsvPoint, label_of
from app.pipeline.points import Points
from app.settings import InputSettings
from app.wire.dead_letters import DeadLetter
from app.wire.reader import Reader

BLOCK_BYTES, MAX_LINE_BYTES, CHUNK_POINTS = 1 << 18, 16 << 20, 4096
BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Chunk:
    """Some rows of a file: what could be read, and what could not."""

    points: Points = field(default_factory=Points)  # offset is the row, index 0 outside JSON arrays
    labels: list[str] = field(default_factory=list)  # one a point ("" normal); none where no point has one
    labelled: bool = False  # the file says of its points whether they are anomalous
    bad: list[DeadLetter] = field(default_factory=list)  # the reason begins with FILE:LINE
    empty: int = 0  # rows that hold no value
    notes: list[str] = field(default_factory=list)  # decisions about the file that may surprise


def read(
    file: BinaryIO,
    name: str,
    source: str,
    fields: InputSettings | None = None,
    time_format: str | None = None,
    chunk_points: int = CHUNK_POINTS,
) -> Iterator[Chunk]:
    """The points of a file in order: some thousands at a time, or what a pipe holds so far.

    ``name`` is the file in messages; ``source`` the source of a CSV that has no such column; ``fields``
    names columns or fields that are not called as usual; ``time_format``, of CSV times, is strptime's.

    Raises
    ------
    ConfigurationError
        The file is neither CSV nor NDJSON, or has no column of a name asked for.
    """
    fields = fields or InputSettings()
    lines = Lines(file, name)
    first = lines.first()
    if first[:1] in (b"{", b"["):
        return _ndjson(lines, source, fields, chunk_points)
    delimiter = _delimiter(_text(first))
    rows = _rows(lines, delimiter)
    header = next(rows)
    if header.problem:
        raise ConfigurationError(f"{name}:{header.line}: {header.problem}")
    columns = CsvColumns(name, header.cells, fields, source, time_format)
    if columns.headless:
        rows = chain([header], rows)
    return _csv(lines, rows, columns, delimiter, chunk_points)


class Lines:
    """Lines of a binary file, each with its end; knows whether one more is there without waiting for it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name, self.number = name, 0  # of the line given out last, from 1
        self._read: Callable[[int], bytes] = getattr(file, "read1", file.read)
        self._ready: list[bytes] = []  # the next one last
        self._tail = b""
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._ready:
            if self._ended:
                raise StopIteration
            self._fill()
        self.number += 1
        return self._ready.pop()

    @property
    def ready(self) -> bool:
        return bool(self._ready)

    def first(self) -> bytes:
        """The first line with anything in it; blank ones before it are passed, itself is given out again."""
        for line in self:
            line = line.removeprefix(BOM) if self.number == 1 else line
            if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise ConfigurationError(f"{self.name}: expected UTF-8, found UTF-16: save it as UTF-8")
            if line.strip():
                self._ready.append(line)
                self.number -= 1
                return line.strip()
        raise ConfigurationError(f"{self.name}: expected a CSV header or NDJSON records, found nothing")

    def _fill(self) -> None:
        block = self._read(BLOCK_BYTES)
        self._ended = not block
        data = self._tail + block
        cut = len(data) if self._ended else data.rfind(b"\n") + 1
        self._ready = data[:cut].splitlines(keepends=True)[::-1]
        self._tail = data[cut:]
        if len(self._tail) > MAX_LINE_BYTES:
            found = f"a line of more than {MAX_LINE_BYTES >> 20} MiB"
            raise ConfigurationError(f"{self.name}: expected CSV or NDJSON, found {found}")


class _CsvRow(NamedTuple):
    line: int
    cells: list[str]
    problem: str = ""


def _rows(lines: Lines, delimiter: str) -> Iterator[_CsvRow]:
    """The rows that are not blank, the header too. Bytes that are not UTF-8 affect only their own cell."""
    table = csv.reader(map(_text, lines), delimiter=delimiter, strict=True)
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
            if cells:
                yield _CsvRow(line, cells)


def _csv(
    lines: Lines, rows: Iterator[_CsvRow], columns: CsvColumns, delimiter: str, chunk_points: int
) -> Iterator[Chunk]:
    chunk = Chunk()
    for number, (line, cells, problem) in enumerate(rows):
        try:
            if problem:
                raise InvalidPoint("invalid_csv", problem)
            row = columns.row(cells)
        except InvalidPoint as error:
            raw = delimiter.join(cells).encode()
            chunk.bad.append(DeadLetter(number, 0, f"{lines.name}:{line}: {error}", error.label, None, raw))
        else:
            if row is None:
                chunk.empty += 1
            else:
                _append(chunk.points, number, row, columns.one_plain_value)
                chunk.points.single = len(columns.values) == 1
                if columns.has_labels:
                    chunk.labels.append(row.label)
                    chunk.labelled = True
        if len(chunk.points) >= chunk_points or not lines.ready:
            chunk.notes, columns.notes = columns.notes, []
            yield chunk
            chunk = Chunk()
    chunk.notes = columns.notes
    yield chunk


def _append(points: Points, number: int, row: CsvPoint, plain: bool) -> None:
    points.offset.append(number)
    points.index.append(0)
    points.source.append(row.source)
    points.timestamp.append(float(number) if row.timestamp is None else row.timestamp)
    points.own_time.append(row.timestamp is not None)
    points.values += row.values
    if not plain:
        if points.start is None or points.metrics is None:
            points.start, points.metrics = [0], []
        points.metrics += row.metrics
        points.start.append(len(points.values))


class _Line(NamedTuple):
    """A line in the form of a Kafka record, for ``app.wire.reader.Reader``."""

    offset: int
    timestamp: int  # ms
    value: bytes
    key: bytes | None = None
    headers: tuple = ()


def _ndjson(lines: Lines, source: str, fields: InputSettings, chunk_points: int) -> Iterator[Chunk]:
    reader = Reader(fields, topic=source, partition=0, keyed=False)
    records: list[Any] = []
    number, at = 0, {}
    for line in lines:
        if line := line.removeprefix(BOM).strip():
            records.append(_Line(number, number * 1000, line))
            at[number] = lines.number
            number += 1
        if len(records) >= chunk_points or (records and not lines.ready):
            points, bad, *_ = reader.read(records)
            chunk = Chunk(points, bad=bad)
            _add_labels(chunk, records)
            for dead_letter in bad:
                reason = dead_letter.reason.partition(": ")[2]
                dead_letter.reason = f"{lines.name}:{at[dead_letter.offset]}: {reason}"
            yield chunk
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


def _add_labels(chunk: Chunk, records: Sequence[_Line]) -> None:
    """The labels of the points of these records, where at least one has any."""
    found: dict[tuple[int, int], str] = {}
    for record in records:
        if b"label" in record.value or b"anomaly" in record.value:
            try:
                given = _decode_labelled(record.value)
            except msgspec.DecodeError:  # it is told as a dead letter, or is several objects in one line
                continue
            for index, each in enumerate(given if isinstance(given, list) else [given]):
                if (kind := each.kind()) is not None:
                    found[record.offset, index] = kind
    if found:
        chunk.labelled = True
        chunk.labels = [found.get(each, "") for each in zip(chunk.points.offset, chunk.points.index)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _delimiter(header: str) -> str:
    return max(",;\t", key=re.sub('"[^"]*"', "", header).count)

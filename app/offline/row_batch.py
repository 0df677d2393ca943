"""Some rows of a file, as every reader gives them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from app.errors import InvalidPoint
from app.offline.csv_columns import CsvColumns, CsvPoint
from app.pipeline.points import Points
from app.wire.dead_letters import DeadLetter


@dataclass(slots=True)
class RowBatch:
    """Some rows of a file: what could be read, and what could not."""

    points: Points = field(default_factory=Points)  # offset is the row, index 0 outside JSON arrays and wide tables
    labels: list[str] = field(default_factory=list)  # one a point ("" normal); none where no point has one
    labelled: bool = False  # the file says of its points whether they are anomalous
    bad: list[DeadLetter] = field(default_factory=list)  # the reason begins with FILE:LINE
    empty: int = 0  # rows that hold no value
    notes: list[str] = field(default_factory=list)  # decisions about the file that users may not expect
    interpretation: str = ""  # with the first rows of a table: how its columns are read


def with_notes(batches: Iterator[RowBatch], notes: list[str], interpretation: str) -> Iterator[RowBatch]:
    """The batches, the first with the notes on the file."""
    first = next(batches, None) or RowBatch()
    first.notes, first.interpretation = notes, interpretation
    yield first
    yield from batches


def add_row(
    batch: RowBatch, columns: CsvColumns, number: int, place: str, cells: list[str], problem: str, separator: str
) -> None:
    """Puts one row into the batch: its points, or why there is none."""
    if columns.is_repeated(cells):
        return
    try:
        if problem:
            raise InvalidPoint("invalid_csv", problem)
        points = columns.row(cells)
    except InvalidPoint as error:
        raw = separator.join(cells).encode()
        batch.bad.append(DeadLetter(number, 0, f"{place}: {error}", error.label, None, raw))
        return
    batch.empty += not points
    for point in points:
        _append(batch.points, number, point, columns)
        if columns.has_labels:
            batch.labels.append(point.label)


def _append(points: Points, number: int, row: CsvPoint, columns: CsvColumns) -> None:
    points.offset.append(number)
    points.index.append(row.place)
    points.source.append(row.source)
    points.timestamp.append(float(number) if row.timestamp is None else row.timestamp)
    points.own_time.append(row.timestamp is not None)
    points.values += row.values
    points.single = len(columns.values) == 1 or columns.wide
    if columns.metric_at is not None:
        if points.metric is None:
            points.metric = []
        points.metric.append(row.metric)
    elif not columns.one_plain_value and not columns.wide:
        if points.start is None or points.metrics is None:
            points.start, points.metrics = [0], []
        points.metrics += row.metrics
        points.start.append(len(points.values))

"""Points of CSV, NDJSON or Parquet files, or of the bundled series; several files are merged by time.

``app.offline.csv_columns`` says what is read as what. The series that come along are given by name, without folder and
ending; they are a part of the Numenta Anomaly Benchmark (series/README.md).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from app.errors import ConfigurationError
from generators.api import GeneratedRecord, Parameter, Remark, Time

if TYPE_CHECKING:
    from app.offline.files import RowBatch
    from app.offline.options import FileOptions
    from app.settings import InputSettings

    Fields = tuple[InputSettings, FileOptions]

SERIES = Path(__file__).with_name("series")


def records(
    files: Annotated[tuple[str, ...], Parameter("files, - for standard input, or names of bundled series")],
    *,
    loop: Annotated[bool, Parameter("repeat the files without end, with the times moved on")] = False,
    start: Annotated[float | None, Time("move the times so that each file begins at this time")] = None,
    time: Annotated[tuple[str, ...], Parameter("column of the time; of two: date and time of the day")] = (),
    source: Annotated[tuple[str, ...], Parameter("column of the source; none: by its name, or the file's name")] = (),
    value: Annotated[tuple[str, ...], Parameter("column of a value; can be given several times")] = (),
    columns: Annotated[
        Literal["metrics", "sources"], Parameter("several columns are metrics of a source, or each is a source")
    ] = "metrics",
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns"] | None, Parameter("unit of numeric times; none: by their size")
    ] = None,
    time_format: Annotated[
        str | None, Parameter("form of the times as in strptime, or excel; none: from the cells")
    ] = None,
    timezone: Annotated[str | None, Parameter("zone of times without a zone; none: UTC")] = None,
    date_order: Annotated[
        Literal["day-first", "month-first"] | None, Parameter("how to read 01/02/2023; none: from the cells")
    ] = None,
    decimal: Annotated[Literal["point", "comma"] | None, Parameter("how to read 1,234; none: from the cells")] = None,
    encoding: Annotated[str | None, Parameter("encoding of a CSV that is not UTF-8 or UTF-16, as cp1252")] = None,
) -> Iterator[GeneratedRecord | Remark]:
    """The points of each file in its order, those of several files merged by time."""
    from app.offline.options import FileOptions  # not at the top: --help does without
    from app.settings import InputSettings

    settings = InputSettings(value_fields=list(value), timestamp_unit=time_unit)
    fields = settings, FileOptions(time, source, time_format, timezone, date_order, decimal, columns, encoding)
    paths = [_path(file) for file in files]
    if loop and None in paths:
        raise ConfigurationError("--loop: expected files, got -: standard input can be read only once")
    if loop and start is None and len(paths) > 1:
        # Otherwise the file that begins first would repeat until its times reach those of the others.
        found = (each for each in _read(paths[0], fields) if isinstance(each, GeneratedRecord))
        start = next((each.timestamp for each in found), None)
    if len(paths) == 1:
        return _moved(paths[0], fields, start, loop)
    streams = [_moved(path, fields, start, loop) for path in paths]
    return merge(*streams, key=lambda each: each.timestamp if isinstance(each, GeneratedRecord) else float("-inf"))


def bundled() -> dict[str, Path]:
    """The series that come with the program, by name."""
    return {path.stem: path for path in sorted(SERIES.glob("*.csv"))}


def _path(file: str) -> Path | None:
    """None for standard input. A file goes before a series of the same name."""
    if file == "-":
        return None
    if not Path(file).is_file() and file not in bundled():
        raise ConfigurationError(f"{file}: expected a file or one of {', '.join(bundled())}")
    return Path(file) if Path(file).is_file() else bundled()[file]


def _moved(path: Path | None, fields: Fields, start: float | None, loop: bool) -> Iterator[GeneratedRecord | Remark]:
    """The file's points from ``start``; with ``loop`` again and again, a usual interval between end and beginning."""
    first = last = None
    move, points = 0.0, 0
    while True:
        begun = points
        for each in _read(path, fields):
            if isinstance(each, GeneratedRecord):
                if first is None:
                    first = last = each.timestamp
                    move = 0.0 if start is None else start - first
                last = max(last, each.timestamp)
                points += 1
                each = each._replace(timestamp=each.timestamp + move)
            elif begun:
                continue  # said the first time
            yield each
        if not loop or first is None:
            return
        rows = points - begun
        move += (last - first) * rows / (rows - 1) if last > first else float(rows)


def _read(path: Path | None, fields: Fields) -> Iterator[GeneratedRecord | Remark]:
    from app.offline.files import read

    name = str(path or "standard input")
    source = path.name.removesuffix(".gz").rpartition(".")[0] or path.stem if path else "stdin"
    with path.open("rb") if path else nullcontext(sys.stdin.buffer) as file:
        for batch in read(file, name, source, *fields):
            if batch.interpretation and path not in bundled().values():
                yield Remark(f"{name}: {batch.interpretation}")
            yield from (Remark(note) for note in batch.notes)
            yield from (Remark(letter.reason, unreadable=True) for letter in batch.bad)
            yield from _records(batch)


def _records(batch: RowBatch) -> Iterator[GeneratedRecord]:
    points = batch.points
    for i in range(len(points)):
        values = dict(zip(points.names(i), points.values[points.cells(i)]))
        label = batch.labels[i] if batch.labels else ""
        metric = points.metric[i] if points.metric is not None else ""
        yield GeneratedRecord(points.source[i], points.timestamp[i], values, label, metric)

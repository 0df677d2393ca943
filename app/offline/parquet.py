"""Parquet files, batch by batch. Cells that are not numbers are treated as the text they would be in a CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from app.errors import ConfigurationError
from app.offline.csv_columns import CsvColumns
from app.offline.csv_layout import SAMPLE_ROWS
from app.offline.options import FileOptions
from app.offline.row_batch import RowBatch, add_row, with_notes
from app.offline.table_blocks import BlockReader, slices
from app.settings import InputSettings

BATCH_ROWS = 16_384
INDEX = "__index_level_"  # pandas' index, if it has no name


def read_parquet(
    file: BinaryIO, name: str, source: str, fields: InputSettings, options: FileOptions, most: int
) -> Iterator[RowBatch]:
    """As ``files.read``, of a file that can be read from its end."""
    try:
        whole = pyarrow.parquet.ParquetFile(file)
        schema = whole.schema_arrow
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigurationError(f"{name}: expected Parquet, {error}") from None
    plain = [at for at, each in enumerate(schema.types) if not pa.types.is_nested(each)]
    names = [schema.names[at] for at in plain]
    header = ["" if each.startswith(INDEX) else each for each in names]
    notes = [f"{name}: column {each!r} is left out: it is nested" for each in set(schema.names) - set(names)]
    sample = next(whole.iter_batches(batch_size=SAMPLE_ROWS, columns=names), None)
    columns = CsvColumns(name, header, [] if sample is None else _texts(sample), fields, options, source)
    record_batches = whole.iter_batches(batch_size=BATCH_ROWS, columns=names)
    return with_notes(_row_batches(record_batches, columns, most), [*notes, *columns.notes], columns.interpretation())


def _row_batches(record_batches: Iterator[pa.RecordBatch], columns: CsvColumns, most: int) -> Iterator[RowBatch]:
    blocks, number = BlockReader(columns, ","), 0
    for record_batch in record_batches:
        found = blocks.batch(record_batch, number)
        if found is None:
            batch = RowBatch(labelled=columns.has_labels)
            for place, cells in enumerate(_texts(record_batch), number):
                add_row(batch, columns, place, f"{columns.name}: row {place}", cells, "", ",")
                if len(batch.points) >= most:
                    yield batch
                    batch = RowBatch(labelled=columns.has_labels)
            yield batch
        else:
            yield from slices(found, columns, most)
        number += len(record_batch)


def _texts(record_batch: pa.RecordBatch) -> list[list[str]]:
    """The rows, as a CSV would have them."""
    columns = []
    for column in record_batch.columns:
        if pa.types.is_timestamp(column.type) and column.type.tz:
            column = column.cast(pa.timestamp(column.type.unit, "UTC"))
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column = pa.array(
                [None if each is None else each.decode("utf-8", "replace") for each in column.to_pylist()]
            )
        columns.append(column.cast(pa.string()).fill_null("").to_pylist())
    return [list(row) for row in zip(*columns)]

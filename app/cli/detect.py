"""``faust-anomaly detect``: files through the pipeline of the worker, without Kafka.

The results are those a worker gives with the same settings, byte for byte but for the id: FILE:0:ROW:0,
where FILE is the file's name without its ending and ROW counts from 0 at the first row of data. Each file
is a partition of its own: no state passes from one to the next.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from app.cli.common import Remarks, StatusLine, settings_option
from app.cli.files import Input, Outputs, inputs
from app.errors import AnomalyError

if TYPE_CHECKING:
    from app.cli.summary import Summary
    from app.settings import InputSettings


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--output",
    metavar="PATH",
    help="Results, as NDJSON: a file, a folder with one for each FILE, or - for standard output.  "
    "[default: standard output, where that is not a terminal]",
)
@click.option("--time", "timestamp_field", metavar="NAME", help="Column of the time.  [default: by its name]")
@click.option("--source", "source_field", metavar="NAME", help="Column of the source.  [default: by its name]")
@click.option("--value", "value_fields", metavar="NAME", multiple=True, help="Column of a value; again for more.")
@click.option("--time-unit", "timestamp_unit", type=click.Choice(["s", "ms"]), help="Of times that are numbers.")
@click.option("--time-format", metavar="FORMAT", help="Of times not in ISO 8601, as strptime's: '%d.%m.%Y %H:%M'.")
@settings_option
def detect(files: tuple[str, ...], output: str | None, time_format: str | None, settings: Any, **names: Any) -> None:
    """Score the points of CSV or NDJSON files; needs no Kafka.

    FILE may be a folder, for all files in it, or - for standard input. Columns are found by the usual names:
    timestamp, source, value. Several columns of numbers are one vector; label, anomaly and changepoint are
    not values; an empty cell is a missing value.

    What was found is told on stderr.
    """
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in names.items() if value}
    read = inputs(files)
    outputs = Outputs(output, files, read)
    job = Detect(settings, settings.input.model_copy(update=given), time_format)
    job.run(read, outputs)


class Detect:
    """One call of the command: the pipeline, and what is told while it runs and at its end."""

    def __init__(self, settings: Any, fields: InputSettings, time_format: str | None) -> None:
        from app.cli.summary import Summary  # numpy and numba are not needed for --help
        from app.pipeline import Pipeline

        self.fields, self.time_format = fields, time_format
        self.line = StatusLine()
        self.remarks = Remarks(self.line)
        self.total = Summary()
        self.line.show(lambda: "compiling the detectors ...", now=True)
        self.pipeline = Pipeline.of(settings, fields.max_metrics)
        self.pipeline.compile()

    def run(self, read: list[Input], outputs: Outputs) -> None:
        begin = time.monotonic()
        rows = []
        with outputs.one as one:
            for each in read:
                with outputs.open(each, one) as output:
                    found = self.file(each, output)
                rows.append((each.name, found))
                self.total += found
        self.line.clear()
        self.remarks.end()
        report(rows, self.total, time.monotonic() - begin)
        if self.total.unreadable and not self.total.points:
            raise AnomalyError("no row could be read as a point")

    def file(self, each: Input, output: BinaryIO | None) -> Summary:
        """Score one file."""
        from app.cli.summary import Summary
        from app.records import encode_results
        from app.series import read

        found, sources, size = Summary(), self.pipeline.sources(), each.size()
        with each.open() as file:
            for chunk in read(file, each.name, each.source, self.fields, self.time_format):
                outcome = self.pipeline.run(sources, chunk.points)
                if output is not None:
                    encoded = encode_results(chunk.points, outcome, each.source, 0)
                    output.writelines(line for _, value in encoded for line in (value, b"\n"))
                    output.flush()
                for text in [*chunk.notes, *(letter.reason for letter in chunk.bad)]:
                    self.remarks.say(text)
                for position, _, reason in outcome.rejected:
                    self.remarks.say(f"{each.name}: row {chunk.points.offset[position]}: {reason}")
                found.unreadable += len(chunk.bad)
                found.empty += chunk.empty
                found.add(chunk.points, outcome)
                self.line.show(lambda: progress(each.name, found.points, file.tell(), size))
        found.end(len(sources))
        return found


def progress(name: str, points: int, read: int, size: int) -> str:
    return f"{name}: {points:,} points" + (f", {100 * read // size} %" if size else "")


def report(rows: list[tuple[str, Summary]], total: Summary, seconds: float) -> None:
    """The summary, on stderr: results may be on standard output."""
    for line in total.lines():
        click.echo(line, err=True)
    if len(rows) > 1:
        width = max(len(name) for name, _ in rows)
        for name, found in rows:
            click.echo(f"  {name.ljust(width)}  {found.counts()}", err=True)
    rate = f" ({total.points / seconds:,.0f}/s)" if total.points else ""
    click.echo(f"{total.counts()} in {seconds:.1f} s{rate}", err=True)

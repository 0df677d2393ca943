"""``faust-anomaly detect``: files through the pipeline of the worker, without Kafka.

The results are those a worker gives with the same settings, byte for byte, except for the id: FILE:0:ROW:0,
where FILE is the file's name without its ending and ROW counts from 0 at the first row of data. Each file
is its own partition: no state passes from one to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from app.cli.common import Remarks, StatusLine, configurations_option
from app.cli.files import Input, Outputs, inputs, refuse_input_as_output
from app.errors import AnomalyError, ConfigurationError

if TYPE_CHECKING:
    from app.cli.summary import Summary
    from app.offline.scored_series import Recorder


def columns_options(command: Callable) -> Callable:
    """Adds the options that say how a table is read, under their names in ``FileOptions`` and ``InputSettings``."""
    format_help = (
        "Format of times, as for strptime: '%d.%m.%Y %H:%M'; excel: days since 1899-12-30.  [default: from the cells]"
    )
    options = [
        click.option(
            "--time", metavar="NAME", multiple=True, help="Column of the time; of two: date and time of the day."
        ),
        click.option("--source", metavar="NAME", multiple=True, help="Column of the source; several make one name."),
        click.option("--value", "value_fields", metavar="NAME", multiple=True, help="Column of values; repeatable."),
        click.option(
            "--columns",
            type=click.Choice(["metrics", "sources"]),
            help="Several columns of values are metrics of one source, or each is a source.  [default: metrics]",
        ),
        click.option(
            "--time-unit",
            "timestamp_unit",
            type=click.Choice(["s", "ms", "us", "ns"]),
            help="Unit of numeric times.  [default: by their size]",
        ),
        click.option("--time-format", metavar="FORMAT", help=format_help),
        click.option("--timezone", metavar="NAME", help="Zone of times without a zone: Europe/Berlin.  [default: UTC]"),
        click.option(
            "--date-order",
            type=click.Choice(["day-first", "month-first"]),
            help="How to read 01/02/2023.  [default: from the cells]",
        ),
        click.option(
            "--decimal", type=click.Choice(["point", "comma"]), help="How to read 1,234.  [default: from the cells]"
        ),
        click.option("--encoding", metavar="NAME", help="Encoding of CSV that is not UTF-8 or UTF-16: cp1252."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def labels_option(command: Callable) -> Callable:
    """Adds ``--labels PATH``."""
    return click.option(
        "--labels",
        metavar="PATH",
        help="JSON file of labelled windows, as NAB's: {file: [[start, end], ...]}.  [default: columns of the files]",
    )(command)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--output",
    metavar="PATH",
    help="Write results as NDJSON to a file, to a folder (one file for each FILE), or to - (standard output).  "
    "[default: standard output, where that is not a terminal]",
)
@click.option("--report", "report_path", metavar="PATH", help="Write an HTML report to this file.")
@labels_option
@columns_options
@configurations_option
def detect(
    files: tuple[str, ...],
    output: str | None,
    report_path: str | None,
    labels: str | None,
    configurations: dict[str, Any],
    **names: Any,
) -> None:
    """Score the points of CSV, NDJSON or Parquet files; needs no Kafka.

    FILE may be a folder, for all files in it, or - for standard input; gzip is unpacked. Columns are found by the usual
    names: timestamp, source, value. Several columns of numbers are one vector; label, is_anomaly and the like are
    not values; an empty cell is a missing value. How columns are read is printed on stderr; a table that can be read in
    two ways is refused.

    With --report the results are written only where --output says so. The report needs no network; where rows are
    labelled (a column label, anomaly or is_anomaly, or --labels) it compares episodes and labels, and several --config
    with each other.

    A summary is printed on stderr.
    """
    if labels and not report_path:
        raise ConfigurationError("--labels: needs --report, or the command evaluate")
    if len(configurations) > 1 and (output or not report_path):
        raise ConfigurationError(
            "--config: results are of one configuration, found several: --report, without --output, or the command "
            "evaluate compares them"
        )
    read = inputs(files)
    if not report_path:
        Detect(configurations, names).run(read, Outputs(output, files, read))
        return
    from app.offline.report.page import MOST_POINTS, page
    from app.offline.scored_series import Labels, Recorder

    place = Path(report_path)
    refuse_input_as_output(place, read, "--report")
    if not place.parent.is_dir():
        raise ConfigurationError(f"--report {place}: no such folder")
    job = Detect(configurations, names)
    windows = Labels(labels) if labels else None
    job.recorder = Recorder(job.pipelines, windows, bands=True, most_points=MOST_POINTS)
    job.run(read, Outputs(output, files, read, quiet=True))
    place.write_text(page(job.recorder.series, job.configurations), "utf-8")
    click.echo(f"{place}: {place.stat().st_size / 1e6:.1f} MB, to be opened by a browser", err=True)


class Detect:
    """One call of the command: a pipeline for each configuration, and the messages while it runs and at its end.

    ``names`` are fields of ``FileOptions`` and settings of ``input`` given as options; else those of the first
    configuration say how files are read, for all. ``recorder``, where one is set, is given everything.
    """

    def __init__(self, configurations: Mapping[str, Any], names: Mapping[str, Any]) -> None:
        from app.offline.options import FileOptions
        from app.pipeline import Pipeline  # numpy and numba are not needed for --help

        first = next(iter(configurations.values()))
        self.configurations = list(configurations)
        self.fields, self.options = FileOptions.split(first.input, names)
        self.recorder: Recorder | None = None
        self._interpretation = ""
        self.line = StatusLine()
        self.remarks = Remarks(self.line)
        self.line.show(lambda: "compiling the detectors ...", now=True)
        self.pipelines = [Pipeline.of(each, self.fields.max_metrics) for each in configurations.values()]
        if self.pipelines[0].engine == "python":
            click.echo("numba is not installed: the detectors run in plain Python, with the same results", err=True)
        for pipeline in self.pipelines:
            pipeline.compile()

    def run(self, read: list[Input], outputs: Outputs) -> None:
        """Score all files; results, of the first configuration, go to ``outputs``."""
        from app.cli.summary import Summary

        begin = time.monotonic()
        totals, rows = [Summary() for _ in self.pipelines], []
        with outputs.one as one:
            for each in read:
                with outputs.open(each, one) as output:
                    found = self.file(each, output)
                rows.append((each.name, found))
                for total, part in zip(totals, found):
                    total += part
        self.line.clear()
        self.remarks.end()
        seconds = time.monotonic() - begin
        for place, (name, total) in enumerate(zip(self.configurations, totals)):
            if len(totals) > 1:
                click.echo(f"{name}:", err=True)
            print_summary([(file, found[place]) for file, found in rows], total, seconds)
        if totals[0].unreadable and not totals[0].points:
            raise AnomalyError("no row could be read as a point")

    def file(self, each: Input, output: BinaryIO | None) -> list[Summary]:
        """Score one file; a summary for each configuration."""
        from app.cli.summary import Summary
        from app.offline.files import read
        from app.state.series import parted
        from app.wire.results import encode_results

        found, size = [Summary() for _ in self.pipelines], each.size()
        states = [pipeline.sources() for pipeline in self.pipelines]
        with each.open() as file:
            for batch in read(file, each.name, each.source, self.fields, self.options):
                outcomes = [pipeline.run(state, batch.points) for pipeline, state in zip(self.pipelines, states)]
                if output is not None:
                    encoded = encode_results(batch.points, outcomes[0], each.source, 0)
                    output.writelines(line for _, value in encoded for line in (value, b"\n"))
                    output.flush()
                # Files of a folder are often alike: it is said once.
                if batch.interpretation and batch.interpretation != self._interpretation:
                    self._interpretation = batch.interpretation
                    self.line.clear()
                    click.echo(f"{each.name}: {batch.interpretation}", err=True)
                for text in [*batch.notes, *(dead_letter.reason for dead_letter in batch.bad)]:
                    self.remarks.say(text)
                for position, _, reason in outcomes[0].rejected:
                    self.remarks.say(f"{each.name}: row {batch.points.offset[position]}: {reason}")
                for summary, outcome in zip(found, outcomes):
                    summary.unreadable += len(batch.bad)
                    summary.empty += batch.empty
                    summary.add(batch.points, outcome)
                if self.recorder is not None:
                    self.recorder.add(batch, outcomes)
                self.line.show(lambda: progress(each.name, found[0].points, file.tell(), size))
        for summary, state in zip(found, states):
            summary.end(len({parted(name)[0] for name in state.slots}))
        if self.recorder is not None:
            self.recorder.end(each.name)
        return found


def progress(name: str, points: int, read: int, size: int) -> str:
    return f"{name}: {points:,} points" + (f", {100 * read // size} %" if size else "")


def print_summary(rows: list[tuple[str, Summary]], total: Summary, seconds: float) -> None:
    """The summary, on stderr: results may be on standard output."""
    for line in total.lines():
        click.echo(line, err=True)
    if len(rows) > 1:
        width = max(len(name) for name, _ in rows)
        for name, found in rows:
            click.echo(f"  {name.ljust(width)}  {found.counts()}", err=True)
    rate = f" ({total.points / seconds:,.0f}/s)" if total.points else ""
    click.echo(f"{total.counts()} in {seconds:.1f} s{rate}", err=True)

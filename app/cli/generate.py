"""``faust-anomaly generate``: points into raw-data. Each generator is a command, its parameters are options."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

import click

import generators
from app.cli.common import Remarks, StatusLine, many, settings_option
from app.cli.feed import FileOutput, KafkaOutput, Pace, Totals, feed
from app.cli.parameters import RateType, parameters_of
from app.errors import AnomalyError


class Generators(click.Group):
    """The files of the folder ``generators``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return generators.names()

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return command(name) if name in generators.names() else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Generators"):
            formatter.write_dl([(name, generators.about(name)) for name in generators.names()])


@click.group(cls=Generators)
def generate() -> None:
    """Write points to raw-data: made up, from files, or from a generator of your own.

    Everything at once, unless --speed or --rate is given.
    """


COMMON = [
    click.Option(["--output"], metavar="PATH", help="NDJSON to a file, - for standard output, instead of Kafka."),
    click.Option(["--topic"], help="Topic to write to.  [default: kafka.input_topic]"),
    click.Option(
        ["--speed"],
        type=click.FloatRange(0, 1e9, min_open=True),
        metavar="FACTOR",
        help="Follow the times of the points, FACTOR times faster; 1 is real time.",
    ),
    click.Option(["--rate"], type=RateType(), metavar="N/s", help="Points per s, min or h, of all sources."),
    click.Option(["--labels"], is_flag=True, help="Add the field label, the kind of anomaly, where there is one."),
]


def command(name: str) -> click.Command:
    """The command of a generator."""
    records = generators.load(name)
    own = parameters_of(records)

    @settings_option
    @click.pass_context
    def callback(ctx: click.Context, settings: Any, output: str | None, topic: str | None, speed: float | None,
                 rate: float | None, labels: bool, **options: Any) -> None:  # fmt: skip
        if speed is not None and rate is not None:
            raise click.UsageError("--speed and --rate: give one of them")
        default = {each for each in options if ctx.get_parameter_source(each) is click.core.ParameterSource.DEFAULT}
        options |= live(options, default, speed, rate)
        with ExitStack() as files:
            if output is None:
                to: Any = KafkaOutput(settings.kafka, topic or settings.kafka.input_topic, labels)
            else:
                to = FileOutput(cast(BinaryIO, files.enter_context(click.open_file(output, "wb"))), labels)
            run(records(**options), to, Pace(speed, rate))

    about = sys.modules[records.__module__].__doc__
    made = click.command(name, help=about)(callback)
    made.params = [*own, *COMMON, *made.params]
    return made


def live(options: dict[str, Any], default: set[str], speed: float | None, rate: float | None) -> dict[str, Any]:
    """Defaults of a series in real time: it starts now, and its interval fits the rate."""
    instead: dict[str, Any] = {}
    if (speed or rate) and "start" in default and options["start"] is not None:
        instead["start"] = time.time()
    if rate and "interval" in default and "sources" in options:
        instead["interval"] = options["sources"] / rate
    return instead


def run(records: Any, output: Any, pace: Pace) -> None:
    """Feed the output, with a line that shows how far it is, and the totals at the end, Ctrl-C included."""
    totals, line, begin = Totals(), StatusLine(), time.monotonic()
    remarks = Remarks(line)

    async def all_of_them() -> None:
        async with output:
            await feed(
                records,
                output,
                pace,
                totals,
                remark=lambda remark: remarks.say(remark.text),
                progress=lambda: line.show(lambda: f"{totals.points:,} points"),
            )

    try:
        asyncio.run(all_of_them())
        if not totals.points:
            raise AnomalyError("there was no point to write")
    finally:
        line.clear()
        remarks.end()
        if totals.points:
            click.echo(summary(totals, time.monotonic() - begin), err=True)


def summary(totals: Totals, seconds: float) -> str:
    text = f"{many(totals.points, 'point')} of {many(len(totals.sources), 'source')} in {seconds:.1f} s"
    text += f" ({totals.points / max(seconds, 1e-9):,.0f}/s)"
    text += f", {totals.anomalies:,} labelled anomalous" if totals.anomalies else ""
    return text + (f", {many(totals.unreadable, 'row')} unreadable" if totals.unreadable else "")

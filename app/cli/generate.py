"""``faust-anomaly generate``: points into raw-data, or to a worker. Each generator is a command with its options."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

import generators
from app.cli.common import Remarks, StatusLine, many, plain, settings_option
from app.cli.feed import FileOutput, KafkaOutput, SendSchedule, Totals, feed
from app.cli.parameters import DurationType, RateType, parameters_of
from app.errors import AnomalyError, ConfigurationError


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

    All at once, unless --speed or --rate is given. With --post they are sent to a worker over HTTP.
    """


COMMON = [
    click.Option(["--output"], metavar="PATH", help="NDJSON to a file, - for standard output, instead of Kafka."),
    click.Option(["--post"], metavar="URL", help="POST to a worker instead: http(s)://host:port/data or /detect."),
    click.Option(["--token-file"], metavar="PATH", help="With --post: file with the token to send."),
    click.Option(
        ["--retry-for"],
        type=DurationType(),
        default="1m",
        show_default=True,
        metavar="DURATION",
        help="With --post: how long to retry after errors.",
    ),
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
                 rate: float | None, labels: bool, post: str | None, token_file: str | None, retry_for: float,
                 **options: Any) -> None:  # fmt: skip
        if speed is not None and rate is not None:
            raise click.UsageError("--speed and --rate: give one of them")
        if post and (output is not None or topic is not None):
            raise click.UsageError("--post goes without --output and --topic")
        if token_file and not post:
            raise click.UsageError("--token-file goes with --post")
        default = {each for each in options if ctx.get_parameter_source(each) is click.core.ParameterSource.DEFAULT}
        options |= live(options, default, speed, rate)
        remarks = Remarks(StatusLine())
        with ExitStack() as files:
            if post:
                from app.cli.post import PostOutput  # not at the top: others do without

                to: Any = PostOutput(post, labels, _token(token_file), retry_for, lambda line: remarks.say(plain(line)))
            elif output is None:
                to = KafkaOutput(settings.kafka, topic or settings.kafka.input_topic, labels)
            else:
                to = FileOutput(cast(BinaryIO, files.enter_context(click.open_file(output, "wb"))), labels)
            run(records(**options), to, SendSchedule(speed, rate), remarks)

    about = sys.modules[records.__module__].__doc__
    made = click.command(name, help=about)(callback)
    made.params = [*own, *COMMON, *made.params]
    return made


def _token(path: str | None) -> str | None:
    """The first line of the file. Raises ConfigurationError."""
    if path is None:
        return None
    try:
        token = Path(path).read_text().strip()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"--token-file: expected a readable file, got {path!r}: {error}") from error
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise ConfigurationError(f"--token-file: expected a token on one line of {path!r}, and nothing else")
    return token


def live(options: dict[str, Any], default: set[str], speed: float | None, rate: float | None) -> dict[str, Any]:
    """Defaults of a series in real time: it starts now, and its interval fits the rate."""
    instead: dict[str, Any] = {}
    if (speed or rate) and "start" in default and options["start"] is not None:
        instead["start"] = time.time()
    if rate and "interval" in default and "sources" in options:
        instead["interval"] = options["sources"] / rate
    return instead


def run(records: Any, output: Any, schedule: SendSchedule, remarks: Remarks) -> None:
    """Feed the output, with a line that shows how far it is, and the totals at the end, Ctrl-C included."""
    totals, line, begin = Totals(), remarks.line, time.monotonic()

    async def all_of_them() -> None:
        async with output:
            await feed(
                records,
                output,
                schedule,
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
            totals.taken, totals.refused = getattr(output, "taken", None), getattr(output, "refused", 0)
            click.echo(summary(totals, time.monotonic() - begin), err=True)
    if totals.refused:
        raise AnomalyError(f"{many(totals.refused, 'point')} refused")


def summary(totals: Totals, seconds: float) -> str:
    text = f"{many(totals.points, 'point')} of {many(len(totals.sources), 'source')} in {seconds:.1f} s"
    text += f" ({totals.points / max(seconds, 1e-9):,.0f}/s)"
    text += f", {totals.anomalies:,} labelled anomalous" if totals.anomalies else ""
    text += f", {many(totals.unreadable, 'row')} unreadable" if totals.unreadable else ""
    return text + (f", {totals.taken:,} taken, {totals.refused:,} refused" if totals.taken is not None else "")

"""``faust-anomaly``: one program, its commands loaded when they are asked for.

A command is one module of this folder; the table below is all that ``--help`` reads, so it answers at once
and a command pays for its own imports only (Faust, numba and aiokafka take seconds).

Exit codes: 0 done; 1 an error, in one line on stderr; 2 settings, topics or options are wrong: nothing was started, and
trying again does not help; 130 stopped by Ctrl-C; 141 the reader of our output went away.
"""

import os
import signal
import sys
from typing import Any

import click

from app import __version__, errors
from app.cli.table import TableGroup

COMMANDS = {
    "demo": ("app.cli.demo:demo", "See it work: a broker, a worker, data and the web view."),
    "worker": ("app.cli.worker:worker", "Score raw-data from Kafka until stopped."),
    "alerter": ("app.cli.alerter:alerter", "Notify people of episodes, without scoring."),
    "detect": ("app.cli.detect:detect", "Score CSV or NDJSON files; needs no Kafka."),
    "evaluate": ("app.cli.evaluate:evaluate", "Compare what detect finds with labels."),
    "generate": ("app.cli.generate:generate", "Write points to raw-data, made up or from files."),
    "kafka": ("app.cli.kafka:kafka", "Start, stop or check a local Kafka broker."),
    "alerts": ("app.cli.alerts:alerts", "Show who is notified of anomalies, and why."),
    "token": ("app.cli.token:token", "Create, list or revoke tokens of the view and the API."),
    "topics": ("app.cli.topics:topics", "Create the topics, or check them."),
    "check": ("app.cli.check:check", "Check all that a worker or alerter needs, before it is started."),
    "probe": ("app.cli.probe:probe", "Ask the worker of this machine whether it lives, or is ready."),
    "backup": ("app.cli.backup:backup", "Copy the state of a group to a file."),
    "restore": ("app.cli.backup:restore", "Put such a copy back, also on another cluster."),
    "compile": ("app.cli.compile:compile_", "Compile ahead of the first start, as for an image."),
    "size": ("app.cli.size:size", "Calculate what a load needs: workers, memory, partitions, disk."),
    "settings": ("app.cli.settings:settings", "Print every setting and where it came from."),
}
WRONG_BEFORE_START = (errors.ConfigurationError, errors.TopicError)


class Commands(TableGroup):
    """The commands of the table; an error that one of them raises on purpose becomes a line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        _end_as_first_process()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except errors.AnomalyError as error:
            click.echo(f"faust-anomaly: {error}", err=True)
            wrong = isinstance(error, WRONG_BEFORE_START) and not isinstance(error, errors.NoBroker)
            ctx.exit(2 if wrong else 1)
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            # The interpreter flushes stdout once more at its end: give it somewhere to write.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)
        except OSError as error:
            if error.filename is None:  # not about a file somebody named
                raise
            click.echo(f"faust-anomaly: {error.filename}: {error.strerror}", err=True)
            ctx.exit(1)


def _end_as_first_process() -> None:
    """Process 1, as in a container, is not ended by signals that it has no handler for: SIGTERM does what Ctrl-C does.

    Worker and alerter have their own handlers as soon as they run.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@click.group(
    cls=Commands, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="faust-anomaly")
def main() -> None:
    """Score every point of many time series: which are anomalous, and why."""

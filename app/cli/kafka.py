"""``faust-anomaly kafka``: a local Apache Kafka for trying out and development."""

from collections.abc import Callable

import click

from app.local_kafka import PORT, LocalKafka, default_directory


def directory_option(command: Callable) -> Callable:
    """Adds ``--dir``, passed as ``directory``."""
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False),
        metavar="PATH",
        default=lambda: str(default_directory()),
        help=f"Directory of its data.  [default: {default_directory()}]",
    )(command)


def say(message: str) -> None:
    click.echo(message, err=True)


@click.group()
def kafka() -> None:
    """Start, stop or check a local Kafka broker: one node, reachable from this machine only.

    Its data stays when it stops. Needs the packages of faust-anomaly[local].
    """


@kafka.command()
@directory_option
@click.option("--port", type=click.IntRange(0, 65535), help=f"0: a free one.  [default: {PORT}]")
def start(directory: str, port: int | None) -> None:
    """Start it and print its address.

    Returns when it answers, and leaves it running in the background. The first start fetches Kafka (43 MB).
    If the directory's broker is already running, its address is printed.
    """
    if port is None:
        found = LocalKafka(directory, say=say).status()
        port = found.port if found.pid else PORT
    broker = LocalKafka(directory, port, say=say)
    if not broker.start():
        say("It was running already.")
    click.echo(broker.bootstrap_servers)


@kafka.command()
@directory_option
def stop(directory: str) -> None:
    """Stop it; its data stays."""
    broker = LocalKafka(directory, port=0, say=say)
    click.echo("stopped" if broker.stop() else f"not running ({broker.directory})")


@kafka.command()
@directory_option
@click.pass_context
def status(ctx: click.Context, directory: str) -> None:
    """Print whether it runs, and where. Exit code 0: it answers; 3: it is not running; 1: it does not answer."""
    found = LocalKafka(directory, port=0, say=say).status()
    click.echo(str(found))
    ctx.exit(0 if found.ready else 3 if found.pid is None else 1)

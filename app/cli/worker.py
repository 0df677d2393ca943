"""``faust-anomaly worker``: the same program as ``faust -A app worker``, with the options that matter set."""

import gc
import os

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--config", metavar="PATH", help="YAML file of settings.  [default: $ANOMALY_CONFIG]")
@click.option("--loglevel", "-l", default="info", show_default=True, type=click.Choice(["info", "warn", "error"]))
@click.argument("faust_options", nargs=-1, type=click.UNPROCESSED)
def worker(config: str | None, loglevel: str, faust_options: tuple[str, ...]) -> None:
    """Score raw-data from Kafka until stopped. Further options are handed to `faust worker`."""
    if config:
        os.environ["ANOMALY_CONFIG"] = os.path.abspath(config)  # the application reads its settings when imported
    gc.disable()  # what is imported stays: looking through it again and again takes .2 s of a start
    from faust.cli.faust import cli

    arguments = ["-A", "app", "worker", "--without-web", "--loglevel", loglevel, *faust_options]
    cli.main(arguments, prog_name="faust-anomaly", standalone_mode=True)

"""``faust-anomaly topics``: check the topics, and create those that are missing."""

import asyncio
from typing import TYPE_CHECKING

import click

from app.cli.common import settings_option

if TYPE_CHECKING:
    from app.settings import Settings


@click.command()
@settings_option
@click.option("--create", is_flag=True, help="Create the missing topics.")
@click.option(
    "--extend", is_flag=True, help="Give results and changelog as many partitions as the input topic has now."
)
@click.option(
    "--partitions",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Partitions of the input topic, if it is created; the other topics get the same number.",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 32767),
    help="Copies of each partition.  [default: 3, or as many as there are brokers]",
)
def topics(settings: "Settings", create: bool, extend: bool, partitions: int, replication_factor: int | None) -> None:
    """Check the topics, or create them.

    Reports every problem and its fix. Existing topics are changed by --extend only. Exit code 0: a worker can start;
    without --create this includes its permissions, where the brokers use ACLs.
    """
    from app.kafka import patches, permissions  # not at the top: --help does without
    from app.kafka import topics as job
    from app.pipeline import Pipeline

    patches.apply_to_clients()
    largest = Pipeline.of(settings).max_snapshot_bytes()

    async def run() -> dict[str, job.Topic]:
        if create:
            for name in await job.create(settings, partitions, replication_factor, largest):
                click.echo(f"created {name}")
        if extend:
            for name in await job.extend(settings.kafka):
                click.echo(f"added partitions to {name}")
        return await job.require(settings, largest, [] if create or extend else permissions.of_worker(settings))

    found = asyncio.run(run())
    for name, topic in found.items():
        click.echo(f"{name}: {topic.partitions} partition{'s' if topic.partitions > 1 else ''}, ok")
    for doubt in job.doubts(settings.kafka, found):
        click.echo(f"warning: {doubt}", err=True)

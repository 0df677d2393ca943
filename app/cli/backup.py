"""``faust-anomaly backup`` and ``restore``: a copy of a group's state in a file, and back."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.common import many, settings_option

if TYPE_CHECKING:
    from app.settings import Settings


@click.command()
@settings_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(settings: "Settings", file: Path) -> None:
    """Copy the state of the group to FILE.

    The copy has the changelog, the group's offsets, and the topics of alerting. Workers may run meanwhile. See
    docs/upgrades.md.
    """
    from app.kafka import patches  # not at the top: --help does without
    from app.stream.copies import backup as copies

    patches.apply_to_clients()
    try:
        result = asyncio.run(copies.backup(settings, file))
    except FileExistsError:
        raise click.UsageError(f"{file}: there is a file already; a backup needs a new file") from None
    except BaseException:
        file.unlink(missing_ok=True)  # it would be refused
        raise
    _report("copied", result)


@click.command()
@settings_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--at",
    type=click.Choice(["beginning", "end"]),
    help="The input topic is another one than that of the copy, on this cluster or another: where in it the group "
    "begins. Without it the topic must be the same.",
)
@click.option("--stale", is_flag=True, help="With --at: take a copy that does not hold all points, without them.")
@click.option(
    "--reuse-ids", is_flag=True, help="With --at: new results may have ids that old ones of other points had."
)
def restore(settings: "Settings", file: Path, at: Any, stale: bool, reuse_ids: bool) -> None:
    """Put the state in FILE back, with the workers stopped.

    Nothing is written unless all of it fits. Then the changelog must be empty; other topics that are not empty are left
    as they are.
    """
    from app.kafka import patches
    from app.stream.copies import restore as copies

    if at is None and (stale or reuse_ids):
        raise click.UsageError("--stale and --reuse-ids go with --at")
    patches.apply_to_clients()
    _report("put back", asyncio.run(copies.restore(settings, file, at, stale, reuse_ids)))


def _report(verb: str, result: Any) -> None:
    for topic, count in result.records.items():
        click.echo(f"{topic}: {many(count, 'record')} {verb}")
    for sentence in result.remarks:
        click.echo(sentence)
    click.echo(f"done: {result.bytes:,} bytes")

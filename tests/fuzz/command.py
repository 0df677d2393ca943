"""What ``python -m tests.fuzz`` does."""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from integration.run import Run
from support.jobs import Job

from app.local_kafka import LocalKafka
from tests.fuzz.run import findings, reported

ALL: dict[str, dict[str, Any]] = {"alerting": {"enabled": True}, "storage": {"enabled": True}}


@click.command()
@click.option("--url", default="", help="Of a server that runs; else a broker and a worker are started.")
@click.option("--cases", default=200, show_default=True, help="Most requests of one kind to one operation.")
@click.option("--seed", default=1, show_default=True, help="Another seed makes other requests.")
@click.option("--only", "paths", multiple=True, metavar="PATH", help="This path of the document alone.")
def main(url: str, cases: int, seed: int, paths: tuple[str, ...]) -> None:
    """Requests of every kind against a worker, held to its own document of the API."""
    only = [word for path in paths for word in ("--include-path", path)]
    with contextlib.nullcontext(url) if url else own_worker() as address:
        report = asyncio.run(reported(address, *only, cases=cases, seed=seed))
    click.echo(report["said"])
    sys.exit(1 if findings(report) else 0)


@contextlib.contextmanager
def own_worker() -> Iterator[str]:
    """The address of a worker, with a broker of its own."""
    with (
        tempfile.TemporaryDirectory() as place,
        LocalKafka(Path(place) / "kafka", port=0, properties={"group.min.session.timeout.ms": "500"}) as kafka,
        Run(Job.of("fuzz", kafka.bootstrap_servers), Path(place), **ALL) as run,
    ):
        yield run.make_topics().start().until_ready().url

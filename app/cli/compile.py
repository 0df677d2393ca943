"""``faust-anomaly compile``: compiles before the first start, for example when an image is built."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from app.cli.common import configurations_option
from app.errors import AnomalyError


@click.command("compile")
@configurations_option
@click.option(
    "--into",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep it there; what $FAUST_ANOMALY_COMPILED has is not compiled again.  [default: where workers keep it]",
)
def compile_(configurations: dict[str, Any], into: Path | None) -> None:
    """Compile what a worker and detect need for these settings, so that their first start does not.

    Several --config are compiled for all of them. $NUMBA_CPU_NAME=generic compiles for any processor of this kind;
    those who use the code must set it too.
    """
    if into:
        os.environ["FAUST_ANOMALY_CACHE"] = str(into)
    from app.compiled import code_cache, jit
    from app.pipeline import Pipeline
    from app.stream.warm_up import warm_up

    if not jit.AVAILABLE:
        raise AnomalyError("compile: numba is not installed, so there is nothing to compile")
    folder = code_cache.directory()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise AnomalyError(f"compile: {folder} cannot be written to; --into names another folder")
    begin, before = time.monotonic(), len(list(folder.iterdir()))
    for name, settings in configurations.items():
        pipeline = Pipeline.of(settings)
        warm_up(pipeline, rekeys=True)
        if left := pipeline.to_compile():
            raise AnomalyError(f"compile: {folder}: {len(left)} functions of {name} could not be kept: is it full?")
    if into:  # others will run it
        for file in folder.iterdir():
            file.chmod(0o644)
    new = len(list(folder.iterdir())) - before
    click.echo(f"{folder}: {new} functions compiled, in {time.monotonic() - begin:.1f} s")

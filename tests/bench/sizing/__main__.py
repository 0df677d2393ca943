"""``python -m tests.bench.sizing``: what ``faust-anomaly size`` calculates with, measured on this machine.

Starts a broker and one worker after another, some ten minutes in all. What is measured is kept in ``--runs``, so
that a run that was interrupted goes on where it was. Writes app/sizing/measured.json with ``--write``.

Where other programs keep the cores busy, give it priority, and its broker, which has a session of its own (``nice``, or
/proc/PID/autogroup): processes that wait for a core take larger and fewer batches than on a machine of their own.
"""

import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


WITH_KAFKA = ("replay", "recovery", "check: recovery")
# What is compacted meanwhile would be missing in what was written.
NOT_CLEANED = {"log.cleaner.backoff.ms": "3600000"}


@click.command()
@click.option("--runs", default=str(Path(tempfile.gettempdir()) / "faust-anomaly-sizing.json"), show_default=True)
@click.option("--again", multiple=True, help="Measure what has this in its name anew; may be given again.")
@click.option("--write", is_flag=True, help="Write app/sizing/measured.json, if all is measured.")
@click.option("--minutes", default=15.0, show_default=True, help="Begin nothing more after so long.")
def main(runs: str, again: tuple[str, ...], minutes: float, write: bool) -> None:
    """Measure what `faust-anomaly size` calculates with."""
    from app.local_kafka import LocalKafka
    from app.sizing.measured import FILE
    from tests.bench.sizing import fit, measured, methods, restarts
    from tests.bench.sizing.cases import CASES

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    path, until = Path(runs), time.monotonic() + 60.0 * minutes
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found = {name: run for name, run in found.items() if not any(one in name for one in again)}

    def once(name: str, call: Callable[[], Any]) -> None:
        if name in found:
            return
        if time.monotonic() > until:
            click.echo(f"{name}: left for the next call")
            return
        began = time.monotonic()
        found[name] = call()
        path.write_text(json.dumps(found, indent=1))
        click.echo(f"{name}: {time.monotonic() - began:.0f} s\n  {json.dumps(found[name])}")

    with tempfile.TemporaryDirectory(prefix="sizing-") as directory:
        kafka = LocalKafka(Path(directory) / "kafka", port=0, properties=NOT_CLEANED)
        with contextlib.ExitStack() as stack:
            if {*WITH_KAFKA, *(case.name for case in CASES)} - found.keys():
                stack.enter_context(kafka)
            for i, case in enumerate(CASES):
                once(case.name, partial(measured.measure, kafka, Path(directory) / f"case-{i}", case))
            once("replay", lambda: restarts.measure_replay(kafka, Path(directory) / "replay"))
            once("recovery", lambda: restarts.measure_recovery(kafka, Path(directory)))
            once("check: recovery", lambda: restarts.check_recovery(kafka, Path(directory)))
        once("kernels", methods.measure_kernels)
        once("adapters", methods.measure_adapters)
        once("libraries", methods.measure_libraries)
    if {*WITH_KAFKA, "kernels", "adapters", "libraries", *(case.name for case in CASES)} - found.keys():
        raise SystemExit("not all is measured yet: call it again")
    result = fit.fitted(found)
    for check in result.checks:
        click.echo(f"{check.case}: {check.what}: {check.measured:g} {check.unit}, predicted {check.error:+.0%}")
    if write:
        data = msgspec.json.format(msgspec.json.encode(result), indent=1)
        (ROOT / "app" / "sizing" / FILE).write_bytes(data + b"\n")


if __name__ == "__main__":
    main()

"""The command of tests/limits/__main__.py: figures beside what is promised."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from conftest import BROKER

from app.local_kafka import LocalKafka
from tests.limits import recovery, soak
from tests.limits.memory import DETECTIONS

# Promised, by state: see memory.DETECTIONS.
BYTES_A_SOURCE = {"rows": 2000, "default": 9000}
ROOM_MB = 60.0  # measured beside them at small numbers: arrays and tables have room in them
RECOVERY_S = {"rows": 10.0, "default": 50.0}  # of a million sources
SLOPE_MB_PER_H = 30.0


@click.command()
@click.option("--sources", default=1_000_000, show_default=True)
@click.option("--soak-minutes", default=0.0, show_default=True, help="0: no soak.")
@click.option("--per-s", default=70_000.0, show_default=True, help="Records a second of the soak: half speed.")
@click.option("--view/--no-view", default=True, help="The soak with the web view, which fills for minutes.")
@click.option("--state", multiple=True, type=click.Choice(list(BYTES_A_SOURCE)), help="What is kept of a source; both.")
@click.option("--only", multiple=True, type=click.Choice(["memory", "recovery", "soak"]))
def main(
    sources: int, soak_minutes: float, per_s: float, view: bool, state: tuple[str, ...], only: tuple[str, ...]
) -> None:
    """Measure the limits, and compare them with what is promised."""
    wanted = only or ("memory", "recovery", *(["soak"] if soak_minutes else []))
    states = state or tuple(BYTES_A_SOURCE)
    missed = memory(sources, states) if "memory" in wanted else []
    if {"recovery", "soak"} & set(wanted):
        with tempfile.TemporaryDirectory(prefix="limits-") as name:
            directory = Path(name)
            with LocalKafka(directory / "kafka", port=0, properties=BROKER) as kafka:
                if "recovery" in wanted:
                    for each in states:
                        missed += recover(kafka, directory, sources, each)
                if "soak" in wanted:
                    missed += soaked(kafka, directory, soak_minutes or 30.0, per_s, view)
    for what in missed:
        click.echo(f"MISSED: {what}", err=True)
    sys.exit(1 if missed else 0)


def memory(sources: int, states: tuple[str, ...]) -> list[str]:
    missed = []
    for name in states:
        promised = BYTES_A_SOURCE[name]
        argv = [sys.executable, "-m", "tests.limits.memory", str(sources), name]
        found = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
        allowed = promised + ROOM_MB * 1e6 / sources
        click.echo(
            f"memory, {name}: {found['base_bytes'] / 1e6:.0f} MB + {sources:,} x {found['bytes_a_source']:.0f} bytes "
            f"(promised {promised}), of them {found['row_bytes']:.0f} of rows; {found['points_per_s']:,.0f} points/s, "
            f"longest batch {found['longest_batch_s']:.2f} s"
        )
        if found["bytes_a_source"] > allowed:
            missed.append(f"{found['bytes_a_source']:.0f} bytes a source ({name}), promised are {allowed:.0f}")
    return missed


def recover(kafka: LocalKafka, directory: Path, sources: int, name: str) -> list[str]:
    found = recovery.measure(kafka, directory / name, sources, DETECTIONS[name])
    allowed = max(2.0, RECOVERY_S[name] * sources / 1e6)
    click.echo(
        f"recovery, {name}: {found.sources:,} sources, {found.changelog_bytes / 1e6:,.0f} MB of changelog in "
        f"{found.read_s:.1f} s (promised {allowed:.0f}), ready {found.ready_s:.1f} s after its start, "
        f"{found.cpu_s:.1f} s of CPU; "
        f"resident {found.resident_bytes / 1e6:,.0f} MB"
    )
    missed = f"recovery ({name}) took {found.read_s:.1f} s, promised are {allowed:.0f}"
    return [missed] if found.read_s > allowed else []


def soaked(kafka: LocalKafka, directory: Path, minutes: float, per_s: float, view: bool) -> list[str]:
    found = soak.measure(kafka, directory, minutes, per_s, view)
    click.echo(
        f"soak: {found.minutes:g} minutes, {found.per_s:,.0f} records/s, lag {found.lag:,} at the end, "
        f"{found.results:,} results, {found.resident_mb:.0f} MB resident, "
        f"{found.slope_mb_per_h:+.1f} +- {found.error_mb_per_h:.1f} MB an hour (at most {SLOPE_MB_PER_H:.0f})"
    )
    return [f"memory grows by {found.slope_mb_per_h:.1f} MB an hour"] if found.slope_mb_per_h > SLOPE_MB_PER_H else []

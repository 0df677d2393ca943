"""``python -m tests.simulation``: see __main__.py."""

import logging
import os
import secrets
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

import click
from simulation.search import Broken, search

SHARE = 250  # schedules of one search
OVERTAKEN = 10  # of so many searches one is about retention


def part(number: int, count: int, seeded: int) -> tuple[Counter[str], str]:
    """What happened, and what was broken."""
    logging.disable(logging.CRITICAL)
    try:
        return search(count, seeded + number, overtaken=number % OVERTAKEN == OVERTAKEN - 1), ""
    except Broken as broken:
        return Counter(), f"{broken}"


@click.command()
@click.option("--schedules", default=10_000, show_default=True, help="How many are drawn.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, help="At work at the same time.")
@click.option("--seed", "seeded", type=int, help="The same number draws the same schedules.")
def main(schedules: int, processes: int, seeded: int | None) -> None:
    """Look for a schedule that breaks a promise."""
    seeded = secrets.randbelow(10**9) if seeded is None else seeded
    began, total = time.monotonic(), Counter[str]()
    shares = [min(SHARE, schedules - at) for at in range(0, schedules, SHARE)]
    with ProcessPoolExecutor(processes) as pool:
        futures = [pool.submit(part, number, count, seeded) for number, count in enumerate(shares)]
        for future in as_completed(futures):
            happened, broken = future.result()
            total.update(happened)
            if broken:
                pool.shutdown(wait=False, cancel_futures=True)
                print(f"seed {seeded}: after about {total['schedules']} schedules:\n{broken}")
                sys.exit(1)
    figures = ", ".join(f"{count:,} {what}" for what, count in total.most_common())
    print(f"seed {seeded}, {time.monotonic() - began:.0f} s, every promise held: {figures}")

"""The command line of ``python -m tests.chaos``: plan, run, tell."""

import logging
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
from chaos import report
from chaos.alerters import play
from chaos.campaign import Campaign
from chaos.cluster import Cluster
from chaos.controls import CONTROLS
from chaos.plan import KINDS, ROUND_RECORDS, kinds, rounds
from chaos.posts import EARLY
from chaos.posts import play as play_posts
from chaos.rolling import roll
from conftest import BROKER
from integration.load import SERIES, real_series
from integration.run import Run
from support.jobs import Job

from app.local_kafka import LocalKafka
from app.local_kafka.jars import KAFKA


def faults(command):
    """One option for each kind of fault."""
    usual = {"kills": 200, "failpoints": 180, "rekeys": 60, "zombies": 60, "members": 100, "brokers": 20}
    for kind, words in reversed(KINDS.items()):
        default = usual.get(kind, 20)
        command = click.option(f"--{kind}", default=default, show_default=True, type=click.IntRange(0), help=words)(
            command
        )
    return command


@click.command()
@faults
@click.option("--controls", default=1, show_default=True, help="How often each broken program must be caught.")
@click.option("--records", default=5_000_000, show_default=True, help="At least so many, in all.")
@click.option("--round-records", default=ROUND_RECORDS, show_default=True, help="Records between two checks.")
@click.option("--minutes", default=180.0, show_default=True, help="No round begins later; then it is a failure.")
@click.option("--per-s", default=2000.0, show_default=True, help="Records produced a second.")
@click.option("--session-s", default=3.0, show_default=True, help="Session timeout of the workers.")
@click.option("--seed", default=1, show_default=True, help="Of the order of faults and of the records.")
@click.option("--series", type=click.Path(exists=True, path_type=Path), multiple=True, help="Directories of CSV files.")
@click.option("--static", is_flag=True, help="Workers have names (kafka.group_instance_id) that their successors take.")
@click.option("--rolling", default=0, help="Only this: rounds in which each of three brokers is restarted in turn.")
@click.option("--abruptly", is_flag=True, help="With --rolling: by kill -9, not by SIGTERM.")
@click.option("--alerters", default=0, help="Only this: alerters killed so often while 50 times as many episodes open.")
@click.option("--posts", default=0, help="Only this: a worker killed so often while points are posted to it.")
@click.option("--write-docs", is_flag=True, help="Write the tables into docs/guarantees.md.")
def main(
    controls: int,
    records: int,
    round_records: int,
    minutes: float,
    per_s: float,
    session_s: float,
    seed: int,
    series: tuple[Path, ...],
    static: bool,
    rolling: int,
    abruptly: bool,
    alerters: int,
    posts: int,
    write_docs: bool,
    **counts: int,
) -> None:
    """Inject so many faults of each kind, and ask the checker after each round what they did."""
    from tests.bench.report import machine

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of our own clients: brokers come and go
    directory = Path(tempfile.mkdtemp(prefix="faust-anomaly-chaos-"))
    if rolling:
        rolled = roll(directory, rolling, per_s, signal.SIGKILL if abruptly else signal.SIGTERM, _say, seed)
        text = f"{rolled.text()} {machine(f'Kafka {KAFKA} (three nodes)')}"
        _say(f"\n{dict(rolled.exits)}\n{text}\n")
        _end(rolled.failures(), directory, {"rolling": text} if write_docs and not abruptly else {})
        return
    if alerters:
        with LocalKafka(directory / "kafka", port=0, properties=BROKER) as kafka:
            found = play(kafka.bootstrap_servers, directory, episodes=50 * alerters, kills=alerters, seed=seed)
        text = f"{found.text()} {machine(f'Kafka {KAFKA} (one node)')}"
        _say(f"\n{text}\n")
        _end(found.findings, directory, {"alerters": text} if write_docs else {})
        return
    if posts:
        with LocalKafka(directory / "kafka", port=0, properties=BROKER) as kafka:
            posted = play_posts(kafka.bootstrap_servers, directory, posts, per_s, seed=seed)
            (within := directory / "early").mkdir()
            early = play_posts(kafka.bootstrap_servers, within, 1, 500.0, program=EARLY, revives=False)
        lost = sum("is lost" in said or "is there" in said for said in early.findings)
        text = f"{posted.text()} {machine(f'Kafka {KAFKA} (one node)')}"
        _say(f"\n{dict(posted.requests)}\n{text}\n\nof a program that answers too early {lost} were found to be lost")
        wrong = posted.findings + ([] if lost else ["a program that answers too early was not caught"])
        _end(wrong[:50], directory, {"posts": text} if write_docs else {})
        return
    plan = rounds(counts, records, seed, round_records)
    planned = kinds([fault for each in plan for fault in each.faults])
    names = Counter(fault.partition(":")[2] for each in plan for fault in each.faults if ":" in fault)
    began = time.monotonic()
    with Cluster(directory) as cluster:
        campaign = Campaign(cluster, directory, seed, per_s, session_s, real_series(*(series or SERIES)), _say, static)
        for each in plan:
            if time.monotonic() > began + 60.0 * minutes:
                _say(f"{minutes:g} minutes are over; {len(plan) - each.number} rounds were not played")
                break
            campaign.play(each)
        caught = {f"{name}, {i}": _is_caught(name, cluster, directory, i) for i in range(controls) for name in CONTROLS}
    tally, seconds = campaign.tally, time.monotonic() - began
    text = report.text(tally, caught, session_s, seconds, machine(f"Kafka {KAFKA} (one node)"))
    wrong = report.failures(tally, planned, names, records)
    wrong += [f"{name}: a broken program was not caught" for name, yes in caught.items() if not yes]
    _say(f"\nworkers that ended by themselves: {dict(tally.exits)}\ncuts: {dict(tally.modes)}\n\n{text}\n")
    _end(wrong, directory, {"static" if static else "chaos": text} if write_docs else {})


def _end(wrong: list[str], directory: Path, blocks: dict[str, str]) -> None:
    """Tell what failed, and exit; or write these blocks into the documents."""
    from tests.docs import pages

    for failure in wrong:
        print(f"FAILED: {failure}", file=sys.stderr)
    if wrong:
        sys.exit(f"kept: {directory}")
    shutil.rmtree(directory)
    for name, text in blocks.items():
        pages.write(name, text)


def _is_caught(name: str, cluster: Cluster, directory: Path, number: int) -> bool:
    within = directory / f"{name} {number}"
    within.mkdir()
    with Run(Job.of(name, cluster.kafka.bootstrap_servers), within, **CONTROLS[name].settings) as run:
        try:
            found = CONTROLS[name].play(run).faults.keys() & CONTROLS[name].flagged
        except AssertionError as error:  # it did not come so far
            _say(f"{name}: {error}")
            return False
    _say(f"broken program: {name}: {', '.join(sorted(found)) or 'NOT CAUGHT'}")
    return bool(found)


def _say(what: str) -> None:
    print(what, flush=True)

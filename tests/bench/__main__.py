"""``make bench``: faust-anomaly and its rivals on one job, one broker, one machine.

Prints tables in Markdown. Ends with status 1 when an answer was lost, repeated or wrong: by anybody in
a run without faults, by faust-anomaly in any. ``--write-docs`` writes the tables into docs/benchmarks.md.
"""

import asyncio
import contextlib
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import click
import uvloop

from app.kafka.record_batch import CODECS
from app.local_kafka import LocalKafka
from app.local_kafka.jars import KAFKA
from tests.bench import report
from tests.bench.bench import Bench
from tests.bench.cluster import Cluster
from tests.bench.contestants import CONTESTANTS, MAPPED, REKEYED, WITHOUT_ALERTING
from tests.bench.progress import say
from tests.docs import pages

PARTS = ("start", "throughput", "latency", "recovery", "point")


@click.command()
@click.option("--records", default=400_000, show_default=True, help="Records waiting in the throughput runs.")
@click.option("--rounds", default=3, show_default=True, help="Runs of each start and throughput; the median is shown.")
@click.option("--latency-s", default=20.0, show_default=True, help="Seconds measured at 2,000 records/s.")
@click.option("--quick", is_flag=True, help="100,000 records, 1 round, 5 s: for a look, not for figures.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Only this part; may be given again.")
@click.option("--contestant", "names", multiple=True, help="Only names with this in them; may be given again.")
@click.option(
    "--codec", default="none", type=click.Choice(list(CODECS)), show_default=True, help="Of the input topics."
)
@click.option("--mapped", is_flag=True, help="Also the throughput of records that are read by paths.")
@click.option("--rekey", is_flag=True, help="Also faust-anomaly with input.rekey.")
@click.option("--without-alerting", is_flag=True, help="Also the default set without alerting.")
@click.option("--broker", help="host:port of a Kafka that runs already; default: start one.")
@click.option("--write-docs", is_flag=True, help="Write the tables into docs/benchmarks.md.")
def main(
    records: int,
    rounds: int,
    latency_s: float,
    quick: bool,
    only: tuple[str, ...],
    names: tuple[str, ...],
    codec: str,
    mapped: bool,
    rekey: bool,
    without_alerting: bool,
    broker: str | None,
    write_docs: bool,
) -> None:
    """Measure faust-anomaly beside its rivals on one job (see job.py)."""
    if quick:
        records, rounds, latency_s = 100_000, 1, 5.0
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # warns of every topic that is a moment old
    entrants = [c for c in CONTESTANTS if not names or any(name in c.name for name in names)]
    entrants += [MAPPED] if mapped else []
    entrants += [REKEYED] if rekey else []
    entrants += [WITHOUT_ALERTING] if without_alerting else []
    text, failures = uvloop.run(_run(broker, codec, Bench(records, rounds, latency_s, entrants), only or PARTS))
    print(text)
    if write_docs and not failures:
        pages.write("bench", text)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


async def _run(broker: str | None, codec: str, bench: Bench, parts: tuple[str, ...]) -> tuple[str, list[str]]:
    sections = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench.directory = Path(directory)
        async with _kafka(broker, bench.directory) as (address, kafka), Cluster(address, codec) as bench.cluster:
            for part in PARTS:
                if part in parts:
                    sections.append(await getattr(bench, part)())
    return "\n\n".join([*sections, report.machine(kafka)]), bench.failures


@contextlib.asynccontextmanager
async def _kafka(broker: str | None, directory: Path) -> AsyncIterator[tuple[str, str]]:
    """Address and name of the broker given, or of one that lives as long as the block."""
    if broker:
        yield broker, f"Kafka at {broker}"
        return
    kafka = LocalKafka(directory / "kafka", port=0, say=say)
    await asyncio.to_thread(kafka.start)
    try:
        yield kafka.bootstrap_servers, f"Kafka {KAFKA} (one node)"
    finally:
        await asyncio.to_thread(kafka.stop)


if __name__ == "__main__":
    main()

"""``python -m tests.bench.alerts``: from a point to the receiver of a webhook, while many other points come in.

One worker with the default set, and the alerter in it. Noise of many sources at a steady rate, each record stamped with
the moment it was due; now and then one source has a value far from all it had before, and a receiver notes when it is
notified. Broker, worker, load and receiver share the machine.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from aiokafka import AIOKafkaProducer  # noqa: E402
from chaos.alerters import Receiver  # noqa: E402
from integration.run import Run  # noqa: E402
from support.jobs import Job  # noqa: E402

from app.local_kafka import LocalKafka  # noqa: E402
from app.local_kafka.jars import KAFKA  # noqa: E402
from tests.bench import job  # noqa: E402
from tests.bench.report import machine  # noqa: E402
from tests.docs import pages  # noqa: E402

PARTITIONS = 4
LEARNED = 400  # points a source before the first fault
WAIT_S = 60.0
TICK_S = 0.005  # between two batches of the load


@click.command()
@click.option("--per-s", default=10_000, show_default=True, help="Points a second.")
@click.option("--sources", default=500, show_default=True)
@click.option("--faults", default=300, show_default=True, help="Values for which a notification is due.")
@click.option("--faults-per-s", default=5.0, show_default=True)
@click.option("--write-docs", is_flag=True, help="Write the table into docs/benchmarks.md.")
def main(per_s: int, sources: int, faults: int, faults_per_s: float, write_docs: bool) -> None:
    """How long it takes until somebody is notified."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka", port=0) as kafka:
        measured = measure(kafka.bootstrap_servers, Path(folder), per_s, sources, faults, faults_per_s)
        delays, others = asyncio.run(measured)
    delays.sort()
    lines = [
        "| points a second | faults | notified | others | median | 99 of 100 | slowest |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        f"| {per_s:,} | {faults:,} | {len(delays):,} | {others:,} | "
        f"{' | '.join(f'{delays[int(share * (len(delays) - 1))]:.2f} s' for share in (0.5, 0.99, 1.0))} |",
    ]
    text = "\n".join([*lines, "", machine(f"Kafka {KAFKA} (one node)")])
    print(text)
    if write_docs:
        pages.write("alerts", text)


async def measure(
    servers: str, folder: Path, per_s: int, sources: int, faults: int, faults_per_s: float
) -> tuple[list[float], int]:
    """(seconds from each fault to its notification, number of notifications of other episodes)."""
    receiver = Receiver(random.Random(1))
    url = await receiver.start()
    alerting = {
        "enabled": True,
        "rules": [{"channels": ["ops"]}],
        "channels": {"ops": {"type": "webhook", "url": url}},
        "allowed_addresses": ["127.0.0.1"],
    }
    sections = {"detection": {"detectors": {}}, "state": {}, "alerting": alerting, "kafka": {"session_timeout_s": 10.0}}
    run = await asyncio.to_thread(
        lambda: Run(Job.of("alerts", servers), folder, **sections).make_topics(PARTITIONS)
    )  # fmt: skip
    with run:
        run.start()
        due: dict[str, float] = {}
        names = [f"s{i}" for i in range(sources)]
        chance = random.Random(2)
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
            begun, sent = time.time(), 0
            first_fault = begun + LEARNED * sources / per_s
            while len(due) < faults or time.time() < first_fault + faults / faults_per_s + 5.0:
                batches = [producer.create_batch() for _ in range(PARTITIONS)]
                while (at := begun + sent / per_s) <= time.time():
                    source, value = names[sent % sources], chance.gauss(50.0, 3.0)
                    if at >= first_fault + len(due) / faults_per_s and len(due) < faults and source not in due:
                        due[source], value = at, 200.0
                    record = job.encode(source, at, value)
                    batches[hash_of(source)].append(key=source.encode(), value=record, timestamp=None)
                    sent += 1
                for number, batch in enumerate(batches):
                    if batch.record_count():
                        await producer.send_batch(batch, run.kafka.input_topic, partition=number)
                await asyncio.sleep(TICK_S)
            await producer.flush()
            until = time.time() + WAIT_S
            while len(notified := when(receiver, due)) < len(due) and time.time() < until:
                await asyncio.sleep(0.2)
    await receiver.stop()
    every = Counter(episode["episode"] for message in receiver.messages for episode in message["data"]["episodes"])
    return [notified[source] - due[source] for source in notified], len(every) - len(notified)


def when(receiver: Receiver, due: dict[str, float]) -> dict[str, float]:
    """Source -> time of the notification that an episode had begun with its fault."""
    found: dict[str, float] = {}
    for message in receiver.messages:
        for episode in message["data"]["episodes"]:
            source, opened_at = episode["source"], episode["opened_at"]
            if source in due and abs(opened_at - due[source]) < 1e-3:
                arrived = [at for (id, _), at in receiver.arrived.items() if id == episode["episode"]]
                found.setdefault(source, min(arrived))
    return found


def hash_of(source: str) -> int:
    return int(source[1:]) % PARTITIONS


if __name__ == "__main__":
    main()

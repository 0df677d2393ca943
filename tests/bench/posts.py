"""``python -m tests.bench.posts``: from sending a point to its result in the answer, POST /data at a steady rate.

One worker with the default set, as it is started by hand, and one client that keeps its connections. Points are sent
when they are due, whether the answers before have come or not, and the time counts from then. Broker, worker and client
share the machine.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import click

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from chaos.posts import free_port  # noqa: E402
from integration.run import Run  # noqa: E402
from support.jobs import Job  # noqa: E402

from app.local_kafka import LocalKafka  # noqa: E402
from app.local_kafka.jars import KAFKA  # noqa: E402
from tests.bench.report import machine  # noqa: E402
from tests.docs import pages  # noqa: E402

PARTITIONS, SOURCES = 4, 50
WARM_S = 5.0


@click.command()
@click.option("--per-s", default=100.0, show_default=True, help="Points a second, each a request.")
@click.option("--seconds", default=60.0, show_default=True, help="Measured, after some to get warm.")
@click.option("--write-docs", is_flag=True, help="Write the table into docs/benchmarks.md.")
def main(per_s: float, seconds: float, write_docs: bool) -> None:
    """How long it takes until a point that is posted has its result."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka", port=0) as kafka:
        sections = {"detection": {"detectors": {}}, "state": {}, "kafka": {"session_timeout_s": 10.0}}
        sections |= {"alerting": {"enabled": True}, "dashboard": {"port": (port := free_port())}}
        with Run(Job.of("posts", kafka.bootstrap_servers), Path(folder), **sections).make_topics(PARTITIONS) as run:
            worker = run.start().until_ready()
            before = cpu_s(worker.process.pid)
            times, answers = asyncio.run(measured(f"http://127.0.0.1:{port}/data?wait=10", per_s, seconds))
            used = (cpu_s(worker.process.pid) - before) / (per_s * (WARM_S + seconds))
    times.sort()
    shown = [f"{1000 * times[int(share * (len(times) - 1))]:.0f} ms" for share in (0.5, 0.9, 0.99, 1.0)]
    without = sum(answers.values()) - answers["200"]
    text = "\n".join(
        [
            "| points a second | points | without a result | median | 90 of 100 | 99 of 100 | slowest |",
            "|---:|---:|---:|---:|---:|---:|---:|",
            f"| {per_s:,.0f} | {len(times):,} | {without:,} | {' | '.join(shown)} |",
            "",
            machine(f"Kafka {KAFKA} (one node)"),
        ]
    )
    print(text)
    print(
        f"\nload average: {os.getloadavg()}; {1000 * used:.2f} ms CPU of the worker a point; answers: {dict(answers)}"
    )
    if write_docs:
        pages.write("answers", text)


def cpu_s(pid: int) -> float:
    """That a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measured(url: str, per_s: float, seconds: float) -> tuple[list[float], Counter[str]]:
    """Seconds from when each point was due to its answer, and the answers by status."""
    times: list[float] = []
    answers: Counter[str] = Counter()
    chance = random.Random(1)
    tasks: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def post(body: dict, due: float, counts: bool) -> None:
            try:
                async with session.post(url, json=body) as answer:
                    await answer.read()
                    status = str(answer.status)
            except (aiohttp.ClientError, TimeoutError) as error:
                status = type(error).__name__
            if counts:
                times.append(time.monotonic() - due)
                answers[status] += 1

        begun, n = time.monotonic(), 0
        while (due := begun + n / per_s) < begun + WARM_S + seconds:
            if (wait := due - time.monotonic()) > 0.0:
                await asyncio.sleep(wait)
            body = {"sourceId": f"pump-{n % SOURCES}", "value": chance.gauss(50.0, 3.0)}
            tasks.add(task := asyncio.create_task(post(body, due, due >= begun + WARM_S)))
            task.add_done_callback(tasks.discard)
            n += 1
        await asyncio.gather(*tasks)
    return times, answers


if __name__ == "__main__":
    main()

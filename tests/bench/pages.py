"""``python -m tests.bench.pages``: what open pages cost a worker that has more to score than it can.

One worker with the default set scores what waits in its topic, and pages open and close in turn: each is a WebSocket
that wants everything and watches a source of its own. Judged is by the worker's own CPU time, so that others on the
machine count little: records for each second of it, with pages and without, in pairs one after the other. A steady load
was tried too: from the process of the clients it came in bursts, and said less.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from aiohttp import ClientSession, ClientWebSocketResponse  # noqa: E402
from integration.run import Run  # noqa: E402
from support.jobs import Job  # noqa: E402

from app.local_kafka import LocalKafka  # noqa: E402
from tests.bench import job  # noqa: E402
from tests.bench.cluster import Cluster  # noqa: E402

PARTITIONS = 4
READY_S = 300.0  # of a machine with much else to do
SETTLE_S = 1.5  # after pages were opened or closed


@click.command()
@click.option("--pages", default=50, show_default=True)
@click.option("--records", default=3_000_000, show_default=True, help="That wait; the run ends when all are scored.")
@click.option("--sources", default=500, show_default=True)
@click.option("--phase-s", default=10.0, show_default=True, help="Time with pages, and without.")
@click.option("--pairs", default=10, show_default=True, help="Most pairs of phases.")
def main(pages: int, records: int, sources: int, phase_s: float, pairs: int) -> None:
    """What pages cost."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka", port=0) as kafka:
        costs = asyncio.run(measure(kafka.bootstrap_servers, Path(folder), pages, records, sources, phase_s, pairs))
    print(
        f"{pages} pages cost {statistics.median(costs):.1%} of the worker's rate (median of {len(costs)} pairs, "
        f"{min(costs):.1%} to {max(costs):.1%})"
    )


async def measure(
    servers: str, folder: Path, pages: int, records: int, sources: int, phase_s: float, pairs: int
) -> list[float]:
    """The share of the rate that is lost, of each pair."""
    sections = {"detection": {"detectors": {}}, "state": {}, "kafka": {"session_timeout_s": 10.0}}
    run = await asyncio.to_thread(lambda: Run(Job.of("pages", servers), folder, **sections).make_topics(PARTITIONS))
    costs = []
    with run:
        async with Cluster(servers) as cluster:
            await cluster.fill(run.kafka.input_topic, job.records(records, sources))
        worker = await asyncio.to_thread(run.start)
        await asyncio.to_thread(worker.until_ready, READY_S)
        async with ClientSession(worker.url) as session:
            while await consumed(session) < 100 * sources:  # compiled, and past the first points
                await asyncio.sleep(0.2)
            for number in range(pairs):
                rates, received = {}, 0
                for count in ((0, pages), (pages, 0))[number % 2]:
                    rates[count], got = await phase(session, worker.process.pid, count, sources, phase_s)
                    received += got
                if await consumed(session) >= records:
                    break
                costs.append(1.0 - rates[pages] / rates[0])
                print(
                    f"records a second of CPU: {rates[0]:,.0f} without, {rates[pages]:,.0f} with {pages} pages, "
                    f"which got {received / pages / phase_s:.1f} messages a second each",
                    flush=True,
                )
    return costs


async def phase(session: ClientSession, pid: int, pages: int, sources: int, phase_s: float) -> tuple[float, int]:
    """Records for each second of the worker's CPU time, and the messages that all pages got."""
    got = 0

    async def read(socket: ClientWebSocketResponse) -> None:
        nonlocal got
        async for _ in socket:
            got += 1

    async with AsyncExitStack() as stack:
        tasks = []
        for number in range(pages):
            socket = await stack.enter_async_context(session.ws_connect("/ws", max_msg_size=0))
            await socket.send_json({"watch": f"s{number % sources}"})
            tasks.append(asyncio.create_task(read(socket)))
        await asyncio.sleep(SETTLE_S)
        before, cpu, got = await consumed(session), cpu_s(pid), 0
        ends = time.monotonic() + phase_s
        while time.monotonic() < ends:
            await asyncio.sleep(0.1)
        after, took = await consumed(session), cpu_s(pid) - cpu
        counted = got
        for task in tasks:
            task.cancel()
    return (after - before) / took, counted


async def consumed(session: ClientSession) -> float:
    async with session.get("/api/statistics") as answer:
        return (await answer.json())["worker"]["records_consumed_total"]


def cpu_s(pid: int) -> float:
    """Time on a processor, of all threads."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


if __name__ == "__main__":
    main()

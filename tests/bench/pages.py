"""``python -m tests.bench.pages``: what open pages cost a worker, as a share of the core that it scores with.

One worker with the default set scores points at a steady rate, and pages open and close in turn: each is a WebSocket
that wants everything and watches a source of its own. Compared is the worker's own CPU time, with pages and without, in
pairs one after the other, so that others on the machine count little. (Records scored of a backlog for each second of
CPU were compared first: what a record costs varies more from phase to phase, by a tenth, than pages cost.)
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
from jobs import Job  # noqa: E402

from app.local_kafka import LocalKafka  # noqa: E402
from tests.bench.cluster import Cluster  # noqa: E402
from tests.bench.load import steady_load  # noqa: E402

PARTITIONS = 4
READY_S = 300.0  # of a machine with much else to do
SETTLE_S = 1.5  # after pages were opened or closed


@click.command()
@click.option("--pages", default=50, show_default=True)
@click.option("--per-s", default=2000, show_default=True, help="Points a second; a view reads no more.")
@click.option("--sources", default=500, show_default=True)
@click.option("--phase-s", default=8.0, show_default=True, help="Time with pages, and without.")
@click.option("--pairs", default=8, show_default=True, help="Pairs of phases.")
def main(pages: int, per_s: int, sources: int, phase_s: float, pairs: int) -> None:
    """What pages cost."""
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka", port=0) as kafka:
        costs = asyncio.run(measure(kafka.bootstrap_servers, Path(folder), pages, per_s, sources, phase_s, pairs))
    print(
        f"{pages} pages cost {statistics.median(costs):.1%} of a core (median of {len(costs)} pairs, "
        f"{min(costs):.1%} to {max(costs):.1%})"
    )


async def measure(
    servers: str, folder: Path, pages: int, per_s: int, sources: int, phase_s: float, pairs: int
) -> list[float]:
    """Seconds of CPU that the pages cost in each second, of each pair."""
    sections = {"detection": {"detectors": {}}, "state": {}, "kafka": {"session_timeout_s": 10.0}}
    run = await asyncio.to_thread(lambda: Run(Job.of("pages", servers), folder, **sections).make_topics(PARTITIONS))
    costs = []
    with run:
        worker = await asyncio.to_thread(run.start)
        await asyncio.to_thread(worker.until_ready, READY_S)
        async with (
            Cluster(servers) as cluster,
            steady_load(cluster, run.kafka.input_topic, per_s, sources),
            ClientSession(worker.url) as session,
        ):
            while await consumed(session) < 100 * sources:  # compiled, and past the first points
                await asyncio.sleep(0.2)
            for number in range(pairs):
                used, received = {}, 0
                for count in ((0, pages), (pages, 0))[number % 2]:
                    used[count], got = await phase(session, worker.process.pid, count, sources, phase_s)
                    received += got
                costs.append(used[pages] - used[0])
                print(
                    f"{used[0]:.1%} of a core without, {used[pages]:.1%} with {pages} pages, which got "
                    f"{received / pages / phase_s:.1f} messages a second each",
                    flush=True,
                )
    return costs


async def phase(session: ClientSession, pid: int, pages: int, sources: int, phase_s: float) -> tuple[float, int]:
    """The worker's CPU time in each second, and the messages that all pages got."""
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
        began, cpu, got = time.monotonic(), cpu_s(pid), 0
        await asyncio.sleep(phase_s)
        used, counted = (cpu_s(pid) - cpu) / (time.monotonic() - began), got
        for task in tasks:
            task.cancel()
    return used, counted


async def consumed(session: ClientSession) -> float:
    async with session.get("/api/statistics") as answer:
        return (await answer.json())["worker"]["records_consumed_total"]


def cpu_s(pid: int) -> float:
    """Time on a processor, of all threads."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


if __name__ == "__main__":
    main()

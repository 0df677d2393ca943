"""From nothing to ready: a worker process on an empty topic, its cache of compiled code empty or filled.

Cold is the first start of a fresh installation, warm every later one. Ready is what /readyz says.
"""

import asyncio
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.bench.contestants import Command, Contestant, Run, faust_anomaly_at
from tests.bench.processes import Worker

GIVE_UP_S = 120.0


@dataclass
class Start:
    cold_s: float
    warm_s: float


async def measure(run: Run) -> Start:
    """The default set, cold and then warm; one after the other in one group."""
    with tempfile.TemporaryDirectory(prefix="cache-") as cache:
        return Start(await _until_ready(run, Path(cache)), await _until_ready(run, Path(cache)))


async def _until_ready(run: Run, cache: Path) -> float:
    port = _free_port()

    def command(run: Run, worker: int) -> Command:
        argv, environment = faust_anomaly_at(run, port)
        return argv, {**environment, "FAUST_ANOMALY_CACHE": str(cache)}

    begun = time.monotonic()
    worker = Worker(Contestant("faust-anomaly", command), run)
    try:
        async with aiohttp.ClientSession() as session:
            while not await _ready(session, port):
                worker.check()
                if time.monotonic() - begun > GIVE_UP_S:
                    raise worker.failed(f"not ready after {GIVE_UP_S:.0f} s")
                await asyncio.sleep(0.05)
        return time.monotonic() - begun
    finally:
        await asyncio.to_thread(worker.stop)


async def _ready(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:  # it does not listen yet
        return False


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port

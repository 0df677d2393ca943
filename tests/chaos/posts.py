"""A worker that is killed while points are posted to it, and a judge who compares what it said with what Kafka has.

Points go in bulks at a steady rate. What is not taken is sent again until it is, as any careful program does; every
2xx is written down, with the id that it gave. At the end each of these ids must be a point of raw-data, that very one,
and have its result, once.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from integration.run import Run
from integration.workers import PROGRAM, Worker, wait_for
from support import kafka_tools
from support.jobs import Job

EARLY = (sys.executable, str(Path(__file__).with_name("early.py")))  # a program that answers before Kafka does
SOURCES = 50
AGAIN_S = 0.1
APART_S = (1.0, 3.0)  # from when a worker takes points until it is killed
AHEAD = 8  # bulks on their way at a time, of one keep-alive connection each

Point = tuple[str, float]  # source and value, which no other point of it has
Taken = dict[str, Point]  # id -> what was answered with it


@dataclass
class Found:
    """What came of it."""

    points: int = 0  # made up
    taken: Taken = field(default_factory=dict)  # that the worker said it has written
    twice: list[str] = field(default_factory=list)  # ids of two points
    kills: int = 0
    requests: Counter[str] = field(default_factory=Counter)  # by how they ended
    records: int = 0  # of raw-data
    results: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """For the documents."""
        of = {
            "kill -9 of the worker": self.kills,
            "points posted": self.points,
            "answered as written": len(self.taken),
            "records of raw-data": self.records,
            "results": self.results,
            "lost, wrong or without a result": len(self.findings),
        }
        lines = (of, ["---:"] * len(of), [f"{count:,}" for count in of.values()])
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        rate = self.points / self.seconds
        cut = sum(times for how, times in self.requests.items() if how not in ("200", "ClientConnectorError"))
        return (
            f"{table}\n\n{rate:,.0f} points/s over {self.seconds:.0f} s, the times without a worker among them. "
            f"{cut:,} requests were cut off and sent again, so that {self.records - len(self.taken):,} points are "
            "there twice. On"
        )


class Poster:
    """Posts so many points a second until ``stop``; a bulk that is not taken is tried again until it is."""

    def __init__(self, url: str, per_s: float, bulk: int, found: Found) -> None:
        self._url, self._per_s, self._bulk, self.found = url, per_s, bulk, found
        self._ending = asyncio.Event()
        self.given_up = False

    async def run(self) -> None:
        begun = time.monotonic()
        connector = aiohttp.TCPConnector(limit=AHEAD)
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
            while not self._ending.is_set():
                due = begun + self.found.points / self._per_s
                if (wait := due - time.monotonic()) > 0.0:
                    await asyncio.sleep(wait)
                elif len(tasks) >= AHEAD:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    continue
                tasks.add(task := asyncio.create_task(self._post(session, self._next())))
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        self.found.seconds = time.monotonic() - begun

    def stop(self) -> None:
        self._ending.set()

    def _next(self) -> list[Point]:
        first = self.found.points
        self.found.points += self._bulk
        return [(f"posted-{n % SOURCES}", float(n)) for n in range(first, first + self._bulk)]

    async def _post(self, session: aiohttp.ClientSession, points: list[Point]) -> None:
        while points and not self.given_up:
            body = [{"sourceId": source, "value": value, "timestamp": value} for source, value in points]
            try:
                async with session.post(self._url, json=body) as response:
                    answers = await response.json()
                    self.found.requests[str(response.status)] += 1
                    if response.status == 200:
                        each = zip(points, answers, strict=True)
                        points = [point for point, one in each if not self._took(point, one)]
            except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
                self.found.requests[type(error).__name__] += 1
            if points:
                await asyncio.sleep(AGAIN_S)

    def _took(self, point: Point, answer: Mapping[str, Any]) -> bool:
        id = answer.get("dataPointId")
        if id is None:
            return False
        if self.found.taken.setdefault(id, point) != point:
            self.found.twice.append(id)
        return True


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def play(
    servers: str, folder: Path, kills: int, per_s: float = 2000.0, bulk: int = 100, seed: int = 1,
    program: Sequence[str] = PROGRAM, apart_s: tuple[float, float] = APART_S, revives: bool = True,
) -> Found:  # fmt: skip
    """Kill the worker so often, while so many points a second are posted to it.

    Without ``revives`` all ends with the last kill: then points that were posted have no result.
    """
    port = free_port()
    with Run(Job.of("posts", servers), folder, dashboard={"port": port}).make_topics() as run:
        url = f"http://127.0.0.1:{port}/data?wait=0"
        found = asyncio.run(_play(run, url, kills, per_s, bulk, seed, program, apart_s, revives))
        if revives:
            run.until_done()
        raw = kafka_tools.consume(servers, run.kafka.input_topic)
        results = kafka_tools.consume(servers, run.kafka.output_topic)
    found.records, found.results = len(raw), len(results)
    points = {f"{one.topic}:{one.partition}:{one.offset}:0": msgspec.json.decode(one.value) for one in raw}
    ids = Counter(msgspec.json.decode(one.value)["id"] for one in results)
    found.findings = judged(found, {id: (one["source"], one["value"]) for id, one in points.items()}, ids)
    return found


async def _play(
    run: Run, url: str, kills: int, per_s: float, bulk: int, seed: int, program: Sequence[str],
    apart_s: tuple[float, float], revives: bool,
) -> Found:  # fmt: skip
    chance, found = random.Random(seed), Found()
    worker = await asyncio.to_thread(_started, run, program)
    poster = Poster(url, per_s, bulk, found)
    posting = asyncio.create_task(poster.run())
    try:
        for _ in range(kills):
            await asyncio.to_thread(_until_taking, found)
            await asyncio.sleep(chance.uniform(*apart_s))
            assert worker.code is None, worker.said[-2000:]
            await asyncio.to_thread(worker.kill)
            found.kills += 1
            if found.kills == kills and not revives:
                return found
            worker = run.start(program)
        await asyncio.to_thread(_until_taking, found)
        await asyncio.sleep(apart_s[0])
        poster.stop()
        async with asyncio.timeout(kafka_tools.HANG_S):
            await posting
    finally:
        poster.given_up = True
        posting.cancel()
    return found


def _started(run: Run, program: Sequence[str]) -> Worker:
    return run.start(program).until_ready()


def _until_taking(found: Found) -> None:
    """Points are taken, since this call."""
    before = found.requests["200"]
    wait_for(lambda: found.requests["200"] > before + 3, lambda: str(found.requests))


def judged(found: Found, points: Mapping[str, Point], results: Mapping[str, int]) -> list[str]:
    """What is wrong, in sentences. ``points``: of raw-data, by id; ``results``: how many each id has."""
    said = [f"{id}: given to two points" for id in found.twice]
    for id, point in found.taken.items():
        if id not in points:
            said.append(f"{id}: {point} was said to be written, and is lost")
        elif points[id] != point:
            said.append(f"{id}: {point} was said to be written, and {points[id]} is there")
    for id in points:
        if (times := results.get(id, 0)) != 1:
            said.append(f"{id}: {times} results")
    posted = {(f"posted-{n % SOURCES}", float(n)) for n in range(found.points)}
    if missing := posted - set(found.taken.values()):
        said.append(f"{len(missing)} points were never taken, as {min(missing)}")
    return said

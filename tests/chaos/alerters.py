"""Alerters that are killed while episodes open and close, and a receiver that judges what it was told.

The receiver honours ids: what comes again under an id that it knows is the same message. It fails now and then, in
ways that leave open whether it has taken the message. What it was told is then compared with the events.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiokafka import AIOKafkaProducer
from support import kafka_tools
from support.jobs import Job

SEVERITIES = ("low", "medium", "high", "critical")
TROUBLE = ("500 before", "500 after", "reset before", "reset after", "slow")


@dataclass
class Receiver:
    """A webhook's other side. ``trouble``: share of requests that go wrong."""

    chance: random.Random
    trouble: float = 0.0
    messages: list[dict[str, Any]] = field(default_factory=list)  # in order, each id once
    ids: dict[str, bytes] = field(default_factory=dict)  # id -> body
    other_words: int = 0  # ids that came again with another body
    repeated: int = 0
    arrived: dict[tuple[str, str], float] = field(default_factory=dict)  # (episode, why) -> when

    async def start(self) -> str:
        """Its address."""
        application = web.Application(client_max_size=8 << 20)
        application.router.add_post("/hook", self._hook)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _hook(self, request: web.Request) -> web.Response:
        body = await request.read()
        how = self.chance.choice(TROUBLE) if self.chance.random() < self.trouble else ""
        if how.endswith("before"):
            return self._fails(request, how)
        self._take(request.headers["webhook-id"], body)
        if how == "slow":
            await asyncio.sleep(3.0)
        return self._fails(request, how) if how.endswith("after") else web.Response()

    def _fails(self, request: web.Request, how: str) -> web.Response:
        if how.startswith("reset") and request.transport:
            request.transport.abort()
        return web.Response(status=500)

    def _take(self, id: str, body: bytes) -> None:
        if id in self.ids:
            self.repeated += 1
            self.other_words += self.ids[id] != body
            return
        self.ids[id] = body
        message = json.loads(body)
        self.messages.append(message)
        for episode in message["data"]["episodes"]:
            self.arrived.setdefault((episode["episode"], episode["why"]), time.time())


def lives(chance: random.Random, episodes: int, partitions: int) -> list[list[dict[str, Any]]]:
    """Events of so many episodes, in turns of a few, each turn to be written at once; no times in them yet."""
    turns: list[list[dict[str, Any]]] = []
    series = [f"pump-{n}" for n in range(max(episodes // 10, 1))]
    open_: dict[str, dict[str, Any]] = {}
    offset = begun = 0
    while begun < episodes or open_:
        turn = []
        for source in chance.sample(series, min(len(series), 10)):
            offset += 1
            number = hash_of(source) % partitions
            last = open_.get(source)
            if last is None:
                if begun == episodes:
                    continue
                begun += 1
                last = {"event": "opened", "episode": f"raw-data:{number}:{offset}:0", "kind": "value", "points": 1,
                        "source": source, "severity": chance.choice(SEVERITIES), "partition": number}  # fmt: skip
            else:
                rank, closed = SEVERITIES.index(last["severity"]), chance.random() < 0.5
                rank = rank if closed else max(rank, chance.randrange(4))
                more = {"reason": "recovered"} if closed else {}
                last = {**last, "event": "closed" if closed else "changed", "severity": SEVERITIES[rank],
                        "points": last["points"] + 1, **more}  # fmt: skip
            last = {**last, "offset": offset, "index": 0, "peak_score": 0.9, "value": 1.5, "expected": 1.0}
            open_[source] = last
            if last["event"] == "closed":
                del open_[source]
            turn.append(last)
        turns.append(turn)
    return turns


def hash_of(source: str) -> int:
    return sum(source.encode())


class Alerters:
    """Processes of ``faust-anomaly alerter``."""

    def __init__(self, job: Job, config: Path, logs: Path, count: int) -> None:
        self._environ = {**os.environ, **job.environ(), "ANOMALY_CONFIG": str(config), "ANOMALY_DASHBOARD__PORT": "0"}
        self._logs = logs
        self.processes: list[subprocess.Popen] = []
        self.started = 0
        for _ in range(count):
            self.start()

    def start(self) -> None:
        self.started += 1
        with (self._logs / f"alerter-{self.started}.log").open("wb") as out:
            command = [sys.executable, "-m", "app", "alerter"]
            self.processes.append(subprocess.Popen(command, env=self._environ, stdout=out, stderr=out))

    def kill(self, chance: random.Random) -> None:
        """One of them, at any moment; another takes its place."""
        victim = self.processes.pop(chance.randrange(len(self.processes)))
        assert victim.poll() is None, "an alerter has ended by itself"
        victim.kill()
        victim.wait()
        self.start()

    def stop(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(kafka_tools.HANG_S)


CONFIG = """
kafka: {{session_timeout_s: {session_s}}}
alerting:
  rules: [{{channels: [ops], repeat_interval: 0s}}]
  channels: {{ops: {{type: webhook, url: "{url}", timeout_s: 2.0, messages_per_minute: 600}}}}
  allowed_addresses: [127.0.0.1]
  min_interval_s: 0
storage: {{enabled: false}}
dashboard: {{enabled: false}}
"""


@dataclass
class Found:
    """What came of it."""

    episodes: int
    kills: int
    messages: int
    repeated: int  # requests with an id that was known
    findings: list[str]  # what a person would complain of
    delays_s: list[float]  # from an event to the first message with it

    def text(self) -> str:
        """For the documents."""
        delays = sorted(self.delays_s)
        said = (f"{delays[len(delays) // 2]:.2g}", f"{delays[int(len(delays) * 0.99)]:.2g}") if delays else ("-", "-")
        of = {
            "kill -9 of an alerter": self.kills,
            "episodes": self.episodes,
            "messages": self.messages,
            "sent again with the same id": self.repeated,
            "lost, contradicting or with a new id": len(self.findings),
        }
        lines = (of, ["---:"] * len(of), [f"{count:,}" for count in of.values()])
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        return (
            f"{table}\n\nTwo alerters, one of them killed at any moment; a tenth of all requests fails, half of these "
            f"after they were taken. From an event to the receiver: {said[0]} s (median), {said[1]} s (99 of 100), "
            "kills and failing requests among them. On"
        )


def play(servers: str, folder: Path, episodes: int, kills: int, seed: int = 1, **how: Any) -> Found:
    """``run`` with topics of its own."""
    job = Job.of("alerters", servers)
    topics = {job.kafka["anomalies_topic"]: 4, f"{job.kafka['group_id']}-notifications": 4}
    for name, partitions in {**topics, f"{job.kafka['group_id']}-decisions": 1}.items():
        kafka_tools.create_topic(servers, name, partitions, cleanup_policy="compact")
    return asyncio.run(run(job, folder, episodes, kills, seed, **how))


async def run(
    job: Job, folder: Path, episodes: int, kills: int, seed: int, alerters: int = 2, pause_s: float = 0.5,
    trouble: float = 0.1, partitions: int = 4, session_s: float = 1.0,
) -> Found:  # fmt: skip
    """Kill so often while so many episodes open and close."""
    chance = random.Random(seed)
    receiver = Receiver(random.Random(seed + 1), trouble)
    url = await receiver.start()
    (config := folder / "anomaly.yaml").write_text(CONFIG.format(url=url, session_s=session_s))
    running = Alerters(job, config, folder, alerters)
    producer = AIOKafkaProducer(bootstrap_servers=job.servers, acks="all")
    await producer.start()
    turns = lives(chance, episodes, partitions)
    written: dict[tuple[str, str], float] = {}
    try:
        await _ready(job, producer, receiver, partitions)
        every = max(len(turns) // (kills + 1), 1)
        for n, turn in enumerate(turns):
            for event in turn:
                number = event["partition"]
                now = time.time()
                body = {k: v for k, v in event.items() if k != "partition"} | {"timestamp": now, "opened_at": now}
                record = msgspec.json.encode(body), event["source"].encode(), number
                await producer.send(job.kafka["anomalies_topic"], *record)
                written.setdefault((event["episode"], event["event"]), now)
            await producer.flush()
            await asyncio.sleep(pause_s * chance.random() * 2)
            if kills and n % every == every - 1 and running.started - alerters < kills:
                await asyncio.to_thread(running.kill, chance)
        receiver.trouble = 0.0
        await _quiet(receiver, {event["episode"] for turn in turns for event in turn})
    finally:
        await producer.stop()
        await asyncio.to_thread(running.stop)
        await receiver.stop()
    delays = [at - written[episode, "opened"] for (episode, why), at in receiver.arrived.items()
              if why == "opened" and (episode, why) in written]  # fmt: skip
    return Found(
        episodes, running.started - alerters, len(receiver.messages), receiver.repeated, judged(receiver, turns), delays
    )


async def _ready(job: Job, producer: AIOKafkaProducer, receiver: Receiver, partitions: int) -> None:
    """Until the owner of each partition tells of an episode; which is not judged."""
    for number in range(partitions):
        event = {"event": "opened", "episode": f"ready:{number}:0:0", "kind": "value", "severity": "low", "points": 1,
                 "source": f"ready-{number}", "timestamp": time.time(), "opened_at": time.time(), "peak_score": 0.8,
                 "offset": 0, "index": 0}  # fmt: skip
        await producer.send_and_wait(job.kafka["anomalies_topic"], msgspec.json.encode(event), b"ready", number)
    async with asyncio.timeout(kafka_tools.HANG_S):
        while len(receiver.arrived) < partitions:
            await asyncio.sleep(0.1)


async def _quiet(receiver: Receiver, wanted: set[str]) -> None:
    """Until the end of each episode was told, and nothing came for some seconds; or too long."""
    until, last, since = time.monotonic() + kafka_tools.HANG_S, -1, 0.0
    while time.monotonic() < until:
        told = {episode for episode, why in receiver.arrived if why == "closed"}
        if len(receiver.messages) != last:
            last, since = len(receiver.messages), time.monotonic()
        if wanted <= told and time.monotonic() - since > 2.0:
            return
        await asyncio.sleep(0.2)


def judged(receiver: Receiver, turns: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    """What a person would complain of who was told this: sentences."""
    found = [f"{receiver.other_words} messages came again with other words"] if receiver.other_words else []
    news = defaultdict(list)
    for message in receiver.messages:
        for episode in message["data"]["episodes"]:
            news[episode["episode"]].append((episode["why"], episode["severity"]))
    highest = {event["episode"]: event["severity"] for turn in turns for event in turn}
    for episode, severity in highest.items():
        told = news.pop(episode, [])
        whys = Counter(why for why, _ in told)
        if not told:
            found.append(f"{episode}: never told")
        elif told[-1] != ("closed", severity):
            found.append(f"{episode}: the last word must be its end as {severity}, and is {told[-1]}")
        if max(whys["opened"], whys["closed"]) > 1:
            found.append(f"{episode}: told twice under other ids: {told}")
    return [*found, *(f"{episode}: there is none" for episode in news if not episode.startswith("ready:"))]

"""The pictures of the view in the documents: ``PYTHONPATH=tests python -m tests.docs.picture``, with Chromium.

A day of twelve made sources, scored by the program itself, and four faults that are open at its end. There is no Kafka:
what it would say of workers and channels is made too.
"""

import asyncio
import base64
import json
import math
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp.test_utils import TestServer

from app.alerting.delivery import ChannelStatus
from app.kafka.groups import GroupDescription, MemberDescription
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import load
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults
from app.wire.reader import Reader
from app.wire.results import encode_episodes, encode_results
from tests.support.browser import Page, browser

DOCS = Path(__file__).parents[2] / "docs"
EVERY_S, POINTS = 60.0, 28 * 60
PLANTS = {"boiler-house": 3, "line-1": 4, "line-2": 4, "cooling": 1}
NAMES = ("temperature", "pressure", "flow", "vibration")
SHOWN = "line-1/pressure"
# (source, points before the end at which it begins, points, what is added in standard deviations)
FAULTS = [
    ("line-1/pressure", 6, 99, 14.0),
    ("boiler-house/temperature", 3, 99, -9.0),
    ("line-2/vibration", 11, 99, 7.0),
    ("cooling/temperature", 2, 99, 5.0),
    ("line-1/pressure", 190, 24, 11.0),
    ("line-1/flow", 820, 40, 8.0),
    ("line-2/flow", 500, 15, -12.0),
    ("boiler-house/pressure", 1100, 60, 9.0),
    ("line-2/vibration", 330, 4, 10.0),
    ("boiler-house/temperature", 640, 9, 8.0),
]


class Record:
    """As Kafka has a point."""

    headers: tuple[()] = ()

    def __init__(self, offset: int, source: str, at: float, value: float) -> None:
        self.offset, self.key, self.timestamp = offset, source.encode(), int(at * 1000)
        self.value = json.dumps({"source": source, "timestamp": at, "value": round(value, 3)}).encode()


def points(end: float) -> Iterator[tuple[str, float, float]]:
    """(source, time, value) in the order of time."""
    draw = random.Random(7)
    sources = [f"{plant}/{name}" for plant, count in PLANTS.items() for name in NAMES[:count]]
    for i in range(POINTS):
        for number, source in enumerate(sources):
            level, swing = 40.0 + 13.0 * number, 6.0 + number % 4
            value = level + swing * math.sin(2 * math.pi * (i / 90.0 + number / 7.0)) + draw.gauss(0.0, 1.0)
            since = POINTS - i
            value += sum(by for of, begin, long, by in FAULTS if of == source and begin - long < since <= begin)
            yield source, end - (POINTS - 1 - i) * EVERY_S, value


def scored(settings: Any) -> RecentResults:
    """What a page knows of it."""
    pipeline, recent = Pipeline(settings.detection), RecentResults()
    recent.watched = {SHOWN}  # else it keeps less of it
    records = [Record(offset, *one) for offset, one in enumerate(points(time.time() - 20.0))]
    read, letters, *_ = Reader(settings.input, "raw-data", 0, keyed=True).read(records)
    assert not letters
    outcome = pipeline.run(pipeline.sources(), read)
    for _, value in encode_results(read, outcome, "raw-data", 0):
        recent.take_result(value)
    for _, value in encode_episodes(read, outcome, "raw-data", 0):
        event = json.loads(value)
        recent.take_event(value, event["timestamp"])
        if event["event"] == "opened":
            for channel, answer in (("ops-slack", "ok"), ("log", "1 line")):
                recent.take_notification(told(event, channel, answer), event["timestamp"])
    return recent


def told(event: dict[str, Any], channel: str, answer: str) -> bytes:
    at = event["timestamp"] + 1.0
    body = {"id": channel + event["episode"], "channel": channel, "state": "sent", "created_at": at, "done_at": at}
    return json.dumps(body | {"answer": answer, "news": [{"why": "opened", "event": event}]}).encode()


def made() -> Server:
    given = {"KAFKA__BOOTSTRAP_SERVERS": "kafka-1:9092", "STORAGE__URL": "postgresql://anomaly@db-1/anomaly"}
    settings = load(environ={f"ANOMALY_{name}": value for name, value in given.items()})
    now, metrics = time.time(), Metrics("numba")
    letter = {"reason": "not_finite", "total": 3, "last": now - 2400, "example": "raw-data[1]@90512: $.value: got NaN"}
    details = {
        "generation": 4, "partitions": [0, 1, 2], "alerter": {"state": "running", "partitions": [0, 1]},
        "dead_letters": [letter | {"to_do": "The sender writes NaN or Infinity: send null, or nothing."}],
        "history": {"state": "following", "database": "postgresql://anomaly@db-1/anomaly", "lag": 0},
    }  # fmt: skip
    channels = {
        "log": ("log", ChannelStatus(answered_at=now - 40, answer="1 line")),
        "ops-slack": ("slack", ChannelStatus(answered_at=now - 40, answer="ok")),
        "on-call": ("webhook", ChannelStatus(answered_at=now - 400, answer="202 Accepted")),
    }
    for channel, sent in (("log", 64), ("ops-slack", 61), ("on-call", 5)):
        for _ in range(sent):
            metrics.notification(channel, "sent")
        metrics.channel_up(channel, True)
    for partition in range(3):
        metrics.lag(partition, 0, 3)
    metrics.sources_active.set(4180)
    reader = SimpleNamespace(state="reading", produced_per_s=3100.0, skipped=0)
    server = Server(
        settings, metrics, lambda: Health(True, True, details), scored(settings), reader, reader,
        channels=lambda: channels,
    )  # fmt: skip

    async def describe(kafka: Any, topics: Any) -> dict[str, GroupDescription]:
        members = [
            MemberDescription(f"{n}", "faust-0.15.3", f"10.0.4.{11 + n}", {"raw-data": [3 * n, 3 * n + 1, 3 * n + 2]})
            for n in range(3)
        ]
        tellers = [
            MemberDescription(f"{n}", "aiokafka-0.14.0", f"10.0.4.{11 + n}", {"anomalies": [2 * n, 2 * n + 1]})
            for n in range(3)
        ]
        return {
            kafka.group_id: GroupDescription(
                kafka.group_id, "Stable", members, {"raw-data": dict.fromkeys(range(9), 110)}
            ),
            kafka.alerter_group: GroupDescription(
                kafka.alerter_group, "Stable", tellers, {"anomalies": dict.fromkeys(range(6), 0)}
            ),
        }

    server.services.workers._describe = describe
    return server


async def alive(server: Server) -> None:
    """Rates that move."""
    draw, at = random.Random(7), 0
    while True:
        reader, at = server.services.results, at + 1
        reader.produced_per_s = 3100.0 + 260.0 * math.sin(at / 9.0) + draw.gauss(0.0, 60.0)
        server.services.metrics.records_consumed.inc(int(reader.produced_per_s / 3.0))
        await asyncio.sleep(1.0)


async def take(page: Page, url: str, name: str, ready: str, height: int, wait_s: float = 3.0) -> None:
    await page.open(url, width=1280, height=height)
    await page.until(f"document.querySelector('#health-word').textContent === 'ready' && {ready}")
    await asyncio.sleep(wait_s)
    taken = await page.call("Page.captureScreenshot", format="png")
    (DOCS / name).write_bytes(base64.b64decode(taken["data"]))
    if tool := shutil.which("pngquant"):  # a third of the size
        subprocess.run([tool, "--force", "--speed", "1", "--strip", "--ext", ".png", "128", DOCS / name], check=True)


async def main() -> None:
    server = made()
    async with TestServer(server.application()) as listening, browser() as page:
        url = str(listening.make_url("/"))
        tasks = [asyncio.create_task(server.push.run()), asyncio.create_task(alive(server))]
        await page.call("Emulation.setScrollbarsHidden", hidden=True)
        await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
        await take(page, url, "view.png", "document.querySelector('#episodes svg path')", 1000)
        await take(page, f"{url}source?source={SHOWN}", "source.png", "document.querySelector('canvas')", 860)
        await take(page, f"{url}system", "system.png", "document.querySelector('#groups tbody tr')", 940, 45.0)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())

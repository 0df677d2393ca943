"""Decisions over HTTP against a real broker: made at one worker's port, known at that of another."""

import asyncio
import json
import time
from contextlib import AsyncExitStack

from aiohttp import ClientSession
from support.kafka_tools import HANG_S, acreate_topic, aproduce

from app.kafka.client import client_options
from app.kafka.decisions import silences
from app.metrics import Metrics
from app.web import Health, View

EPISODE = "raw-data:0:9:0"
OPENED = {
    "event": "opened", "episode": EPISODE, "kind": "value", "severity": "high", "source": "pump-7", "timestamp": 9.0,
    "opened_at": 9.0, "points": 1, "peak_score": 0.93, "offset": 9, "index": 0, "value": 90.5,
}  # fmt: skip


async def served(stack, settings):
    """A started view, and a session that asks it."""
    view = View(settings, Metrics(), lambda: Health(True, True), client_options(settings.kafka))
    await view.start()
    stack.push_async_callback(view.stop)
    return await stack.enter_async_context(ClientSession(f"http://127.0.0.1:{view.port}"))


async def until(session, path, pleases):
    deadline = time.monotonic() + HANG_S
    while True:
        async with session.get(path) as answer:
            body = await answer.json()
        if pleases(body):
            return body
        assert time.monotonic() < deadline, body
        await asyncio.sleep(0.02)


async def post(session, path, body):
    async with session.post(path, json=body) as answer:
        return answer.status, await answer.json()


def test_what_is_decided_at_one_port_is_known_at_another(job):
    settings = job.settings(dashboard={"port": 0})
    kafka = settings.kafka

    async def run():
        for topic in (kafka.output_topic, kafka.anomalies_topic, kafka.notifications_topic, kafka.decisions_topic):
            await acreate_topic(job.servers, topic)
        await aproduce(job.servers, kafka.anomalies_topic, [(b"pump-7", json.dumps(OPENED).encode())])
        async with AsyncExitStack() as stack:
            one, other = await served(stack, settings), await served(stack, settings)
            for session in (one, other):
                await until(session, "/api/anomalies", lambda body: body["anomalies"])
            status, said = await post(
                one, f"/api/episodes/{EPISODE}/acknowledgement", {"by": "ann", "comment": "on it"}
            )
            assert status == 200
            path = f"/api/episodes/{EPISODE}"
            assert (await until(one, path, lambda body: True))["acknowledged"] == said
            assert (await until(other, path, lambda body: "acknowledged" in body))["acknowledged"] == said
            new = {"matchers": ["source=pump-7"], "duration_s": 600, "by": "ann"}
            status, begun = await post(one, "/api/silences", new)
            assert status == 201
            async with other.delete(f"/api/silences/{begun['id']}") as answer:  # at once: it looks into the topic first
                assert answer.status == 200
            assert (await silences(kafka))[begun["id"]].ends_at < begun["ends_at"]
            await until(one, "/api/silences", lambda body: not body["silences"])

            # reports that come to one port and the other
            now, answers = time.time(), []
            for number in range(12):
                report = {"source": "pump-7", "value": 1.0 * number, "timestamp": now - 600 + 20 * number}
                report |= {"is_anomaly": number % 6 != 5, "anomaly_score": 0.99}
                answers.append(await post((one, other)[number % 2], "/api/alert", report))
            assert [(status, body["state"]) for status, body in answers] == 2 * [*[(200, "open")] * 5, (200, "closed")]
            for session in (one, other):
                found = await until(session, "/api/anomalies?kind=external", lambda body: len(body["anomalies"]) == 2)
                assert {shown["state"] for shown in found["anomalies"]} <= {"open", "closed"}
            assert len({body["episode"] for _, body in answers}) == 2

    asyncio.run(run())

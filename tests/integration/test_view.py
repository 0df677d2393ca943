"""The view against a real broker: what is produced to the output topics appears in the API and on the WebSocket."""

import asyncio
import json
import time

from aiohttp import ClientSession
from aiokafka import AIOKafkaConsumer, TopicPartition
from support.kafka_tools import acreate_topic, aproduce

from app.kafka.client import client_options
from app.metrics import Metrics
from app.web import Health, View
from app.web import view as view_module
from app.web.topics import topic_reader as topic_reader_module


def result(source, at, **fields):
    body = {"id": f"raw-data:0:{at:.0f}:0", "source": source, "timestamp": at, "value": 1.5}
    body |= {"anomaly_score": 0.1, "alert_score": 0.1, "is_anomaly": False, "severity": "low", "status": "ok"}
    return source.encode(), json.dumps(body | fields).encode()


def opened(source, at):
    fields = {"event": "opened", "episode": f"raw-data:0:{at:.0f}:0", "is_anomaly": True, "severity": "high"}
    return result(source, at, **fields)


def watch(settings, scenario):
    """Run scenario(get, session, url) beside a started view; ``get`` asks until the answer pleases."""

    async def run():
        view = View(settings, Metrics(), lambda: Health(True, True), client_options(settings.kafka))
        await view.start()
        try:
            async with ClientSession(f"http://127.0.0.1:{view.port}") as session:

                async def get(path, pleases):
                    deadline = time.monotonic() + 20
                    while True:
                        async with session.get(path) as answer:
                            body = await answer.json()
                        if pleases(body):
                            return body
                        assert time.monotonic() < deadline, body
                        await asyncio.sleep(0.05)

                await scenario(get, session)
        finally:
            await view.stop()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_results_and_episodes_appear_in_the_api_and_are_pushed(job):
    settings = job.settings(dashboard={"port": 0})
    results, anomalies = settings.kafka.output_topic, settings.kafka.anomalies_topic

    async def scenario(get, session):
        body = await get("/api/statistics", lambda body: body["results"]["state"].startswith("waiting"))
        assert results in body["results"]["state"]  # started before the topics were made
        await acreate_topic(job.servers, results, 3)
        await acreate_topic(job.servers, anomalies, 1)
        await get("/api/statistics", lambda body: body["results"]["state"] == body["anomalies"]["state"] == "reading")
        async with session.ws_connect("/ws") as socket:
            await aproduce(job.servers, results, [result(f"pump-{n % 7}", float(n)) for n in range(70)])
            await aproduce(job.servers, anomalies, [opened("pump-3", 66.0)])
            kinds = set()
            while not {"sources", "anomalies", "statistics"} <= kinds:
                message = await socket.receive_json(timeout=20)
                kinds.add(message["type"])
        await get("/api/sources", lambda body: body["known"] == 7)
        series = await get("/api/series/pump-3", lambda body: len(body["points"]) == 10)
        assert [point["timestamp"] for point in series["points"]] == [3.0 + 7 * k for k in range(10)]
        found = await get("/api/anomalies/pump-3", lambda body: body["anomalies"])
        assert [episode["episode"] for episode in found["anomalies"]] == ["raw-data:0:66:0"]

    watch(settings, scenario)


def test_a_start_shows_what_was_there_before(job, monkeypatch):
    monkeypatch.setattr(view_module, "START_RESULTS", 5)
    settings = job.settings(dashboard={"port": 0})
    results, anomalies = settings.kafka.output_topic, settings.kafka.anomalies_topic

    async def before():
        await acreate_topic(job.servers, results, 1)
        await acreate_topic(job.servers, anomalies, 1)
        await aproduce(job.servers, results, [result("pump-7", float(n)) for n in range(300)])
        await aproduce(job.servers, anomalies, [opened("pump-7", 9.0)])

    async def scenario(get, session):
        series = await get("/api/series/pump-7", lambda body: len(body.get("points", [])) == 5)
        assert [point["timestamp"] for point in series["points"]] == [295.0, 296.0, 297.0, 298.0, 299.0]
        await get("/api/anomalies", lambda body: len(body["anomalies"]) == 1)

    asyncio.run(before())
    watch(settings, scenario)


def test_a_flood_is_sampled_near_its_end(job):
    settings = job.settings(dashboard={"port": 0})
    results = settings.kafka.output_topic

    async def scenario(get, session):
        await get("/api/statistics", lambda body: body["results"]["state"] == "reading")
        flood = [result(f"pump-{n % 50}", float(n)) for n in range(40_000)]
        await aproduce(job.servers, results, flood)
        last = await get("/api/sources?sort=recent&limit=1", lambda body: body["sources"][0]["timestamp"] >= 39_990)
        assert last["known"] == 50
        body = await get("/api/statistics", lambda body: body["skipped"] > 0)
        assert body["shown"] < 20_000 and body["shown"] + body["skipped"] <= 40_000

    asyncio.run(acreate_topic(job.servers, results, 4))
    watch(settings, scenario)


def test_a_broker_that_restarts_is_read_on_without_repeats(kafka, job, monkeypatch):
    monkeypatch.setitem(topic_reader_module.CONSUMER, "request_timeout_ms", 2_000)
    settings = job.settings(dashboard={"port": 0})
    results = settings.kafka.output_topic

    async def scenario(get, session):
        await get("/api/statistics", lambda body: body["results"]["state"] == "reading")
        await aproduce(job.servers, results, [result("pump-7", float(n)) for n in range(10)])
        await get("/api/statistics", lambda body: body["shown"] == 10)
        await asyncio.to_thread(kafka.kill)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(kafka.start)
        await aproduce(job.servers, results, [result("pump-7", float(n)) for n in range(10, 20)])
        await get("/api/statistics", lambda body: body["shown"] >= 20)
        series = await get("/api/series/pump-7", lambda body: True)
        assert [point["timestamp"] for point in series["points"]] == [float(n) for n in range(20)]

    asyncio.run(acreate_topic(job.servers, results, 1))
    watch(settings, scenario)


def test_it_knows_who_shares_the_partitions_and_how_far_each_is(job):
    settings = job.settings(dashboard={"port": 0}, alerting={"enabled": False})
    kafka = settings.kafka

    async def scenario(get, session):
        await acreate_topic(job.servers, kafka.input_topic, 3)
        await aproduce(job.servers, kafka.input_topic, [result(f"pump-{n}", float(n)) for n in range(30)])
        options = client_options(kafka) | {"client_id": "one-of-us", "enable_auto_commit": False}
        consumer = AIOKafkaConsumer(kafka.input_topic, group_id=kafka.group_id, auto_offset_reset="earliest", **options)
        await consumer.start()
        try:
            partitions = [TopicPartition(kafka.input_topic, number) for number in range(3)]
            ends = await consumer.end_offsets(partitions)
            await consumer.commit({partition: ends[partition] - 1 for partition in partitions[:2]})
            body = await get("/api/workers", lambda body: body["groups"][0]["members"])
        finally:
            await consumer.stop()
        [group] = body["groups"]
        [member] = group["members"]
        assert group["problem"] == "" and member["client"] == "one-of-us" and member["host"] == "127.0.0.1"
        assert member["partitions"] == {kafka.input_topic: [0, 1, 2]} and member["lag"] is None
        assert group["lag"] == {kafka.input_topic: {"0": 1, "1": 1, "2": None}} and group["unassigned"] == {}

    watch(settings, scenario)

"""Points over HTTP: a worker with its API as one server, a generator that posts to it as another."""

import asyncio
import json
import socket
import subprocess
from collections import Counter

import pytest
from integration import logs
from integration.run import Run
from integration.workers import PROGRAM, ROOT, wait_for
from support import kafka_tools

from app.compiled import murmur2
from app.compiled.byte_columns import Column
from app.errors import TopicError
from app.web.writers.point_writer import PointWriter
from app.wire.writer import NewPoint

POINTS, SOURCES = 200, 4


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_generator_posts_to_a_worker_that_is_killed_and_nothing_that_was_taken_is_lost(job, tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}/data"
    asked = ["synthetic", "--points", str(POINTS), "--sources", str(SOURCES), "--start", "0", "--interval", "1"]
    asked += ["--low", "10", "--anomaly-probability", "0.01", "--rate", "200/s", "--retry-for", "10m", "--post", url]
    with Run(job, tmp_path, dashboard={"port": port}).make_topics() as run:
        servers, kafka = run.kafka.bootstrap_servers[0], run.kafka

        def taken() -> int:
            return sum(logs.ends(kafka, kafka.input_topic))

        first = run.start()
        with subprocess.Popen([*PROGRAM, "generate", *asked], cwd=ROOT, stderr=subprocess.PIPE, text=True) as generator:
            try:
                wait_for(lambda: taken() > 0.4 * POINTS * SOURCES)
                first.kill()
                worker = run.start()
                _, told = generator.communicate(timeout=kafka_tools.HANG_S)
            finally:
                generator.kill()
        assert generator.returncode == 0, told
        assert f"{POINTS * SOURCES:,} taken, 0 refused" in told

        worker.until_ready()
        status, answer = worker.post("/data?wait=0", [{"sourceId": "pump", "value": 1.5}, {"sourceId": "pump"}])
        assert status == 200 and answer[1]["error"]["status"] == 422
        assert worker.post("/detect?source=pump", {"value": 2.5}) == (200, {"status": "Data received and processed"})
        status, scored = worker.post("/data?wait=30", {"sourceId": "pump", "value": 3.5})
        assert status == 200 and scored["severity"] == "low" and scored["isAnomaly"] is False
        status, body = worker.get(f"/api/results/{scored['dataPointId']}")
        assert status == 200 and (json.loads(body)["source"], json.loads(body)["value"]) == ("pump", 3.5)
        assert worker.get(f"/api/results/{kafka.input_topic}:0:99999999:0")[0] == 404
        run.until_done()

        records = kafka_tools.consume(servers, kafka.input_topic)
        points = [json.loads(record.value) for record in records]
        sent = Counter((point["source"], point.get("timestamp")) for point in points)
        wanted = {(f"synthetic-{i}", float(at)) for i in range(SOURCES) for at in range(POINTS)}
        assert sent.keys() == wanted | {("pump", None)}
        assert [point["value"] for point in points if point["source"] == "pump"] == [1.5, 2.5, 3.5]
        keys = Column.of([record.key for record in records])
        assert murmur2.partitions(keys, 4).tolist() == [record.partition for record in records]
        results = [json.loads(record.value)["id"] for record in kafka_tools.consume(servers, kafka.output_topic)]
        ids = [f"{record.topic}:{record.partition}:{record.offset}:0" for record in records]
        assert answer[0]["dataPointId"] in ids
        assert sorted(results) == sorted(ids)  # each once
        assert "Traceback" not in first.said + worker.said


def test_a_topic_that_is_missing_is_said_to_be_and_not_made(job):
    async def write():
        writer = PointWriter(job.settings())
        try:
            await writer.write(writer.records([NewPoint("a", 1.5)]))
        finally:
            await writer.stop()

    with pytest.raises(TopicError, match=r"is missing: make it with `faust-anomaly topics --create`"):
        asyncio.run(write())
    assert job.settings().kafka.input_topic not in kafka_tools.topics(job.servers)

"""``generate`` into a real Kafka: everything acknowledged, keyed by source, in order."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter

from click.testing import CliRunner

from app.cli import main
from tests.support import kafka_tools


def generate(job, *words):
    return CliRunner().invoke(main, ["generate", *words], env=job.environ(ANOMALY_KAFKA__ACK_TIMEOUT_S="5"))


def test_records_are_keyed_by_source_and_in_order(job):
    topic = job.settings().kafka.input_topic
    kafka_tools.create_topic(job.servers, topic, 3)
    done = generate(job, "synthetic", "--sources", "5", "--points", "2000", "--anomaly-probability", "0.01", "--labels")
    assert done.exit_code == 0, done.stderr
    assert "10,000 points of 5 sources" in done.stderr and "labelled anomalous" in done.stderr

    records = kafka_tools.consume(job.servers, topic)
    assert len(records) == 10_000
    times, partitions = {}, {}
    for record in records:
        point = json.loads(record.value)
        assert record.key.decode() == point["source"]
        times.setdefault(point["source"], []).append(point["timestamp"])
        partitions.setdefault(point["source"], set()).add(record.partition)
    assert all(each == sorted(each) and len(each) == 2000 for each in times.values())
    assert all(len(each) == 1 for each in partitions.values())
    labels = Counter(json.loads(record.value).get("label") for record in records)
    assert labels["spike"] and labels["drift"] and labels["stuck"]


def test_a_file_is_replayed_and_its_bad_rows_told(job, tmp_path):
    topic = job.settings().kafka.input_topic
    kafka_tools.create_topic(job.servers, topic, 1)
    (tmp_path / "pump.csv").write_text("time,value\n10,1\n20,x\n30,3\n")
    done = generate(job, "file", str(tmp_path / "pump.csv"))
    assert done.exit_code == 0
    assert "pump.csv:3: column 'value'" in done.stderr and "1 row unreadable" in done.stderr
    assert [json.loads(record.value) for record in kafka_tools.consume(job.servers, topic)] == [
        {"source": "pump", "timestamp": 10.0, "value": 1.0},
        {"source": "pump", "timestamp": 30.0, "value": 3.0},
    ]


def test_a_missing_topic_is_not_made(job):
    done = generate(job, "synthetic")
    topic = job.settings().kafka.input_topic
    assert done.exit_code == 2 and f"topic {topic} is missing" in done.stderr
    assert topic not in kafka_tools.topics(job.servers)


def test_a_broker_that_dies_ends_it_with_one_line(job, kafka):
    topic = job.settings().kafka.input_topic
    kafka_tools.create_topic(job.servers, topic, 1)
    words = [sys.executable, "-m", "app", "generate", "synthetic", "--points", "0", "--rate", "500/s"]
    environ = {**os.environ, **job.environ(ANOMALY_KAFKA__ACK_TIMEOUT_S="2")}
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True) as process:
        asyncio.run(kafka_tools.await_records(job.servers, topic, 100))
        kafka.kill()
        try:
            _, told = process.communicate(timeout=kafka_tools.HANG_S)
        finally:
            process.kill()
            kafka.start()
    assert process.returncode == 1
    totals, error = told.splitlines()
    assert "points of 1 source" in totals
    assert error.startswith(f"faust-anomaly: {topic}: a record was not written: ")

"""From a point to a person and back: one worker that scores, tells, keeps the history, and takes a decision."""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time

import pytest
from chaos.alerters import Receiver
from integration.run import Run
from integration.workers import ROOT, wait_for
from support import kafka_tools


@pytest.fixture
def receiver():
    """A webhook's other side, in a thread of its own."""
    found = Receiver(random.Random(1))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    found.url = asyncio.run_coroutine_threadsafe(found.start(), loop).result(30)
    yield found
    asyncio.run_coroutine_threadsafe(found.stop(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)


def command(run, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments, "--config", str(run.config)],
        capture_output=True, text=True, cwd=ROOT, timeout=kafka_tools.HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_somebody_is_told_can_acknowledge_and_sees_what_was_told(job, tmp_path, receiver):
    alerting = {
        "enabled": True,
        "rules": [{"severity": "critical", "channels": ["ops"]}, {"severity": "all", "channels": ["log"]}],
        "channels": {"ops": {"type": "webhook", "url": receiver.url}},
        "allowed_addresses": ["127.0.0.1"],
        "anomaly_log_file": str(tmp_path / "alerts.log"),
        "silent": [{"match": "valve-*", "after_s": 10.0}],
    }
    storage = {"enabled": True, "url": f"sqlite:///{tmp_path / 'history.db'}"}
    with Run(job, tmp_path, alerting=alerting, storage=storage) as run:
        run.make_topics()
        worker = run.start()
        now = time.time()
        values = [50.0 + i % 3 for i in range(200)] + [95.0]
        points = [{"source": "pump-1", "timestamp": now - 300 + i, "value": value} for i, value in enumerate(values)]

        def valve(first, end):
            at = [now + i for i in range(first, end)]
            records = [(b"valve-1", b'{"source": "valve-1", "value": 1.0}', int(one * 1000)) for one in at]
            kafka_tools.produce(job.servers, run.kafka.input_topic, records, partition=0)

        valve(-100, 0)

        def produce(some):
            records = [(b"pump-1", json.dumps(one).encode()) for one in some]
            kafka_tools.produce(job.servers, run.kafka.input_topic, records, partition=1)

        produce(points)
        wait_for(lambda: receiver.messages, lambda: worker.said)
        [message] = receiver.messages
        [told] = message["data"]["episodes"]
        episode = f"{run.kafka.input_topic}:1:200:0"
        assert (told["why"], told["episode"], told["value"], told["source"]) == ("opened", episode, 95.0, "pump-1")
        assert told["explanation"] in message["data"]["text"]
        assert message["data"]["route"] == "rules[0]"

        assert episode in command(run, "alerts", "ack", episode, "--by", "ann", "--comment", "looking")
        produce([{"source": "pump-1", "timestamp": now - 90 + i, "value": 50.0 + i % 3} for i in range(5)])
        wait_for(lambda: len(receiver.messages) == 2, lambda: worker.said)
        [ended] = receiver.messages[1]["data"]["episodes"]
        assert (ended["why"], ended["episode"], ended["reason"]) == ("closed", episode, "recovered")
        assert ended["began"]["value"] == 95.0

        def logged(kind=""):
            lines = map(json.loads, (tmp_path / "alerts.log").read_text().splitlines())
            return [line for line in lines if kind in ("", line["kind"])]

        assert (logged()[0]["what"], logged()[0]["episode"]) == ("opened", episode)

        wait_for(lambda: logged("silent"), lambda: worker.said)
        valve(0, 1)
        wait_for(lambda: len(logged("silent")) == 2, lambda: worker.said)
        opened, closed = logged("silent")
        assert (opened["what"], closed["what"], closed["reason"]) == ("opened", "closed", "returned")
        assert opened["message"].endswith("; the longest usual pause is 1 s")
        assert closed["message"].startswith("valve-1 sends again after ")

        def history():
            return command(run, "alerts", "history", episode)

        wait_for(lambda: "ann" in history() and history().count("sent") >= 4, history)
        details = json.loads(worker.get("/readyz")[1])["details"]
        assert details["alerter"]["state"] == "running" and details["history"]["state"] == "reading"
        assert worker.metric('notifications_total{channel="ops",state="sent"}') == 2
        wait_for(lambda: worker.metric("episodes_open") == 0)
        wait_for(lambda: worker.metric("ready") == 1)
        partitions = worker.metric("partitions")
        assert worker.metric("assigned_partitions") == worker.metric("alerter_assigned_partitions") == partitions > 1
        wait_for(lambda: worker.metric("alerter_lag_records") == 0)
        assert worker.metric("history_free_bytes") > 0

        def report(anomalous, at):
            """What another program has found."""
            found = {"source": "pump-1", "metric": "noise", "value": 7.5, "timestamp": at, "anomaly_score": 0.99}
            found |= {"is_anomaly": anomalous, "anomaly_type": "bearing"}
            status, answer = worker.post("/api/alert", found)
            assert status == 200, answer
            return answer["episode"]

        outside = report(True, now)
        assert report(False, now + 1) == outside
        wait_for(lambda: len(receiver.messages) >= 3, lambda: worker.said)
        told = [one for message in receiver.messages[2:] for one in message["data"]["episodes"]]
        assert told[0]["episode"] == outside and told[0]["kind"] == "external"
        wait_for(lambda: "closed" in (said := command(run, "alerts", "history", outside)) and "external" in said)

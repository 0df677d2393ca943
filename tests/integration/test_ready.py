"""/readyz against a real broker: 200 only with partitions, state and a group that answers, and 503 soon without."""

import json
import threading
import time

import pytest
from integration import load, logs
from integration.run import Run
from integration.workers import Worker, wait_for

SESSION_S = 2.0  # of the run's settings


class Probe:
    """Asks /readyz of a worker all the time, from the moment it listens; ``answers``: (status, body) in order."""

    def __init__(self, worker: Worker) -> None:
        self.answers: list[tuple[int, dict]] = []
        self._worker, self._ended = worker, threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> "Probe":
        wait_for(lambda: "web view on" in self._worker.said, every_s=0.005)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ended.is_set():
            status, body = self._worker.get("/readyz")
            self.answers.append((status, json.loads(body)["details"]))
            time.sleep(0.01)


def statuses(*workers: Worker) -> list[int]:
    return [worker.get("/readyz")[0] for worker in workers]


@pytest.fixture
def run(job, tmp_path):
    with Run(job, tmp_path) as run:
        yield run.make_topics(1)


def test_ready_is_said_only_while_it_is_true(run, kafka):
    kind = run.kafka
    load.produce(kind.bootstrap_servers, kind.input_topic, [(0, b"p", b'{"source":"p","value":1}')] * 1000)
    first = run.start()
    with Probe(first) as probe:
        wait_for(lambda: any(status == 200 for status, _ in probe.answers))
    before = [details for status, details in probe.answers if status != 200]
    assert before and all(details["not_ready"] for details in before)
    assert {status for status, _ in probe.answers} == {503, 200}
    at = next(details for status, details in probe.answers if status == 200)
    assert at["partitions"] == [0] and at["recovered"] and at["generation"] >= 1 and "not_ready" not in at

    second = run.start().until_ready()  # one partition: one of the two has none, and is ready to take over
    wait_for(lambda: statuses(first, second) == [200, 200])
    owned = [json.loads(worker.get("/readyz")[1])["details"]["partitions"] for worker in (first, second)]
    assert sorted(owned) == [[], [0]]

    kafka.kill()
    away = time.monotonic()
    wait_for(lambda: statuses(first, second) == [503, 503])
    took_s = time.monotonic() - away
    print(f"\n503 {took_s:.1f} s after the broker went")
    assert took_s < SESSION_S + 8.0  # commits fail no later; the rest is for a busy machine
    for _ in range(10):
        assert statuses(first, second) == [503, 503]
        time.sleep(0.1)
    for worker in (first, second):
        assert "group" in json.loads(worker.get("/readyz")[1])["details"]["not_ready"]
        assert worker.get("/livez")[0] == 200
    kafka.start()
    wait_for(lambda: statuses(first, second) == [200, 200])
    load.produce(kind.bootstrap_servers, kind.input_topic, [(0, b"p", b'{"source":"p","value":2}')] * 10)
    wait_for(lambda: logs.ends(kind, kind.output_topic) == [1010])

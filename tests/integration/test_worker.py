"""The worker as its users meet it: points in, results out, bad bytes set aside, wrong topics told."""

import contextlib
import json
import re
import statistics
import sys
import time
from collections import Counter

import pytest
from integration import load, logs, workers
from integration.run import PARTITIONS, Run
from integration.workers import Worker, wait_for
from support import kafka_tools

from app.kafka import topics

START = 1_700_000_000.0
FIELDS = (
    "id", "source", "timestamp", "metric", "value", "values", "expected", "expected_lower", "expected_upper",
    "anomaly_score", "alert_score", "is_anomaly", "episode", "kind", "severity", "status", "direction",
    "detectors", "weights", "attribution", "explanation", "figure", "usual", "config_hash",
)  # fmt: skip
ALWAYS = {
    "id", "source", "timestamp", "anomaly_score", "alert_score", "is_anomaly", "severity", "status", "config_hash",
}  # fmt: skip
LIMIT = 1_048_588  # bytes of a record batch: the broker's usual max.message.bytes


@pytest.fixture(autouse=True)
def from_nothing(monkeypatch):
    """Each worker imports its program itself, as its users' do."""
    monkeypatch.setattr(workers, "fork_server", None)


@pytest.fixture
def start(job, tmp_path):
    """Makes a run with these settings and its topics."""
    with contextlib.ExitStack() as runs:
        yield lambda **sections: runs.enter_context(Run(job, tmp_path, **sections)).make_topics()


def point(source="pump-1", at=START, value=50.0, **more):
    return json.dumps({"source": source, "timestamp": at, "value": value, **more}).encode()


def produce(run, records):
    """(key, value) or (partition, key, value): without a partition, number 1."""
    placed = [record if len(record) == 3 else (1, *record) for record in records]
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, placed)


def results(run, count):
    """All results by partition, once there are that many; every one with its fields in the documented order."""
    wait_for(lambda: sum(logs.ends(run.kafka, run.kafka.output_topic)) >= count)
    found = logs.records(run.kafka, run.kafka.output_topic)
    assert sum(map(len, found)) == count
    for partition in found:
        for record in partition:
            result = json.loads(record.value)
            assert list(result) == [field for field in FIELDS if field in result]
            assert result.keys() >= ALWAYS
            assert ("value" in result) != ("values" in result)
            assert record.key == result["source"].encode()
    return [[json.loads(record.value) for record in partition] for partition in found]


def test_points_become_results_and_probes_answer(start):
    run = start()
    worker = run.start()
    single = [(1, b"pump-1", point(at=START + i, value=50.0 + i % 3)) for i in range(200)]
    single.append((1, b"pump-1", point(at=START + 200, value=95.0)))
    single += [(1, b"pump-1", point(at=START + 201 + i, value=50.0)) for i in range(3)]
    vectors = [
        (2, b"pump-2", json.dumps({"source": "pump-2", "values": {"b": 2.0 + i % 2, "a": 5.0 + i % 2}}).encode())
        for i in range(150)
    ]
    vectors.append((2, b"pump-2", b'{"source": "pump-2", "values": {"b": 2.5, "a": 500.0}}'))
    array = json.dumps([{"sourceId": "pump-3", "timestamp": START, "value": value} for value in (1.0, 2.0)]).encode()
    produce(run, [*single, *vectors, (3, b"pump-3", array)])
    found = results(run, len(single) + len(vectors) + 2)
    topic = run.kafka.input_topic

    ones = found[1]
    assert [result["id"] for result in ones] == [f"{topic}:1:{i}:0" for i in range(204)]
    assert ones[0]["status"] == "warming_up" and ones[0]["anomaly_score"] == 0.0 and "expected" not in ones[0]
    assert ones[150]["status"] == "ok" and not ones[150]["is_anomaly"]
    assert ones[150]["expected_lower"] < ones[150]["expected"] < ones[150]["expected_upper"]
    spike = ones[200]
    assert (spike["value"], spike["timestamp"], spike["direction"]) == (95.0, START + 200, "above")
    assert spike["is_anomaly"] and spike["alert_score"] >= 0.8 and spike["episode"] == spike["id"]
    assert spike["severity"] != "low" and spike["explanation"] and "metric" not in spike
    assert not ones[203]["is_anomaly"] and "episode" not in ones[203]

    last = found[2][-1]
    assert list(last["values"]) == ["a", "b"] and last["is_anomaly"]
    assert last["attribution"]["a"] > last["attribution"]["b"]
    assert last["expected"].keys() == last["expected_lower"].keys() == {"a", "b"}
    assert [result["id"] for result in found[3]] == [f"{topic}:3:0:0", f"{topic}:3:0:1"]

    episodes = [json.loads(record.value) for record in kafka_tools.consume(run.job.servers, run.kafka.anomalies_topic)]
    opened = [episode for episode in episodes if episode["event"] == "opened"]
    for one in (spike, last):
        [event] = [episode for episode in opened if episode["id"] == one["id"]]
        place = dict(zip(("offset", "index"), map(int, one["id"].split(":")[2:])))
        assert event == one | place | {"event": "opened", "opened_at": one["timestamp"], "points": 1,
                                       "peak_score": one["alert_score"]}  # fmt: skip
    [closed] = [episode for episode in episodes if episode["event"] == "closed"]
    assert closed["episode"] == spike["id"] and closed["points"] >= 1

    assert worker.get("/livez")[0] == 200
    wait_for(lambda: worker.get("/readyz")[0] == 200)
    assert worker.metric("records_consumed_total") == len(single) + len(vectors) + 1
    assert worker.metric("results_delivered_total") == len(single) + len(vectors) + 2
    wait_for(lambda: worker.metric("sources_active") == 3)
    run.until_saved()
    assert run.check().faults == {}


def array_of(values):
    return b"[" + b",".join(values) + b"]"


def nested(depth):
    return b'{"source":"pump-1","timestamp":1.0,"value":1.0,"x":' + b"[" * depth + b"]" * depth + b"}"


# Bytes of a record, or of the elements of an array; and what each becomes: a dead letter's label, "" for a result.
BAD = {
    "cut": (b'{"source": "pump-1", "value": 1', ["invalid_json"]),
    "not json": (b"pump-1,45.2", ["invalid_json"]),
    "an object and a half": (b'{"source":"pump-1","value":1}{"source":"pump-1","value":', ["invalid_json"]),
    "NaN": (b'{"source":"pump-1","value":NaN}', ["not_finite"]),
    "nan": (b'{"source":"pump-1","value":nan}', ["invalid_json"]),
    "Infinity": (b'{"source":"pump-1","value":Infinity}', ["not_finite"]),
    "-Infinity": (b'{"source":"pump-1","value":-Infinity}', ["not_finite"]),
    "1e999": (b'{"source":"pump-1","value":1e999}', ["not_finite"]),
    "-1e999": (b'{"source":"pump-1","values":{"a":-1e999}}', ["not_finite"]),
    "NaN as text": (b'{"source":"pump-1","value":"NaN"}', ["wrong_type"]),
    "NaN as a time": (b'{"source":"pump-1","timestamp":NaN,"value":1}', ["bad_timestamp"]),
    "large": (b'{"source":"pump-1","value":1.1e150}', ["out_of_range"]),
    "large and negative": (b'{"source":"pump-1","values":{"a":1,"b":-2e150}}', ["out_of_range"]),
    "no source": (b'{"value":1}', ["bad_source"]),
    "empty source": (b'{"source":"","value":1}', ["bad_source"]),
    "source a fraction": (b'{"source":7.5,"value":1}', ["bad_source"]),
    "source too long": (point(source="x" * 257), ["bad_source"]),
    "no value": (b'{"source":"pump-1"}', ["no_value"]),
    "value true": (b'{"source":"pump-1","value":true}', ["wrong_type"]),
    "129 deep": (nested(129), ["too_deep"]),
    "100,000 deep": (nested(100_000), ["too_deep"]),
    "bad UTF-8": (b'{"source":"pump-\xff","value":1}', ["invalid_json"]),
    "bad UTF-8 in an ignored field": (b'{"source":"pump-1","value":1,"x":"\xc3("}', ["invalid_json"]),
    "empty": (b"", ["empty"]),
    "JSON null": (b"null", ["wrong_type"]),
    "empty array": (b"[]", ["empty"]),
    "one bad element": ([point(), b'{"source":"pump-1"}', point(value=51.0)], ["", "no_value", ""]),
    "NaN in an array": ([point(), b'{"source": "pump-1", "value": NaN}'], ["", "not_finite"]),
    "before 1970": (point(at=-0.001), ["bad_timestamp"]),
    "after 2199": (point(at=7_258_118_400.0), ["bad_timestamp"]),
    "time as a word": (point(at="noon"), ["bad_timestamp"]),
    "no such day": (point(at="2023-02-30T00:00:00Z"), ["bad_timestamp"]),
    "too many metrics": (
        json.dumps({"source": "pump-1", "values": {f"m{i}": 1.0 for i in range(33)}}).encode(),
        ["too_many_metrics"],
    ),
    "1 MiB of nothing": (b'{"source":"pump-1","x":"' + b"x" * (LIMIT - 300), ["invalid_json"]),
    "1 MiB of brackets": (b"[" * (LIMIT - 300), ["too_deep"]),
}


def test_bad_records_are_set_aside_one_by_one_and_their_partition_goes_on(start):
    run = start()
    run.start().until_ready()
    records, letters = [(b"pump-1", point(value=49.0))], {}
    answers = [(0, 0)]  # offset and index of each result
    for name, (value, labels) in BAD.items():
        offset = len(records)
        elements = value if isinstance(value, list) else [value]
        letters |= {(offset, i): (name, b"pump-1", elements[i]) for i, label in enumerate(labels) if label}
        answers += [(offset, i) for i, label in enumerate(labels) if not label]
        answers.append((offset + 1, 0))
        raw = array_of(value) if isinstance(value, list) else value
        records += [(b"pump-1", raw), (b"pump-1", point(at=START + offset, value=50.0))]
    for key in (b"pump-2", b"\xff", b"", None):
        letters[len(records), 0] = ("key_mismatch", key, point())
        records.append((key, point()))
    big = array_of(point(at=START + i, value=i % 7) for i in range(17_000))
    assert LIMIT - 50_000 < len(big) < LIMIT
    answers += [(len(records), i) for i in range(17_000)]
    records += [(b"pump-1", big), (b"pump-1", point(at=START + 20_000))]
    answers.append((len(records) - 1, 0))
    produce(run, records)

    run.until_saved()
    topic = run.kafka.input_topic
    assert [result["id"] for result in results(run, len(answers))[1]] == [f"{topic}:1:{o}:{i}" for o, i in answers]
    found = {}
    for letter in kafka_tools.consume(run.job.servers, run.kafka.dead_letters_topic):
        headers = {name: text.decode() for name, text in letter.headers}
        assert (headers["topic"], headers["partition"]) == (topic, "1")
        position = int(headers["offset"]), int(headers["index"])
        assert position not in found
        found[position] = letter.key, letter.value, headers["reason"]
    assert found.keys() == letters.keys()
    for position, (name, key, value) in letters.items():
        assert found[position][:2] == (key, value if value is None else value[: 512 * 1024]), name
        assert found[position][2].startswith(f"{topic}[1]@{position[0]}: "), name
    [worker] = run.workers
    counted = re.findall(r'^faust_anomaly_invalid_total{reason="(\w+)"} (\d+)', worker.get("/metrics")[1], re.MULTILINE)
    expected = Counter(label for _, labels in BAD.values() for label in labels if label)
    assert {label: int(count) for label, count in counted} == {**expected, "key_mismatch": 4}
    assert run.check().faults == {}


def test_a_good_point_hardly_waits_for_the_bad_ones_before_it(start):
    run = start()
    worker = run.start().until_ready()
    bad = [value for value, labels in BAD.values() if all(labels)]
    behind = []
    for i in range(120):
        before = [(b"pump-1", bad[i % len(bad)])] if i % 2 else []
        produce(run, [*before, (b"pump-1", point(at=START + i))])
        behind.append(bool(before))
        time.sleep(0.01)
    results(run, 120)
    sent = {record.offset: record.timestamp for record in logs.records(run.kafka, run.kafka.input_topic)[1]}
    waits = [
        record.timestamp - sent[int(json.loads(record.value)["id"].split(":")[2])]
        for record in logs.records(run.kafka, run.kafka.output_topic)[1]
    ]
    for name, of in (("alone", False), ("behind a bad record", True)):
        chosen = sorted(wait for wait, after in zip(waits, behind, strict=True) if after == of)
        print(f"\n{name}: median {statistics.median(chosen)} ms, p95 {chosen[57]} ms, longest {chosen[-1]} ms")
        assert chosen[-1] < 1000
    assert worker.metric("invalid_total") == 60


def test_topics_that_do_not_fit_stop_the_worker_before_it_joins(job, tmp_path):
    with Run(job, tmp_path) as run:
        kafka, servers = run.kafka, job.servers
        stopped_for(run, f"topic {kafka.input_topic} is missing", f"topic {kafka.changelog_topic} is missing")
        kafka_tools.create_topic(servers, kafka.input_topic, PARTITIONS)
        kafka_tools.create_topic(servers, kafka.output_topic, PARTITIONS - 1)
        kafka_tools.create_topic(servers, kafka.anomalies_topic)
        kafka_tools.create_topic(servers, kafka.dead_letters_topic)
        kafka_tools.create_topic(servers, kafka.changelog_topic, PARTITIONS, cleanup_policy="delete")
        stopped_for(
            run,
            f"topic {kafka.output_topic} must have as many partitions as {kafka.input_topic}, {PARTITIONS}, but has 3",
            f"topic {kafka.changelog_topic}: cleanup.policy must be compact",
            "--add-config cleanup.policy=compact",
            f"topic {kafka.anomalies_topic}: cleanup.policy must be compact",
        )
        assert logs.committed(kafka) == {}
        wrong = kafka.output_topic, kafka.changelog_topic, kafka.anomalies_topic
        kafka_tools.delete_topics(servers, *wrong)
        wait_for(lambda: not {*wrong} & set(kafka_tools.topics(servers)))
        run.make_topics()  # what the message says to do
        run.start().until_ready()


def stopped_for(run: Run, *reasons: str) -> None:
    worker = run.start()
    assert worker.wait() == 2, worker.said
    assert "faust-anomaly topics --create" in worker.said
    assert "Traceback" not in worker.said
    for reason in reasons:
        assert reason in worker.said


def test_faust_worker_is_the_same_program(start, tmp_path):
    run = start()
    command = [sys.executable, "-m", "faust", "-A", "app", "worker", "--loglevel", "info"]
    worker = Worker(tmp_path / "faust.log", command, {"ANOMALY_CONFIG": str(run.config)})
    run.workers.append(worker)
    worker.until_ready()
    produce(run, [(b"pump-1", point(value=float(i))) for i in range(20)])
    assert [result["value"] for result in results(run, 20)[1]] == list(map(float, range(20)))
    worker.term()
    assert worker.code == 0


def test_a_restart_of_an_idle_job_writes_nothing(start):
    run = start()
    first = run.start().until_ready()
    produce(run, [(b"pump-1", point(at=START + i, value=50.0 + i % 3)) for i in range(300)] + [(b"pump-1", b"bad")])
    run.until_saved()
    first.kill()
    written = topics.names(run.kafka)[1:]
    ends = {topic: logs.ends(run.kafka, topic) for topic in written}
    second = run.start().until_ready()
    time.sleep(1.5)  # idle_snapshot_s and a commit
    assert {topic: logs.ends(run.kafka, topic) for topic in written} == ends
    assert second.metric("replayed_points_total") == 0
    assert second.metric("recovered_snapshots_total") >= 1
    produce(run, [(b"pump-1", point(at=START + 300, value=51.0))])
    assert results(run, 301)[1][-1]["status"] == "ok"  # it goes on from the saved state
    run.until_saved()
    assert run.check().faults == {}

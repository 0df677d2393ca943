"""POST /data and /detect, with a Kafka that answers as the test says."""

import asyncio
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiokafka.errors import KafkaConnectionError

from app.errors import TopicError, Unreadable
from app.metrics import Metrics
from app.settings import Settings
from app.web.server import Server
from app.web.status.probes import Health
from app.web.stored_results.queries import MissingResult
from app.web.topics.recent_results import RecentResults
from app.web.writers.point_writer import PointWriter
from tests.unit.web.test_point_writer import Kafka, impatient

RESULT = {"anomaly_score": 0.75, "alert_score": 0.9, "is_anomaly": True, "severity": "high", "source": "a"}
GOOD = {"sourceId": "a", "values": {"x": 1.5}}


class FakeStoredResults:
    """Has the result of each point at once, but for those of ``late`` ids."""

    def __init__(self, late=(), broken=False):
        self.late, self.broken, self.waited, self.read = set(late), broken, [], []

    async def partition_of(self, source, partition):
        if self.broken:
            raise Unreadable("no broker")
        return partition

    @asynccontextmanager
    async def expecting(self, partitions):
        self.read.append(partitions)
        yield self

    async def result(self, id):
        if self.broken:
            raise Unreadable("no broker")
        state = id.partition(":")[0]
        return json.dumps({"id": id}).encode() if state == "raw-data" else MissingResult(state, f"{state} it is")

    async def wait(self, ids, timeout_s):
        self.waited.append((dict(ids), timeout_s))
        return {id: json.dumps({"id": id, **RESULT}).encode() for id in ids if id not in self.late}


def ask(*requests, answers=(True,), kept=None, **settings):
    """(status, headers, body) of each (path, body[, content type]); ``answers``: of the producers."""

    async def run():
        reader = SimpleNamespace()
        made = impatient(Settings(**settings))
        server = Server(made, Metrics(), lambda: Health(True, True), RecentResults(), reader, reader)
        kafka = Kafka(*answers)
        server.services.points = PointWriter(made, kafka)
        server.services.stored_results = kept or FakeStoredResults()
        found = []
        async with TestClient(TestServer(server.application())) as client:
            for path, body, *kind in requests:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                headers = {"Content-Type": kind[0] if kind else "application/json"}
                method = "GET" if body is None else "POST"
                async with client.request(method, path, data=data, headers=headers) as answer:
                    found.append((answer.status, answer.headers, json.loads(await answer.read())))
        await server.services.points.stop()
        ask.kafka = kafka
        return found

    found = asyncio.run(run())
    return found[0] if len(requests) == 1 else found


def written():
    return [(key, json.loads(value)) for producer in ask.kafka.made for key, value in producer.records]


def test_a_point_is_answered_with_its_result():
    kept = FakeStoredResults()
    status, _, body = ask(("/data", {**GOOD, "timestamp": "2023-10-27T09:37:40Z"}), kept=kept)
    assert (status, body) == (
        200,
        {"dataPointId": "raw-data:2:0:0", "anomalyScore": 0.75, "isAnomaly": True, "severity": "high"},
    )
    assert written() == [(b"a", {"source": "a", "timestamp": "2023-10-27T09:37:40Z", "values": {"x": 1.5}})]
    assert kept.read == [{0}] and kept.waited == [({"raw-data:2:0:0": 0}, 1.0)]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?wait=0", FakeStoredResults()),
        ("?wait=2.5", FakeStoredResults(late=["raw-data:2:0:0"])),
        ("", FakeStoredResults(broken=True)),
    ],
)
def test_without_its_result_the_answer_says_where_that_will_be(query, kept):
    status, headers, body = ask((f"/data{query}", GOOD), kept=kept)
    assert (status, body) == (202, {"dataPointId": "raw-data:2:0:0"})
    assert headers["Location"] == "/api/results/raw-data:2:0:0"
    assert kept.waited == ([] if query == "?wait=0" or kept.broken else [({"raw-data:2:0:0": 0}, 2.5)])


def test_of_many_the_good_ones_are_kept_and_each_has_its_answer():
    points = [GOOD, {"sourceId": "a", "value": "high"}, {"source": 7, "value": 1, "metric": "cpu"}, {"sourceId": "a"}]
    status, _, body = ask(("/data", points), kept=FakeStoredResults(late=["raw-data:2:1:0"]))
    assert status == 200
    first, wrong, second, empty = body
    assert first["anomalyScore"] == 0.75 and second == {"dataPointId": "raw-data:2:1:0"}
    assert wrong["error"] == {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": '/1/value: value must be a number, got "high"',
        "errors": [{"at": "/1/value", "detail": 'value must be a number, got "high"'}],
    }
    assert empty["error"]["errors"] == [{"at": "/3", "detail": "must have value or values, got none of them"}]
    assert written()[1] == (b"7", {"source": "7", "value": 1.0, "metric": "cpu"})


def test_lines_are_many_points_also_if_one_of_them_is_no_json():
    lines = b'{"sourceId": "a", "value": 1}\r\n\n{"sourceId": "a", "val\n{"sourceId": "b", "value": 2}'
    status, _, body = ask(("/data?wait=0", lines, "application/x-ndjson"))
    assert status == 200 and [list(one) for one in body] == [["dataPointId"], ["error"], ["dataPointId"]]
    assert body[1]["error"]["status"] == 400
    assert ask(("/data", b"", "application/x-ndjson"))[::2] == (200, [])
    assert ask(("/data", []), answers=())[::2] == (200, [])


@pytest.mark.parametrize(
    ("body", "status", "at", "said"),
    [
        (b"", 400, "", "must be JSON"),
        (b"{", 400, "", "must be JSON"),
        (b"[1", 400, "", "the body is no JSON"),
        (b"[" * 500, 400, "", "the body is no JSON"),
        (b'{"a":' * 500, 400, "", "must not be nested deeper than 128"),
        (b"\xff", 400, "", "must be JSON"),
        (b"7", 422, "", "must be an object, got 7"),
        (b'{"sourceId": "a", "value": NaN}', 422, "/value", "value must be finite, got NaN"),
        (b'{"sourceId": "a", "value": 1e999}', 422, "/value", "value must be finite, got 1e999"),
        ({"value": 1}, 422, "/sourceId", "expected the name of the source, once"),
        ({"sourceId": "a", "source": "b", "value": 1}, 422, "/sourceId", "once"),
        ({"sourceId": "", "value": 1}, 422, "/sourceId", 'source must be 1 to 256 bytes, got 0: ""'),
        ({"source": "x" * 300, "value": 1}, 422, "/source", "source must be 1 to 256 bytes, got 300"),
        ({"sourceId": 1.5, "value": 1}, 422, "/sourceId", "must be text or a whole number, got 1.5"),
        ({"sourceId": "a", "value": None}, 422, "/value", "Expected float, got null"),
        ({"sourceId": "a", "values": {"a": None}}, 422, "/values", "Expected float, got null"),
        ({"sourceId": "a", "value": True}, 422, "/value", "value must be a number, got true"),
        ({"sourceId": "a", "value": 1e151}, 422, "/value", "value must be within"),
        ({"sourceId": "a", "values": {"a/b": 1e151}}, 422, "/values/a~1b", "values.a/b must be within"),
        ({"sourceId": "a", "values": {"a": "b"}}, 422, "/values/a", 'values.a must be a number, got "b"'),
        ({"sourceId": "a", "values": [1]}, 422, "/values", "values must be an object of numbers, got an array of 1"),
        ({"sourceId": "a", "values": {}}, 422, "", "value or values must hold a number, got none"),
        ({"sourceId": "a", "value": 1, "timestamp": "soon"}, 422, "/timestamp", 'got "soon"'),
        ({"sourceId": "a", "value": 1, "timestamp": -1}, 422, "/timestamp", "1970..2199, got -1"),
        ({"sourceId": "a", "value": 1, "metric": "m" * 200}, 422, "/metric", "1 to 128 bytes"),
        ({"sourceId": "a", "value": 1, "labels": {"b": 1}}, 409, "/labels/b", "one of input.labels (none)"),
        ({"sourceId": "a", "vale": 1}, 422, "/vale", "unknown field; known: sourceId, source, value, values, metric"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_nothing_is_written(body, status, at, said):
    found, _, problem = ask(("/data", body), answers=())
    assert found == status, problem
    assert problem["errors"][0]["at"] == at and said in problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (TopicError("topic raw-data is missing: make it"), "nothing was written: topic raw-data is missing: make it"),
        (None, "no acknowledgement within 0.05 s; it may have been written"),
        (KafkaConnectionError(), "KafkaConnectionError; it may have been written"),
        ((KafkaConnectionError(),), "KafkaConnectionError; it was not written"),
    ],
)
def test_what_kafka_does_not_acknowledge_is_never_a_success(answer, said):
    paths = [("/data", GOOD), ("/detect", {"value": 1.0})]
    for path in paths:
        status, headers, problem = ask(path, answers=(answer,))
        assert (status, headers["Retry-After"]) == (503, "1") and said in problem["detail"]
    status, _, body = ask(("/data", [GOOD, GOOD]), answers=(answer,))
    if isinstance(answer, TopicError):
        assert status == 503
    else:
        assert [one["error"]["status"] for one in body] == [503, 503] and said in body[0]["error"]["detail"]


def test_detect_writes_a_value_of_the_source_in_the_query():
    body = {"status": "Data received and processed"}
    asked = [("/detect?source=pump", {"value": 7, "timestamp": 5}), ("/detect", {"value": 1.5})]
    assert [(status, told) for status, _, told in ask(*asked)] == [(200, body), (200, body)]
    assert written() == [
        (b"pump", {"source": "pump", "timestamp": 5.0, "value": 7.0}),
        (b"default", {"source": "default", "value": 1.5}),
    ]
    assert [status for status, *_ in ask(("/detect", {}), ("/detect", {"value": 1, "x": 2}), answers=())] == [400, 400]


def test_shapes_that_cannot_be_written_are_said_to_be():
    status, _, problem = ask(("/data", GOOD), input={"format": "otlp-json"}, answers=())
    assert status == 501 and "input.format otlp-json" in problem["detail"]


def test_limits_of_bytes_points_and_rate():
    many = [GOOD] * 11
    few = {"max_points": 10, "max_body_bytes": 1024, "max_point_rate": 10.0}
    told = ask(("/data", many), ("/data", [{**GOOD, "source": "x" * 2000}]), ("/detect", {"value": 1}), api=few)
    assert [status for status, *_ in told[:2]] == [413, 413]
    assert "at most 10 points (api.max_points), got 11" in told[0][2]["detail"]
    assert told[2][0] == 200
    told = ask(("/data?wait=0", many[:10]), ("/data", GOOD), api={**few, "max_point_rate": 0.5})
    assert [status for status, *_ in told] == [200, 429]
    assert int(told[1][1]["Retry-After"]) >= 1 and "api.max_point_rate" in told[1][2]["detail"]


def test_nothing_is_written_where_the_settings_say_so():
    status, _, problem = ask(("/data", GOOD), api={"writes": False}, answers=())
    assert status == 403 and problem["detail"] == "off: api.writes is false"


def test_another_content_type_is_refused():
    assert ask(("/data", GOOD, "text/plain"), answers=())[0] == 415


@pytest.mark.parametrize(
    ("id", "status", "said"),
    [
        ("raw-data:0:1:0", 200, {"id": "raw-data:0:1:0"}),
        ("pending", 202, {"dataPointId": "pending", "status": "pending"}),
        ("bad_id", 404, "id: bad_id it is"),
        ("never", 404, "never it is"),
        ("no_result", 404, "no_result it is"),
        ("gone", 410, "gone it is"),
    ],
)
def test_a_result_is_found_by_its_id_or_the_answer_says_why_not(id, status, said):
    found, headers, body = ask((f"/api/results/{id}", None))
    assert found == status and said in (body, body.get("detail"))
    assert (status == 202) == ("Retry-After" in headers)
    assert ask((f"/api/results/{id}", None), kept=FakeStoredResults(broken=True))[0] == 503

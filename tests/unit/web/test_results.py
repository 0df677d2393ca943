"""Results of a source over HTTP: what was asked for, page by page, and what cannot be asked."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiokafka.errors import KafkaConnectionError
from support.made_log import MadeLog, result

from app.errors import Busy
from app.metrics import Metrics
from app.settings import Settings
from app.web.server import Server
from app.web.status.probes import Health
from app.web.stored_results.queries import StoredResults
from app.web.topics.recent_results import RecentResults

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
SOURCE = "hall/../pump 7"


def ask(log, *paths, seen=(), broken=None, **settings):
    """(status, headers, body) of each; ``seen``: results that the view has."""

    async def run():
        reader, made, recent = SimpleNamespace(), Settings(**settings), RecentResults()
        for one in seen:
            recent.take_result(one)
        server = Server(made, Metrics(), lambda: Health(True, True), recent, reader, reader)
        kept = server.services.stored_results = StoredResults(made, lambda: log)
        if broken:
            kept.series = broken
        found = []
        async with TestClient(TestServer(server.application())) as client:
            for path in paths:
                async with client.get(path) as answer:
                    found.append((answer.status, answer.headers, json.loads(await answer.read())))
        await kept.stop()
        return found

    found = asyncio.run(run())
    return found[0] if len(paths) == 1 else found


@pytest.fixture
def log():
    made = MadeLog(16)
    made.write([result(9, n, SOURCE, NOW + n) for n in range(100)], number=9, written=NOW)
    return made


def test_pages_hold_what_kafka_has(log):
    path = "/api/sources/hall%2F..%2Fpump%207/results?from=2023-11-14T22:13:30Z&to=1700000020&limit=6"
    status, headers, page = ask(log, path)
    assert status == 200 and headers["Cache-Control"] == "no-store"
    assert page["results"] == [json.loads(result(9, n, SOURCE, NOW + n)) for n in range(10, 16)]
    assert page["seen"] == 6 and not page["complete"] and page["records"] >= 100
    _, _, rest = ask(log, f"{path}&cursor={page['cursor']}")
    assert [one["timestamp"] - NOW for one in rest["results"]] == [16.0, 17.0, 18.0, 19.0]
    assert rest["complete"] and rest["cursor"] is None


def test_the_source_may_be_a_parameter_and_where_it_was_seen_is_looked_first(log):
    path = f"/api/results?source=hall/../pump 7&from={NOW}&to={NOW + 100}"
    _, _, all_of_it = ask(log, path)
    log.fetches = 0
    _, _, page = ask(log, path, seen=[result(9, 0, SOURCE, NOW)])
    assert len(all_of_it["results"]) == len(page["results"]) == 100 and log.fetches < 5
    assert ask(log, path, seen=[result(9, 0, SOURCE, NOW).replace(b":9:", b":x:")])[2]["results"] == page["results"]


def test_it_can_be_thinned_and_the_last_hour_is_meant_without_times(log):
    _, _, page = ask(log, f"/api/results?source=hall/../pump 7&from={NOW}&to={NOW + 100}&most=8")
    assert page["seen"] == 100 and len(page["results"]) <= 8
    _, _, nothing = ask(log, "/api/results?source=x")
    del nothing["records"]
    assert nothing == {"results": [], "seen": 0, "complete": True, "cursor": None}


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("from=2&to=1", "?from"), ("from=x", "?from"), ("to=-1", "?to"), ("limit=0", "?limit"),
        ("limit=10001", "?limit"),
        ("most=3", "?most"), ("late=-1", "?late"), ("late=inf", "?late"), ("cursor=x", "?cursor"),
        ("cursor=h99.0.0.-1-0", "?cursor"), ("begin=1", "?begin"), ("", "?source"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_named(log, query, at):
    source = "source=x&" if query else ""
    status, _, body = ask(log, f"/api/results?{source}{query}")
    assert status in (400, 422) and [one["at"] for one in body["errors"]] == [at]


def test_who_has_to_wait_or_finds_no_broker_is_told_when_to_ask_again(log):
    async def busy(*_, **__):
        raise Busy("8 searches wait already")

    async def away():
        raise KafkaConnectionError("nobody there")

    status, headers, body = ask(log, "/api/results?source=x", broken=busy)
    assert (status, headers["Retry-After"], body["detail"]) == (503, "2", "8 searches wait already")
    log.start = away
    status, headers, body = ask(log, "/api/results?source=x")
    assert status == 503 and "nobody there" in body["detail"] and headers["Retry-After"] == "2"

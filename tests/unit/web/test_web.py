"""Routes, refusals, headers and the WebSocket, without Kafka: real recent results, fake readers."""

import asyncio
import contextlib
import errno
import json
import re
import socket
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, WSMsgType
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from app import errors
from app.metrics import Metrics
from app.scoring.profile import Profile
from app.settings import Settings
from app.web import view as view_module
from app.web.api.pages import STATIC
from app.web.api.sources import rule
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults
from app.web.view import View
from app.web.websocket import push as push_module

HOSTILE = "<img src=x onerror=alert(1)>"
WELL = Health(alive=True, ready=True, details={"partitions": 4})


def result(source="pump-7", at=0.0, **fields):
    body = {"id": f"raw-data:0:{at:.0f}:0", "source": source, "timestamp": at, "value": 1.5}
    body |= {"anomaly_score": 0.1, "alert_score": 0.1, "is_anomaly": False, "severity": "low", "status": "ok"}
    return json.dumps(body | fields).encode()


def opened(source="pump-7", at=9.0):
    body = json.loads(result(source, at, is_anomaly=True, severity="high", explanation="9 deviations"))
    return json.dumps({"event": "opened", **body, "episode": body["id"]}).encode()


def fed() -> RecentResults:
    recent = RecentResults()
    for at in range(20):
        for source in ("pump-7", "line 3/boiler", HOSTILE, "Füllstand%2F?", "line\nbreak"):
            recent.take_result(result(source, at))
    recent.take_event(opened("pump-7", 8.0))
    recent.take_event(opened(HOSTILE, 9.0))
    recent.drain()
    return recent


def make(recent=None, health=WELL, skipped=0, **settings) -> Server:
    reader = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=skipped)
    probe = health if callable(health) else lambda: health
    return Server(Settings(**settings), Metrics(), probe, recent or fed(), reader, reader)


def ask(*paths, server=None, method="GET", headers=None):
    """(status, headers, body) of each path; body parsed when it is JSON."""

    async def run():
        async with TestClient(TestServer((server or make()).application())) as client:
            answers = []
            for path in paths:
                async with client.request(method, path, headers=headers, allow_redirects=False) as answer:
                    body = await answer.read()
                    if answer.content_type in ("application/json", "application/problem+json") and body:
                        body = json.loads(body)
                    answers.append((answer.status, answer.headers, body))
            return answers

    answers = asyncio.run(run())
    return answers[0] if len(paths) == 1 else answers


def test_sources_are_limited_searched_and_sorted():
    status, _, body = ask("/api/sources")
    assert status == 200 and (body["known"], body["matching"]) == (5, 5)
    assert body["sources"][0].keys() >= {"source", "timestamp", "value", "anomaly_score", "status"}
    assert ask("/api/sources?limit=2")[2]["sources"] == body["sources"][:2]
    found = ask("/api/sources?search=PUMP&sort=recent")[2]
    assert (found["known"], found["matching"], found["sources"][0]["source"]) == (5, 1, "pump-7")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pump-7", "pump-7"),
        ("line%203%2Fboiler", "line 3/boiler"),
        ("%3Cimg%20src=x%20onerror=alert(1)%3E", HOSTILE),
        ("F%C3%BCllstand%252F%3F", "Füllstand%2F?"),
        ("line%0Abreak", "line\nbreak"),
    ],
)
def test_any_name_of_a_source_can_be_asked_for(path, source):
    status, _, body = ask(f"/api/series/{path}?limit=5")
    assert status == 200 and body["source"] == source
    assert [point["timestamp"] for point in body["points"]] == [15, 16, 17, 18, 19]


@pytest.mark.parametrize("source", [".", "..", "a/../b", HOSTILE, "%2e", "a&limit=1"])
def test_names_that_no_path_can_hold_can_be_asked_for_too(source):
    """A browser takes the dots out of a path, written as %2E or not, before it sends it."""
    recent = fed()
    recent.take_result(result(source, 30.0))
    recent.take_event(opened(source, 30.0))
    asked = urlencode({"source": source})
    series, anomalies = ask(f"/api/series?{asked}", f"/api/anomalies?{asked}", server=make(recent))
    assert series[0] == anomalies[0] == 200
    assert (series[2]["source"], series[2]["points"][-1]["timestamp"]) == (source, 30.0)
    assert {episode["source"] for episode in anomalies[2]["anomalies"]} == {source}


def test_a_series_of_nobody_in_particular_is_refused():
    status, _, body = ask("/api/series")
    assert (status, body["errors"]) == (400, [{"at": "?source", "detail": "is missing"}])


def test_a_source_without_results_is_named():
    status, _, body = ask("/api/series/pump-8")
    assert status == 404 and "'pump-8'" in body["detail"]


def test_a_series_of_one_metric_is_asked_for_by_source_and_metric():
    recent = fed()
    for at, metric in enumerate(["a&metric=b", "", "cpu"]):
        recent.take_result(result("host", 30.0 + at, **({"metric": metric} if metric else {})))
    recent.take_event(opened("host", 40.0))
    for metric, at in (("a&metric=b", 30.0), ("", 31.0), ("cpu", 32.0)):
        asked = urlencode({"source": "host", "metric": metric})
        found, by_path, anomalies = ask(
            f"/api/series?{asked}", f"/api/series/host?{urlencode({'metric': metric})}", f"/api/anomalies?{asked}",
            server=make(recent),
        )  # fmt: skip
        assert found[0] == 200 and found[2] == by_path[2]
        assert (found[2]["source"], found[2]["metric"]) == ("host", metric)
        assert [point["timestamp"] for point in found[2]["points"]] == [at]
        assert len(anomalies[2]["anomalies"]) == (metric == "")
    missing = ask("/api/series?source=host&metric=mem", "/api/series?source=host%FFcpu", server=make(recent))
    assert [one[0] for one in missing] == [404, 404]
    assert missing[0][2]["detail"].startswith("no result of series 'mem' of source 'host'")


def test_the_threshold_of_a_series_follows_the_pattern_of_metrics():
    sources = [{"match": "disk-*", "metric": "us*", "threshold": 0.95}, {"match": "disk-*", "threshold": 0.9}]
    server = make(sources=sources)
    assert [rule(server.services.settings, "disk-1", metric).threshold for metric in ("usage", "load", "")] == [
        0.95,
        0.9,
        0.9,
    ]
    of_vectors = make(sources=sources[1:], input={"value_fields": ["usage"]}).services.settings
    assert rule(of_vectors, "disk-1", "usage").threshold == 0.9


def test_the_rule_of_a_series_is_that_of_its_detectors_and_says_where_it_stands():
    own = {"match": "line*", "detectors": {"ewma": {}}, "method": "ensemble", "threshold": 0.9}
    settings = make(detection={"threshold": 0.7}, sources=[own]).services.settings
    default, of_line = rule(settings, "pump-7"), rule(settings, "line 3", "cpu")
    assert (default.close_below, default.close_points, default.by_metric, default.entry) == (0.35, 5, False, None)
    assert (of_line.close_below, of_line.close_points, of_line.by_metric) == (0.9, 1, True)
    assert of_line.entry and (of_line.entry.place, of_line.entry.match) == ("sources[0]", "line*")
    for detection, found in (
        (settings.detection, default),
        (settings.detection.overridden(settings.sources[0]), of_line),
    ):
        assert Profile(detection).episode_rule == {
            name: getattr(found, name) for name in Profile(detection).episode_rule
        }


def test_a_series_says_its_own_threshold_and_whether_it_is_a_sample():
    settings = {"detection": {"threshold": 0.7}, "sources": [{"match": "line*", "threshold": 0.95}]}
    bodies = [ask(f"/api/series/{name}", server=make(**settings))[2] for name in ("pump-7", "line%203%2Fboiler")]
    assert [body["threshold"] for body in bodies] == [0.7, 0.95]
    assert not bodies[0]["sampled"] and ask("/api/series/pump-7", server=make(skipped=1))[2]["sampled"]


def test_anomalies_of_all_sources_and_of_one():
    found = ask("/api/anomalies")[2]["anomalies"]
    assert [episode["source"] for episode in found] == [HOSTILE, "pump-7"]
    assert found[0]["explanation"] == "9 deviations" and found[0]["state"] == "open"
    assert ask("/api/anomalies?limit=1")[2]["anomalies"] == found[:1]
    assert ask("/api/anomalies/pump-7")[2]["anomalies"] == found[1:]
    assert ask("/api/anomalies/nobody")[2]["anomalies"] == []


@pytest.mark.parametrize("limit", ["abc", "-1", "1001", "1e3", "", "٣", "9" * 5_000, "1.0", " 1"])
@pytest.mark.parametrize("path", ["sources", "series/pump-7", "anomalies", "anomalies/pump-7"])
def test_a_bad_limit_is_refused_with_what_is_allowed(path, limit):
    status, _, body = ask(f"/api/{path}?limit={limit}")
    assert status == 400 and [one["at"] for one in body["errors"]] == ["?limit"]
    assert body["detail"].startswith("?limit: ") and "got " in body["detail"]


@pytest.mark.parametrize("limit", [0, 1, 1000])
def test_limits_are_allowed_up_to_their_ends(limit):
    assert len(ask(f"/api/sources?limit={limit}")[2]["sources"]) == min(limit, 5)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/api/sources?limt=5", "?limt: no such parameter; known: search, sort, limit"),
        ("/api/statistics?x=1", "?x: no such parameter; known: none"),
        ("/api/sources?sort=up", "?sort: invalid enum value 'up', got 'up'"),
        ("/api/sources?limit=1&limit=2", "?limit: expected once, got 2 times"),
    ],
)
def test_other_bad_parameters_are_refused_by_name(path, sentence):
    status, _, body = ask(path)
    assert (status, body["detail"]) == (400, sentence)


def test_statistics_say_what_is_known_of_all_workers_and_of_this_one():
    server = make()
    server.services.metrics.records_consumed.inc(80)
    server.services.metrics.lag(partition=0, consumed=80, end=85)
    body = ask("/api/statistics", server=server)[2]
    assert (body["sources"], body["episodes_open"], body["results"]["per_s"]) == (5, 2, 4.0)
    assert (body["worker"]["records_consumed_total"], body["worker"]["lag_records"]) == (80, 5)


@pytest.mark.parametrize(
    ("health", "livez", "readyz"),
    [(Health(True, True), 200, 200), (Health(True, False), 200, 503), (Health(False, True), 503, 503)],
)
def test_probes_answer_by_status_and_say_why(health, livez, readyz):
    answers = ask("/livez", "/readyz", "/api/health", server=make(health=health))
    assert [status for status, *_ in answers] == [livez, readyz, 200]
    assert all(body == {"alive": health.alive, "ready": health.ready, "details": {}} for *_, body in answers)


def test_a_scrape_gets_text_and_openmetrics():
    status, headers, body = ask("/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"faust_anomaly_records_consumed_total 0.0" in body
    _, headers, body = ask("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert headers["Content-Type"].startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")


@pytest.mark.parametrize("health", [Health(True, True), Health(True, False), Health(False, True)])
def test_a_scrape_says_whether_it_is_ready_now(health):
    [(status, _, page)] = [ask("/metrics", server=make(health=health))]
    assert status == 200 and f"faust_anomaly_ready {float(health.alive and health.ready)}\n".encode() in page


def test_without_the_view_probes_and_metrics_remain():
    server = make(dashboard={"enabled": False})
    answers = ask("/livez", "/readyz", "/metrics", "/api/health", "/", "/api/sources", "/ws", server=server)
    assert [status for status, *_ in answers] == [200, 200, 200, 200, 404, 404, 404]


EVERY_KIND = [
    "/",
    "/static/dom.js",
    "/api/sources",
    "/api/series/nobody",
    "/api/sources?limit=x",
    "/nowhere",
    "/metrics",
    "/ws",
]


@pytest.mark.parametrize("path", EVERY_KIND)
def test_every_answer_carries_the_security_headers(path):
    _, headers, _ = ask(path)
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in headers if name.startswith("Access-Control")]


def test_nothing_can_be_changed_from_outside():
    paths = ["/", "/api/sources", "/api/anomalies", "/metrics", "/livez", "/ws"]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert {status for status, *_ in ask(*paths, method=method)} == {405}
    assert ask("/api/sources", method="OPTIONS", headers={"Origin": "http://evil"})[0] == 405


@pytest.mark.parametrize(
    "path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static/"]
)
def test_static_serves_its_own_files_only(path):
    assert ask(path)[0] in (403, 404)


def test_the_page_takes_everything_from_this_server_and_puts_text_in_as_text():
    for file in (one for one in STATIC.iterdir() if one.is_file()):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|srcdoc", text)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), "nothing from elsewhere"
        if file.suffix == ".html":
            assert not re.search(r"\son\w+=|style=|<script(?![^>]*\ssrc=)", text), "the policy forbids inline code"


# --- WebSocket


def with_socket(scenario, given=None, headers=None):
    """Run scenario(server, socket, client) with one open WebSocket."""

    async def run():
        made = given or make()
        server = TestServer(made.application())
        async with TestClient(server) as client, client.ws_connect("/ws", headers=headers) as socket:
            while not made.push.clients:
                await asyncio.sleep(0)
            await scenario(made, socket, client)

    asyncio.run(asyncio.wait_for(run(), 30))


async def received(socket, *kinds):
    """The next messages, which must be of these kinds."""
    messages = []
    while len(messages) < len(kinds):
        if (message := await socket.receive_json(timeout=5))["type"] != "heartbeat":
            messages.append(message)
    assert [message["type"] for message in messages] == list(kinds)
    return messages


def test_new_anomalies_and_results_are_pushed():
    async def scenario(server, socket, client):
        server.services.recent.take_event(opened("fan", 20.0))
        server.services.recent.take_result(result("fan", 21.0))
        server.push.send_changes()
        anomalies, sources, statistics = await received(socket, "anomalies", "sources", "statistics")
        assert [episode["source"] for episode in anomalies["anomalies"]] == ["fan"]
        assert [row["timestamp"] for row in sources["sources"]] == [21.0]
        assert statistics["statistics"]["pages_open"] == 1
        server.push.send_changes()
        await received(socket, "statistics")

    with_socket(scenario)


def test_points_of_the_watched_series_are_pushed():
    async def scenario(server, socket, client):
        await socket.send_json({"watch": "host", "metric": "cpu"})
        while not server.services.recent.watched:
            await asyncio.sleep(0)
        for at, metric in ((30.0, "cpu"), (31.0, "mem"), (32.0, "cpu")):
            server.services.recent.take_result(result("host", at, metric=metric))
        server.services.recent.take_result(result("host", 33.0))
        server.push.send_changes()
        _, points, _ = await received(socket, "sources", "points", "statistics")
        assert (points["source"], points["metric"]) == ("host", "cpu")
        assert [point["timestamp"] for point in points["points"]] == [30.0, 32.0]

    with_socket(scenario)


def test_points_of_the_watched_source_are_pushed_to_who_watches():
    async def scenario(server, socket, client):
        await socket.send_json({"watch": "pump-7"})
        while not server.services.recent.watched:
            await asyncio.sleep(0)
        async with client.ws_connect("/ws") as other:
            while len(server.push.clients) < 2:
                await asyncio.sleep(0)
            for at in (30.0, 31.0):
                server.services.recent.take_result(result("pump-7", at))
                server.services.recent.take_result(result("fan", at))
            server.push.send_changes()
            _, points, _ = await received(socket, "sources", "points", "statistics")
            assert [point["timestamp"] for point in points["points"]] == [30.0, 31.0]
            await received(other, "sources", "statistics")
        await socket.send_json({"watch": None})
        while server.services.recent.watched:
            await asyncio.sleep(0)

    with_socket(scenario)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"watch": 1}', '{"watch": "a", "x": 1}', "x" * 5_000, b"\x00"])
def test_a_client_that_says_something_else_is_sent_away(text):
    async def scenario(server, socket, client):
        await (socket.send_bytes(text) if isinstance(text, bytes) else socket.send_str(text))
        while (message := await socket.receive(timeout=5)).type is WSMsgType.TEXT:
            pass  # heartbeats
        assert message.type is WSMsgType.CLOSE and message.data in (1008, 1009)
        while server.push.clients:
            await asyncio.sleep(0.01)

    with_socket(scenario)


def test_a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it(monkeypatch):
    monkeypatch.setattr(push_module, "QUEUED_MESSAGES", 8)

    async def scenario(server, socket, client):
        async with client.ws_connect("/ws") as other:
            while len(server.push.clients) < 2:
                await asyncio.sleep(0)
            deaf = next(iter(server.push.clients))
            deaf.socket.send_frame = lambda *message: asyncio.sleep(3600)  # as when TCP takes no more
            for at in range(30):
                server.services.recent.take_result(result("fan", at))
                server.push.send_changes()
                await received(other, "sources", "statistics")
            assert len(server.push.clients) == 1
            while (await socket.receive(timeout=5)).type is WSMsgType.TEXT:  # what was sent before it went deaf
                pass
            assert socket.closed

    with_socket(scenario)


def test_pages_beyond_the_most_are_refused(monkeypatch):
    monkeypatch.setattr(push_module, "MAX_CLIENTS", 1)

    async def scenario(server, socket, client):
        async with client.get("/ws", headers=UPGRADE) as answer:
            assert answer.status == 503

    with_socket(scenario)


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1@evil.example", ""]
)
def test_a_page_of_another_origin_gets_no_socket(origin):
    status, _, body = ask("/ws", headers=UPGRADE | {"Origin": origin, "Host": "127.0.0.1:8000"})
    assert status == 403 and body["detail"].startswith("Origin: must be this server")


@pytest.mark.parametrize("origin", ["http://view.example", "https://view.example"])
def test_our_own_page_gets_one_also_behind_a_proxy(origin):
    async def scenario(server, socket, client):
        server.push.send_changes()
        await received(socket, "statistics")

    proxied = make(dashboard={"allowed_hosts": ["view.example"]})
    with_socket(scenario, proxied, headers={"Origin": origin, "Host": "view.example"})


OURS = ["127.0.0.1:8000", "127.0.0.1", "[::1]:8000", "10.1.2.3:80", "localhost:8000", "LOCALHOST", "a.localhost:1",
        "localhost.", "worker-1:8000", "view.example", "View.Example.:443"]  # fmt: skip
REBOUND = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost", "",
           "worker-1.evil.example", "0x7f.1", "view.example@evil.example", "[evil.example]"]  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/static/dom.js", "/api/sources", "/metrics", "/readyz", "/nowhere"])
def test_a_page_that_gave_our_address_to_its_own_name_reads_nothing(path):
    server = make(dashboard={"allowed_hosts": ["view.example", "worker-1"]})
    for host in OURS:
        assert ask(path, server=server, headers={"Host": host})[0] in (200, 404), host
    for host in REBOUND:
        status, _, body = ask(path, server=server, headers={"Host": host})
        assert status == 403 and "dashboard.allowed_hosts" in body["detail"] and repr(host) in body["detail"]


def test_the_socket_too_is_refused_under_another_name_though_origin_and_host_agree():
    rebound = {"Origin": "http://evil.example:8000", "Host": "evil.example:8000"}
    assert ask("/ws", headers=UPGRADE | rebound)[0] == 403


@pytest.mark.parametrize(
    ("dashboard", "updates"),
    [({}, "push"), ({"websocket_enabled": False}, "poll"), ({"real_time_updates": False}, "off")],
)
def test_the_page_is_told_how_it_learns_what_is_new(dashboard, updates):
    server = make(dashboard=dashboard)
    statistics, (status, _, body) = ask("/api/statistics", "/ws", server=server)
    assert statistics[2]["updates"] == updates
    assert status == (400 if updates == "push" else 404)
    assert updates == "push" or "dashboard.websocket_enabled" in body["detail"]


def test_changes_do_not_pile_up_while_nobody_looks():
    server = make()
    for at in range(50):
        server.services.recent.take_result(result("fan", at))
        server.push.send_changes()
    assert not server.services.recent.drain().sources


# --- the view as a whole


class NoReader:
    def __init__(self, *args, **kwargs):
        self.state, self.produced_per_s, self.skipped = "reading", None, 0

    async def run(self):
        await asyncio.Event().wait()


@pytest.fixture
def view(monkeypatch):
    monkeypatch.setattr(view_module, "TopicReader", NoReader)

    def make_view(api=None, **dashboard):
        return View(Settings(dashboard={"port": 0} | dashboard, api=api or {}), Metrics(), lambda: WELL, {})

    return make_view


def test_it_listens_on_loopback_says_its_port_and_stops(view):
    async def run():
        made = view()
        assert made.port == 0
        await made.start()
        port = made.port
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/livez") as answer:
            assert answer.status == 200
        await made.stop()
        await made.stop()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        return port

    assert asyncio.run(run()) > 0


def test_stop_does_not_wait_for_open_pages(view):
    async def run():
        made = view()
        await made.start()
        async with ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{made.port}/ws") as page:
            await page.receive()  # a heartbeat
            await asyncio.wait_for(asyncio.gather(made.stop(), page.receive()), 5)
            assert page.close_code == 1001

    asyncio.run(run())


def test_long_names_in_any_script_can_be_asked_for(view):
    async def run():
        made = view()
        await made.start()
        address = URL(f"http://127.0.0.1:{made.port}/api/series").with_query(source=1300 * "\U0001f527")
        async with ClientSession() as session, session.get(address) as answer:
            assert len(str(address)) > 15_000 and answer.status == 404
            assert (await answer.json())["detail"].startswith("no result of")
        await made.stop()

    asyncio.run(run())


def test_connections_that_never_ask_do_not_pile_up(view, monkeypatch):
    monkeypatch.setattr(view_module, "LOOK_S", 0.01)

    async def run():
        made = view(api={"max_connections": 20})
        await made.start()
        address = f"http://127.0.0.1:{made.port}"
        async with ClientSession() as session, session.ws_connect(f"{address}/ws") as page:
            idle = [await asyncio.open_connection("127.0.0.1", made.port) for _ in range(50)]
            for reader, _ in idle[:30]:
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""  # the oldest were cut
            async with session.get(f"{address}/livez") as answer:
                assert answer.status == 200
            assert not idle[-1][0].at_eof() and not page.closed  # neither the newest nor an open page
            for _, writer in idle:
                writer.close()
        await made.stop()

    asyncio.run(run())


def test_a_port_in_use_is_named_with_its_fix(view):
    async def run(port):
        await view(port=port).start()

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(errors.ConfigurationError, match=rf"dashboard\.port: {port} .* in use.* 0 for any free"):
            asyncio.run(run(port))


def test_an_address_of_another_machine_is_named(view):
    with pytest.raises(errors.ConfigurationError, match=r"dashboard\.host: .*'192\.0\.2\.1'"):
        asyncio.run(view(host="192.0.2.1", enabled=False).start())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EACCES, "denied"), "dashboard.port: 80 may not be listened on"),
        (socket.gaierror(-2, "Name or service not known"), "dashboard.host: expected an address of this machine"),
        (OSError(errno.EIO, "odd"), "dashboard.host, dashboard.port"),
    ],
)
def test_other_faults_of_listening_name_a_setting(error, words):
    assert view_module._listen_problem(error, "h", 80).startswith(words)


def test_a_tail_that_fails_is_shown_and_the_server_goes_on(view, monkeypatch, caplog):
    async def fails(self):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(NoReader, "run", fails)

    async def run():
        made = view()
        await made.start()
        await asyncio.sleep(0.01)
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{made.port}/api/statistics") as answer:
            body = await answer.json()
        await made.stop()
        return body

    assert asyncio.run(run())["results"]["state"].startswith("stopped: ZeroDivisionError")
    assert "a fault of ours" in caplog.text


def test_an_error_of_ours_is_not_dressed_up_as_an_answer():
    def fails():
        raise ZeroDivisionError

    assert ask("/livez", server=make(health=fails))[0] == 500

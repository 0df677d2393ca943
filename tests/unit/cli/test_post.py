"""Posting to a server that does what the test says: what is sent again, what is refused, what ends the command."""

import asyncio

import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner

from app.cli import main, post
from app.cli.feed import SendSchedule, Totals, feed
from app.cli.post import PostOutput
from app.errors import ConfigurationError, DeliveryError
from generators.api import GeneratedRecord

AT_ONCE = SendSchedule()
POINTS = [GeneratedRecord("a", float(i), {"value": float(i)}) for i in range(5)]


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch):
    monkeypatch.setattr(post, "FIRST_S", 0.01)


class Server:
    """Answers in turn as told: a status, (status, headers), "reset"; then with 200 for all. ``took``: points."""

    def __init__(self, *answers, refuses=()):
        self.answers, self.refuses, self.took, self.requests = list(answers), set(refuses), [], []

    async def answer(self, request):
        body = msgspec.json.decode(await request.read())
        self.requests.append((request.path, dict(request.query), dict(request.headers), body))
        answer = self.answers.pop(0) if self.answers else 200
        if answer == "reset":
            request.transport.abort()
            return web.Response()
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        if status != 200:
            return web.json_response({"detail": "why\nnot"}, status=status, headers=headers)
        if isinstance(body, dict):
            if body["timestamp"] in self.refuses:
                return web.json_response({"detail": "bad"}, status=422)
            self.took.append(body)
            return web.json_response({"dataPointId": "raw-data:0:0:0"}, status=202)
        answers = []
        for point in body:
            if (turn := point["timestamp"]) in self.refuses:
                answers.append({"error": {"status": 422, "detail": f"no {turn}"}})
            elif -turn in self.refuses:
                self.refuses.discard(-turn)
                answers.append({"error": {"status": 503, "detail": "later"}})
            else:
                self.took.append(point)
                answers.append({"dataPointId": "raw-data:0:0:0"})
        return web.json_response(answers)


def posted(server, records=POINTS, path="/data", pace=AT_ONCE, **how):
    """The output after these records."""

    async def run():
        application = web.Application()
        application.router.add_post("/data", server.answer)
        application.router.add_post("/detect", server.answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            output = PostOutput(f"http://127.0.0.1:{runner.addresses[0][1]}{path}", True, **how)
            async with output:
                await feed(records, output, pace, Totals())
            return output
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def test_what_comes_fast_goes_in_one_request_and_waits_for_no_result():
    server = Server()
    output = posted(server, [*POINTS, GeneratedRecord("b", 9.0, {"x": 1.0, "y": 2.0}, "spike")], token="secret")
    [(path, query, headers, body)] = server.requests
    assert (path, query) == ("/data", {"wait": "0"}) and headers["Authorization"] == "Bearer secret"
    assert body[0] == {"sourceId": "a", "timestamp": 0.0, "value": 0.0}
    assert body[5] == {
        "sourceId": "b",
        "timestamp": 9.0,
        "values": {"x": 1.0, "y": 2.0},
        "labels": {"label": "spike"},
    }
    assert (output.taken, output.refused) == (6, 0)


def test_at_an_interval_each_point_is_a_request():
    server = Server()
    posted(server, pace=SendSchedule(rate=50.0), path="/data?wait=2")
    assert [type(body) for *_, body in server.requests] == [dict] * 5
    assert server.requests[0][1] == {"wait": "2"}


@pytest.mark.parametrize("answer", [503, 500, 429, (429, {"Retry-After": "0"}), "reset"])
def test_what_fails_is_sent_again_in_its_order(answer):
    server = Server(answer, answer)
    output = posted(server)
    assert [point["timestamp"] for point in server.took] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert (output.taken, output.retries) == (5, 2)


def test_of_a_bulk_only_what_failed_is_sent_again_and_what_is_refused_is_told():
    told = []
    server = Server(refuses=[1.0, -3.0])
    output = posted(server, say=told.append)
    assert sorted(point["timestamp"] for point in server.took) == [0.0, 2.0, 3.0, 4.0]
    assert (output.taken, output.refused) == (4, 1)
    assert told == ["refused: a at 1.000000: 422 no 1.0"]


def test_a_bulk_that_is_too_large_is_made_smaller():
    server = Server(413, 200, 503)
    output = posted(server)
    assert [point["timestamp"] for point in server.took] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert output.taken == 5


@pytest.mark.parametrize("status", [401, 403, 404, 501, 307])
def test_what_is_refused_for_every_point_ends_it(status):
    with pytest.raises(DeliveryError, match=f"/data: {status} .*why not"):
        posted(Server(status))


def test_it_gives_up_after_a_while():
    with pytest.raises(DeliveryError, match=r"not taken within 0\.05 s: 5 points: 503 why not"):
        posted(Server(*[503] * 1000), give_up_s=0.05)


def test_detect_takes_single_values_of_the_source_in_the_query():
    server, told = Server(), []
    records = [*POINTS[:2], GeneratedRecord("b", 9.0, {"x": 1.0})]
    output = posted(server, records, "/detect", say=told.append)
    assert [(query, body) for _, query, _, body in server.requests] == [
        ({"source": "a"}, {"value": 0.0, "timestamp": 0.0}),
        ({"source": "a"}, {"value": 1.0, "timestamp": 1.0}),
    ]
    assert output.refused == 1 and "takes one value, got x" in told[0]


@pytest.mark.parametrize("url", ["ftp://a/data", "http:///data", "http://a/", "a:8000/data"])
def test_another_address_is_refused_before_anything_is_sent(url):
    with pytest.raises(ConfigurationError, match="--post: expected http"):
        PostOutput(url, False)


def test_the_command_says_how_many_were_refused_and_ends_with_1(tmp_path):
    (tmp_path / "token").write_text("abc def\n")
    asked = ["generate", "synthetic", "--points", "3", "--post", "http://127.0.0.1:1/data"]
    done = CliRunner().invoke(main, [*asked, "--token-file", str(tmp_path / "token")])
    assert done.exit_code == 2 and "--token-file: expected a token" in done.stderr
    done = CliRunner().invoke(main, [*asked, "--retry-for", "1s"])
    assert done.exit_code == 1 and "not taken within 1 s: 3 points" in done.stderr
    assert "0 taken, 0 refused" in done.stderr
    done = CliRunner().invoke(main, [*asked, "--topic", "x"])
    assert done.exit_code == 2

"""The port as a worker opens it: TLS, what the log says of requests, and what stops the start."""

import asyncio
import logging
import re
import shutil
import ssl
import zlib

import pytest
from aiohttp import ClientSession

from app.errors import ConfigurationError
from app.metrics import Metrics
from app.settings import Settings
from app.web import view as view_module
from app.web.status.probes import Health
from app.web.view import View
from tests.support.guarded import Keys
from tests.support.secured import Certificates


class NoReader:
    def __init__(self, *args, **kwargs):
        self.state, self.produced_per_s, self.skipped = "reading", None, 0

    async def run(self):
        await asyncio.Event().wait()


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(view_module, "TopicReader", NoReader)
    monkeypatch.setattr(view_module, "LOOK_S", 0.01)

    def make(dashboard=None, **api):
        settings = Settings(dashboard={"port": 0} | (dashboard or {}), api=api)
        return View(settings, Metrics(), lambda: Health(True, True), {})

    return make


def during(view, scenario):
    async def run():
        await view.start()
        try:
            return await scenario(view.port)
        finally:
            await view.stop()

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_beyond_loopback_it_speaks_tls_with_tokens_and_takes_what_changes(made, tmp_path):
    keys, certificates = Keys(tmp_path), Certificates(tmp_path)
    pem = tmp_path / "own.pem"
    shutil.copy(certificates.sign("first"), pem)
    second = certificates.sign("second")
    view = made({"host": "0.0.0.0"}, tokens_file=str(keys.path), tls_certificate_file=str(pem))
    trusting = ssl.create_default_context(cafile=certificates.ca)

    async def scenario(port):
        async def ask(name):
            url = f"https://127.0.0.1:{port}/api/sources"
            async with ClientSession() as session, session.get(url, ssl=trusting, headers=keys.bearer(name)) as answer:
                subject = answer.connection.transport.get_extra_info("peercert")["subject"] if answer.connection else ()
                return answer.status, dict(pair[0] for pair in subject).get("commonName")

        assert (await ask("read"))[0] == 200 and (await ask("revoked"))[0] == 401
        shutil.copy(second, pem)
        keys.path.write_text("")
        async with asyncio.timeout(30):
            while (await ask("read"))[0] != 401:
                await asyncio.sleep(0.01)
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
                subject = writer.get_extra_info("peercert")["subject"]
                writer.close()
                if subject == ((("commonName", "second"),),):
                    break
                await asyncio.sleep(0.01)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):  # no HTTP there without TLS
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readexactly(1)

    during(view, scenario)


@pytest.mark.parametrize(
    ("dashboard", "api", "what"),
    [
        ({"host": "0.0.0.0"}, {}, "api.tokens_file"),
        ({"host": "0.0.0.0"}, {"tokens_file": "tokens"}, "api.tls_certificate_file"),
        ({}, {"tokens_file": "none"}, "api.tokens_file: none: No such file"),
        ({}, {"tls_certificate_file": "none"}, "api.tls_certificate_file: none: No such file"),
    ],
)
def test_what_would_be_open_or_cannot_work_does_not_start(made, dashboard, api, what):
    with pytest.raises(ConfigurationError, match=what):
        made(dashboard, **api)


def test_a_line_for_each_request_says_who_asked_what_and_no_secret(made, tmp_path, caplog):
    keys = Keys(tmp_path)
    view = made(tokens_file=str(keys.path), access_log=True, trusted_proxies=["127.0.0.1"])

    async def scenario(port):
        async with ClientSession(f"http://127.0.0.1:{port}") as session:
            for path, headers in (
                (f"/api/sources?search={keys['admin']}", keys.bearer("read")),
                ("/livez", {"X-Forwarded-For": "192.0.2.7"}),
                (f"/{keys['admin']}/x%0Ay", keys.bearer("write")),
                ("/api/sources", {"Cookie": f"fa_token={keys['admin']}"}),
            ):
                async with session.get(path, headers=headers) as answer:
                    await answer.read()

    with caplog.at_level(logging.INFO, "app.web.access"):
        during(view, scenario)
    lines = [record.getMessage() for record in caplog.records if record.name == "app.web.access"]
    assert [re.sub(r"\d+ B [\d.]+ ms", "N", line) for line in lines] == [
        "GET /api/sources 200 N token=read from=127.0.0.1",
        "GET /livez 200 N token=- from=192.0.2.7",
        "GET /***/x%0Ay 404 N token=- from=127.0.0.1",
        "GET /api/sources 200 N token=admin from=127.0.0.1",
    ]
    assert re.search(r" \d{2,} B ", lines[0])
    assert "fa_" not in caplog.text


def test_what_is_no_http_is_not_written_to_the_log_either(made, tmp_path, caplog):
    keys = Keys(tmp_path)
    view = made(tokens_file=str(keys.path))

    async def scenario(port):
        for line in (b"Authorization: Bearer %s\x00", b"\xffAuthorization %s", b"Host: a\r\nContent-Length: %s",
                     b"Authorization: Bearer %s" + b"A" * 9_000):  # fmt: skip
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n" + line.replace(b"%s", keys["admin"].encode()) + b"\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
            writer.close()

    with caplog.at_level(logging.DEBUG):
        during(view, scenario)
    assert "fa_" not in caplog.text and "Traceback" not in caplog.text


def test_connections_of_one_address_are_bounded_unless_many_come_from_there(made, monkeypatch):
    view = made(max_connections=10)
    monkeypatch.setattr(view._server.guard, "is_many", lambda address: False)

    async def scenario(port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        for reader, _ in idle[:3]:
            assert await asyncio.wait_for(reader.read(), 30) == b""
        assert not idle[-1][0].at_eof()
        for _, writer in idle:
            writer.close()

    during(view, scenario)
    page = view._server.services.metrics.render()[0].decode()
    assert 'faust_anomaly_cut_connections_total{of="one"} 3.0' in page


@pytest.mark.parametrize(
    ("address", "many"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", True), ("10.0.1.1", False), ("", True)]
)
def test_loopback_and_proxies_bring_many(made, address, many):
    assert made(trusted_proxies=["10.0.0.0/24"])._server.guard.is_many(address) is many


def test_a_compressed_body_is_refused_as_it_is(made):
    """One that becomes a thousand times as much would take seconds of the loop that scores."""
    coder = zlib.compressobj(wbits=31)
    body = coder.compress(bytes(10_000_000)) + coder.flush()

    async def scenario(port):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        async with ClientSession() as session:
            url = f"http://127.0.0.1:{port}/data"
            async with session.post(url, data=body, headers=headers) as answer:
                return answer.status, (await answer.json())["errors"][0]["at"]

    assert during(made(), scenario) == (415, "Content-Encoding")

"""``faust-anomaly alerts test``: what it prints of a channel that takes the message, and of one that does not."""

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from click.testing import CliRunner

from app.cli.alerts_trial import trial
from app.errors import ConfigurationError


@contextmanager
def receiver(status=200, headers=None):
    """A server in a thread: its port, and what it got."""
    got, ready, loop = [], threading.Event(), asyncio.new_event_loop()
    ports = []

    async def handle(request):
        got.append(await request.json())
        return web.Response(status=status, text="well", headers=headers)

    async def serve():
        app = web.Application()
        app.router.add_post("/hook", handle)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        ports.append(server.port)
        ready.set()
        await stop.wait()
        await server.close()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield ports[0], got
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def tried(tmp_path, port, channel="hook", allowed="[127.0.0.1]"):
    file = tmp_path / "anomaly.yaml"
    file.write_text(f"""\
alerting:
  anomaly_log_file: {tmp_path / "alerts.log"}
  allowed_addresses: {allowed}
  channels: {{hook: {{type: webhook, url: 'http://127.0.0.1:{port}/hook'}}}}
""")
    return CliRunner().invoke(trial, [channel, "--config", str(file)])


def test_a_message_that_is_taken(tmp_path):
    with receiver() as (port, got):
        result = tried(tmp_path, port)
    assert result.exit_code == 0 and result.output.startswith("hook: accepted in ") and "200 well" in result.output
    assert got[0]["type"] == "test" and got[0]["data"]["id"].startswith("test-")
    assert "with faust-anomaly alerts test hook." in got[0]["data"]["text"]
    assert tried(tmp_path, 1, "log").output.endswith(": 1 line\n")
    assert json.loads((tmp_path / "alerts.log").read_text())["what"] == "test"


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (422, None, "hook: not accepted: http://127.0.0.1:{}: 422 well; an alerter gives it up\n"),
        (500, None, "hook: not accepted: http://127.0.0.1:{}: 500 well; an alerter tries it again\n"),
        (429, {"Retry-After": "7"}, "429 well; an alerter tries it again after 7 s, as it asks\n"),
    ],
)
def test_a_message_that_is_not_taken(tmp_path, status, headers, said):
    with receiver(status, headers) as (port, _):
        result = tried(tmp_path, port)
    assert result.exit_code == 1 and result.output.endswith(said.format(port))


def test_a_receiver_that_cannot_be_reached(tmp_path):
    down = tried(tmp_path, unused_port())
    assert down.exit_code == 1 and "Cannot connect to host 127.0.0.1" in down.output
    refused = tried(tmp_path, 80, allowed="[]")
    assert refused.exit_code == 1 and "127.0.0.1 is a loopback address" in refused.output


def test_an_unknown_channel_is_named_with_those_there_are(tmp_path):
    error = tried(tmp_path, 80, "hok").exception
    assert isinstance(error, ConfigurationError)
    assert str(error) == "alerting.channels.hok: no such channel; did you mean hook?"

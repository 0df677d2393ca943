"""Apprise sends what it is given, to allowed addresses only, and says no secret."""

import asyncio
import json
import logging
import socket
import subprocess
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from support.messages import VIEW, context, ended, event, told

from app.alerting.channels import apprise
from app.alerting.channels.api import Answer, Retry
from app.alerting.outgoing import Outgoing
from app.errors import ConfigurationError
from app.wire.notifications import News


def channel(urls, outgoing=None, **options):
    return apprise.Channel("all", apprise.Options(urls=urls, **options), context(outgoing=outgoing or Outgoing()))


def exchanged(
    *notifications, allowed=("localhost",), answers=(200,), urls=("json://u:s3cr3t-pass@localhost:{}/t0ken-x",)
):
    """What came of each, and what the receiver got."""
    got, left = [], list(answers)

    async def handle(request):
        got.append((request.path, await request.json()))
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})

    async def run():
        app = web.Application()
        app.router.add_post("/{path:.*}", handle)
        async with TestServer(app, host="127.0.0.1") as server:
            to = channel(" ".join(url.format(server.port) for url in urls), Outgoing(allowed))
            results = []
            for notification in notifications:
                try:
                    results.append(await to.send(notification))
                except Retry as error:
                    results.append(str(error))
            return results

    return asyncio.run(asyncio.wait_for(run(), 60)), got


def test_what_is_sent():
    results, [(path, opened), (_, closed), (_, down)] = exchanged(
        told(), ended(), told(about="channel_down", news=[], text="slack: 503")
    )
    assert results == [Answer("taken by JSON")] * 3 and path == "/t0ken-x"
    assert (opened["title"], opened["type"]) == ("critical: pump-7 temperature is 90.44, expected 50.02", "failure")
    assert opened["message"].startswith("90.44 is 40.42 above") and opened["message"].rstrip().endswith("=temperature")
    assert VIEW in opened["message"]
    assert (closed["title"], closed["type"]) == ("ended: pump-7 temperature after 3 min 20 s (recovered)", "success")
    assert (down["message"], down["type"]) == ("slack: 503", "failure")


@pytest.mark.parametrize("status", [302, 400, 429, 500])
def test_what_is_not_taken_is_tried_again_and_no_redirect_is_followed(status):
    [said], got = exchanged(told(), answers=(status,))
    assert said.startswith("JSON (URL 1): ") and str(status) in said and len(got) == 1
    assert "s3cr3t" not in said and "t0ken" not in said


def test_of_several_only_those_that_did_not_take_it_get_it_again():
    urls = ("json://localhost:{}/first", "json://localhost:{}/second")
    results, got = exchanged(told(), told(), told(id="n-2"), answers=(200, 500, 200), urls=urls)
    assert "JSON (URL 2)" in results[0] and results[1:] == [Answer("taken by JSON, JSON")] * 2
    assert [path for path, _ in got] == ["/first", "/second", "/second", "/first", "/second"]


def test_only_allowed_addresses_are_connected_to_and_others_resolve_as_ever():
    [said], got = exchanged(told(), allowed=())
    assert "localhost is 127.0.0.1, which is a loopback address" in said or "localhost is ::1" in said
    assert got == []
    assert socket.getaddrinfo("localhost", 80)


@pytest.fixture
def logged():
    """What the program's log gets; pytest's own handlers also hear loggers that do not propagate."""
    records, handler = [], logging.Handler()
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


def test_a_receiver_that_is_down_says_no_secret_and_apprise_logs_nothing(logged):
    [said], _ = exchanged(told(), urls=("json://u:s3cr3t-pass@localhost:1/t0ken-x",))
    assert said.startswith("JSON (URL 1): ") and "s3cr3t" not in said and "t0ken" not in said
    assert [record.name for record in logged if record.name.startswith("apprise")] == []


def test_names_call_nobody_and_make_no_links():
    one = event(source="@everyone", explanation="<!here> [click](https://evil.example)")
    _, [(_, sent)] = exchanged(told(News(one, "opened")))
    text = json.dumps(sent, ensure_ascii=False)
    assert "@everyone" not in text and "<!here" not in text and "](" not in text


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ("", "urls: expected at least one of Apprise's URLs"),
        ("nope://s3cr3t", r"urls: URL 1 \(nope://\) is none that Apprise can use"),
        ("json://localhost syslog://", r"urls: URL 2 \(syslog://\) sends neither over HTTP nor by SMTP"),
        ("jsons://localhost/s3cr3t?verify=no", r"urls: URL 1 \(jsons://\) must not have verify=no"),
    ],
)
def test_a_url_that_cannot_be_used_stops_before_the_start(urls, said, logged):
    with pytest.raises(ConfigurationError, match=said) as refusal:
        channel(urls)
    assert "s3cr3t" not in str(refusal.value) + str([record.getMessage() for record in logged])


@pytest.mark.parametrize("url", ["discord://123456789/abcdefghijkl", "mailto://user:pass@example.com", "ntfy://topic"])
def test_well_known_services_are_taken(url):
    channel(url)


def test_it_is_imported_only_where_it_is_used():
    code = "import sys; from app.alerting import channels; channels.find('apprise'); sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

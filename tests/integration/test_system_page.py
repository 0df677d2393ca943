"""The login and the page System in a real browser, without Kafka."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from support.browser import CHROMIUM, browser
from support.viewed import HOSTILE, NO_INJECTION, fed

from app.alerting.delivery import ChannelStatus
from app.kafka.groups import GroupDescription, MemberDescription
from app.metrics import Metrics
from app.settings import load
from app.web.security.tokens import StoredToken, add, digest, new_token
from app.web.server import Server
from app.web.status.probes import Health

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

DENIED = "this user may not see the group anomaly-detection-group-alerter (Describe)"
ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "\\\\evil.example",
    "/\\evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "\t//evil.example",
    "https:evil.example",
    "https:/evil.example",
    "//user@evil.example",
    "login?next=login",
]


def text(selector):
    return f"document.querySelector('{selector}').innerText"


def made(tokens):
    letters = [{"reason": "bad_source", "total": 1234, "last": time.time() - 5, "to_do": "Name the field."}]
    letters[0]["example"] = f"raw-data[2]@57: {HOSTILE[0]}"
    details = {"generation": 1, "partitions": [0, 1], "dead_letters": letters}
    metrics = Metrics("numba")
    metrics.notification("on-call", "sent")
    channels = {
        "on-call": ("webhook", ChannelStatus(failing_since=time.time() - 400, error=HOSTILE[1], down=True, waiting=2)),
        HOSTILE[0]: ("log", None),
    }
    settings = load(environ={"ANOMALY_API__TOKENS_FILE": str(tokens), "ANOMALY_DETECTION__THRESHOLD": "0.7"})
    reader = SimpleNamespace(state="reading", produced_per_s=1234.0, skipped=0)
    health = lambda: Health(True, True, details)  # noqa: E731
    server = Server(settings, metrics, health, fed("pump-7"), reader, reader, channels=lambda: channels)

    async def describe(kafka, topics):
        members = [
            MemberDescription("a", HOSTILE[0], "10.0.0.1", {"raw-data": [0, 1]}),
            MemberDescription("b", "faust", "10.0.0.2", {}),
        ]
        lag = {"raw-data": {0: 3, 1: 1200, 2: 0}}
        return {kafka.group_id: GroupDescription(kafka.group_id, "Stable", members, lag), kafka.alerter_group: DENIED}

    server.services.workers._describe = describe
    return server


async def log_in(page, token):
    await page.until("document.querySelector('#submit') && !document.querySelector('#submit').disabled")
    await page.run(f"document.querySelector('#token').value = {json.dumps(token)}")
    await page.run("document.querySelector('#form').requestSubmit(), 1")


def test_one_logs_in_and_sees_how_the_program_is(tmp_path):
    admin, reader = new_token(), new_token()
    add(tmp_path / "tokens", StoredToken("boss", frozenset({"admin"}), digest(admin)))
    add(tmp_path / "tokens", StoredToken("wall", frozenset({"read"}), digest(reader)))
    server = made(tmp_path / "tokens")

    async def sees_everything(page):
        await page.until("document.querySelector('#groups tbody tr')")
        found = await page.run(text("main"))
        for words in (
            "3 things need a look", "channel on-call is down since", "dead letters: bad source", "this one",
            "some partitions have no worker", "Nobody has raw-data 2.", "0, 1", "none: waits to take over", "1,203",
            f"Not known: {DENIED}", "Name the field.", HOSTILE[0], HOSTILE[1], "raw-data-dead-letters", "numba",
        ):  # fmt: skip
            assert words in found, words
        assert await page.run(NO_INJECTION)

    async def scenario(page, url):
        await page.open(url + "system?x=1")
        await page.until("location.pathname === '/login' && document.querySelector('#form')")
        for next in ELSEWHERE:
            asked = f"import('./static/login.js').then(({{destination}}) => destination({json.dumps(next)}))"
            assert await page.run(asked) == url, next
        inside = "import('./static/login.js').then(({destination}) => destination('source?source=a#b'))"
        assert await page.run(inside) == f"{url}source?source=a#b"
        await log_in(page, "nobody's")
        await page.until(f"{text('#error')}.startsWith('This token is not valid')")
        assert await page.run("document.activeElement.id") == "token"
        page.complaints.clear()  # the browser notes the 401

        await log_in(page, reader)
        await page.until("location.href.endsWith('/system?x=1')")
        await sees_everything(page)
        await page.until(f"{text('#user')}.startsWith('wall')")
        await page.until(f"{text('#settings')} === 'Shown to who has the role admin.'")
        await page.run("document.querySelector('#user button').click(), 1")
        await page.until("location.pathname === '/login' && document.querySelector('#form')")

        await log_in(page, admin)
        await page.until("location.pathname === '/' && document.querySelector('#dead-letters a')")
        await page.run("document.querySelector('#dead-letters a').click(), 1")
        await page.until("document.querySelector('#settings dt')")
        assert "detection.threshold: 0.7\nANOMALY_DETECTION__THRESHOLD" in await page.run(text("#settings"))
        await page.until("document.querySelector('#rate-chart path.all')")

        (tmp_path / "tokens").write_text("")
        server.guard._tokens.look()
        await page.until("location.pathname === '/login'")  # by itself, at the next question
        assert await page.run("new URLSearchParams(location.search).get('next')") == "system#dead-letters-panel"

    async def run():
        async with TestServer(server.application()) as listening, browser() as page:
            push = asyncio.create_task(server.push.run(tick_s=0.1))
            await scenario(page, str(listening.make_url("/")))
            push.cancel()
            assert [one for one in page.complaints if "401" not in one] == []

    asyncio.run(asyncio.wait_for(run(), 90))

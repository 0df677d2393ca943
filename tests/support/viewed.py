"""Pages of the view in a real browser, without Kafka: made results and episodes, and a server that shows them."""

import asyncio
import json
from types import SimpleNamespace

from aiohttp.test_utils import TestServer

from app.metrics import Metrics
from app.settings import Settings
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults
from support.browser import browser

HOSTILE = [
    '<img src=x onerror="window.hit=1">',
    '"><script>window.hit=1</script>',
    "javascript:window.hit=1",
    "line\nbreak\ttab",
    "x" * 256,
    "‮reversed",
    "__proto__",
    "a%2Fb?c#d&e=f",
    "日本語センサー",
]
NO_INJECTION = "window.hit === undefined && !document.querySelector('main img, script:not([src])')"


def result(source, at, **fields):
    body = {"id": f"raw-data:0:{at:.0f}:0", "source": source, "timestamp": 1_698_401_060.0 + at, "value": 45.0}
    body |= {"expected": 45.0, "expected_lower": 44.0, "expected_upper": 46.0, "explanation": source}
    body |= {"anomaly_score": 0.1, "alert_score": 0.1, "is_anomaly": False, "severity": "low", "status": "ok"}
    return json.dumps(body | fields).encode()


def anomaly(source, at, **fields):
    inside = {"episode": f"raw-data:0:{at:.0f}:0", "is_anomaly": True, "severity": "critical", "value": 90.0}
    return result(source, at, **inside | {"anomaly_score": 0.97, "alert_score": 0.97} | fields)


def closed(source, at, until, **fields):
    """The end of the episode that ``anomaly`` opened."""
    body = {"event": "closed", "episode": f"raw-data:0:{at:.0f}:0", "kind": "value", "source": source, "points": 9}
    times = {"opened_at": 1_698_401_060.0 + at, "timestamp": 1_698_401_060.0 + until}
    return json.dumps(body | times | {"peak_score": 0.97, "reason": "recovered"} | fields).encode()


def fed(*sources):
    recent = RecentResults()
    for at in range(40):
        for source in sources:
            recent.take_result(result(source, at))
    return recent


def look(scenario, recent, routes=(), **settings):
    """Run scenario(page, url, server) in a browser, and see that the page complained of nothing.

    ``routes`` come before those of the server.
    """

    async def run():
        reader = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
        server = Server(Settings(**settings), Metrics(), lambda: Health(True, True), recent, reader, reader)
        server.services.routes[:0] = routes
        async with TestServer(server.application()) as listening, browser() as page:
            push = asyncio.create_task(server.push.run(tick_s=0.1))
            await scenario(page, str(listening.make_url("/")), server)
            push.cancel()
            assert page.complaints == [], page.complaints

    asyncio.run(asyncio.wait_for(run(), 90))

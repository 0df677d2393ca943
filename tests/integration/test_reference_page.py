"""The page /docs, which shows the document of the API, in a real browser and without Kafka."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from support.browser import CHROMIUM, browser

from app.metrics import Metrics
from app.settings import Settings
from app.web.api.openapi import document
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

PUMP = {"id": "raw-data:0:1:0", "source": "pump-7/<b>x</b>", "timestamp": 1.0, "value": 45.0, "status": "ok"}


def test_the_page_shows_every_operation_and_asks_for_one():
    recent = RecentResults()
    recent.take_result(json.dumps(PUMP).encode())
    reader = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
    server = Server(Settings(), Metrics(), lambda: Health(True, True), recent, reader, reader)
    paths = document(server.services.settings, server.routes)["paths"]
    operations = {one["operationId"] for methods in paths.values() for one in methods.values()}

    async def scenario(page, url):
        await page.open(f"{url}api/docs")
        await page.until("document.querySelectorAll('.operation').length")
        assert await page.run("location.pathname") == "/docs"
        shown = await page.run("[...document.querySelectorAll('.operation')].map(one => one.id)")
        assert sorted(shown) == sorted(operations)
        await page.run("document.querySelectorAll('.operation').forEach(one => { one.open = true })")
        await page.until(
            "document.querySelectorAll('.operation .inside').length === document.querySelectorAll('.operation').length"
        )
        await page.run("document.querySelectorAll('.answer').forEach(one => { one.open = true })")
        await page.until("[...document.querySelectorAll('.answer')].every(one => one.children.length === 2)")
        text = await page.run("document.body.textContent")
        assert """curl --json '{"sourceId":"pump-7","value":45.2""" in text
        assert "undefined" not in text and "[object" not in text and "NaN" not in text

        # ask, with a name that is markup
        await page.run("document.querySelector('#series_by_source input[name=source]').value = 'pump-7/<b>x</b>'")
        await page.run("document.querySelector('#series_by_source button[type=submit]').click()")
        answer = await page.until("document.querySelector('#series_by_source pre[aria-label]').textContent")
        assert json.loads(answer)["points"][0]["source"] == PUMP["source"]
        assert await page.run("document.querySelector('#series_by_source b') === null")

        # find, and a link to what is found
        await page.run("document.querySelector('#search').value = 'openapi.json'")
        await page.run("document.querySelector('#search').dispatchEvent(new Event('input'))")
        visible = "[...document.querySelectorAll('.operation')].filter(one => one.checkVisibility())"
        left = await page.run(f"{visible}.map(one => one.id)")
        assert left == ["openapi"] and await page.run("location.search") == "?search=openapi.json"

        # narrow
        await page.open(f"{url}docs#data", width=360, height=740)
        await page.until("document.querySelector('#data[open] .inside')")
        assert await page.run("document.activeElement.parentElement.id") == "data"
        await page.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert await page.run("document.documentElement.scrollWidth") <= 360

    async def run():
        async with TestServer(server.application()) as listening, browser() as page:
            await scenario(page, str(listening.make_url("/")))
            assert page.complaints == []

    asyncio.run(asyncio.wait_for(run(), 120))

"""The page in a real browser, without Kafka: what it shows, and that nothing in a name becomes part of the page."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from browser import CHROMIUM, browser

from app.metrics import Metrics
from app.settings import Settings
from app.state.series import joined
from app.web.live.recent_results import RecentResults
from app.web.probes import Health
from app.web.server import Server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

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


def result(source, at, **fields):
    body = {"id": f"raw-data:0:{at:.0f}:0", "source": source, "timestamp": 1_698_401_060.0 + at, "value": 45.0}
    body |= {"expected": 45.0, "expected_lower": 44.0, "expected_upper": 46.0, "explanation": source}
    body |= {"anomaly_score": 0.1, "alert_score": 0.1, "is_anomaly": False, "severity": "low", "status": "ok"}
    return json.dumps(body | fields).encode()


def anomaly(source, at, **fields):
    inside = {"episode": f"raw-data:0:{at:.0f}:0", "is_anomaly": True, "severity": "critical", "value": 90.0}
    return result(source, at, **inside, anomaly_score=0.97, alert_score=0.97, **fields)


def fed(*sources):
    recent = RecentResults()
    for at in range(40):
        for source in sources:
            recent.take_result(result(source, at))
    return recent


def look(scenario, recent, **settings):
    """Run scenario(page, url, server) in a browser, and see that the page complained of nothing."""

    async def run():
        reader = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
        server = Server(Settings(**settings), Metrics(), lambda: Health(True, True), recent, reader, reader)
        async with TestServer(server.application()) as listening, browser() as page:
            push = asyncio.create_task(server.push.run(tick_s=0.1))
            await scenario(page, str(listening.make_url("/")), server)
            push.cancel()
            assert page.complaints == []

    asyncio.run(asyncio.wait_for(run(), 90))


def test_names_of_sources_stay_text_wherever_they_are_shown():
    recent = fed(*HOSTILE)
    for at, source in enumerate(HOSTILE):
        recent.take_event(anomaly(source, 100 + at, event="opened"))

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tr').length === 9")
        await page.until("document.querySelectorAll('#episodes article').length === 9")
        shown = await page.run("[...document.querySelectorAll('#rows bdi')].map(node => node.textContent)")
        assert sorted(shown) == sorted(HOSTILE)
        for source in HOSTILE:
            await page.run(
                f"[...document.querySelectorAll('#rows a')].find(a => a.title === {json.dumps(source)}).click()"
            )
            await page.until(f"document.querySelector('#detail-name').textContent === {json.dumps(source)}")
            await page.until("document.querySelector('#chart svg')")
        assert await page.run("window.hit === undefined && !document.querySelector('img, script:not([src])')")

    look(scenario, recent)


def test_the_page_complains_of_injected_code():
    """Negative control: what the test above would see if a name were code."""

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelector('#no-sources p')")
        await page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">'), 1")
        await asyncio.sleep(0.3)
        await page.run("1")
        assert await page.run("window.hit === undefined"), "the policy keeps it from running"
        assert any("Content Security Policy" in complaint for complaint in page.complaints)
        page.complaints.clear()

    look(scenario, RecentResults())


def test_without_results_it_says_what_to_do():
    async def scenario(page, url, server):
        await page.open(url)
        text = await page.until("document.querySelector('#no-sources').innerText")
        assert "No results yet" in text and "points-in" in text
        assert "No anomalies yet" in await page.until("document.querySelector('#no-episodes').innerText")

    look(scenario, RecentResults(), kafka={"input_topic": "points-in"})


def test_an_anomaly_arrives_while_one_looks():
    async def scenario(page, url, server):
        await page.open(url + "#source=pump-7")
        await page.until("document.querySelector('#chart-note').textContent.startsWith('40 points')")
        await page.until("document.querySelector('#as-of').textContent !== '–'")
        while not server.services.recent.watched:
            await asyncio.sleep(0.05)
        server.services.recent.take_result(anomaly("pump-7", 50))
        server.services.recent.take_event(anomaly("pump-7", 50, event="opened"))
        await page.until("document.querySelector('#episodes article.open.critical')")
        await page.until("document.querySelector('#rows tr.anomalous.critical')")
        await page.until("document.querySelector('#chart circle.mark.critical')")
        await page.until("document.querySelector('#chart-note').textContent.startsWith('41 points')")
        assert await page.run("document.title") == "(1) faust-anomaly"
        assert "pump-7, critical" in await page.run("document.querySelector('#announce').textContent")

    look(scenario, fed("pump-7", "pump-8"))


def test_each_metric_that_comes_alone_is_a_row_and_a_chart():
    recent, names = RecentResults(), [*HOSTILE[:4], "cpu", *HOSTILE[5:]]
    for at in range(40):
        for name in names:
            recent.take_result(result("host", at, metric=name[:128]))
        recent.take_result(result("host", at))
    recent.take_result(anomaly("host", 50, metric="cpu"))
    recent.take_event(anomaly("host", 50, metric="cpu", event="opened"))
    titles = {f"host\n{name}": f"host{name}" for name in names} | {"host": "host"}

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tr').length === 10")
        assert await page.run("document.querySelector('#sources-note').textContent") == "10 series"
        assert await page.run("document.querySelector('#episodes a').title") == "host\ncpu"
        for title, shown in titles.items():
            await page.run(
                f"[...document.querySelectorAll('#rows a')].find(a => a.title === {json.dumps(title)}).click()"
            )
            await page.until(f"document.querySelector('#detail-name').textContent === {json.dumps(shown)}")
            points = 41 if shown == "hostcpu" else 40
            await page.until(f"document.querySelector('#chart-note').textContent.startsWith('{points} points')")
            await page.until("document.querySelectorAll('tr.chosen').length === 1")
            episodes = await page.until("document.querySelector('#detail-episodes h3').textContent")
            assert (episodes == "Last episodes") == (shown == "hostcpu")
        await page.run("location.hash = '#source=host&metric=cpu'")
        await page.until("document.querySelector('#detail-name').textContent === 'hostcpu'")
        while server.services.recent.watched != {joined("host", "cpu")}:
            await asyncio.sleep(0.05)
        server.services.recent.take_result(result("host", 60, metric="cpu"))
        server.services.recent.take_result(result("host", 60))
        await page.until("document.querySelector('#chart-note').textContent.startsWith('42 points')")
        assert await page.run("window.hit === undefined && !document.querySelector('img, script:not([src])')")

    look(scenario, recent)


def test_an_episode_shows_its_kind_its_band_and_why_it_ended():
    recent = fed("pump-7", "pump-8")
    for source, at in (("pump-7", 50), ("pump-8", 60)):
        recent.take_result(anomaly(source, at, kind="level"))
        recent.take_event(anomaly(source, at, kind="level", event="opened"))
    end = {"event": "closed", "episode": "raw-data:0:50:0", "kind": "level", "source": "pump-7", "timestamp": 1.7e9}
    recent.take_event(json.dumps({**end, "points": 9, "peak_score": 0.99, "opened_at": 1.6e9, "reason": "adapted"}))

    async def scenario(page, url, server):
        await page.open(url + "#source=pump-7")
        for place in ("#episodes article.closed", "#detail-episodes article"):
            text = await page.until(f"document.querySelector('{place}').innerText")
            assert all(words in text for words in ("level", "adapted", "44 to 46", "9 points")), text
        text = await page.run("document.querySelector('#episodes article.open').innerText")
        assert "level" in text and "open" in text.split()
        await page.until("document.querySelector('#readout').textContent.includes('anomalous, critical, level')")

    look(scenario, recent)


def test_the_most_anomalous_source_stays_first_while_scores_change():
    shown = "[...document.querySelectorAll('#rows tr')].map(tr => tr.querySelector('.figure').textContent)"

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelector('#as-of').textContent !== '–'")
        while not server.push.clients:
            await asyncio.sleep(0.05)
        assert await page.run(shown) == ["0.900", "0.100", "0.100"]
        server.services.recent.take_result(result("fan", 50, anomaly_score=0.68))
        server.services.recent.take_result(result("pump-8", 50, anomaly_score=0.25, is_anomaly=True))
        await page.until(f"{shown}.join() === '0.680,0.250,0.100'")

    recent = fed("fan", "pump-7", "pump-8")
    recent.take_result(result("pump-8", 49, anomaly_score=0.9, is_anomaly=True))
    look(scenario, recent)


def test_the_chart_shows_the_metric_that_the_last_episode_is_about():
    band = {"expected_lower": {"flow": 4.0, "pressure": 0.0}, "expected_upper": {"flow": 5.0, "pressure": 18.0}}
    recent = RecentResults()
    for at in range(40):
        two = {"values": {"flow": float(at % 10), "pressure": 2.0 * (at % 10)}, "value": None}
        recent.take_result(result("boiler", at, **two, **band))
    for at, shares in ((40, (0.2, 0.9)), (41, (0.6, 0.3))):
        of = {"episode": "raw-data:0:40:0", "attribution": dict(zip(("flow", "pressure"), shares, strict=True))}
        recent.take_result(result("boiler", at, is_anomaly=True, **of, **two, **band))
    recent.take_result(result("boiler", 42, **two, **band))

    async def scenario(page, url, server):
        await page.open(url + "#source=boiler")
        pressed = await page.until("document.querySelector('#metrics [aria-pressed=true]').textContent")
        assert pressed == "pressure"
        bands = set()
        for name in ("flow", "pressure"):
            await page.run(
                f"[...document.querySelectorAll('#metrics button')].find(b => b.textContent === '{name}').click()"
            )
            await page.until(f"document.querySelector('#readout').textContent.includes('{name}')")
            bands.add(await page.until("document.querySelector('#chart .band').getAttribute('d')"))
        assert len(bands) == 2

    look(scenario, recent)


def test_a_drift_stands_in_the_chart_where_it_was_found():
    recent = fed("pump-7")
    recent.take_result(result("pump-7", 40, drift=True))
    recent.take_result(result("pump-7", 41))

    async def scenario(page, url, server):
        await page.open(url + "#source=pump-7")
        found = "document.querySelector('#chart .%s').getAttribute('x1')"
        await page.until("document.querySelector('#chart .drift')")
        assert await page.run("document.querySelectorAll('#chart .drift').length") == 1
        await page.run("document.querySelector('#chart svg').focus(), 1")
        pressed = "new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true})"
        assert "drift" not in await page.run("document.querySelector('#readout').textContent")
        await page.run(f"document.querySelector('#chart svg').dispatchEvent({pressed})")
        assert "drift: scores" in await page.run("document.querySelector('#readout').textContent")
        assert await page.run(f"Math.abs({found % 'hair'} - {found % 'drift'}) < 0.1")
        assert "dotted: drift" in await page.run("document.querySelector('#chart-note').textContent")
        assert "1 drifted" in await page.run("document.querySelector('#chart svg').getAttribute('aria-label')")

    look(scenario, recent)


@pytest.mark.parametrize("dashboard", [{"websocket_enabled": False}, {"real_time_updates": False}])
def test_without_a_socket_it_shows_what_was_there(dashboard):
    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tr').length === 2")
        off = await page.run("document.querySelector('#banner').textContent.startsWith('Live updates are off')")
        assert off == ("real_time_updates" in dashboard)

    look(scenario, fed("pump-7", "pump-8"), dashboard=dashboard)


@pytest.mark.parametrize("width", [400, 800, 1024, 1210, 1280])
def test_it_fits_the_window_with_many_sources(width):
    recent = fed(*(f"building-{n % 7}/line-{n}/temperature-sensor-{n}" for n in range(2_000)))

    async def scenario(page, url, server):
        await page.open(url, width=width)
        await page.until("document.querySelectorAll('#rows tr').length === 200")
        assert await page.run("document.documentElement.scrollWidth <= window.innerWidth")
        cut = (
            "[...document.querySelectorAll('td.number, .figure')].filter(td => td.scrollWidth > td.clientWidth).length"
        )
        assert await page.run(cut) == 0, "a number that is cut off is a wrong number"
        await page.run("document.querySelector('#search').value = 'sensor-199'")
        await page.run("document.querySelector('#search').dispatchEvent(new Event('input')), 1")
        await page.until("document.querySelectorAll('#rows tr').length === 11")
        least = "Math.min(...[...document.querySelectorAll('#rows th')].map(th => th.clientWidth))"
        assert await page.run(least) > 80, "room for names"
        assert "11 matching of 2,000" in await page.until("document.querySelector('#sources-note').textContent")

    look(scenario, recent)


def test_it_says_since_when_the_worker_is_silent():
    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelector('#health-word').textContent === 'ready'")
        await page.run("window.fetch = () => Promise.reject(new Error('refused')), 1")
        text = await page.until("document.querySelector('#banner').textContent")
        assert "has not answered since" in text
        assert await page.run("document.querySelector('#health-word').textContent") == "unreachable"

    look(scenario, fed("pump-7"))


def test_it_shows_dead_letters_with_what_to_do_until_none_came_for_minutes():
    told = {"reason": "bad_source", "total": 1234, "to_do": "Name the field."}
    told["example"] = f"raw-data[2]@57: {HOSTILE[0]}"
    letters = [{**told, "last": time.time() - 5}, {**told, "reason": "too_deep", "last": time.time() - 3600}]

    async def scenario(page, url, server):
        server.services.health = lambda: Health(True, True, {"partitions": [0], "dead_letters": letters})
        await page.open(url)
        text = await page.until("document.querySelector('#dead-letters').textContent")
        assert text.startswith("1,234 dead letters of this worker: bad_source, the last at ")
        assert text.endswith(f"UTC. Name the field. raw-data[2]@57: {HOSTILE[0]}") and "too_deep" not in text
        assert "dead_letters" not in await page.run("document.querySelector('#health-details').textContent")
        letters.pop(0)
        await page.until("document.querySelector('#dead-letters').hidden")

    look(scenario, fed("pump-7"))


def test_the_keyboard_reaches_sources_and_points():
    async def press(page, key):
        for kind in ("keyDown", "keyUp"):
            await page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text="\r" if key == "Enter" else "")

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelector('#rows a')")
        await page.run("document.querySelector('#rows a').focus()")
        await press(page, "Enter")
        await page.until("document.querySelector('#chart svg')")
        await page.run("document.querySelector('#chart svg').focus()")
        before = await page.run("document.querySelector('#readout').textContent")
        await press(page, "ArrowLeft")
        assert await page.run("document.querySelector('#readout').textContent") != before
        await press(page, "Escape")
        await page.until("document.querySelector('#detail').hidden")

    look(scenario, fed("pump-7"))

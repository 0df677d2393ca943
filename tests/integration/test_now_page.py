"""The page Now in a real browser, without Kafka: what it shows and does, and that no name becomes part of the page."""

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web
from msgspec import Struct
from support import viewed
from support.browser import CHROMIUM
from support.viewed import HOSTILE, NO_INJECTION, anomaly, closed, fed, result

from app.web.api.routes import HttpRoute, JsonResponse
from app.web.episodes import CoveringSilence, ShownAcknowledgement
from app.web.problems import HttpProblem
from app.web.security.roles import ADMIN, READ
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

ENTRIES = "document.querySelectorAll('#episodes article')"
NAMES = "[...document.querySelectorAll('%s bdi')].map(node => node.textContent)"
START = 1_698_401_060.0  # of what `result` makes


def text(selector):
    return f"document.querySelector({json.dumps(selector)}).textContent"


def told(episode, channel, state, answer="", at=START + 200):
    news = [{"why": "opened", "event": {"episode": episode}}]
    body = {"id": "n", "channel": channel, "state": state, "created_at": at, "answer": answer, "news": news}
    return json.dumps(body).encode()


def look(scenario, recent, routes=(), **settings):
    """As `viewed.look`; Kafka, which is not there, has ten results of each source at any time."""

    async def results(request: web.Request) -> dict[str, Any]:
        begin = float(request.query["from"])
        found = [result(request.query["source"], at, timestamp=begin + at) for at in range(10)]
        return {"results": [json.loads(one) for one in found], "complete": True}

    kept = HttpRoute("GET", "/api/results", (READ,), {200: dict}, results, any_query=True)
    viewed.look(scenario, recent, [*routes, kept], **settings)


async def connected(server):
    while not server.push.clients:
        await asyncio.sleep(0.05)


async def refused(page):
    """The browser complains of each answer that is a refusal, soon after it."""
    while not page.complaints:
        await page.run("1")
    page.complaints.clear()


def test_names_of_sources_stay_text_wherever_they_are_shown():
    recent = fed(*HOSTILE)
    for at, source in enumerate(HOSTILE):
        recent.take_event(anomaly(source, 100 + at, event="opened"), START)

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tr').length === 9")
        await page.until(f"{ENTRIES}.length === 9")
        for place in ("#rows", "#episodes h3", "#lanes"):
            assert sorted(await page.run(NAMES % place)) == sorted(HOSTILE)
        hrefs = await page.run(
            "[...document.querySelectorAll('#rows a')].map(a => new URL(a.href).searchParams.get('source'))"
        )
        assert sorted(hrefs) == sorted(HOSTILE)
        for at in range(9):
            await page.run(f"document.querySelectorAll('#lanes .bar')[{at}].click()")
            await page.until(
                f"{text('#chosen h3 bdi')} === {text('#chosen h3 bdi')} && !document.querySelector('#chosen').hidden"
            )
        await page.until("document.querySelectorAll('#episodes svg').length > 2")
        assert await page.run(NO_INJECTION)

    look(scenario, recent)


def test_the_page_complains_of_injected_code():
    """Negative control: what the test above would see if a name were code."""

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelector('#no-sources p')")
        await page.run(
            "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit=1\">'), 1"
        )
        await asyncio.sleep(0.3)
        assert not await page.run(NO_INJECTION)
        assert await page.run("window.hit === undefined"), "the policy keeps it from running"
        assert any("Content Security Policy" in complaint for complaint in page.complaints)
        page.complaints.clear()

    look(scenario, RecentResults())


def test_without_results_it_says_what_to_do():
    async def scenario(page, url, server):
        await page.open(url)
        begin = await page.until("document.querySelector('#no-episodes').innerText")
        assert "No results yet" in begin and "points-in" in begin
        assert await page.run(text("#headline")) == "Nothing is open"
        server.services.recent.take_result(result("pump-7", 1))
        await page.until(f"{text('#no-episodes')}.includes('No anomalies yet')", 30)

    look(scenario, RecentResults(), kafka={"input_topic": "points-in"})


def test_open_episodes_stand_worst_first_with_who_was_told():
    recent = fed("fan", "pump-7", "pump-8", "boiler")
    for at, (source, severity, kind) in enumerate(
        [
            ("fan", "low", "level"),
            ("pump-7", "critical", "value"),
            ("pump-8", "high", "silent"),
            ("boiler", "high", "value"),
        ]
    ):
        recent.take_event(anomaly(source, 50 + at, severity=severity, kind=kind, event="opened"), time.time() - 5)
    recent.take_event(closed("boiler", 53, 60))
    recent.take_notification(told("raw-data:0:51:0", "slack", "sent"))
    recent.take_notification(told("raw-data:0:51:0", "pager", "failed", "503 Service Unavailable"))
    recent.take_notification(told("raw-data:0:50:0", "slack", "muted", "silenced by ann"))

    async def scenario(page, url, server):
        await page.open(url)
        await page.until(f"{ENTRIES}.length === 3")
        assert await page.run(text("#headline")) == "3 open, 1 critical, 1 silent, 1 of 3 notified"
        assert await page.run(text("#headline-note")) == "1 muted, 1 without a notification"
        assert await page.run(NAMES % "#episodes h3") == ["pump-7", "pump-8", "fan"]
        worst = await page.run("document.querySelector('#episodes article.open.critical').innerText")
        for words in (
            "critical",
            "value\n90",
            "44 to 46",
            "pump-7",
            "slack at",
            "pager failed: 503 Service",
        ):
            assert words in worst, worst
        assert "slack muted: silenced by ann" in await page.run("document.querySelector('#episodes .low').innerText")
        await page.until("document.querySelectorAll('#episodes svg .band').length === 3")

    look(scenario, recent)


def test_an_anomaly_arrives_while_one_looks():
    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tr').length === 2")
        await connected(server)
        server.services.recent.take_result(anomaly("pump-7", 50))
        server.services.recent.take_event(anomaly("pump-7", 50, event="opened"), time.time())
        await page.until("document.querySelector('#episodes article.open.critical')")
        await page.until("document.querySelector('#rows tr.anomalous.critical')")
        await page.until("document.querySelector('#lanes .bar.critical.open')")
        await page.until("document.title === '(1) faust-anomaly'")
        assert "pump-7, critical" in await page.run(text("#announce"))
        server.services.recent.take_event(closed("pump-7", 50, 70))
        await page.until(f"{text('#headline')} === 'Nothing is open' && document.querySelector('#lanes .bar.closed')")
        assert "of pump-7, came" in await page.run(text("#no-episodes"))

    look(scenario, fed("pump-7", "pump-8"))


def test_the_most_anomalous_source_stays_first_while_scores_change():
    shown = "[...document.querySelectorAll('#rows tr')].map(tr => tr.querySelector('.figure').textContent)"

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tr').length === 3")
        await connected(server)
        assert await page.run(shown) == ["0.900", "0.100", "0.100"]
        await page.run("document.querySelectorAll('#rows a')[1].focus()")  # held: neither figures nor order change
        server.services.recent.take_result(result("fan", 50, anomaly_score=0.68))
        server.services.recent.take_result(result("pump-8", 50, anomaly_score=0.25, is_anomaly=True))
        await page.until(f"{text('#sources-note')}.includes('held still')")
        assert await page.run(shown) == ["0.900", "0.100", "0.100"]
        await page.run("document.activeElement.blur()")
        await page.until(f"{shown}.join() === '0.680,0.250,0.100'")
        server.services.recent.take_result(result("new", 51, anomaly_score=0.5))
        await page.until(f"{shown}.join() === '0.680,0.500,0.250,0.100'")

    recent = fed("fan", "pump-7", "pump-8")
    recent.take_result(result("pump-8", 49, anomaly_score=0.9, is_anomaly=True))
    look(scenario, recent)


def test_a_span_ranks_sources_and_stands_in_the_address():
    recent, now = fed("long", "short"), time.time()

    def happened(source, offset, hours_ago, minutes, peak):
        at = now - 3600 * hours_ago
        opened = {"timestamp": at, "opened_at": at, "event": "opened", "severity": "critical" if peak > 0.9 else "low"}
        recent.take_event(anomaly(source, offset, **opened, alert_score=peak, peak_score=peak), at)
        end = {"timestamp": at + 60 * minutes, "opened_at": at, "peak_score": peak}
        recent.take_event(closed(source, offset, 0, **end), at + 60 * minutes)

    happened("short", 1, 5, 1, 0.98)
    happened("long", 2, 4, 50, 0.5)
    happened("later", 3, 1, 5, 0.5)
    names = NAMES % "#lanes"

    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#lanes .bar').length === 3")
        assert await page.run(names) == ["short", "long", "later"], "the worst severity first"
        labels = await page.run(
            "[...document.querySelectorAll('#lanes .bar')].map(bar => bar.getAttribute('aria-label'))"
        )
        assert [label.split(", ")[0] for label in labels] == ["critical", "low", "low"]
        plot = "document.querySelector('.plot').getBoundingClientRect()"
        left, top, width = await page.run(f"(({{left, top, width}}) => [left, top + 40, width])({plot})")
        assert await page.run(text("#lanes-title")) == "Last 6 hours", "nothing happened before"
        await page.drag((left + 1, top), (left + width * 4 / 6, top))
        await page.until("new URLSearchParams(location.search).get('from')")
        await page.until(f"{names}.join() === 'long,short'")
        assert "sum of peak score x minutes" in await page.run(text("#lanes-note"))
        assert await page.run(
            "document.querySelector('#from').value === new URLSearchParams(location.search).get('from').slice(0, 16)"
        )
        address = await page.run("location.href")
        await page.run("history.back()")
        await page.until(f"{names}.length === 3 && document.querySelector('#clear').hidden")
        await page.open(address)
        await page.until(f"{names}.join() === 'long,short'")
        await page.run("document.querySelector('#search').value = 'LON'")
        await page.run("document.querySelector('#search').dispatchEvent(new Event('input')), 1")
        await page.until(f"{names}.join() === 'long' && location.search.includes('search=LON')")
        await page.run("document.querySelector('#clear').click()")
        await page.until("!location.search.includes('from') && location.search.includes('search=LON')")
        for name, ago in (("from", 2), ("to", 9)):
            at = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now - 3600 * ago))
            await page.run(f"document.querySelector('#{name}').value = '{at}'")
            await page.run(f"document.querySelector('#{name}').dispatchEvent(new Event('change')), 1")
        await page.until("document.querySelector('#to').validationMessage === 'It must be after the first time.'")
        assert "from" not in await page.run("location.search")
        await page.run("document.querySelector('#to').value = document.querySelector('#from').value")
        await page.run(f"document.querySelector('#from').value = '{at}'")
        await page.run("document.querySelector('#from').dispatchEvent(new Event('change')), 1")
        await page.until("location.search.includes('from') && !document.querySelector('#to').validationMessage")

    look(scenario, recent)


@pytest.mark.parametrize("replayed", [True, False])
def test_episodes_of_old_points_have_lanes_too(replayed):
    recent, came = fed("pump-7"), time.time() if replayed else START + 50
    recent.take_event(anomaly("pump-7", 50, event="opened"), came)
    recent.take_event(closed("pump-7", 50, 70), came)

    async def scenario(page, url, server):
        await page.open(url)
        words = await page.until("document.querySelector('#lanes .bar').getAttribute('aria-label')")
        if replayed:
            assert await page.run(text("#lanes-title")) == "Last hour"
            assert words.endswith("UTC with points of 2023-10-27 10:05:10, peak 0.97")
        else:
            assert await page.run(text("#lanes-title")) == "24 hours until 2023-10-27 10:10:00 UTC: nothing came later"

    look(scenario, recent)


class OfEpisode(Struct):
    episode: str = ""


def deciding(said):
    """In place of the routes that decide: what they are asked comes into ``said``."""

    async def decide(request: web.Request, asked: OfEpisode, body: dict[str, Any]) -> JsonResponse:
        said.append((request.path, body))
        if body["comment"] == "refuse":
            raise HttpProblem.at("/comment", "expected other words")
        until = {"id": "s1", "ends_at": time.time() + body["duration_s"]} if "duration_s" in body else {}
        return JsonResponse(200, {"at": time.time(), **body, **until})

    paths = ["/api/episodes/{episode}/acknowledgement", "/api/episodes/{episode}/feedback", "/api/silences"]
    return [HttpRoute("POST", path, (ADMIN,), {200: dict}, decide) for path in paths]


def test_an_episode_is_acknowledged_silenced_and_judged_by_keyboard():
    said = []
    recent = fed('pump "7"')  # its chart is asked for
    recent.take_event(anomaly('pump "7"', 50, event="opened"), time.time())
    entry = text("#episodes article")

    async def scenario(page, url, server):
        async def write(words):
            for letter in words:
                await page.press(letter)

        async def fill(comment, tabs):
            """From the comment, which has the focus, on to the name and the button that saves."""
            await page.until("document.activeElement.id === 'd-comment'")
            await write(comment)
            for _ in range(tabs):
                await page.press("Tab")
            await page.press("Enter")

        async def choose(button):
            await page.until(f"document.querySelector('#episodes [data-does={button}]')")
            await page.run(f"document.querySelector('#episodes [data-does={button}]').focus()")
            await page.press("Enter")
            await page.until("document.querySelector('#decide').open")

        await page.open(url)
        await choose("acknowledge")
        await page.until("document.activeElement.id === 'd-comment'")
        await write("refuse")
        await page.press("Tab")
        await write("ann")
        await page.press("Enter")
        await page.until(f"{text('#decide [role=alert]')} === 'Not saved. /comment: expected other words'")
        assert await page.run("document.querySelector('#decide').open")
        await refused(page)
        await page.run("document.querySelector('#d-comment').select()")
        await page.run("document.querySelector('#d-comment').focus()")
        await write("on it")
        await page.press("Tab")
        await page.press("Enter")
        await page.until(f"{entry}.includes('acknowledged by ann at') && {entry}.includes(': on it')")
        assert await page.run(
            "!document.querySelector('#decide').open && !document.querySelector('#episodes [data-does=acknowledge]')"
        )
        assert await page.run("document.activeElement.closest('#episodes article') !== null"), "the focus stays there"

        await choose("silence")
        assert await page.run("document.querySelector('#d-matchers').value") == 'source="pump \\"7\\""'
        assert await page.run("document.querySelector('#d-by').value") == "ann", "remembered"
        await page.run("document.querySelector('#d-for').value = '14400'")
        await fill("new seals", 1)
        await page.until(f"{entry}.includes('muted until') && {entry}.includes('by ann: new seals')")

        await choose("feedback")
        await page.press("ArrowDown")
        await page.press("Enter")
        await page.until(f"{entry}.includes('expected by ann at')")
        await choose("feedback")
        await page.press("Escape")
        await page.until("!document.querySelector('#decide').open")
        assert await page.run("document.activeElement.dataset.does") == "feedback"

    look(scenario, recent, routes=deciding(said))
    paths = [path for path, _ in said]
    episode = "/api/episodes/raw-data:0:50:0"
    assert paths == [f"{episode}/acknowledgement"] * 2 + ["/api/silences", f"{episode}/feedback"]
    assert said[1][1] == {"comment": "on it", "by": "ann"}
    assert said[2][1] == {
        "matchers": ['source="pump \\"7\\""'],
        "duration_s": 14400,
        "comment": "new seals",
        "by": "ann",
    }
    assert said[3][1] == {"verdict": "expected", "comment": "", "by": "ann"}


@pytest.mark.parametrize("roles", [["read"], ["read", "write", "admin"]])
def test_buttons_are_there_for_those_who_may(roles):
    asked = []

    async def session() -> dict[str, Any]:
        asked.append(1)
        return {"name": "ann", "roles": roles, "csrf": "", "decides": "admin" in roles}

    async def scenario(page, url, server):
        await page.open(url)
        await page.until(f"{ENTRIES}.length === 1")
        while not asked:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert await page.run("document.querySelectorAll('#episodes button').length") == (3 if "admin" in roles else 0)
        if "admin" in roles:
            await page.run("document.querySelector('#episodes [data-does=acknowledge]').click()")
            assert not await page.run("document.querySelector('#d-by')"), "the token says who"

    recent = fed("pump-7")
    recent.take_event(anomaly("pump-7", 50, event="opened"), time.time())
    look(scenario, recent, routes=[HttpRoute("GET", "/api/session", (READ,), {200: dict}, session)])


def test_the_keyboard_reaches_bars_and_what_they_are():
    recent = fed("fan", "pump-7")
    for at, source in ((50, "pump-7"), (90, "fan"), (3000, "pump-7")):
        recent.take_event(anomaly(source, at, event="opened"), START + at)
        recent.take_event(closed(source, at, at + 600), START + at + 600)

    async def scenario(page, url, server):
        async def at():
            return await page.run("document.activeElement.dataset.episode")

        await page.open(url)
        await page.until("document.querySelectorAll('#lanes .bar').length === 3")
        assert await page.run("document.querySelectorAll('#lanes .bar[tabindex=\"0\"]').length") == 1
        await page.run("document.querySelector('#lanes .bar[tabindex=\"0\"]').focus()")
        assert await at() == "raw-data:0:50:0"
        await page.press("ArrowRight")
        assert await at() == "raw-data:0:3000:0"
        assert "critical, value, 2023-10-27 10:54:20 to 2023-10-27 11:04:20 UTC, 10 min" in await page.run(
            text("#lanes-readout")
        )
        await page.press("ArrowDown")
        assert await at() == "raw-data:0:90:0"
        await page.press("Enter")
        await page.until("document.querySelector('#chosen article.closed')")
        assert "episode=raw-data%3A0%3A90%3A0" in await page.run("location.search")
        assert "its points are usual again" in await page.run(text("#chosen"))
        await page.until(
            "document.querySelector('#chosen svg').getAttribute('aria-label').startsWith('value: 10 points')"
        )
        await page.press("Escape")
        await page.until("document.querySelector('#chosen').hidden && !location.search")
        assert await at() == "raw-data:0:90:0"
        await page.press("/")
        assert await page.run("document.activeElement.id") == "search"

    look(scenario, recent)


def test_an_episode_in_the_address_is_fetched_and_decisions_of_others_are_shown():
    recent, now = fed("pump-7"), time.time()
    recent.take_event(anomaly("pump-7", 50, event="opened", timestamp=now - 5), now - 5)

    async def scenario(page, url, server):
        plain = server.services.episodes.decided

        def decided(one):
            one.acknowledged, one.muted = (
                ShownAcknowledgement("bob", now, "mine"),
                CoveringSilence("s1", "new seals", now + 3600, "ann"),
            )
            return plain(one)

        await page.open(url + "?episode=raw-data:0:50:0&search=nothing")
        await page.until("document.querySelector('#chosen article')")
        assert await page.run(text("#no-sources")) == "No name contains “nothing”."
        server.services.episodes.decided = decided
        await page.open(url)
        entry = await page.until("document.querySelector('#episodes article').innerText")
        assert "acknowledged by bob" in entry and ": mine" in entry
        assert "muted until" in entry and "by ann: new seals" in entry and "End silence" in entry
        assert "there is no history" in await page.run(text("#lanes-note"))
        said = [{"episode": "raw-data:0:50:0", "acknowledged": None, "feedback": None}]
        await connected(server)
        for client in server.push.clients:
            client.queue.put_nowait(json.dumps({"type": "decided", "decided": said, "cursor": ""}).encode())
        await page.until(f"!{text('#episodes article')}.includes('mine')")
        await page.open(url + "?episode=unknown")
        await page.until(f"{text('#chosen')}.includes('Nothing is known of the episode unknown')")
        await refused(page)

    look(scenario, recent)


def test_links_of_messages_sent_earlier_lead_to_the_source():
    async def scenario(page, url, server):
        await page.open(url + "#source=a%2Fb&metric=cpu")
        await page.until("location.pathname === '/source' && location.search === '?source=a%2Fb&metric=cpu'")
        page.complaints.clear()

    look(scenario, RecentResults())


@pytest.mark.parametrize("dashboard", [{"websocket_enabled": False}, {"real_time_updates": False}])
def test_without_a_socket_it_shows_what_was_there(dashboard):
    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelectorAll('#rows tr').length === 2")
        off = await page.run("document.querySelector('#banner').textContent.startsWith('Live updates are off')")
        assert off == ("real_time_updates" in dashboard)

    look(scenario, fed("pump-7", "pump-8"), dashboard=dashboard)


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_it_fits_the_window_with_many_sources(width):
    recent = fed(*(f"building-{n % 7}/line-{n}/temperature-sensor-{n}" for n in range(2_000)))
    for n in range(40):
        at, opened = time.time() - 60 * n, {"event": "opened", "severity": "high"}
        recent.take_event(anomaly(f"building-{n % 7}/line-{n}/temperature-sensor-{n}", n, **opened, timestamp=at), at)

    async def scenario(page, url, server):
        await page.open(url, width=width)
        await page.until("document.querySelectorAll('#rows tr').length === 200")
        await page.until("document.querySelectorAll('#lanes .lane').length === 30")
        assert "And 10 more sources" in await page.run(text("#lanes-note"))
        assert await page.run("document.documentElement.scrollWidth <= window.innerWidth")
        numbers = "[...document.querySelectorAll('td.number, .figure, .sum')]"
        assert await page.run(f"{numbers}.filter(td => td.scrollWidth > td.clientWidth + 1).length") == 0, (
            "a number that is cut off is a wrong number"
        )
        assert await page.run(f"{ENTRIES}.length") == 20
        await page.run("document.querySelector('#more').click()")
        await page.until(f"{ENTRIES}.length === 40 && document.querySelector('#more').hidden")
        assert await page.run("document.activeElement.closest('article') !== null")
        await page.run("document.querySelector('#search').value = 'sensor-199'")
        await page.run("document.querySelector('#search').dispatchEvent(new Event('input')), 1")
        await page.until("document.querySelectorAll('#rows tr').length === 11")
        least = "Math.min(...[...document.querySelectorAll('#rows th')].map(th => th.clientWidth))"
        assert await page.run(least) > 80, "room for names"
        assert "11 matching of 2,000" in await page.until(text("#sources-note"))

    look(scenario, recent)


def test_it_says_since_when_the_worker_is_silent():
    async def scenario(page, url, server):
        await page.open(url)
        await page.until("document.querySelector('#health-word').textContent === 'ready'")
        await page.run("window.fetch = () => Promise.reject(new Error('refused')), 1")
        banner = await page.until("document.querySelector('#banner').textContent")
        assert "has not answered since" in banner
        assert await page.run("document.querySelector('#health-word').textContent") == "unreachable"

    look(scenario, fed("pump-7"))


def test_it_shows_dead_letters_until_none_came_for_minutes():
    of = {"reason": "bad_source", "total": 1234, "to_do": "Name the field.", "example": ".."}
    letters = [{**of, "last": time.time() - 5}, {**of, "reason": "too_deep", "last": time.time() - 3600}]

    async def scenario(page, url, server):
        server.services.health = lambda: Health(True, True, {"partitions": [0], "dead_letters": letters})
        await page.open(url)
        shown = await page.until("document.querySelector('#dead-letters').textContent")
        assert shown.startswith("1,234 dead letters of this worker: bad source, the last at ")
        assert shown.endswith("UTC. What to do") and "too deep" not in shown
        assert "dead_letters" not in await page.run("document.querySelector('#health-details').textContent")
        letters.pop(0)
        await page.until("document.querySelector('#dead-letters').hidden")

    look(scenario, fed("pump-7"))

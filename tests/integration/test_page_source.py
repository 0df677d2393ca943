"""The page of one source in Chromium, without Kafka: what it shows of a series at any time, and what it counts."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from click.testing import CliRunner
from support.browser import CHROMIUM
from support.made_log import MadeLog
from support.viewed import HOSTILE, NO_INJECTION, anomaly, closed, fed, look, result

from app.cli import main
from app.web.api.routes import READ, HttpRoute
from app.web.stored_results.queries import StoredResults
from app.web.topics.recent_results import RecentResults

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

START = 1_698_401_060.0  # of viewed.result
SHOWN = "document.querySelector('#shown').textContent"
WOULD = "document.querySelector('#would').textContent"
READOUT = "document.querySelector('#readout').innerText"
PLOT = "document.querySelector('#chart .u-over').getBoundingClientRect()"
LABEL = "document.querySelector('#chart').getAttribute('aria-label')"


def pressed(name, box):
    """Press the button with this text."""
    return f"[...document.querySelectorAll('#{box} button')].find(b => b.textContent === {json.dumps(name)}).click()"


def kept(rows, pages=1, most_failures=0):
    """A route that has these results, in so many pages; the requests that it got, as {name: value}."""
    asked = []

    async def results(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if len(asked) <= most_failures:
            return web.json_response({"title": "Bad Gateway", "status": 502, "detail": "Kafka is away"}, status=502)
        begin, end, at = float(request.query["from"]), float(request.query["to"]), int(request.query.get("cursor", 0))
        found = [row for row in map(json.loads, rows) if begin <= row["timestamp"] < end]
        size = min(int(request.query["limit"]), -(-len(found) // pages) or 1)
        some, last = found[at : at + size], at + size >= len(found)
        body = {"results": some, "seen": len(some), "complete": last, "cursor": None if last else str(at + size)}
        return web.json_response(body)

    return [made_route("/api/results", results)], asked


def made_route(path, handler):
    return HttpRoute("GET", path, (READ,), {200: dict[str, Any]}, handler, any_query=True)


def state(url):
    """Parameters of the page's address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_it_shows_values_scores_votes_and_episodes_to_pointer_and_keyboard():
    recent = fed("pump-7")
    votes = {"detectors": {"residual": 0.97, "novelty": 0.2}, "weights": {"residual": 0.75}, "kind": "level"}
    for at in range(41, 45):
        recent.take_result(anomaly("pump-7", at, episode="raw-data:0:41:0", **votes))
    recent.take_event(anomaly("pump-7", 41, event="opened", **votes))
    recent.take_event(closed("pump-7", 41, 45, kind="level"))
    recent.take_result(result("pump-7", 45, drift=True, detectors={"residual": 0.1, "novelty": 0.3}))
    recent.take_result(result("pump-7", 46, maintenance="upgrade", detectors={"residual": 0.1, "novelty": 0.3}))

    async def scenario(page, url, server):
        await page.open(url + "source?source=pump-7")
        label = await page.until(LABEL)
        assert label.startswith("pump-7, value: 46 points from 2023-10-27T10:04:20.000Z to")
        assert "1 episode, 4 anomalous, last value 45" in label
        assert await page.run("document.querySelectorAll('#chart canvas').length") == 2
        await page.until(f"{SHOWN}.startsWith('The last 46 points')")
        marks = await page.run("document.querySelector('#marks').innerText")
        assert all(word in marks for word in ("expected band", "episode", "drift", "maintenance"))
        await page.until("document.querySelector('#episodes li').innerText.includes('recovered')")
        episode = await page.run("document.querySelector('#episodes li').innerText")
        assert all(words in episode for words in ("critical", "level", "44 to 46", "9 points", "pump-7"))

        await page.run("document.querySelector('#chart').focus(), 1")
        await page.press("p")
        words = await page.until("document.querySelector('#announce').textContent")
        assert "value 90, expected 44 to 46, alert score 0.970, anomalous, critical" in words
        await page.press("Home")
        assert "10:04:20" in await page.run(READOUT)
        await page.press("n")
        readout = await page.run(READOUT)
        assert all(words in readout for words in ("10:05:01", "90", "0.970", "residual", "75 %", "level"))
        await page.press("ArrowRight")
        await page.press("ArrowLeft")
        assert await page.run(READOUT) == readout
        # The same by pointer: at the right edge of the plot is the last point.
        x, y = await page.run(f"(({{right, top}}) => [right - 1, top + 60])({PLOT})")
        await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        await page.until(f"{READOUT}.includes('maintenance: upgrade')")

        before = await page.run("document.querySelectorAll('#lines [aria-pressed=true]').length")
        await page.run(pressed("residual", "lines"))
        await page.until(f"document.querySelectorAll('#lines [aria-pressed=true]').length === {before + 1}")
        await page.run("document.querySelector('#as-table summary').click()")
        rows = await page.until("document.querySelector('#table-rows').innerText")
        assert len(rows.splitlines()) == 46 and "anomalous, critical" in rows and "2023-10-27 10:04:20" in rows

    look(scenario, recent)


def test_the_slider_says_what_another_threshold_would_have_told_and_how_to_set_it():
    recent = fed("pump-7", "line 3")
    for source in ("pump-7", "line 3"):
        for at, score in ((50, 0.85), (51, 0.85), (52, 0.1)):
            recent.take_result(anomaly(source, at, episode="raw-data:0:50:0", alert_score=score, anomaly_score=score))
        recent.take_result(result(source, 53))
        recent.take_result(anomaly(source, 60))
        recent.take_result(result(source, 61, alert_score=0.7))
    own = {"match": "line*", "threshold": 0.75}

    def moved(value):
        slider = "document.querySelector('#threshold')"
        return f"{slider}.value = {value}, {slider}.dispatchEvent(new Event('input')), 1"

    async def scenario(page, url, server):
        await page.open(url + "source?source=pump-7")
        await page.until(f"{WOULD}.startsWith('At 0.8, as it is set: 2 episodes, 4 points.')")
        await page.run(moved(0.9))
        assert await page.run(WOULD) == "At 0.9: 1 episode, 1 point; now 0.8: 2 episodes, 4 points."
        line = 'sources:\n  - match: "pump-7"\n    threshold: 0.9'
        assert await page.run("document.querySelector('#make-line').textContent") == line
        assert state(await page.run("location.href")) == {"source": "pump-7", "threshold": "0.9"}
        await page.run(moved(0.7))
        assert (await page.run(WOULD)).startswith("At 0.7: 2 episodes,")
        await page.run("document.querySelector('#threshold-back').click()")
        assert "as it is set" in await page.run(WOULD) and "threshold" not in await page.run("location.href")
        await page.open(url + "source?source=line+3&threshold=0.95")
        await page.until(f"{WOULD}.includes('now 0.75: 2 episodes')")
        assert "sources[0] (match line*) already applies" in await page.run(
            "document.querySelector('#make-where').textContent"
        )

    look(scenario, recent, sources=[own])


def test_it_counts_at_any_threshold_as_the_pipeline_would(tmp_path, monkeypatch):
    """Compared with runs of the pipeline that have the threshold set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)
    (tmp_path / "points.ndjson").write_text("\n".join(json.dumps(point) for point in eventful()))
    found = {}
    for threshold in (0.8, 0.84, 0.9, 0.95, 0.99):
        (tmp_path / "set.yaml").write_text(json.dumps({"detection": {"threshold": threshold}}))
        called = ["detect", "points.ndjson", "--output", "results.ndjson", "--config", "set.yaml"]
        got = CliRunner().invoke(main, called)
        assert got.exit_code == 0, got.output
        found[threshold] = [json.loads(line) for line in (tmp_path / "results.ndjson").read_text().splitlines()]
    expected = [[len({row.get("episode") for row in rows} - {None}), sum(row["is_anomaly"] for row in rows)]
                for rows in found.values()]  # fmt: skip
    assert expected[0][0] >= 5 and expected[0] != expected[-1]

    async def made(request: web.Request) -> web.Response:
        return web.json_response(found[0.8])

    count = """(async () => {
      const { Points, columnsOf, episodesAt, tally } = await import("./static/series_points.js");
      const points = new Points();
      points.add(await (await fetch("made")).json());
      const columns = columnsOf(points.entries, "value"), rule = { threshold: 0.8, close_below: 0.4, close_points: 5 };
      return THRESHOLDS.map((t) => Object.values(tally(columns, episodesAt(columns, rule, t))));
    })()""".replace("THRESHOLDS", json.dumps(list(found)))

    async def scenario(page, url, server):
        await page.open(url + "source")
        assert await page.run(count) == expected

    look(scenario, RecentResults(), routes=[made_route("/made", made)])


def eventful():
    """2,000 points with spikes of all sizes, levels and a stuck value."""
    for at in range(2_000):
        value = 50 + (at * 7919 % 101) / 25
        value += (at * at % 37) / 3 if at % 211 in (0, 1) else 0
        value += 6 if 900 <= at < 930 or 1_500 <= at < 1_800 else 0
        yield {
            "source": "pump",
            "timestamp": 1.7e9 + 10 * at,
            "value": 45.25 if 1_200 <= at < 1_260 else round(value, 3),
        }


def test_zoom_asks_kafka_for_all_of_a_span_and_back_goes_back():
    rows = [result("pump-7", at) for at in range(0, 36_000, 60)]
    routes, asked = kept(rows, pages=3)
    recent = fed_with(rows[-40:])

    async def scenario(page, url, server):
        await page.open(url + "source?source=pump-7")
        await page.until(f"{SHOWN}.startsWith('The last 40 points')")
        await page.run(pressed("6 h", "spans"))
        await page.until(f"{SHOWN} === 'All 361 points of this span, read from Kafka. '")
        assert state(await page.run("location.href"))["last"] == "21600"
        assert [ask.get("cursor") for ask in asked] == [None, "121", "242"]
        assert {round(float(ask["to"]) - float(ask["from"]), 3) for ask in asked} == {21_600.001}
        left, right, y = await page.run(f"(({{left, right, top}}) => [left, right, top + 50])({PLOT})")
        await page.drag((left + (right - left) / 2, y), (right - (right - left) / 4, y))
        await page.until("location.search.includes('from=')")
        found = state(await page.run("location.href"))
        assert found["from"].startswith("2023-10-27T17:0") and found["to"].startswith("2023-10-27T18:3")
        await page.until(f"/^All (89|90|91) points of this span/.test({SHOWN})")
        assert len(asked) == 3, "all of it is known"
        await page.run("history.back()")
        await page.until(f"{SHOWN}.startsWith('All 361 points')")
        await page.run("history.forward()")
        await page.until(f"/^All (89|90|91) points/.test({SHOWN})")
        await page.run("document.querySelector('#chart').focus(), 1")
        await page.press("+")
        await page.until(f"/^All (44|45|46) points/.test({SHOWN})")
        await page.press("PageUp")
        await page.press("-")
        await page.until(f"/^All (89|90|91) points/.test({SHOWN})")
        await page.run(pressed("All", "spans"))
        await page.until(f"{SHOWN}.startsWith('All 600 points')")
        await page.run(pressed("Latest", "spans"))
        await page.until(f"{SHOWN}.startsWith('The last 40 points')")
        assert state(await page.run("location.href")) == {"source": "pump-7"}

    look(scenario, recent, routes=routes)


def test_a_long_time_is_thinned_and_says_so():
    """Against the routes and the search themselves, in a made log."""
    rows = [result("pump-7", at) for at in range(8_000)]
    log = MadeLog()
    log.write([row.replace(b": ", b":") for row in rows], written=START + 8_000, per_batch=500)  # as workers write them

    async def scenario(page, url, server):
        kept = server.services.stored_results = StoredResults(server.services.settings, lambda: log)
        await page.open(url + "source?source=pump-7&last=all")
        shown = await page.until(f"/^[5-7],[0-9]+ of 8,000 points of this span/.test({SHOWN}) && {SHOWN}")
        assert "all until 2023-10-27 11:27:39 UTC, then of each" in shown
        await page.run("document.querySelector('#as-table summary').click()")
        note = await page.until("document.querySelector('#table-note').textContent")
        assert note.startswith("The last 1,000 of ") and "2023-10-27 12:17:39" in await page.run(
            "document.querySelector('#table-rows').textContent"
        )
        await page.open(url + "source?source=pump-7&from=2023-10-27T11:00:00Z&to=1698404519")
        await page.until(f"{SHOWN}.startsWith('All 120 points of this span')")
        await kept.stop()

    look(scenario, fed_with(rows[-1:]))


def fed_with(rows):
    recent = RecentResults()
    for row in rows:
        recent.take_result(row)
    return recent


def test_what_cannot_be_read_is_said_and_can_be_tried_again():
    routes, _ = kept([result("pump-7", at) for at in range(50)], most_failures=1)

    async def scenario(page, url, server):
        await page.open(url + "source?source=pump-7")
        gone = await page.until("document.querySelector('#gone').innerText")
        assert "Nothing of this source was seen" in gone
        await page.run(pressed("Look for it in Kafka", "gone"))
        await page.until("document.querySelector('#no-points').innerText.includes('Kafka is away')")
        await page.run(pressed("Try again", "no-points"))
        await page.until(f"{SHOWN}.startsWith('All 50 points')")
        page.complaints.clear()  # the browser's own, of 404 and 502
        await page.open(url + "source?source=pump-8&last=3600")
        await page.until("document.querySelector('#no-points').innerText.includes('No points')")
        page.complaints.clear()

    look(scenario, RecentResults(), routes=routes)


def test_points_and_episodes_arrive_while_one_looks():
    async def scenario(page, url, server):
        await page.open(url + "source?source=pump-7")
        await page.until(f"{SHOWN}.startsWith('The last 40 points')")
        while not server.services.recent.watched:
            await asyncio.sleep(0.05)
        server.services.recent.take_result(anomaly("pump-7", 50))
        server.services.recent.take_event(anomaly("pump-7", 50, event="opened"))
        await page.until(f"{SHOWN}.startsWith('The last 41 points')")
        await page.until("document.querySelector('#episodes li.open.critical')")
        await page.until(f"{READOUT}.includes('anomalous, critical')")
        await page.until(f"{LABEL}.includes('1 episode, 1 anomalous')")

    look(scenario, fed("pump-7", "pump-8"))


def test_metrics_of_a_vector_are_chosen_those_first_that_the_last_episode_is_about():
    band = {"expected_lower": {"flow": 4.0, "pressure": 0.0}, "expected_upper": {"flow": 5.0, "pressure": 18.0}}
    recent = RecentResults()
    for at in range(40):
        two = {"values": {"flow": float(at % 10), "pressure": 2.0 * (at % 10)}, "value": None}
        recent.take_result(result("boiler", at, **two, **band))
    for at, shares in ((40, (0.2, 0.9)), (41, (0.6, 0.3))):
        of = {"episode": "raw-data:0:40:0", "attribution": dict(zip(("flow", "pressure"), shares, strict=True))}
        recent.take_result(result("boiler", at, is_anomaly=True, **of, **two, **band))
    recent.take_result(result("boiler", 42, **two, **band))
    pressed_one = "document.querySelector('#metrics [aria-pressed=true]').textContent"

    async def scenario(page, url, server):
        await page.open(url + "source?source=boiler")
        assert await page.until(pressed_one) == "pressure"
        assert await page.run("document.querySelector('#metrics').innerText.split('\\n')[0]") == "pressure"
        await page.until(f"{READOUT}.includes('0 to 18')")
        await page.run(pressed("flow", "metrics"))
        await page.until(f"{READOUT}.includes('4 to 5')")
        assert state(await page.run("location.href")) == {"source": "boiler", "metric": "flow"}
        await page.run("history.back()")
        await page.until(f"{pressed_one} === 'pressure'")
        await page.open(url + "source?source=boiler&metric=flow")
        await page.until(f"{pressed_one} === 'flow'")
        page.complaints.clear()  # no series has this name: the browser notes the 404

    look(scenario, recent)


def test_names_stay_text_and_sources_are_found_by_a_part_of_them():
    recent = fed(*HOSTILE)
    for at in range(2_000):
        recent.take_result(result(f"building-{at % 7}/line-{at}", at))
    for source in HOSTILE:
        recent.take_result(anomaly(source, 50))
        recent.take_event(anomaly(source, 50, event="opened"))
    listed = "[...document.querySelectorAll('#sources .name bdi')].map(node => node.textContent)"

    async def scenario(page, url, server):
        await page.open(url + "source", width=360)
        await page.until("document.querySelectorAll('#sources li').length === 200")
        assert "200 of 2,009 series" in await page.run("document.querySelector('#choose-note').textContent")
        assert sorted((await page.run(listed))[: len(HOSTILE)]) == sorted(HOSTILE)
        for source in HOSTILE:
            found = f"[...document.querySelectorAll('#sources a')].find(a => a.title === {json.dumps(source)})"
            await page.until(f"({found}.click(), 1)")
            await page.until(f"document.querySelector('#name').textContent === {json.dumps(source)}")
            await page.until("document.querySelector('#chart canvas') && document.querySelector('#episodes li')")
            assert await page.run("document.documentElement.scrollWidth <= window.innerWidth")
            assert state(await page.run("location.href")) == {"source": source}
            await page.run("document.querySelector('#to-list').click()")
            await page.until("document.querySelector('#one').hidden")
        assert await page.run(NO_INJECTION)
        await page.run("document.querySelector('#search').value = 'line-199'")
        await page.run("document.querySelector('#search').dispatchEvent(new Event('input')), 1")
        await page.until("document.querySelectorAll('#sources li').length === 11")
        assert "11 matching of 2,009" in await page.run("document.querySelector('#choose-note').textContent")
        await page.run("document.querySelector('#search').value = 'nothing'")
        await page.run("document.querySelector('#search').dispatchEvent(new Event('input')), 1")
        await page.until("document.querySelector('#no-sources').innerText.includes('No name contains')")

    look(scenario, recent)

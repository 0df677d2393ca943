"""Every page of the view, as axe-core judges it and as the keyboard finds it, in light, in the dark and at 360 px."""

import asyncio
import json
from importlib.resources import files
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from support.browser import CHROMIUM, browser
from support.viewed import anomaly, closed, fed

from app.alerting.delivery import ChannelStatus
from app.kafka.groups import GroupDescription, MemberDescription
from app.metrics import Metrics
from app.settings import Settings
from app.web.api.pages import pages
from app.web.server import Server
from app.web.status.probes import Health

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

AXE = (files("axe_core_python") / "axe.min.js").read_text("utf-8")
# The rules that matter: WCAG 2 A and AA, and what axe recommends beside them.
RUN = """axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => violations
    .filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, nodes}) => [id, ...nodes.slice(0, 4).map(({html, any}) => [html.slice(0, 160), any[0]?.message])]))"""
QUERY = {"/source": "?source=pump-7"}
MODES = [("light", 1280), ("dark", 360)]
REACHABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"
LETTER = {"reason": "bad_source", "total": 7, "example": "raw-data[0]@3: ..", "to_do": "Name the field.", "last": 4e9}


def made():
    """A server with something to show on every page."""
    recent = fed("pump-7", "pump-8", "fan")
    recent.take_result(anomaly("pump-7", 50, kind="level"))
    for at, severity in enumerate(("low", "medium", "high")):
        recent.take_event(anomaly(severity, 70 + at, kind="value", event="opened", severity=severity))
    for at, source in ((50, "pump-7"), (60, "pump-8")):
        recent.take_event(anomaly(source, at, kind="level", event="opened"))
    recent.take_event(closed("pump-8", 60, 90))
    details = {"generation": 1, "partitions": [0], "dead_letters": [LETTER], "alerter": {"state": "running"}}
    reader = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
    channels = {"page": ("webhook", ChannelStatus(failing_since=1.7e9, error="503", down=True)), "log": ("log", None)}
    server = Server(
        Settings(), Metrics(), lambda: Health(True, True, details), recent, reader, reader, channels=lambda: channels
    )

    async def describe(kafka, topics):
        members = [MemberDescription("a", "faust", "10.0.0.1", {kafka.input_topic: [0]})]
        return {kafka.group_id: GroupDescription(kafka.group_id, "Stable", members, {kafka.input_topic: {0: 3}})}

    server.services.workers._describe = describe
    return server


def look(scenario):
    async def run():
        server = made()
        async with TestServer(server.application()) as listening, browser() as page:
            push = asyncio.create_task(server.push.run(tick_s=0.2))
            await scenario(page, str(listening.make_url("")))
            push.cancel()

    asyncio.run(asyncio.wait_for(run(), 120))


async def arrive(page, url):
    await page.open(url)
    await page.until("document.readyState === 'complete' && document.querySelector('main')")
    await page.until(
        "!document.querySelector('#shell') || document.querySelector('#health-word').textContent === 'ready'"
    )
    await asyncio.sleep(0.3)  # what is asked for beside it


async def judged(page, scheme, width):
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    await page.call("Emulation.setDeviceMetricsOverride", **size)
    return await page.run(RUN)


VISIBLE = (
    f"[...document.querySelectorAll(`{REACHABLE}`)].filter(node => node.checkVisibility() && !node.disabled"
    " && node.tabIndex >= 0 && !node.closest('[aria-hidden=true]'))"
)
FOCUSED = """(() => {
    const node = document.activeElement, style = getComputedStyle(node);
    window.met.add(node);
    const own = node.type === "datetime-local";  // Chromium shows which of its parts has the focus
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return [node.className, own || outlined || node === document.body ? null : node.outerHTML.slice(0, 120)];
})()"""


async def walk(page):
    """(class of the first stop, what Tab does not reach, what does not show that it has the focus)"""
    missed = f"{VISIBLE}.filter(node => !window.met.has(node)).map(({{outerHTML}}) => outerHTML)"
    await page.run("document.activeElement.blur(), window.met = new Set(), 1")
    stops = []
    for _ in range(8 * await page.run(f"{VISIBLE}.length")):  # a field for a time has a stop for each of its parts
        await page.press("Tab")
        stops.append(await page.run(FOCUSED))
        if not await page.run(f"{missed}.length"):
            break
    return stops[0][0], await page.run(missed), [unseen for _, unseen in stops if unseen]


def test_every_page_has_no_serious_finding_and_is_reached_by_the_keyboard():
    async def scenario(page, url):
        findings = {}
        for path in sorted(one.path for one in pages()):
            await arrive(page, url + path + QUERY.get(path, ""))
            await page.run(AXE)
            for scheme, width in MODES:
                if found := await judged(page, scheme, width):
                    findings[path, scheme, width] = found
                wide = await page.run("document.documentElement.scrollWidth > window.innerWidth")
                assert not wide, f"{path} is wider than {width} px"
            first, missed, unseen = await walk(page)
            assert (missed, unseen) == ([], []), path
            assert first == "skip" or path == "/login", path
            for number in range(await page.run("document.querySelectorAll('dialog').length")):
                dialog = f"document.querySelectorAll('dialog')[{number}]"
                await page.run(f"{dialog}.open || {dialog}.showModal(), 1")
                await page.press("Escape")
                await page.until(f"!{dialog} || !{dialog}.open")
        assert not findings, json.dumps([[*where, what] for where, what in findings.items()], indent=1)

        # Negative controls: a field without a name, a stop that does not show.
        main = "document.querySelector('main')"
        await page.run(f"{main}.insertAdjacentHTML('beforeend', '<input><button>a</button>'), 1")
        await page.run(f"{main}.lastElementChild.style.outline = 'none', 1")
        assert "label" in [found[0] for found in await judged(page, *MODES[0])]
        _, _, unseen = await walk(page)
        assert unseen[0] == '<button style="outline: none;">a</button>'

    look(scenario)

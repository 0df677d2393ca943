"""The examples of CONTRIBUTING.md work as they stand: the detector keeps every law; the others run."""

import asyncio
import doctest
import importlib
import json
import re
import shutil
import sys
import textwrap
from itertools import product
from types import ModuleType, SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from aiohttp.web import Application, Response
from contract import test_detector_laws as laws
from contract.test_kernel_lint import faults
from msgspec import Struct
from support import messages
from support.browser import CHROMIUM, browser
from support.points import alone, gaussian, scores
from unit.alerting import test_channels as rules

from app import detectors
from app.alerting import channels
from app.alerting.channels.api import Answer, MessageRejected, Retry
from app.cli.parameters import parameters_of
from app.metrics import PREFIX, Metrics
from app.settings import Settings, load
from app.settings.fields import SettingsSection, setting
from app.settings.model import StateSettings
from app.web import server as web
from app.web.api import pages as web_pages
from app.web.api import routes
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults
from tests.docs import pages

TEXT = (pages.ROOT / "CONTRIBUTING.md").read_text("utf-8")


def example(kind, containing):
    """The one code block of this kind that contains these characters."""
    [found] = [block for block in re.findall(rf"```{kind}\n(.*?)```", TEXT, re.S) if containing in block]
    return found


SHOWN = example("python", "def step(")


@pytest.fixture(scope="module", autouse=True)
def envelope(tmp_path_factory):
    """The file, where settings find it."""
    directory = tmp_path_factory.mktemp("detectors")
    (directory / "envelope.py").write_text(SHOWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        patch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
        module = importlib.import_module("envelope")
        detectors.register(module)
        yield module


def every_law():
    """(law, arguments) as pytest would run them over this detector."""
    for name, law in vars(laws).items():
        marks = [mark for mark in getattr(law, "pytestmark", []) if mark.name == "parametrize"]
        if name.startswith("test_") and any(mark.args[0] == "method" for mark in marks):
            others = [(mark.args[0], mark.args[1]) for mark in marks if mark.args[0] != "method"]
            for values in product(*(values for _, values in others)):
                yield name, law, dict(zip((argument for argument, _ in others), values))


LAWS = list(every_law())


@pytest.mark.parametrize(
    ("law", "given"), [law[1:] for law in LAWS], ids=[f"{name}{[*given.values()]}" for name, _, given in LAWS]
)
def test_it_keeps_the_law(law, given):
    law(method="envelope", **given)


def test_there_are_laws_to_keep():
    assert len({name for name, _, _ in LAWS}) >= 12


def test_its_lines_may_be_compiled():
    assert list(faults(SHOWN, {"app.detectors.api"})) == []


def test_it_scores_beyond_the_envelope_only():
    """By a plain loop over the series."""
    values = [*gaussian(400), 99.0, *gaussian(300, seed=3), -50.0]
    low = high = values[0]
    share = 0.5 - 0.5 * 0.5 ** (1 / 500)
    raw = []
    for x in values:
        width = high - low
        raw.append(max(0.0, x - high, low - x) / width if width else 0.0)
        low, high = min(x, low + share * width), max(x, high - share * width)
    found = scores(alone("envelope"), values)
    assert found[30:] == pytest.approx([z / (z + 0.25) for z in raw[30:]], abs=2e-6)
    assert found[400] > 0.9 and found[-1] > 0.5


def test_its_own_example_is_right(envelope):
    done = doctest.testmod(envelope)
    assert (done.failed, done.attempted) == (0, 2)


# --- the generator


def test_the_generator_works_as_it_stands():
    module = ModuleType("die", None)
    exec(compile(example("python", "def records("), "CONTRIBUTING.md", "exec"), module.__dict__)
    assert [each.name for each in parameters_of(module.records)] == ["points", "start", "seed"]
    records = list(module.records(points=20, start=5.0))
    assert [record.timestamp for record in records] == [5.0 + i for i in range(20)]
    assert all(record.values["value"] in range(1, 7) for record in records)


# --- the channel


@pytest.fixture
def ntfy(tmp_path, monkeypatch):
    """The file, beside the other channels."""
    (tmp_path / "ntfy.py").write_text(example("python", "docs.ntfy.sh"))
    monkeypatch.setattr(channels, "__path__", [*channels.__path__, str(tmp_path)])
    yield channels.find("ntfy")
    sys.modules.pop("app.alerting.channels.ntfy")


def test_the_channel_keeps_the_rules(ntfy):
    assert "ntfy" in channels.names()
    rules.test_every_type_keeps_the_rules("ntfy")


@pytest.mark.parametrize(("status", "outcome"), [(200, Answer), (403, Retry), (413, MessageRejected)])
def test_the_channel_works_as_it_stands(ntfy, status, outcome):
    got = []

    async def taken(request):
        got.append((request.headers["Authorization"], await request.json()))
        return Response(status=status, text="{}")

    async def run():
        app = Application()
        app.router.add_post("/", taken)
        async with TestServer(app, host="127.0.0.1") as server:
            variable = "ANOMALY_ALERTING__CHANNELS__PHONE__"
            given = {"TYPE": "ntfy", "TOPIC": "pumps", "TOKEN": "t0ken", "URL": f"http://127.0.0.1:{server.port}"}
            settings = load(environ={variable + name: value for name, value in given.items()})
            channel = channels.make(settings, messages.context("127.0.0.1"))["phone"]
            try:
                return await channel.send(messages.told())
            except (Retry, MessageRejected) as error:
                return error
            finally:
                await channel.close()

    assert isinstance(asyncio.run(asyncio.wait_for(run(), 60)), outcome)
    [(authorization, body)] = got
    assert authorization == "Bearer t0ken" and body["message"].startswith(f"{body['title']}\n")
    assert (body["topic"], body["priority"]) == ("pumps", 5) and body["click"].startswith("https://")


# --- the page of the view


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_page_shows_what_it_says(monkeypatch, tmp_path):
    shutil.copytree(web.STATIC, tmp_path / "static")
    (tmp_path / "static" / "highest.html").write_text(example("html", "highest.js"))
    (tmp_path / "static" / "highest.js").write_text(example("js", "dom.js"))
    for module in (web, web_pages):
        monkeypatch.setattr(module, "STATIC", tmp_path / "static")
    recent, reader = RecentResults(), SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
    for at, (source, score) in enumerate([("pump-1", 0.25), ("pump-2", 0.5), ("<b>", 0.75)]):
        fields = {"value": 1.0, "anomaly_score": score, "alert_score": score, "is_anomaly": False}
        words = {"severity": "low", "status": "ok", "id": f"raw-data:0:{at}:0", "source": source}
        recent.take_result(json.dumps(fields | words | {"timestamp": 1.7e9 + at}).encode())

    async def run():
        server = web.Server(Settings(), Metrics(), lambda: Health(True, True), recent, reader, reader)
        async with TestServer(server.application()) as listening, browser() as page:
            await page.open(str(listening.make_url("/highest")))
            await page.until("document.querySelectorAll('#list li').length === 3")
            shown = await page.run("[...document.querySelectorAll('#list li')].map(node => node.textContent)")
            assert shown == ["<b>: 0.750", "pump-2: 0.500", "pump-1: 0.250"] and page.complaints == []

    asyncio.run(asyncio.wait_for(run(), 60))


# --- the route, the metric, the setting


def test_the_route_works_as_it_stands():
    module = ModuleType("source_count")
    vars(module).update(vars(routes), Struct=Struct, Services=SimpleNamespace)
    exec(compile(example("python", "@route("), "CONTRIBUTING.md", "exec"), vars(module))
    [route] = routes.routes_of([module])
    assert (route.method, route.path, route.parameters.keys()) == ("GET", "/api/source-count", {"services"})
    answer = asyncio.run(route.handler(SimpleNamespace(recent=["pump-1", "pump-2"])))
    assert answer == route.answers[200](2)


def test_the_metric_is_one_of_the_program():
    name, text = re.findall(r'"(.+?)"', example("python", "counter("))
    assert {one.name: one.help for one in Metrics().documented}[PREFIX + name] == text


def test_the_setting_is_one_of_the_program():
    body = textwrap.indent(example("python", "idle_snapshot_s"), "    ")
    names = {"SettingsSection": SettingsSection, "setting": setting}
    exec(f"class Section(SettingsSection):\n{body}", names)
    shown, declared = (each.model_fields["idle_snapshot_s"] for each in (names["Section"], StateSettings))
    assert repr(shown) == repr(declared)

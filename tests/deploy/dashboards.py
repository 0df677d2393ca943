"""Pictures of the dashboards, drawn from their JSON and what Prometheus answers: ``python -m tests.deploy.dashboards``.

It is our drawing, not Grafana's: places, kinds, units, colours and names are those of the JSON. It runs some minutes.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest has it

from base64 import b64decode

from PIL import Image
from support.browser import browser
from support.jobs import Job

from app.local_kafka import LocalKafka
from deploy.grafana.source import dashboards
from tests.deploy.expressions import Asked
from tests.deploy.named import ROOT
from tests.deploy.watched import Watched

VENDOR = ROOT / "app/web/static/vendor"
WIDTH = 24 * 58 + 8
LABEL = re.compile(r"\{\{(\w+)\}\}")


def found(watched: Watched, panel: dict[str, Any], span: tuple[float, float]) -> list[dict[str, Any]]:
    """The series of all targets of a panel, with the names that the legend gives them."""
    every = []
    for target in panel["targets"]:
        asked = Asked(panel["title"], target["expr"], target["instant"], panel.get("interval", ""))
        for one in watched.ask(asked, span[1] - span[0], 300, span[1]):
            name = LABEL.sub(lambda label, of=one: of["metric"].get(label[1], ""), target["legendFormat"])
            every.append({**one, "name": name})
    return every


def page(dashboard: dict[str, Any], span: tuple[float, float]) -> str:
    """The HTML of one, which loads nothing."""
    script = f"{(VENDOR / 'uPlot.iife.min.js').read_text()}\n{Path(__file__).with_name('draw.js').read_text()}"
    data = json.dumps(dashboard).replace("<", "\\u003c")
    return (
        f"<!doctype html><meta charset=utf-8><style>{(VENDOR / 'uPlot.min.css').read_text()}</style><body>"
        f"<script>{script}\nwindow.bottom = draw({data}, {json.dumps(span)})</script>"
    )


async def pictures(pages: dict[str, Path], out: Path) -> None:
    """A PNG of each, with few colours so that it is small."""
    async with browser() as tab:
        for uid, path in pages.items():
            await tab.open(path.as_uri(), WIDTH, 900)
            bottom = await tab.until("window.bottom")
            await tab.open(path.as_uri(), WIDTH, bottom + 8)
            await tab.until("window.bottom")
            shot = b64decode((await tab.call("Page.captureScreenshot", format="png"))["data"])
            assert not tab.complaints, tab.complaints
            picture = Image.open(BytesIO(shot)).convert("RGB").quantize(128, dither=Image.Dither.NONE)
            picture.save(out / f"{uid}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="time in which points come")
    parser.add_argument("--out", type=Path, default=Path("dashboards"), help="folder for pages and pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    range_s = 60.0 * options.minutes
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka", port=0) as kafka:
        directory = Path(folder) / "worker"
        directory.mkdir()
        with Watched(Job.of("dashboards", kafka.bootstrap_servers), directory) as watched:
            until, judged = time.monotonic() + range_s, False
            watched.feed(150)
            while time.monotonic() < until:
                began = time.monotonic()
                watched.feed(20)
                judged = judged or watched.judge(("anomaly", "anomaly", "expected", "anomaly", "not_useful"))
                time.sleep(max(began + 2.0 - time.monotonic(), 0.0))  # as long as points are apart
            now = time.time()
            span = now - range_s, now
            pages = {}
            for uid, dashboard in dashboards().items():
                for panel in dashboard["panels"]:
                    if panel["type"] != "row":
                        panel["found"] = found(watched, panel, span)
                pages[uid] = (options.out / f"{uid}.html").absolute()
                pages[uid].write_text(page(dashboard, span), "utf-8")
    asyncio.run(pictures(pages, options.out))
    print(*(options.out / f"{uid}.png" for uid in pages), sep="\n")


if __name__ == "__main__":
    main()

"""The picture of an e-mail in docs/alerts.md: ``PYTHONPATH=tests python -m tests.docs.mail_picture``, with Chromium."""

import asyncio
import base64
import math
import random
import tempfile
from pathlib import Path
from typing import Any

from app.alerting.channels.email import CHART, COLORS, page
from app.alerting.chart import chart
from app.alerting.message import Message
from tests.support.browser import browser
from tests.support.messages import PUMP, context, told

PICTURE = Path(__file__).parents[2] / "docs" / "email.png"
WIDTH = 660


def results() -> list[dict[str, Any]]:
    """The last ten minutes of the pump."""
    noise, found = random.Random(7), []
    for i in range(60):
        last, middle = i == 59, 50.0 + 5.0 * math.cos((59 - i) / 9.0 + 1.5)
        value = PUMP.value if last else middle + noise.gauss(0.0, 2.0)
        band = {"expected": middle, "expected_lower": middle - 9.7, "expected_upper": middle + 9.7}
        at = {"timestamp": PUMP.timestamp - 10.0 * (59 - i), "is_anomaly": last, "episode": PUMP.episode}
        found.append({**at, "value": value, **band})
    return found


async def take() -> None:
    drawn = base64.b64encode(chart(results(), PUMP) or b"").decode()
    shown = page(Message.of(told(), context()), COLORS["critical"], PUMP).replace(
        f"cid:{CHART}", f"data:image/png;base64,{drawn}"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".html") as file:
        file.write(shown)
        file.flush()
        async with browser() as tab:
            await tab.open(f"file://{file.name}", width=WIDTH, height=200)
            await tab.until("document.readyState == 'complete' && document.images[0].complete")
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": await tab.run("document.body.scrollHeight"), "scale": 1}
            taken = await tab.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
            assert not tab.complaints
    PICTURE.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    asyncio.run(take())

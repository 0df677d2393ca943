"""The README's picture, taken from the running program.

``make demo`` in one terminal; after two minutes, ``PYTHONPATH=tests python -m tests.docs.picture`` in another. Needs
Chromium.
"""

import asyncio
import base64
import sys
from pathlib import Path

from tests.browser import browser

PICTURE = Path(__file__).parents[2] / "docs" / "view.png"


async def take(address: str) -> None:
    async with browser() as page:
        await page.open(f"{address}/", width=1280, height=900)
        await page.until("document.querySelector('#episodes svg path') && document.querySelector('#lanes .bar')")
        await page.until("document.body.innerText.includes('ready')")
        await asyncio.sleep(5)  # the figures in the header settle
        taken = await page.call("Page.captureScreenshot", format="png")
    PICTURE.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    asyncio.run(take(*(sys.argv[1:] or ["http://127.0.0.1:8000"])))

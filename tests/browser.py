"""A headless Chromium for tests of the page, driven over its own debugging protocol: no driver, no network."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from kafka_tools import HANG_S

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-port=0"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


class Page:
    """One tab; ``complaints`` holds every exception, refused resource and console error so far."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket, self._calls = socket, 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=HANG_S)
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
            elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.complaints.append(json.dumps(message["params"]["entry"]))
            elif message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]

    async def run(self, javascript: str) -> Any:
        """The value of an expression in the page."""
        answer = await self.call("Runtime.evaluate", expression=javascript, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, javascript: str, timeout_s: float = HANG_S) -> Any:
        """The expression's value, as soon as it is true; what it reads may not be there yet."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        found = f"const found = {javascript}; return found instanceof Node || found"  # a node has no value to hand over
        while not (value := await self.run(f"(() => {{ try {{ {found} }} catch {{ return null }} }})()")):
            assert asyncio.get_running_loop().time() < deadline, f"never true: {javascript}"
            await asyncio.sleep(0.05)
        return value

    async def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.call("Page.navigate", url=url)


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A page of a browser of its own."""
    assert CHROMIUM
    profile = Path(tempfile.mkdtemp())
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = profile / "DevToolsActivePort"
        async with asyncio.timeout(HANG_S):
            while not (told.exists() and told.read_text().strip()):
                await asyncio.sleep(0.05)
        port = told.read_text().split()[0]
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                [tab] = [tab for tab in await answer.json() if tab["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Runtime", "Log", "Page"):
                    await page.call(f"{domain}.enable")
                yield page
    finally:
        process.terminate()
        process.wait(HANG_S)
        shutil.rmtree(profile, ignore_errors=True)

"""A headless Chromium for tests of the page, driven over its own debugging protocol: no driver, no network."""

import asyncio
import atexit
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

from support.kafka_tools import HANG_S

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-port=0"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


class Navigated(Exception):
    """The page has gone to another one, before it answered."""


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
                if "navigated" in message.get("error", {}).get("message", ""):
                    raise Navigated
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
        while not (value := await self._now(f"(() => {{ try {{ {found} }} catch {{ return null }} }})()")):
            assert asyncio.get_running_loop().time() < deadline, f"never true: {javascript}"
            await asyncio.sleep(0.05)
        return value

    async def _now(self, javascript: str) -> Any:
        try:
            return await self.run(javascript)
        except Navigated:
            return None

    async def open(self, url: str, width: int = 1280, height: int = 900) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.call("Page.navigate", url=url)

    async def press(self, key: str, shift: bool = False) -> None:
        """A key, where the focus is: Tab, Enter, ArrowLeft, a letter."""
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        code = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "text": text if kind == "keyDown" else ""}
            await self.call("Input.dispatchKeyEvent", **event, modifiers=8 * shift, windowsVirtualKeyCode=code)

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the left button, from one point of the window to another."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A page with cookies and storage of its own, in the Chromium of this process."""
    port, path = await _chromium()
    async with ClientSession(f"ws://127.0.0.1:{port}") as session, session.ws_connect(path, max_msg_size=0) as whole:
        control = Page(whole)
        context = (await control.call("Target.createBrowserContext"))["browserContextId"]
        tab = await control.call("Target.createTarget", url="about:blank", browserContextId=context)
        try:
            async with session.ws_connect(f"/devtools/page/{tab['targetId']}", max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Runtime", "Log", "Page"):
                    await page.call(f"{domain}.enable")
                yield page
        finally:
            await control.call("Target.disposeBrowserContext", browserContextId=context)


_running: subprocess.Popen | None = None
_profile: Path | None = None


async def _chromium() -> tuple[int, str]:
    """Port and path of its debugging socket. It starts once: that takes longer than most tests of a page."""
    global _running, _profile
    assert CHROMIUM
    if _running is None or _running.poll() is not None:
        _profile = Path(tempfile.mkdtemp())
        _running = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={_profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(_end, _running, _profile)
    assert _profile
    told = _profile / "DevToolsActivePort"
    async with asyncio.timeout(HANG_S):
        while not (told.exists() and len(told.read_text().split()) == 2):
            await asyncio.sleep(0.05)
    port, path = told.read_text().split()
    return int(port), path


def _end(process: subprocess.Popen, profile: Path) -> None:
    process.terminate()
    process.wait(HANG_S)
    shutil.rmtree(profile, ignore_errors=True)

"""Records of a generator to the API of a worker, as any program would send them: POST /data or /detect.

What fails is sent again, in the same order, until the worker has it: refused connections, timeouts, 429 and 5xx, after
the time in Retry-After or a growing one. A point whose answer was lost may then be there twice. What the worker refuses
is counted and reported, and the others go on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec

from app.errors import ConfigurationError, DeliveryError
from generators.api import GeneratedRecord

BULK = 500  # points in one request, where they come faster than they are taken
FIRST_S, LONGEST_S = 0.1, 5.0  # between two tries
ANSWER_S = 60.0  # for one request
AGAIN = (408, 425, 429, 500, 502, 503, 504)
EVERY_POINT = (401, 403, 404, 405, 407, 415, 501)  # what is refused with these is refused for all points
SINGLE = "value"


class Again(Exception):
    """It may be taken later; ``after_s``: when the other side says."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class TooMuch(Exception):
    """In one request."""


class PostOutput:
    """Posts to a URL that ends in /data or /detect.

    Parameters
    ----------
    url
        http(s)://host[:port]/.../data; with its own ``?wait=`` the points are waited for, else not.
    labels
        Send the label, where there is one.
    token
        To be shown as a bearer token.
    give_up_s
        Time after which what fails is not tried again: DeliveryError.
    say
        Called with a line for each point that is refused.
    """

    def __init__(
        self,
        url: str,
        labels: bool,
        token: str | None = None,
        give_up_s: float = 60.0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.endswith(("/data", "/detect")):
            raise ConfigurationError(f"--post: expected http(s)://host[:port]/data or .../detect, got {url!r}")
        self.detects = parts.path.endswith("/detect")
        asked = parse_qs(parts.query, keep_blank_values=True)
        self._query = {} if self.detects or "wait" in asked else {"wait": "0"}
        self._url, self._labels, self._give_up_s, self._say = url, labels, give_up_s, say
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._bulk = BULK
        self._waiting: list[GeneratedRecord] = []
        self.taken = self.refused = self.retries = 0  # points, points, requests

    async def __aenter__(self) -> PostOutput:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, kind: Any, *exception: Any) -> None:
        try:
            if kind is None:
                await self.idle()
        finally:
            await self._session.close()

    async def send(self, record: GeneratedRecord) -> None:
        self._waiting.append(record)
        if self.detects or len(self._waiting) >= self._bulk:
            await self.idle()

    async def idle(self) -> None:
        """Post what waits, until all of it is taken or refused."""
        left, self._waiting = self._waiting, []
        since, pause = time.monotonic(), FIRST_S
        while left:
            part, rest = left[: self._bulk], left[self._bulk :]
            try:
                again = await (self._detect(part) if self.detects else self._data(part))
                left = again + rest
                if len(again) == len(part):
                    raise Again("no point of these was taken")
                since, pause = time.monotonic(), FIRST_S
            except TooMuch:
                self._bulk = len(part) // 2
            except (aiohttp.ClientError, TimeoutError, Again) as error:
                if time.monotonic() - since >= self._give_up_s:
                    said = f"{type(error).__name__} {error}".removeprefix("Again ").strip()
                    raise DeliveryError(
                        f"{self._url}: not taken within {self._give_up_s:g} s: {len(left)} points: {said}"
                    ) from error
                self.retries += 1
                after = error.after_s if isinstance(error, Again) else None
                await asyncio.sleep(max(after or 0.0, pause * (0.5 + random.random())))
                pause = min(2.0 * pause, LONGEST_S)

    # --- one request

    async def _data(self, records: list[GeneratedRecord]) -> list[GeneratedRecord]:
        """Those that have to be sent again. A point alone is sent alone."""
        points = [_point(record, self._labels) for record in records]
        status, answer = await self._post(points if len(points) > 1 else points[0], self._query)
        if status == 413 and len(records) > 1:
            raise TooMuch
        if status >= 400 or len(points) == 1:
            for record in records:
                self._count(record, status, answer)
            return []
        if not isinstance(answer, list) or len(answer) != len(records):
            raise DeliveryError(
                f"{self._url}: expected an answer for each of {len(records)} points, got {answer!r:.200}"
            )
        left = []
        for record, one in zip(records, answer):
            error = one.get("error") or {}
            if error.get("status") in AGAIN:
                left.append(record)
            else:
                self._count(record, error.get("status", 200), error)
        return left

    async def _detect(self, records: list[GeneratedRecord]) -> list[GeneratedRecord]:
        [record] = records
        if record.values.keys() != {SINGLE} or record.metric:
            self._count(record, 422, {"detail": f"/detect takes one value, got {', '.join(record.values)}; use /data"})
            return []
        body = {"value": record.values[SINGLE], "timestamp": record.timestamp}
        self._count(record, *await self._post(body, {"source": record.source}))
        return []

    async def _post(self, body: Any, query: dict[str, str]) -> tuple[int, Any]:
        """Status and decoded body. Raises Again, and DeliveryError where no point would be taken."""
        encoded = msgspec.json.encode(body)
        async with self._session.post(
            self._url, data=encoded, params=query, headers=self._headers, allow_redirects=False
        ) as response:
            raw = await response.read()
            try:
                answer = msgspec.json.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                answer = {"detail": raw[:200].decode("utf-8", "replace")}
            status = response.status
            if status in AGAIN:
                raise Again(f"{status} {_said(answer)}", _seconds(response.headers.get("Retry-After")))
            if status in EVERY_POINT or 300 <= status < 400:
                raise DeliveryError(f"{self._url}: {status} {response.reason}: {_said(answer)}")
            return status, answer

    def _count(self, record: GeneratedRecord, status: int, answer: Any) -> None:
        if status < 400:
            self.taken += 1
            return
        self.refused += 1
        self._say(f"refused: {record.source} at {record.timestamp:.6f}: {status} {_said(answer)}")


def _point(record: GeneratedRecord, labels: bool) -> dict[str, Any]:
    point: dict[str, Any] = {"sourceId": record.source, "timestamp": record.timestamp}
    if record.metric:
        point |= {"metric": record.metric, "value": record.values[record.metric]}
    elif record.values.keys() == {SINGLE}:
        point["value"] = record.values[SINGLE]
    else:
        point["values"] = record.values
    if labels and record.label:
        point["labels"] = {"label": record.label}
    return point


def _said(answer: Any) -> str:
    """Of a problem, on one line."""
    text = str(answer.get("detail") or answer.get("title") or answer) if isinstance(answer, dict) else str(answer)
    return " ".join(text.split())[:300]


def _seconds(retry_after: str | None) -> float | None:
    """Of a header Retry-After in seconds; one with a date is not used by this program's server."""
    try:
        return min(max(float(retry_after or ""), 0.0), 300.0)
    except ValueError:
        return None

"""A server that holds to what Slack documents of its web API, and refuses what Slack refuses.

https://docs.slack.dev/reference/methods: chat.postMessage, chat.update, conversations.history and .replies; incoming
webhooks; https://docs.slack.dev/reference/block-kit: blocks and their limits.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN, CHANNEL, HOOK = "xoxb-1-abc", "C0123456789", "/services/T0/B0/s3cr3t"
MOST_BLOCKS, MOST_TEXT, MOST_FIELDS, MOST_FIELD, MOST_HEADER = 50, 3000, 10, 2000, 150
MOST_IN_ALL = 13_000  # characters of all blocks: not documented, and found by users (slackapi/bolt-js 2509)
MOST_METADATA = 8_000  # bytes
PAGE = 2  # messages of a page of history, whatever was asked for: fewer than the limit are allowed

Json = dict[str, Any]


class Refusal(Exception):
    """Answered as ok: false."""


class Slack:
    """A workspace with one channel.

    ``messages``: ts -> message, with ``thread_ts`` if it is a reply. ``calls``: names of methods. ``next``: what the
    next calls do, in order: an error's name; a number of HTTP; "lost": it is done, and the connection breaks before the
    answer; None: as usual.
    """

    def __init__(self) -> None:
        self.messages: dict[str, Json] = {}
        self.calls: list[str] = []
        self.next: list[str | int | None] = []
        self.scopes = {"chat:write", "channels:history"}
        self.token, self.members = TOKEN, True
        self.hooked: list[Json] = []
        self._time = 1_698_399_461

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address."""
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self._serve)
        app.router.add_post(HOOK, self._hook)
        async with TestServer(app, host="127.0.0.1") as server:
            yield f"http://127.0.0.1:{server.port}"

    def parents(self) -> list[Json]:
        return [one for one in self.messages.values() if "thread_ts" not in one]

    def replies(self, ts: str) -> list[Json]:
        return [one for one in self.messages.values() if one.get("thread_ts") == ts]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        self.calls.append(method)
        todo = self.next.pop(0) if self.next else None
        if isinstance(todo, int):
            return web.Response(status=todo, headers={"Retry-After": "3"} if todo == 429 else {})
        try:
            if todo and todo != "lost":
                raise Refusal(todo)
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refusal("invalid_auth" if "Authorization" in request.headers else "not_authed")
            answer = {"ok": True, **await self._call(method, request)}
        except Refusal as refusal:
            answer = {"ok": False, "error": str(refusal)}
        if todo == "lost":
            assert request.transport
            request.transport.close()
            await asyncio.sleep(0)
        return web.json_response(answer)

    async def _call(self, method: str, request: web.Request) -> Json:
        if method in ("conversations.history", "conversations.replies"):
            return self._read(method, dict(request.query))
        if request.method != "POST" or request.content_type != "application/json":
            raise Refusal("invalid_post_type")
        if request.charset != "utf-8":
            raise Refusal("missing_charset")  # Slack only warns
        try:
            given = await request.json()
        except json.JSONDecodeError:
            raise Refusal("invalid_json") from None
        self._may("chat:write", given)
        check(given)
        if method == "chat.update":
            if given["ts"] not in self.messages:
                raise Refusal("message_not_found")
            self.messages[given["ts"]] |= {name: given[name] for name in ("text", "blocks")}
            return {"channel": given["channel"], "ts": given["ts"], "text": given["text"]}
        assert method == "chat.postMessage", method
        if "thread_ts" in given and given["thread_ts"] not in self.messages:
            raise Refusal("thread_not_found")
        self._time += 1
        ts = f"{self._time}.000100"
        self.messages[ts] = {"ts": ts, **given}
        return {"channel": CHANNEL, "ts": ts, "message": {"text": given["text"]}}

    def _may(self, scope: str, given: Json) -> None:
        if scope not in self.scopes:
            raise Refusal("missing_scope")
        if given.get("channel") != CHANNEL:
            raise Refusal("channel_not_found")
        if not self.members:
            raise Refusal("not_in_channel")

    def _read(self, method: str, given: dict[str, str]) -> Json:
        self._may("channels:history", given)
        oldest = float(given.get("oldest", "0"))
        if method == "conversations.history":  # newest first, and no replies unless they are shown in the channel
            found = [one for one in self.messages.values() if "thread_ts" not in one or one.get("reply_broadcast")][
                ::-1
            ]
        else:
            if given["ts"] not in self.messages:
                raise Refusal("thread_not_found")
            found = [self.messages[given["ts"]], *self.replies(given["ts"])]
        found = [one for one in found if float(one["ts"]) > oldest]
        start = int(given.get("cursor") or 0)
        page = [dict(one) for one in found[start : start + PAGE]]
        if given.get("include_all_metadata") != "true":
            for one in page:
                one.pop("metadata", None)
        more = start + PAGE < len(found)
        return {"messages": page, "response_metadata": {"next_cursor": str(start + PAGE) if more else ""}}

    async def _hook(self, request: web.Request) -> web.Response:
        todo = self.next.pop(0) if self.next else None
        if isinstance(todo, int):
            return web.Response(status=todo, text="no_service")
        try:
            given = await request.json()
            check(given)
        except (Refusal, json.JSONDecodeError):
            return web.Response(status=400, text="invalid_payload")
        self.hooked.append(given)
        return web.Response(text="ok")


def check(given: Json) -> None:
    """Raises Refusal for a message that Slack would refuse."""
    if not given.get("text") and not given.get("blocks"):
        raise Refusal("no_text")
    if len(given.get("text", "")) > 40_000:
        raise Refusal("msg_too_long")
    blocks = given.get("blocks", [])
    if len(blocks) > MOST_BLOCKS:
        raise Refusal("invalid_blocks")
    for block in blocks:
        _check_block(block)
    if len(json.dumps(blocks, ensure_ascii=False)) > MOST_IN_ALL:
        raise Refusal("msg_blocks_too_long")
    if (metadata := given.get("metadata")) is not None:
        if not re.fullmatch(r"[A-Za-z0-9_]+", metadata.get("event_type", "")) or "event_payload" not in metadata:
            raise Refusal("invalid_metadata_format")
        if len(json.dumps(metadata)) > MOST_METADATA:
            raise Refusal("metadata_too_large")


def _check_block(block: Json) -> None:
    match block:
        case {"type": "section", **rest}:
            if not rest.keys() & {"text", "fields"}:
                raise Refusal("invalid_blocks")
            if "text" in rest:
                _check_text(rest["text"], MOST_TEXT)
            if not 0 < len(rest.get("fields", [1])) <= MOST_FIELDS:
                raise Refusal("invalid_blocks")
            for field in rest.get("fields", []):
                _check_text(field, MOST_FIELD)
        case {"type": "header", "text": {"type": "plain_text", "text": text}}:
            if not 0 < len(text) <= MOST_HEADER:
                raise Refusal("invalid_blocks")
        case {"type": "context", "elements": [_, *_] as elements} if len(elements) <= 10:
            for element in elements:
                _check_text(element, MOST_TEXT)
        case {"type": "divider"}:
            pass
        case _:
            raise Refusal("invalid_blocks")


def _check_text(text: Any, most: int) -> None:
    if not isinstance(text, dict) or text.get("type") not in ("mrkdwn", "plain_text"):
        raise Refusal("invalid_blocks")
    if not isinstance(text.get("text"), str) or not 0 < len(text["text"]) <= most:
        raise Refusal("invalid_blocks")


def texts(message: Json) -> list[str]:
    """What people see of it, with Slack's marks."""
    return [block["text"]["text"] for block in message["blocks"]]


def reaches(message: Json) -> list[str]:
    """Marks that Slack would make something of: mentions, and links."""
    return re.findall(r"<[^>]*>", "\n".join([message["text"], *texts(message)]))

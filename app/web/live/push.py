"""Sends new results and episodes to the open pages, over WebSocket.

A message is encoded once and queued for every client. Nothing ever waits for a client: each has a bounded
queue and its own task, and a client that does not keep up is disconnected (its page connects again).

Messages are JSON objects with a `type`:

    anomalies  {"anomalies": [..]}              episodes that opened, changed or closed, as in /api/anomalies
    sources    {"sources": [..]}                latest results that changed, those in an episode first
    points     {"source": .., "metric": .., "points": [..]}
                                                new points of the series this client watches; metric "": its source
    statistics {"statistics": {..}}             as /api/statistics, once a second

A client may send {"watch": "<source>", "metric": "<metric>"} or {"watch": null}, nothing else.
"""

import asyncio
import contextlib
from heapq import nsmallest
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from app.state.series import joined
from app.web.live.recent_results import RecentResults
from app.web.live.records import SORTS, row
from app.web.live.statistics import Statistics
from app.web.problems import Problem

TICK_S = 1.0
QUEUED_MESSAGES = 64
MAX_CLIENTS = 100
MAX_SOURCES = 500  # changed sources in one message; the page asks again for its list every few seconds
MESSAGE_BYTES = 4096  # from a client

encode = msgspec.json.encode


class Watch(msgspec.Struct, forbid_unknown_fields=True):
    """The only message that a client may send."""

    watch: str | None
    metric: str = ""


class Client:
    """One open page. Its queue holds encoded messages."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket, self.transport = socket, transport
        self.watch: str | None = None  # the name of a series
        self.queue: asyncio.Queue[str] = asyncio.Queue(QUEUED_MESSAGES)

    async def write(self) -> None:
        """Send what is queued until cancelled."""
        while True:
            await self.socket.send_str(await self.queue.get())


class Push:
    """All clients, and the task that sends them the changes."""

    def __init__(self, recent: RecentResults, statistics: Statistics) -> None:
        self.clients: dict[Client, asyncio.Task] = {}
        self._recent, self._statistics = recent, statistics

    async def run(self, tick_s: float = TICK_S) -> None:
        """Send the changes once per tick, until cancelled."""
        while True:
            await asyncio.sleep(tick_s)
            self.send_changes()

    def send_changes(self) -> None:
        """Queue the changes since the last call; without clients they are only discarded."""
        changes = self._recent.drain()
        if not self.clients:
            return
        everybody = list(self.clients)
        if changes.episodes:
            rows = [episode.row(name) for name, episode in changes.episodes.items()]
            self._queue(everybody, {"type": "anomalies", "anomalies": rows})
        if changes.sources:
            first = nsmallest(MAX_SOURCES, changes.sources.values(), key=SORTS["score"])
            latest = [row(*series.last(1)) for series in first]
            self._queue(everybody, {"type": "sources", "sources": latest})
        for name, new in changes.points.items():
            watching = [client for client in everybody if client.watch == name]
            series = changes.sources[name]
            of = {"source": series.source, "metric": series.metric or ""}
            self._queue(watching, {"type": "points", **of, "points": series.last(new)})
        self._queue(everybody, {"type": "statistics", "statistics": self._statistics.now()})

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One client, until it leaves or is dropped."""
        if len(self.clients) >= MAX_CLIENTS:
            raise Problem(503, f"{MAX_CLIENTS} pages are open already")
        socket = web.WebSocketResponse(heartbeat=30.0, max_msg_size=MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        client = Client(socket, request.transport)
        writer = self.clients[client] = asyncio.create_task(client.write())
        self._statistics.pages_open = len(self.clients)
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT or not self._handle(client, message.data):
                    reason = b'expected {"watch": "<source>"}'
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=reason)
        finally:
            self.clients.pop(client, None)
            self._statistics.pages_open = len(self.clients)
            self._watched()
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await writer
        return socket

    async def close(self) -> None:
        """Close every connection with the code of a server that goes away."""
        for client in list(self.clients):
            with contextlib.suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(client.socket.close(code=WSCloseCode.GOING_AWAY), 1.0)

    def _handle(self, client: Client, text: str) -> bool:
        try:
            asked = msgspec.json.decode(text, type=Watch)
        except (msgspec.DecodeError, UnicodeError):
            return False
        client.watch = None if asked.watch is None else joined(asked.watch, asked.metric)
        self._watched()
        return True

    def _watched(self) -> None:
        self._recent.watched = {client.watch for client in self.clients if client.watch is not None}

    def _queue(self, clients: list[Client], message: dict[str, Any]) -> None:
        text = encode(message).decode()
        for client in clients:
            try:
                client.queue.put_nowait(text)
            except asyncio.QueueFull:
                self._drop(client)

    def _drop(self, client: Client) -> None:
        """Cut the connection: a client that does not read would not read a closing message either."""
        writer = self.clients.pop(client, None)
        self._statistics.pages_open = len(self.clients)
        if writer:
            writer.cancel()
            if client.transport:
                client.transport.abort()

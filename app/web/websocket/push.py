"""Sends new results, episodes and decisions to the clients of the WebSocket ``/ws``: pages and other programs.

Once per second, each message is encoded once for all clients with the same filter and put into the queue of each. No
client can hold up others: each has a bounded queue and its own task. A client that does not keep up is disconnected,
and may connect again. docs/api.md lists the messages.

A client that reconnects with the cursor of its last message gets what it missed, from any worker: each knows which
offsets of the topics it has read. If a worker no longer knows enough, it sends a message ``reset``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from heapq import nsmallest
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from app.scoring.severity import NAMES as SEVERITIES
from app.state.series import joined
from app.web.episodes import Episodes, decisions_on, like, of_recent
from app.web.problems import HttpProblem
from app.web.status.statistics import Statistics
from app.web.topics.decisions import DecisionsMirror
from app.web.topics.recent_results import RecentPoints, RecentResults
from app.web.topics.records import SORTS, ShownEpisode, row
from app.web.websocket.cursor import StreamCursor

TICK_S = 1.0
HEARTBEAT_TICKS = 5  # between two messages of that kind
PING_S = 15.0
QUEUED_MESSAGES = 64
MAX_CLIENTS = 100
MAX_SOURCES = 200  # changed sources in one message; the page asks again for its list every few seconds
MESSAGE_BYTES = 16 << 10  # from a client
Type = Literal["anomalies", "decided", "sources", "points", "statistics"]
TYPES: tuple[Type, ...] = ("anomalies", "decided", "sources", "points", "statistics")

encode = msgspec.json.encode
Message = bytes


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which episodes, results of which sources, and which types of messages a client wants."""

    source: Annotated[str, msgspec.Meta(max_length=512)] = ""  # a name, or a pattern with * and ?
    severity: Literal["", "low", "medium", "high", "critical"] = ""  # at least
    kind: tuple[str, ...] = ()
    types: tuple[Type, ...] = TYPES

    def takes_source(self, source: str) -> bool:
        return not self.source or like(self.source, source)

    def takes(self, source: str, severity: str | None, kind: str | None) -> bool:
        """Whether the client wants such an episode."""
        bad = not self.severity or (severity in SEVERITIES and SEVERITIES.index(severity) >= _RANK[self.severity])
        return bad and (not self.kind or kind in self.kind) and self.takes_source(source)


_RANK = {name: rank for rank, name in enumerate(SEVERITIES)}


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A message from a client, with at least one of watch, filter and cursor."""

    watch: str | msgspec.UnsetType | None = msgspec.UNSET
    metric: str = ""
    filter: Filter | msgspec.UnsetType | None = msgspec.UNSET
    cursor: str | msgspec.UnsetType = msgspec.UNSET


EXPECTED = b'expected {"watch": "<source>"}, {"filter": {..}} or {"cursor": ".."}'


class WebSocketClient:
    """One open WebSocket. Its queue holds encoded messages."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, wants: Filter) -> None:
        self.socket, self.transport, self.wants = socket, transport, wants
        self.watch: str | None = None  # the name of a series
        self.queue: asyncio.Queue[Message] = asyncio.Queue(QUEUED_MESSAGES)

    async def write(self) -> None:
        """Send the queued messages, until cancelled."""
        while True:
            await self.socket.send_frame(await self.queue.get(), WSMsgType.TEXT)


class Push:
    """All clients, and the task that sends them the changes. ``slow`` counts disconnected slow clients."""

    def __init__(
        self,
        recent: RecentResults,
        statistics: Statistics,
        episodes: Episodes,
        slow: Any = None,
    ) -> None:
        self.clients: dict[WebSocketClient, asyncio.Task] = {}
        self._recent, self._statistics, self._episodes, self._slow = recent, statistics, episodes, slow
        self._ticks = self._skipped = 0
        self._cursor = self._now()

    @property
    def _mirror(self) -> DecisionsMirror | None:
        return self._episodes.mirror

    async def run(self, tick_s: float = TICK_S) -> None:
        """Send the changes once per tick, until cancelled."""
        while True:
            await asyncio.sleep(tick_s)
            self.send_changes()

    def send_changes(self) -> None:
        """Queue the changes since the last call; without clients, discard them."""
        changes = self._recent.drain()
        decided = self._mirror.drain() if self._mirror else None
        self._cursor = self._now()
        self._ticks += 1
        skipped, self._skipped = self._skipped, self._recent.events.gaps
        if not self.clients:
            return
        everybody = list(self.clients)
        if self._skipped != skipped:
            self._queue(everybody, _reset("events came faster than they are read here"))
        if changes.episodes:
            self._send_episodes(everybody, changes.episodes.items())
        if decided and (decided.episodes or decided.silences):
            wanting = [client for client in everybody if "decided" in client.wants.types]
            self._queue(wanting, self._decided(decided.episodes, decided.silences))
        if changes.sources:
            self._send_sources(everybody, changes.sources.values())
        for name, new in changes.points.items():
            watching = [client for client in everybody if client.watch == name and "points" in client.wants.types]
            series = changes.sources[name]
            of = {"source": series.source, "metric": series.metric or ""}
            self._queue(watching, encode({"type": "points", **of, "points": series.last(new)}))
        if wanting := [client for client in everybody if "statistics" in client.wants.types]:
            self._queue(wanting, encode({"type": "statistics", "statistics": self._statistics.now()}))
        if self._ticks % HEARTBEAT_TICKS == 0:
            self._queue(everybody, self._heartbeat())

    async def serve(self, request: web.Request, wants: Filter, cursor: str = "") -> web.WebSocketResponse:
        """Serve one client until it disconnects or is cut. ``cursor``: of its last message. Raises HttpProblem."""
        after = self._after(cursor) if cursor else None
        if len(self.clients) >= MAX_CLIENTS:
            raise HttpProblem(503, f"{MAX_CLIENTS} pages are already open")
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        client = WebSocketClient(socket, request.transport, wants)
        writer = self.clients[client] = asyncio.create_task(client.write())
        self._statistics.pages_open = len(self.clients)
        if after:
            self._resume(client, after)
        self._queue([client], self._heartbeat())
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT or not self._handle(client, message.data):
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=EXPECTED)
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

    # --- messages from clients

    def _after(self, cursor: str) -> StreamCursor:
        try:
            return StreamCursor.decoded(cursor)
        except ValueError as error:
            raise HttpProblem.at("?cursor", str(error)) from error

    def _handle(self, client: WebSocketClient, text: str) -> bool:
        """Take a message; False if it is not one that a client may send."""
        try:
            asked = msgspec.json.decode(text, type=Asked)
            after = StreamCursor.decoded(asked.cursor) if isinstance(asked.cursor, str) else None
        except (msgspec.DecodeError, ValueError):
            return False
        if asked.watch is asked.filter is asked.cursor is msgspec.UNSET:
            return False
        if not isinstance(asked.watch, msgspec.UnsetType):
            client.watch = None if asked.watch is None else joined(asked.watch, asked.metric)
            self._watched()
        if not isinstance(asked.filter, msgspec.UnsetType):
            client.wants = asked.filter or Filter()
        if after:
            self._resume(client, after)
        return True

    def _watched(self) -> None:
        self._recent.watched = {client.watch for client in self.clients if client.watch is not None}

    def _resume(self, client: WebSocketClient, after: StreamCursor) -> None:
        """Send what is new since the cursor, or a reset if that is not known."""
        events, notified = (
            self._recent.events.since(after.events),
            self._recent.notifications.since(after.notifications),
        )
        decided = self._mirror.positions.since(after.decisions) if self._mirror else set()
        if events is None or notified is None or decided is None:
            self._queue([client], _reset("too much has happened since, or this worker has begun later"))
            return
        missed = [(name, shown) for name, shown in self._recent.episodes() if name in events or name in notified]
        if missed:
            self._send_episodes([client], missed)
        if self._mirror and "decided" in client.wants.types:
            self._queue([client], self._decided(decided, silences=True))

    # --- messages to clients

    def _now(self) -> str:
        decisions = self._mirror.positions.positions if self._mirror else {}
        return StreamCursor.of(self._recent.events.positions, self._recent.notifications.positions, decisions).encoded()

    def _heartbeat(self) -> Message:
        return encode({"type": "heartbeat", "at": time.time(), "cursor": self._cursor})

    def _send_episodes(self, clients: list[WebSocketClient], changed: Iterable[tuple[str, ShownEpisode]]) -> None:
        rows = [self._episodes.decided(of_recent(name, shown)) for name, shown in changed]
        encoded = [msgspec.Raw(encode(one)) for one in rows]
        for wants, some in _by_filter(clients, "anomalies").items():
            chosen = [raw for one, raw in zip(rows, encoded) if wants.takes(one.source, one.severity, one.kind)]
            if chosen:
                self._queue(some, encode({"type": "anomalies", "anomalies": chosen, "cursor": self._cursor}))

    def _send_sources(self, clients: list[WebSocketClient], changed: Iterable[RecentPoints]) -> None:
        encoded: dict[int, msgspec.Raw] = {}
        for wants, some in _by_filter(clients, "sources").items():
            of = changed if not wants.source else [one for one in changed if wants.takes_source(one.source)]
            first = nsmallest(MAX_SOURCES, of, key=SORTS["score"])
            latest = []
            for series in first:
                if id(series) not in encoded:
                    encoded[id(series)] = msgspec.Raw(encode(row(*series.last(1))))
                latest.append(encoded[id(series)])
            if latest:
                self._queue(some, encode({"type": "sources", "sources": latest}))

    def _decided(self, episodes: Iterable[str], silences: bool) -> Message:
        """The decisions on these episodes; with ``silences``, also all silences that are in force."""
        mirror = self._mirror
        assert mirror is not None
        message: dict[str, Any] = {"type": "decided", "cursor": self._cursor}
        message["decided"] = [decisions_on(mirror, name) for name in episodes]
        if silences:
            now = time.time()
            message["silences"] = [msgspec.structs.asdict(one) for one in mirror.silences() if one.ends_at > now]
        return encode(message)

    def _queue(self, clients: list[WebSocketClient], message: Message) -> None:
        for client in clients:
            try:
                client.queue.put_nowait(message)
            except asyncio.QueueFull:
                self._cut(client)

    def _cut(self, client: WebSocketClient) -> None:
        """Disconnect without a closing message: a client that does not read would not read it."""
        writer = self.clients.pop(client, None)
        self._statistics.pages_open = len(self.clients)
        if writer:
            if self._slow:
                self._slow.inc()
            writer.cancel()
            if client.transport:
                client.transport.abort()


def _by_filter(clients: list[WebSocketClient], type: str) -> dict[Filter, list[WebSocketClient]]:
    """Clients that want messages of this type, by filter."""
    found: dict[Filter, list[WebSocketClient]] = {}
    for client in clients:
        if type in client.wants.types:
            found.setdefault(client.wants, []).append(client)
    return found


def _reset(why: str) -> Message:
    return encode({"type": "reset", "why": why})

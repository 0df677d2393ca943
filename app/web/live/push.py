"""Sends new results, episodes and decisions to whoever has a WebSocket open: pages, and other programs.

Each second one message of a kind is encoded for all clients that want the same, and queued for each of them. Nothing
ever waits for a client: each has a bounded queue and its own task, and one that does not keep up is cut (and connects
again). What the messages are is said in docs/api.md.

A client that comes back with the cursor of the last message that it had gets what it missed, at any worker: each
remembers of which place in the topics it has read what. Where that does not reach back far enough, it is told so.
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
from app.web.live.cursor import Cursor
from app.web.live.decisions import Mirror
from app.web.live.episodes import Episodes, like, of_recent, said_of
from app.web.live.recent_results import RecentPoints, RecentResults
from app.web.live.records import SORTS, ShownEpisode, row
from app.web.live.statistics import Statistics
from app.web.problems import Problem

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
    """Which episodes, and of which sources results; and of which types messages are wanted at all."""

    source: Annotated[str, msgspec.Meta(max_length=512)] = ""  # a name, or a pattern with * and ?
    severity: Literal["", "low", "medium", "high", "critical"] = ""  # at least
    kind: tuple[str, ...] = ()
    types: tuple[Type, ...] = TYPES

    def takes_source(self, source: str) -> bool:
        return not self.source or like(self.source, source)

    def takes(self, source: str, severity: str | None, kind: str | None) -> bool:
        """Whether such an episode is wanted."""
        bad = not self.severity or (severity in SEVERITIES and SEVERITIES.index(severity) >= _RANK[self.severity])
        return bad and (not self.kind or kind in self.kind) and self.takes_source(source)


_RANK = {name: rank for rank, name in enumerate(SEVERITIES)}


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A message of a client; one of the three is in it."""

    watch: str | msgspec.UnsetType | None = msgspec.UNSET
    metric: str = ""
    filter: Filter | msgspec.UnsetType | None = msgspec.UNSET
    cursor: str | msgspec.UnsetType = msgspec.UNSET


EXPECTED = b'expected {"watch": "<source>"}, {"filter": {..}} or {"cursor": ".."}'


class Client:
    """One open page. Its queue holds encoded messages."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, wants: Filter) -> None:
        self.socket, self.transport, self.wants = socket, transport, wants
        self.watch: str | None = None  # the name of a series
        self.queue: asyncio.Queue[Message] = asyncio.Queue(QUEUED_MESSAGES)

    async def write(self) -> None:
        """Send what is queued until cancelled."""
        while True:
            await self.socket.send_frame(await self.queue.get(), WSMsgType.TEXT)


class Push:
    """All clients, and the task that sends them the changes. ``slow``: counts those that were cut."""

    def __init__(
        self,
        recent: RecentResults,
        statistics: Statistics,
        episodes: Episodes,
        slow: Any = None,
    ) -> None:
        self.clients: dict[Client, asyncio.Task] = {}
        self._recent, self._statistics, self._episodes, self._slow = recent, statistics, episodes, slow
        self._ticks = self._skipped = 0
        self._cursor = self._now()

    @property
    def _mirror(self) -> Mirror | None:
        return self._episodes.mirror

    async def run(self, tick_s: float = TICK_S) -> None:
        """Send the changes once per tick, until cancelled."""
        while True:
            await asyncio.sleep(tick_s)
            self.send_changes()

    def send_changes(self) -> None:
        """Queue the changes since the last call; without clients they are only discarded."""
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
        """One client, until it leaves or is cut. ``cursor``: of the last message that it had. Raises Problem."""
        after = self._after(cursor) if cursor else None
        if len(self.clients) >= MAX_CLIENTS:
            raise Problem(503, f"{MAX_CLIENTS} pages are open already")
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        client = Client(socket, request.transport, wants)
        writer = self.clients[client] = asyncio.create_task(client.write())
        self._statistics.pages_open = len(self.clients)
        if after:
            self._go_on(client, after)
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

    # --- what clients say

    def _after(self, cursor: str) -> Cursor:
        try:
            return Cursor.read(cursor)
        except ValueError as error:
            raise Problem.at("?cursor", str(error)) from error

    def _handle(self, client: Client, text: str) -> bool:
        """Whether it was one of the messages that a client may send."""
        try:
            asked = msgspec.json.decode(text, type=Asked)
            after = Cursor.read(asked.cursor) if isinstance(asked.cursor, str) else None
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
            self._go_on(client, after)
        return True

    def _watched(self) -> None:
        self._recent.watched = {client.watch for client in self.clients if client.watch is not None}

    def _go_on(self, client: Client, after: Cursor) -> None:
        """Send what came since, or that this is not known any more."""
        events, words = self._recent.events.since(after.events), self._recent.words.since(after.words)
        decided = self._mirror.feed.since(after.decisions) if self._mirror else set()
        if events is None or words is None or decided is None:
            self._queue([client], _reset("too much has happened since, or this worker has begun later"))
            return
        missed = [(name, shown) for name, shown in self._recent.episodes() if name in events or name in words]
        if missed:
            self._send_episodes([client], missed)
        if self._mirror and "decided" in client.wants.types:
            self._queue([client], self._decided(decided, silences=True))

    # --- messages

    def _now(self) -> str:
        decisions = self._mirror.feed.positions if self._mirror else {}
        return Cursor.of(self._recent.events.positions, self._recent.words.positions, decisions).written()

    def _heartbeat(self) -> Message:
        return encode({"type": "heartbeat", "at": time.time(), "cursor": self._cursor})

    def _send_episodes(self, clients: list[Client], changed: Iterable[tuple[str, ShownEpisode]]) -> None:
        rows = [self._episodes.decided(of_recent(name, shown)) for name, shown in changed]
        encoded = [msgspec.Raw(encode(one)) for one in rows]
        for wants, some in _by_filter(clients, "anomalies").items():
            chosen = [raw for one, raw in zip(rows, encoded) if wants.takes(one.source, one.severity, one.kind)]
            if chosen:
                self._queue(some, encode({"type": "anomalies", "anomalies": chosen, "cursor": self._cursor}))

    def _send_sources(self, clients: list[Client], changed: Iterable[RecentPoints]) -> None:
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
        """What holds of these episodes, and all silences that hold if some began or ended."""
        mirror = self._mirror
        assert mirror is not None
        message: dict[str, Any] = {"type": "decided", "cursor": self._cursor}
        message["decided"] = [said_of(mirror, name) for name in episodes]
        if silences:
            now = time.time()
            message["silences"] = [msgspec.structs.asdict(one) for one in mirror.silences() if one.ends_at > now]
        return encode(message)

    def _queue(self, clients: list[Client], message: Message) -> None:
        for client in clients:
            try:
                client.queue.put_nowait(message)
            except asyncio.QueueFull:
                self._cut(client)

    def _cut(self, client: Client) -> None:
        """A client that does not read would not read a closing message either."""
        writer = self.clients.pop(client, None)
        self._statistics.pages_open = len(self.clients)
        if writer:
            if self._slow:
                self._slow.inc()
            writer.cancel()
            if client.transport:
                client.transport.abort()


def _by_filter(clients: list[Client], type: str) -> dict[Filter, list[Client]]:
    """Those that want messages of this type, by what they want of them."""
    found: dict[Filter, list[Client]] = {}
    for client in clients:
        if type in client.wants.types:
            found.setdefault(client.wants, []).append(client)
    return found


def _reset(why: str) -> Message:
    return encode({"type": "reset", "why": why})

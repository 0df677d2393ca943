"""Queries of the history: episodes, newest first; their notifications; decisions. They raise StoreError."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import cursor as cursors
from app.store.database import Database, reported
from app.store.tables import decisions, episodes, news, notifications

State = Literal["open", "closed"]


class StoredEpisode(msgspec.Struct, kw_only=True):
    """Times are epoch seconds. Value, expected and sentence are of the event at which it reached its severity."""

    id: str
    source: str
    metric: str  # "" of a series that is a whole source
    kind: str
    severity: str
    state: State
    opened_at: float
    ended_at: float | None
    reason: str  # why it closed
    points: int
    peak_score: float
    value: float | None
    expected: float | None
    sentence: str
    labels: dict[str, Any]
    event: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET  # that event, with votes and band: only if requested


class StoredEpisodePage(msgspec.Struct):
    """``cursor`` is for the next page; "" on the last page."""

    episodes: list[StoredEpisode]
    cursor: str


class StoredNotification(msgspec.Struct, kw_only=True):
    """One notification with this episode."""

    episode: str
    id: str
    channel: str
    route: str
    state: str  # queued, sent, failed, muted
    why: str  # opened, raised, repeated, closed
    created_at: float
    done_at: float | None
    attempts: int
    answer: str


class StoredDecision(msgspec.Struct, kw_only=True):
    """An acknowledgement, a feedback (``verdict``) or a silence (``silence``, matchers, ends_at)."""

    decision: str
    episode: str | None
    silence: str | None
    verdict: str
    matchers: list[str]
    by: str
    comment: str
    at: float
    ends_at: float | None


class Queries:
    """Queries of one database, which may be written meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def episodes(
        self,
        limit: int = 100,
        since: float | None = None,
        until: float | None = None,
        severity: str | Sequence[str] = (),
        source: str = "",
        kind: str = "",
        state: State | None = None,
        cursor: str = "",
        metric: str | None = None,
        exact: bool = False,
        whole: bool = False,
        names: Sequence[str] | None = None,
    ) -> StoredEpisodePage:
        """Episodes that opened at ``since`` or later and before ``until``, the newest first.

        ``source`` is a name, or a pattern with * and ? unless it is ``exact``; ``metric`` "" is that of whole sources;
        ``names`` are ids. ``cursor`` is that of the page before; rows written between two pages do not shift the
        following pages. ``whole``: with ``event``. Raises BadCursor.
        """
        table = episodes.c
        wanted = []
        if since is not None:
            wanted.append(table.opened_at >= since)
        if until is not None:
            wanted.append(table.opened_at < until)
        if severity:
            wanted.append(table.severity.in_([severity] if isinstance(severity, str) else list(severity)))
        if kind:
            wanted.append(table.kind == kind)
        if state:
            wanted.append(table.ended_at.is_(None) if state == "open" else table.ended_at.is_not(None))
        if cursor:
            opened_at, name = cursors.decode(cursor)
            earlier = sa.and_(table.opened_at == opened_at, table.id < name)
            wanted.append(sa.or_(table.opened_at < opened_at, earlier))
        if metric is not None:
            wanted.append(table.metric == metric)
        if names is not None:
            wanted.append(table.id.in_(names))
        columns = [column for column in episodes.c if whole or column.name != "event"]
        order = (table.opened_at.desc(), table.id.desc())
        statement = sa.select(*columns).where(*wanted).order_by(*order).limit(limit + 1)
        async with self._transaction() as connection:
            if source:
                like = table.source == source if exact else _like(table.source, source, connection.dialect.name)
                statement = statement.where(like)
            found = [_episode(row) for row in (await connection.execute(statement)).mappings()]
        more = len(found) > limit
        found = found[:limit]
        return StoredEpisodePage(found, cursors.encode(found[-1].opened_at, found[-1].id) if more and found else "")

    async def episode(self, name: str) -> StoredEpisode | None:
        """The episode with this id; None if there is none."""
        async with self._transaction() as connection:
            row = (await connection.execute(sa.select(episodes).where(episodes.c.id == name))).mappings().first()
        return _episode(row) if row else None

    async def notifications(self, *names: str) -> list[StoredNotification]:
        """The notifications of these episodes, also the muted ones, oldest first."""
        columns = [column for column in notifications.c if column.name in StoredNotification.__struct_fields__]
        statement = (
            sa.select(news.c.episode, news.c.why, *columns)
            .join(notifications, notifications.c.id == news.c.notification)
            .where(news.c.episode.in_(names))
            .order_by(notifications.c.created_at, notifications.c.id, news.c.place)
        )
        async with self._transaction() as connection:
            return [StoredNotification(**row) for row in (await connection.execute(statement)).mappings()]

    async def decisions(self, *names: str) -> list[StoredDecision]:
        """The decisions on these episodes, oldest first; without names, all decisions, silences too."""
        statement = sa.select(decisions).order_by(decisions.c.at, decisions.c.key)
        if names:
            statement = statement.where(decisions.c.episode.in_(names))
        async with self._transaction() as connection:
            found = (await connection.execute(statement)).mappings()
            return [
                StoredDecision(
                    by=row["author"], **{name: row[name] for name in StoredDecision.__struct_fields__ if name != "by"}
                )
                for row in found
            ]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with reported(self._database):
            async with self._database.connected() as connection, connection.begin():
                yield connection


def _episode(row: Any) -> StoredEpisode:
    fields = {name: row[name] for name in StoredEpisode.__struct_fields__ if name in row}
    return StoredEpisode(state="open" if row["ended_at"] is None else "closed", **fields)


def _like(column: Any, pattern: str, dialect: str) -> Any:
    """A case-sensitive comparison with a text or a pattern with * and ?."""
    if not set("*?") & set(pattern):
        return column == pattern
    if dialect == "sqlite":
        return column.op("GLOB")(pattern.replace("[", "[[]"))
    for sign in "\\%_":
        pattern = pattern.replace(sign, f"\\{sign}")
    return column.like(pattern.replace("*", "%").replace("?", "_"), escape="\\")

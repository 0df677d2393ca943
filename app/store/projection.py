"""Writes records of the topics as rows, in transactions that also store the positions.

A batch is applied in memory: the rows that it changes are read, app/store/rows.py applies each record, and the rows are
written with the positions after the batch. So after a crash at any moment, rows and positions belong together. The lock
of app/store/database.py keeps two processes from writing at the same time. If it fails, they find each other's
positions, and the second transaction is rolled back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store import rows
from app.store.rows import Row, UnreadableRecord
from app.store.tables import decisions, episodes, news, notifications, positions
from app.wire import external, overdue
from app.wire.episodes import Event

EPISODES, NOTIFICATIONS, DECISIONS = "episodes", "notifications", "decisions"
OF_KIND = {EPISODES: [episodes], NOTIFICATIONS: [notifications, news], DECISIONS: [decisions]}
DELETED_AT_ONCE = 500  # rows of one transaction
DAY_S = 86_400.0

Place = tuple[str, int]  # topic, partition


class TopicRecord(NamedTuple):
    """A record to project. ``time_s``: Kafka's timestamp."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    time_s: float


class PartitionRange(NamedTuple):
    """A partition as the broker has it now: the id of its topic, its first offset, the offset after its last."""

    topic_id: str
    begin: int
    end: int


def _is_recreated(row: Any, now: PartitionRange) -> bool:
    """Whether this is another topic than the one of the stored position."""
    if row.topic_id and now.topic_id:
        return row.topic_id != now.topic_id
    return row.next_offset > now.end


class Overtaken(Exception):
    """Another process has written meanwhile: nothing was written, and positions must be read again."""


class Projection:
    """The writing side of the history. ``kinds``: topic -> kind of its records; ``clock``: epoch seconds."""

    def __init__(
        self,
        connection: AsyncConnection,
        kinds: Mapping[str, str],
        retention_days: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection, self._kinds, self._clock = connection, kinds, clock
        self._retention_s = retention_days * DAY_S
        self.positions: dict[Place, int] = {}
        self.unreadable = 0  # records skipped
        self.last_unreadable = ""

    async def begin(self, found: Mapping[Place, PartitionRange]) -> list[str]:
        """Set ``positions``, from which to read these partitions. Returns sentences about anything unusual.

        If a topic was deleted and created again, its rows are deleted, and the new one is read from its beginning.
        """
        said: list[str] = []
        self.positions = {}
        async with self._connection.begin():
            stored = {
                (row.topic, row.partition): row
                for row in await self._connection.execute(
                    sa.select(positions).where(positions.c.topic.in_(sorted({topic for topic, _ in found})))
                )
            }
            recreated = {
                place[0] for place, row in stored.items() if place in found and _is_recreated(row, found[place])
            }
            for topic in sorted(recreated):
                said.append(f"topic {topic} was created again: its history is deleted and starts again")
                for table in OF_KIND[self._kinds[topic]]:
                    await self._connection.execute(sa.delete(table))
                await self._connection.execute(sa.delete(positions).where(positions.c.topic == topic))
            for place, now in found.items():
                row = None if place[0] in recreated else stored.get(place)
                at = row.next_offset if row else now.begin
                if at > now.end:  # a broker lost acknowledged records
                    said.append(f"topic {place[0]}: partition {place[1]} ends at {now.end}, but was read up to {at}")
                    at = now.begin
                elif at < now.begin:
                    at = now.begin
                self.positions[place] = at
            await self._write(
                positions,
                [
                    {"topic": topic, "partition": partition, "topic_id": found[topic, partition].topic_id}
                    | {"next_offset": self.positions[topic, partition]}
                    for topic, partition in found
                ],
            )
        return said

    async def take(self, records: Iterable[TopicRecord], after: Mapping[Place, int]) -> None:
        """Write the rows of these records, and the positions after them. Records of a partition are in order.

        Raises Overtaken.
        """
        by_kind: dict[str, list[TopicRecord]] = {EPISODES: [], NOTIFICATIONS: [], DECISIONS: []}
        oldest = self._clock() - self._retention_s
        for record in records:
            by_kind[self._kinds[record.topic]].append(record)
        async with self._connection.begin():
            await self._lock_positions(after)
            await self._take_events(by_kind[EPISODES], oldest)
            await self._take_notifications(by_kind[NOTIFICATIONS], oldest)
            await self._take_decisions(by_kind[DECISIONS], oldest)
            moved = [
                {"of_topic": topic, "of_partition": partition, "next_offset": at}
                for (topic, partition), at in after.items()
            ]
            if moved:
                of = (
                    positions.c.topic == sa.bindparam("of_topic"),
                    positions.c.partition == sa.bindparam("of_partition"),
                )
                await self._connection.execute(sa.update(positions).where(*of), moved)
        self.positions.update(after)

    async def expire(self) -> int:
        """Delete some rows older than the retention. Returns how many; 0 if none is left to delete."""
        oldest = self._clock() - self._retention_s
        deleted = 0
        for table, key in ((episodes, "id"), (notifications, "id"), (decisions, "key")):
            old = table.c.recorded_at < oldest
            if table is decisions:
                old &= sa.func.coalesce(table.c.ends_at, 0.0) < oldest
            async with self._connection.begin():
                some = sa.select(table.c[key]).where(old).limit(DELETED_AT_ONCE)
                names = list(await self._connection.scalars(some))
                if names:
                    await self._connection.execute(sa.delete(table).where(table.c[key].in_(names)))
                    if table is notifications:
                        await self._connection.execute(sa.delete(news).where(news.c.notification.in_(names)))
            deleted += len(names)
        return deleted

    async def _lock_positions(self, after: Mapping[Place, int]) -> None:
        """Check that the stored positions are those that this process wrote, and lock them."""
        topics = sorted({topic for topic, _ in after})
        stored = await self._connection.execute(
            sa.select(positions.c.topic, positions.c.partition, positions.c.next_offset)
            .where(positions.c.topic.in_(topics))
            .order_by(positions.c.topic, positions.c.partition)
            .with_for_update()
        )
        current = {(topic, partition): at for topic, partition, at in stored}
        if any(current.get(place) != self.positions[place] for place in after):
            raise Overtaken

    async def _take_events(self, records: Sequence[TopicRecord], oldest: float) -> None:
        read = self._read(records, rows.read_event, oldest)
        await self._write_events([(event, record.time_s) for record, event in read])

    async def _write_events(self, read: Sequence[tuple[Event, float]]) -> None:
        current = await self._current(episodes, {event.episode for event, _ in read})
        for event, at in read:
            current[event.episode] = rows.episode_row(current.get(event.episode), event, at)
        await self._write(episodes, [current[name] for name in dict.fromkeys(event.episode for event, _ in read)])

    async def _take_notifications(self, records: Sequence[TopicRecord], oldest: float) -> None:
        read = [(one, record.time_s) for record, one in self._read(records, rows.read_notification, oldest)]
        current = await self._current(notifications, {one.id for one, _ in read})
        about: dict[tuple[str, str], Row] = {}
        for one, at in read:
            current[one.id] = rows.notification_row(current.get(one.id), one, at)
            for row in rows.news_rows(one):
                about.setdefault((one.id, row["episode"]), row)
        await self._write(notifications, [current[name] for name in dict.fromkeys(one.id for one, _ in read)])
        await self._write(news, list(about.values()), keep=True)
        await self._write_events([(event, at) for one, at in read for event in rows.silent_events(one)])

    async def _take_decisions(self, records: Sequence[TopicRecord], oldest: float) -> None:
        """The last record of each key counts; a tombstone deletes the row."""
        last: dict[str, Row | None] = {}
        for record in records:
            if overdue.is_key(record.key) or external.is_key(record.key):
                continue  # of workers and of other programs: they come as episodes
            if record.value is None:
                if record.key is not None:
                    last[rows.from_key(record.key)] = None
                continue
            for _, decision in self._read([record], rows.read_decision, 0.0):
                row = rows.decision_row(decision, record.time_s)
                last[decision.key] = row if max(record.time_s, row["ends_at"] or 0.0) >= oldest else None
        if gone := [key for key, row in last.items() if row is None]:
            await self._connection.execute(sa.delete(decisions).where(decisions.c.key.in_(gone)))
        await self._write(decisions, [row for row in last.values() if row is not None])

    def _read(
        self, records: Sequence[TopicRecord], read: Callable[[bytes], Any], oldest: float
    ) -> list[tuple[TopicRecord, Any]]:
        """Decode records; skip those that are too old or cannot be read."""
        good = []
        for record in records:
            if record.value is None or record.time_s < oldest:
                continue
            try:
                good.append((record, read(record.value)))
            except UnreadableRecord as error:
                self.unreadable += 1
                self.last_unreadable = f"{record.topic}[{record.partition}]: {error}"
        return good

    async def _current(self, table: sa.Table, names: set[str]) -> dict[str, Row]:
        if not names:
            return {}
        found = await self._connection.execute(sa.select(table).where(table.c.id.in_(sorted(names))))
        return {row["id"]: dict(row) for row in found.mappings()}

    async def _write(self, table: sa.Table, written: list[Row], keep: bool = False) -> None:
        """Insert rows, or replace rows with the same key; ``keep``: leave existing ones as they are."""
        if not written:
            return
        dialect = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        insert = dialect.insert(table)
        key = [column.name for column in table.primary_key]
        if keep:
            statement = insert.on_conflict_do_nothing(index_elements=key)
        else:
            others = {column.name: insert.excluded[column.name] for column in table.c if column.name not in key}
            statement = insert.on_conflict_do_update(index_elements=key, set_=others)
        await self._connection.execute(statement, written)

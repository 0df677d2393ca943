"""A copy of the topic of decisions in memory: acknowledgements, feedback, silences, and reports of other programs.

The topic is small and compacted. It is read whole at the start and then followed, so all workers know within a second
what one of them received over HTTP. The size is bounded: of very many decisions the oldest are dropped here; the topic
and the history keep them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.alerting.current_decisions import CurrentDecisions
from app.errors import AnomalyError
from app.kafka.log_reader import LogReader
from app.web.topics.follower import TopicFollower
from app.web.topics.read_positions import ReadPositions
from app.wire import external, overdue
from app.wire.decisions import Acknowledgement, Feedback, Silence
from app.wire.external import External

MOST_BYTES = 8 << 20  # of the records in memory: some 30,000
RECORD_BYTES = 64 << 10  # larger ones are not ours
MOST_EXTERNAL = 10_000  # reported sources, metrics and types
OWN_BYTES = 600  # what Python adds to each
WAIT_MS, ANSWER_S = 500, 5.0

CONSUMER = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": 1 << 20,
    "request_timeout_ms": 10_000,
}


@dataclass(slots=True)
class DecisionChanges:
    """What changed since the last call of ``DecisionsMirror.drain``."""

    episodes: dict[str, None] = field(default_factory=dict)  # with a new acknowledgement or feedback
    silences: bool = False  # whether a silence began or ended


class _Records:
    """The records in memory. Dropped ones are reported to ``positions``."""

    def __init__(self, most_bytes: int, positions: ReadPositions) -> None:
        self.decided, self._positions = CurrentDecisions(), positions
        self.external: dict[str, External] = {}  # by key
        self.nbytes, self._most_bytes = 0, most_bytes
        self._sizes: OrderedDict[bytes, int] = OrderedDict()  # key -> bytes, oldest first

    def take(self, key: bytes, value: bytes | None) -> None:
        """Raises AnomalyError, ValueError."""
        if len(key) + len(value or b"") > RECORD_BYTES:
            raise ValueError
        if external.is_key(key):
            self._take_external(key.decode("utf-8", "replace"), value)
            return
        self.decided.take(key, value)
        self.nbytes -= self._sizes.pop(key, 0)
        if value is not None:
            self._sizes[key] = size = len(key) + len(value) + OWN_BYTES
            self.nbytes += size
        while self.nbytes > self._most_bytes:
            oldest, size = self._sizes.popitem(last=False)
            self.nbytes -= size
            self.decided.take(oldest, None)
            self._positions.forget(_episode(oldest))

    def _take_external(self, key: str, value: bytes | None) -> None:
        """A closed episode is not opened again by the record of a server that did not know of the end."""
        if value is None:
            self.external.pop(key, None)
            return
        new, known = external.decode(value), self.external.get(key)
        if known is None and len(self.external) >= MOST_EXTERNAL:
            raise ValueError
        if known is None or not (known.number > new.number or (known.number == new.number and known.closed)):
            self.external[key] = new


class DecisionsMirror(TopicFollower):
    """Is current while ``run`` runs. ``connect`` makes a LogReader, or a fake of it in tests."""

    def __init__(
        self,
        topic: str,
        connect: Callable[[], Any],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        super().__init__(topic, connect, sleep)
        self.unreadable = 0
        self.positions = ReadPositions()
        self._most_bytes = most_bytes
        self._consumer: Any = None
        self._changed = DecisionChanges()
        self._read_on = asyncio.Event()
        self._current = _Records(most_bytes, self.positions)
        self._next: _Records | None = None  # is being read, and replaces ``_current`` when it is complete

    # --- queries

    @property
    def nbytes(self) -> int:
        """Memory of all records."""
        return self._current.nbytes

    def acknowledged(self, episode: str) -> Acknowledgement | None:
        return self._current.decided.acknowledged.get(episode)

    def feedback(self, episode: str) -> Feedback | None:
        return self._current.decided.feedback.get(episode)

    @property
    def external(self) -> dict[str, External]:
        """The last reported episode of each source, metric and type, by key."""
        return self._current.external

    def silences(self) -> list[Silence]:
        """All silences, also ended ones."""
        return self._current.decided.silences()

    def silence(self, labels: Mapping[str, str], at: float) -> Silence | None:
        """The silence that matches these labels at this time and ends last."""
        return self._current.decided.silence(labels, at)

    def drain(self) -> DecisionChanges:
        """The changes since the last call."""
        changed, self._changed = self._changed, DecisionChanges()
        return changed

    # --- records

    def take(self, key: bytes | None, value: bytes | None, place: tuple[int, int] | None = None) -> None:
        """One record, in the order of the topic. ``place``: partition and offset; None before it is read back."""
        if key is None or overdue.is_key(key):
            return
        if place and not key.startswith((b"silence/", external.PREFIX.encode())):
            self.positions.record_read(_episode(key), place)
        try:
            if self._next:
                self._next.take(key, value)
            else:
                self._current.take(key, value)
                self._note(key)
        except (AnomalyError, ValueError):  # not ours: alerters skip it, too
            self.unreadable += 1

    def written(self, key: bytes, value: bytes | None) -> None:
        """A record that this process has just written, before it is read back."""
        self.take(key, value)
        if self._next:
            with contextlib.suppress(AnomalyError, ValueError):
                self._current.take(key, value)
                self._note(key)

    def _note(self, key: bytes) -> None:
        if key.startswith(b"silence/"):
            self._changed.silences = True
        elif not external.is_key(key):
            self._changed.episodes[_episode(key)] = None

    async def catch_up(self) -> bool:
        """Wait until all records that the topic has now are read; False if that takes longer than ANSWER_S."""
        consumer = self._consumer
        if consumer is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                ends = await consumer.last_stable_offsets(consumer.assignment())
                while self._consumer is consumer:
                    if not self._next and not [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
                        return True
                    self._read_on.clear()
                    await self._read_on.wait()
        except (KafkaError, OSError, TimeoutError):
            pass
        return False

    async def _read(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Read from the beginning: a deleted record may have been compacted away meanwhile."""
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.last_stable_offsets(partitions)
        self._next = _Records(self._most_bytes, self.positions)
        self._consumer = consumer
        try:
            await self._follow(consumer, partitions, ends)
        finally:
            self._consumer = None

    async def _follow(
        self, consumer: Any, partitions: list[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=WAIT_MS, max_records=1000)).values():
                for record in records:
                    self.take(record.key, record.value, (record.partition, record.offset))
                    self.positions.positions[record.partition] = record.offset + 1
            if self._next and not [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
                self._current, self._next = self._next, None
                self._changed.silences = True
                self._set_state("reading")
            self._read_on.set()


def _episode(key: bytes) -> str:
    """The episode that a decision is about."""
    return key.decode("utf-8", "replace").partition("/")[2]


def kafka_reader(options: dict[str, Any]) -> Callable[[], LogReader]:
    """``connect`` for a ``DecisionsMirror``; ``options`` are those of app.kafka.client.client_options."""
    return lambda: LogReader(**options, **CONSUMER)

"""What people have decided, as this process knows it: a mirror of the topic of decisions, in memory.

The topic is small and compacted. It is read whole at start and then followed, so that what one worker was told over
HTTP is known in all of them within a second. Its size is bounded: of very many decisions the oldest are forgotten
here, and stay in the topic and in the history.
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

from app.alerting.decided import Decided
from app.errors import AnomalyError
from app.kafka.log_reader import LogReader
from app.web.live.cursor import Feed
from app.web.live.follower import Follower
from app.wire import external, overdue
from app.wire.decisions import Acknowledgement, Feedback, Silence
from app.wire.external import External

MOST_BYTES = 8 << 20  # of the records that are kept: some 30,000
RECORD_BYTES = 64 << 10  # a larger one is none of ours
MOST_EXTERNAL = 10_000  # sources, metrics and types of which others report
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
class Decisions:
    """What was decided since the last call of ``Mirror.drain``."""

    episodes: dict[str, None] = field(default_factory=dict)  # acknowledged, or of which somebody said what they were
    silences: bool = False  # whether some began or ended


class _Kept:
    """The records that are kept; the feed is told of what is not."""

    def __init__(self, most_bytes: int, feed: Feed) -> None:
        self.decided, self._feed = Decided(), feed
        self.external: dict[str, External] = {}  # by key
        self.nbytes, self._most_bytes = 0, most_bytes
        self._sizes: OrderedDict[bytes, int] = OrderedDict()  # key -> bytes, that decided first at the front

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
            self._feed.forget(_episode(oldest))

    def _take_external(self, key: str, value: bytes | None) -> None:
        """What closed is not opened again by a server that did not know it."""
        if value is None:
            self.external.pop(key, None)
            return
        new, known = external.decode(value), self.external.get(key)
        if known is None and len(self.external) >= MOST_EXTERNAL:
            raise ValueError
        if known is None or not (known.number > new.number or (known.number == new.number and known.closed)):
            self.external[key] = new


class Mirror(Follower):
    """Of one topic, while ``run`` runs. ``connect`` makes a LogReader, or what stands for one in tests."""

    def __init__(
        self,
        topic: str,
        connect: Callable[[], Any],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        super().__init__(topic, connect, sleep)
        self.unreadable = 0
        self.feed = Feed()
        self._most_bytes = most_bytes
        self._consumer: Any = None
        self._changed = Decisions()
        self._read_on = asyncio.Event()
        self._kept = _Kept(most_bytes, self.feed)
        self._next: _Kept | None = None  # is being read, and takes its place when all of it is

    # --- what is known

    @property
    def nbytes(self) -> int:
        """What is kept takes."""
        return self._kept.nbytes

    def acknowledged(self, episode: str) -> Acknowledgement | None:
        return self._kept.decided.acknowledged.get(episode)

    def feedback(self, episode: str) -> Feedback | None:
        return self._kept.decided.feedback.get(episode)

    @property
    def external(self) -> dict[str, External]:
        """What is known of the last episode of each source, metric and type that others report, by key."""
        return self._kept.external

    def silences(self) -> list[Silence]:
        """All that there are, also those that have ended."""
        return self._kept.decided.silences()

    def silence(self, labels: Mapping[str, str], at: float) -> Silence | None:
        """That which covers these labels at this time and ends last."""
        return self._kept.decided.silence(labels, at)

    def drain(self) -> Decisions:
        """What changed since the last call."""
        changed, self._changed = self._changed, Decisions()
        return changed

    # --- what comes

    def take(self, key: bytes | None, value: bytes | None, place: tuple[int, int] | None = None) -> None:
        """One record, in the order of the topic; without a place one that was written just now and will come."""
        if key is None or overdue.is_key(key):
            return
        if place and not key.startswith((b"silence/", external.PREFIX.encode())):
            self.feed.took(_episode(key), place)
        try:
            if self._next:
                self._next.take(key, value)
            else:
                self._kept.take(key, value)
                self._note(key)
        except (AnomalyError, ValueError):  # of somebody else: alerters pass it over, too
            self.unreadable += 1

    def took(self, key: bytes, value: bytes | None) -> None:
        """One that this process has written just now, and will read yet."""
        self.take(key, value)
        if self._next:
            with contextlib.suppress(AnomalyError, ValueError):
                self._kept.take(key, value)
                self._note(key)

    def _note(self, key: bytes) -> None:
        if key.startswith(b"silence/"):
            self._changed.silences = True
        elif not external.is_key(key):
            self._changed.episodes[_episode(key)] = None

    async def catch_up(self) -> bool:
        """Return when all that is in the topic now is known here; False if that takes too long."""
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
        """Everything anew: what was taken back meanwhile may have left no trace."""
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.last_stable_offsets(partitions)
        self._next = _Kept(self._most_bytes, self.feed)
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
                    self.feed.positions[record.partition] = record.offset + 1
            if self._next and not [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
                self._kept, self._next = self._next, None
                self._changed.silences = True
                self._now("reading")
            self._read_on.set()


def _episode(key: bytes) -> str:
    """Of which a decision is."""
    return key.decode("utf-8", "replace").partition("/")[2]


def kafka_reader(options: dict[str, Any]) -> Callable[[], LogReader]:
    """A maker of readers for ``Mirror``; ``options`` are those of app.kafka.client.client_options."""
    return lambda: LogReader(**options, **CONSUMER)

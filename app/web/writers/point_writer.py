"""Writes points that come over HTTP to the input topic: checked, acknowledged by all in-sync replicas, each once.

The producer is created with the first point, and again after each failure, because after a failure brokers may refuse
the next batch of an idempotent producer. Points without an acknowledgement are never reported as written. The number
of points that wait for theirs is bounded, also while no broker answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import DefaultPartitioner

from app.errors import Busy, InvalidPoint, TopicError
from app.kafka import topics
from app.kafka.admin import connected
from app.kafka.authorized_operations import lacking
from app.kafka.client import client_options
from app.kafka.patches import close_without_acknowledgements
from app.kafka.permissions import of_posts
from app.settings import Settings
from app.wire.writer import NewPoint, NewRecord, Writer

log = logging.getLogger(__name__)

MOST_IN_FLIGHT = 20_000  # points
MOST_BYTES = 32 << 20  # of them
RETRY_S = 1.0  # until a failed connection is tried again
LINGER_MS = 2
TURN = 200  # records until other tasks get a turn


class Written(NamedTuple):
    """All in-sync replicas have it. ``id``: of its result, topic:partition:offset:index."""

    id: str


class Unwritten(NamedTuple):
    """Not acknowledged. ``maybe``: it may have been written nevertheless."""

    reason: str
    maybe: bool


Outcome = Written | InvalidPoint | Unwritten


class PointWriter:
    """Writes points to ``kafka.input_topic``.

    Attributes
    ----------
    problem
        Why no point can be written with these settings; "" if points can be.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Awaitable[AIOKafkaProducer]] | None = None,
        most: int = MOST_IN_FLIGHT,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._kafka = settings.kafka
        self._topic = settings.kafka.input_topic
        self._writer = Writer(settings.input, self._topic)
        self.problem = self._writer.problem
        self._connect = connect or partial(connected_producer, settings)
        self._most, self._most_bytes = most, most_bytes
        self._clients: set[_Client] = set()
        self._client: _Client | None = None
        self._waiting = _Count()  # points that no client has yet
        self._starting = asyncio.Lock()
        self._failed: tuple[float, TopicError] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Points that were taken and are not acknowledged yet."""
        return self._waiting.points + sum(client.count.points for client in self._clients)

    def records(self, points: Sequence[NewPoint]) -> list[NewRecord | InvalidPoint]:
        """For ``write``: the record of each point, or why it would be a dead letter."""
        return self._writer.records(points, int(time.time() * 1000))

    async def write(self, made: Sequence[NewRecord | InvalidPoint]) -> list[Outcome]:
        """What became of each of these. Returns when all are acknowledged, or after ``kafka.ack_timeout_s``.

        Raises
        ------
        Busy
            None of them is written, because too many wait.
        TopicError
            None of them is written: there is no broker, no such topic, or no right to write. The message says what to
            do.
        """
        outcomes: list[Any] = list(made)
        records = [(at, one) for at, one in enumerate(made) if isinstance(one, NewRecord)]
        if not records:
            return outcomes
        size = sum([_size(record) for _, record in records])
        self._reserve(len(records), size)
        until = time.monotonic() + self._kafka.ack_timeout_s
        try:
            client = await self._ready()
        finally:
            self._waiting.add(-len(records), -size)
        sent = await self._send(client, records, outcomes, until)
        if sent:
            await asyncio.wait(sent.values(), timeout=max(until - time.monotonic(), 0.0))
        for at, future in sent.items():
            outcomes[at] = self._outcome(future)
        bad = [outcome for outcome in outcomes if isinstance(outcome, Unwritten)]
        if bad:
            self._retire(client, bad[0].reason)
        return outcomes

    async def partitions(self, sources: Iterable[str]) -> dict[str, int]:
        """The partition of each source, as Kafka's own clients choose it. Raises TopicError, as ``write`` does."""
        client = await self._ready()
        known = sorted(await client.producer.partitions_for(self._topic))
        return {source: DefaultPartitioner()(source.encode(), known, known) for source in sources}

    async def stop(self) -> None:
        """Wait for what was sent, some seconds at most."""
        for client in list(self._clients):
            self._retire(client, "")
        await asyncio.gather(*self._closing)

    # --- sending

    def _reserve(self, points: int, size: int) -> None:
        count = self._waiting
        if self.in_flight + points > self._most or self._bytes + size > self._most_bytes:
            raise Busy(f"{self.in_flight} points wait for their acknowledgement, {self._most} may")
        count.add(points, size)

    @property
    def _bytes(self) -> int:
        return self._waiting.bytes + sum(client.count.bytes for client in self._clients)

    async def _ready(self) -> _Client:
        async with self._starting:
            if self._client is None:
                if self._failed and time.monotonic() - self._failed[0] < RETRY_S:
                    raise TopicError(str(self._failed[1]))  # many ask while there is no broker
                try:
                    self._client = _Client(await self._connect())
                except TopicError as error:
                    self._failed = time.monotonic(), error
                    raise
                self._clients.add(self._client)
            return self._client

    async def _send(
        self, client: _Client, records: Sequence[tuple[int, NewRecord]], outcomes: list[Any], until: float
    ) -> dict[int, asyncio.Future[Any]]:
        """Futures of those that were handed to the producer; of the others the outcome is written."""
        sent: dict[int, asyncio.Future[Any]] = {}
        failed = ""
        for i, (at, record) in enumerate(records):
            if i % TURN == TURN - 1:
                await asyncio.sleep(0)
            if failed:
                outcomes[at] = Unwritten(failed, maybe=False)
                continue
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    future = await client.producer.send(self._topic, record.value, record.key)
            except MessageSizeTooLargeError as error:
                outcomes[at] = InvalidPoint("too_large", f"$: {error}")
            except (KafkaError, TimeoutError) as error:
                failed = self._said(error)
                outcomes[at] = Unwritten(failed, maybe=False)
            else:
                client.sent(future, _size(record))
                sent[at] = future
        return sent

    def _outcome(self, future: asyncio.Future[Any]) -> Outcome:
        if not future.done():
            return Unwritten(f"no acknowledgement within {self._kafka.ack_timeout_s:g} s", maybe=True)
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            place = future.result()
            # A broker that knows the batch, and not its place: it was written before its answer was lost.
            if place.offset < 0 or place.log_start_offset == -1:
                return Unwritten("it is written, but the broker does not say where", maybe=True)
            return Written(f"{place.topic}:{place.partition}:{place.offset}:0")
        if isinstance(error, MessageSizeTooLargeError):
            return InvalidPoint("too_large", f"$: {error}")
        denied = isinstance(error, TopicAuthorizationFailedError)
        return Unwritten(self._said(error), maybe=not denied)

    def _said(self, error: BaseException | None) -> str:
        if isinstance(error, TopicAuthorizationFailedError):
            return "; ".join(topics.rights_problems(self._kafka, of_posts(self._topic)))
        if isinstance(error, UnknownTopicOrPartitionError):
            return f"topic {self._topic} is missing: make it with {topics.CREATE}"
        if isinstance(error, TimeoutError):
            return f"no broker took it within {self._kafka.ack_timeout_s:g} s"
        return f"{type(error).__name__} {error}".strip()

    def _retire(self, client: _Client, why: str) -> None:
        """The next point gets a new producer; this one ends when what it holds is acknowledged, or too late."""
        if self._client is client:
            self._client = None
            if why:
                log.warning("points over HTTP: a new producer, because of this: %s", why)
        if not client.retired:
            client.retired = True
            task = asyncio.create_task(self._close(client))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, client: _Client) -> None:
        producer = client.producer
        try:
            async with asyncio.timeout(min(self._kafka.ack_timeout_s, 5.0)):
                while client.count.points:
                    await asyncio.sleep(0.02)
                await producer.stop()
        except (KafkaError, TimeoutError):
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(5.0):
                    await close_without_acknowledgements(producer)
        finally:
            self._clients.discard(client)


class _Count:
    """Points and their bytes."""

    def __init__(self) -> None:
        self.points = self.bytes = 0

    def add(self, points: int, size: int) -> None:
        self.points += points
        self.bytes += size


class _Client:
    """A producer, and what waits for its acknowledgement."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self.count = _Count()
        self.retired = False

    def sent(self, future: asyncio.Future[Any], size: int) -> None:
        self.count.add(1, size)
        future.add_done_callback(partial(self._acknowledged, size))

    def _acknowledged(self, size: int, future: asyncio.Future[Any]) -> None:
        self.count.add(-1, -size)
        if not future.cancelled():
            future.exception()  # who waits for it may be gone


def _size(record: NewRecord) -> int:
    return len(record.value or b"") + len(record.key or b"")


async def connected_producer(settings: Settings) -> AIOKafkaProducer:
    """A producer that has its id, for a topic that is there and may be written. Raises TopicError."""
    kafka = settings.kafka
    async with connected(kafka) as admin:
        if kafka.input_topic not in await admin.list_topics():
            raise TopicError(f"topic {kafka.input_topic} is missing: make it with {topics.CREATE}")
        if problems := topics.rights_problems(kafka, await lacking(admin, of_posts(kafka.input_topic))):
            raise TopicError("; ".join(problems))
    producer = AIOKafkaProducer(
        **client_options(kafka),
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        request_timeout_ms=int(kafka.ack_timeout_s * 1000),
    )
    try:
        async with asyncio.timeout(kafka.ack_timeout_s):
            await producer.start()
    except (KafkaError, TimeoutError) as error:
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(producer.client.close(), 5.0)
        raise TopicError(f"{', '.join(kafka.bootstrap_servers)}: {type(error).__name__} {error}") from error
    return producer

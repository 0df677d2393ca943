"""Sends the records of a generator to Kafka or to a file, at the rate that was asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import msgspec

from app.errors import DeliveryError, TopicError
from generators.api import GeneratedRecord, Remark

if TYPE_CHECKING:
    from app.settings import KafkaSettings

LOGGER = logging.getLogger("aiokafka")
YIELD_EVERY = 500  # records after which the event loop handles Ctrl-C, acknowledgements and the progress line


class Output(Protocol):
    """Everything sent is written when its ``async with`` block has ended without an exception."""

    async def send(self, record: GeneratedRecord) -> None: ...

    async def idle(self) -> None:
        """Called before a wait for the next record."""


@dataclass(frozen=True)
class SendSchedule:
    """When records are sent: at a rate per second, or in event time faster by a factor, or at once (neither)."""

    speed: float | None = None
    rate: float | None = None

    def due(self, sent: int, elapsed_s: float) -> float:
        """Seconds after the first record; ``elapsed_s``: event time since the first one's."""
        if self.rate is not None:
            return sent / self.rate
        return elapsed_s / self.speed if self.speed is not None else 0.0


@dataclass
class Totals:
    points: int = 0
    anomalies: int = 0  # points with a label
    unreadable: int = 0
    taken: int | None = None  # accepted by the worker, where it says so
    refused: int = 0
    sources: set[str] = field(default_factory=set)


async def feed(
    records: Iterable[GeneratedRecord | Remark],
    output: Output,
    schedule: SendSchedule,
    totals: Totals,
    remark: Callable[[Remark], None] = lambda remark: None,
    progress: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> None:
    """Send every record when it is due; ``totals`` counts along, so it is right after Ctrl-C too."""
    begin = first = None
    for record in records:
        if isinstance(record, Remark):
            totals.unreadable += record.unreadable
            remark(record)
            continue
        if begin is None or first is None:
            begin, first = clock(), record.timestamp
        wait = schedule.due(totals.points, record.timestamp - first)
        if wait > 0.0 and (wait := wait - (clock() - begin)) > 0.0:
            await output.idle()
            progress()
            await sleep(wait)
        await output.send(record)
        totals.points += 1
        totals.anomalies += record.label != ""
        totals.sources.add(record.source)
        if totals.points % YIELD_EVERY == 0:
            progress()
            await asyncio.sleep(0)


def encode(record: GeneratedRecord, labels: bool) -> bytes:
    """A value of raw-data; the label, where there is one, only when asked for."""
    point: dict[str, Any] = {"source": record.source, "timestamp": record.timestamp}
    if record.metric:
        point |= {"metric": record.metric, "value": record.values[record.metric]}
    elif record.values.keys() == {"value"}:
        point["value"] = record.values["value"]
    else:
        point["values"] = record.values
    if labels and record.label:
        point["label"] = record.label
    return msgspec.json.encode(point)


class FileOutput:
    """One record a line."""

    def __init__(self, file: BinaryIO, labels: bool) -> None:
        self.file, self.labels = file, labels

    async def __aenter__(self) -> FileOutput:
        return self

    async def __aexit__(self, *exception: Any) -> None:
        self.file.flush()

    async def send(self, record: GeneratedRecord) -> None:
        self.file.write(encode(record, self.labels) + b"\n")

    async def idle(self) -> None:
        self.file.flush()


class KafkaOutput:
    """Keyed by source, each record acknowledged by all replicas and written once (an idempotent producer).

    DeliveryError when the brokers do not answer within ``kafka.ack_timeout_s``; TopicError when there is no
    broker, or no such topic: a broker might create it with its own defaults.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, labels: bool) -> None:
        self.kafka, self.topic, self.labels = kafka, topic, labels
        self._failed: BaseException | None = None

    async def __aenter__(self) -> KafkaOutput:
        from aiokafka import AIOKafkaProducer  # not at the top: standard output does without

        from app.kafka import patches, topics
        from app.kafka.admin import connected
        from app.kafka.authorized_operations import lacking
        from app.kafka.client import client_options
        from app.kafka.permissions import of_generator

        patches.apply_to_clients()
        async with connected(self.kafka) as admin:
            if self.topic not in await admin.list_topics():
                raise TopicError(f"topic {self.topic} is missing: make it with {topics.CREATE}")
            if problems := topics.rights_problems(self.kafka, await lacking(admin, of_generator(self.topic))):
                raise TopicError("; ".join(problems))
        # While no broker answers, aiokafka logs it thousands of times a second; it is reported once, at the end.
        self._level = LOGGER.level
        LOGGER.setLevel(logging.CRITICAL)
        self._producer = AIOKafkaProducer(
            **client_options(self.kafka),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=1 << 18,
            request_timeout_ms=int(self.kafka.ack_timeout_s * 1000),
        )
        await self._producer.start()
        return self

    async def __aexit__(self, kind: Any, *exception: Any) -> None:
        # stop() sends what waits and waits for its acknowledgements, without end when no broker answers.
        stop = asyncio.ensure_future(self._producer.stop())
        await asyncio.wait([stop], timeout=self.kafka.ack_timeout_s)
        LOGGER.setLevel(self._level)
        if not stop.done():
            stop.cancel()
            silent = f"no acknowledgement within {self.kafka.ack_timeout_s:g} s: is the broker up?"
            self._failed = self._failed or TimeoutError(silent)
        if kind is None:
            await self.idle()

    async def send(self, record: GeneratedRecord) -> None:
        from aiokafka.errors import KafkaError

        await self.idle()
        try:
            value = encode(record, self.labels)
            sent = await self._producer.send(self.topic, value, key=record.source.encode())
        except KafkaError as error:
            self._failed = error
            await self.idle()
        else:
            sent.add_done_callback(self._acknowledged)

    async def idle(self) -> None:
        if self._failed is not None:
            raise DeliveryError(f"{self.topic}: a record was not written: {self._failed}") from self._failed

    def _acknowledged(self, sent: asyncio.Future) -> None:
        if not sent.cancelled() and sent.exception() is not None:
            self._failed = self._failed or sent.exception()

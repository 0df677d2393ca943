"""Every change this program makes to aiokafka and Faust from outside, for aiokafka 0.14.0 and Faust 0.15.3.

Nothing changes by importing this module, or as a side effect of another call. The worker calls ``apply`` once at its
start; other programs call ``apply_to_clients`` before they connect. A second call replaces the first.
The functions at the end of the module take one consumer, coordinator, fetcher or producer and change only that one.

tests/unit/kafka/test_patches.py fails when the source of a patched function changes: read it then, and check whether
the reason still holds.
"""

import asyncio
import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any
from weakref import proxy

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import AuthenticationFailedError
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from app.kafka.fetched import Fetched, whole

IDLE_WAIT_MS = 100  # nothing else can be asked over the connection while the broker waits

# As aiokafka has them.
_close = AIOKafkaConnection.close
_failure = MessageBatch.failure
_metadata_update = AIOKafkaClient._metadata_update
_oauth_step = OAuthAuthenticator.step
_consumer_record = PartitionRecords._consumer_record
_unpack_records = PartitionRecords._unpack_records


def apply(
    *,
    parsed: Collection[str],
    partly_read: Collection[str],
    whole_fetches: bool,
    on_lost_batch: Callable[[TopicPartition, Exception], None],
) -> None:
    """All changes that a worker needs.

    Parameters
    ----------
    parsed
        Topics for ``keep_records_as_parsed``.
    partly_read, whole_fetches
        See ``unpack_fetches``.
    on_lost_batch
        See ``report_lost_batches``.
    """
    apply_to_clients()
    skip_marks_for_discovery()
    wait_between_tries()
    report_lost_batches(on_lost_batch)
    keep_records_as_parsed(parsed)
    skip_empty_control_batches()
    unpack_fetches(partly_read, whole_fetches)


def apply_to_clients() -> None:
    """The changes that every program needs which connects to a broker."""
    close_tls_connections_at_once()
    report_refused_tokens()


def skip_marks_for_discovery() -> None:
    """Let decorators such as ``@app.agent`` only create their agent.

    Faust also marks it, for programs that let Faust look through their modules for agents. For the mark the standard
    library looks up the file of every module that is loaded, a tenth of a second of a start.
    """

    from faust.utils import venusian  # commands that call other changes do without Faust

    def attach(*_: Any, **__: Any) -> None:
        return None

    venusian.attach = attach  # type: ignore[assignment]


def close_tls_connections_at_once() -> None:
    """Close a TLS connection without waiting for the broker's closing message.

    A broker that holds a fetch request does not send one, and the event loop waits 30 s for it: recovery took that
    long, and the end of a process. Nothing is lost: every request that matters has been answered.
    """

    def close(self: AIOKafkaConnection, reason: Any = None, exc: Any = None) -> Any:
        transport = self._writer.transport if self._writer is not None else None
        closed = _close(self, reason, exc)
        if transport is not None and "SSL" in self._security_protocol:
            transport.abort()
        return closed

    AIOKafkaConnection.close = close  # type: ignore[method-assign]


def wait_between_tries() -> None:
    """Wait for retry_backoff_ms before the metadata is requested again after all brokers failed to answer.

    A producer with records to send asks again at once, although a comment in its code says otherwise: 270 times a
    second while a broker refuses connections, 1,400 times while its host name cannot be resolved.
    """

    async def update(self: AIOKafkaClient, cluster: Any, topics: Any) -> bool:
        updated: bool = await _metadata_update(self, cluster, topics)
        if not updated:
            await asyncio.sleep(self._retry_backoff)
        return updated

    AIOKafkaClient._metadata_update = update  # type: ignore[method-assign]


def report_refused_tokens() -> None:
    """Raise an error when a broker refuses a token: aiokafka takes its answer for a login, and the next request fails.

    The answer is JSON that says why (RFC 7628, section 3.2.2).
    """

    async def step(self: OAuthAuthenticator, payload: bytes | None) -> Any:
        if payload:
            raise AuthenticationFailedError(f"the token was refused: {payload[:200].decode('utf-8', 'replace')}")
        return await _oauth_step(self, payload)

    OAuthAuthenticator.step = step


def report_lost_batches(on_lost_batch: Callable[[TopicPartition, Exception], None]) -> None:
    """Call this when the producer gives up a record batch, inside its own failure path.

    The caller of ``send_batch`` learns of it later, when the next batch of the partition may already be sent. Results
    must have no gaps, so the callback ends the process.
    """

    def failure(self: MessageBatch, exception: Exception) -> None:
        on_lost_batch(self.tp, exception)

    MessageBatch.failure = failure


def keep_records_as_parsed(topics: Collection[str]) -> None:
    """Do not copy each record of these topics into a ConsumerRecord: .7 us each.

    The parser's records have offset, timestamp, key, value and headers too.
    """

    def consumer_record(self: PartitionRecords, tp: TopicPartition, record: Any) -> Any:
        return record if tp.topic in topics else _consumer_record(self, tp, record)

    PartitionRecords._consumer_record = consumer_record


def skip_empty_control_batches() -> None:
    """Skip a control batch (the end marker of a transaction) whose record was removed by compaction.

    The broker keeps the batch because it holds the producer's last offset. aiokafka raises KafkaError for it, so a
    worker would end at this offset after each restart. Java's consumer skips it.
    """

    def contains_abort_marker(self: PartitionRecords, batch: Any) -> bool:
        marker = next(batch, None)
        return marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER

    PartitionRecords._contains_abort_marker = contains_abort_marker


def unpack_fetches(partly_read: Collection[str], whole_fetches: bool) -> None:
    """Change what a consumer makes of a fetch.

    Parameters
    ----------
    partly_read
        Topics whose fetches are freed as soon as their consumer seeks beyond them. In aiokafka the fetch and the
        generator that reads it refer to each other until it is read to its end, so a fetch that is skipped stays until
        the garbage collector finds the cycle: at 5,000 records/s 26 MB in 100 s. A weak reference costs .13 us a
        record, so it is not used for topics that are read to their end.
    whole_fetches
        Consumers with ``whole`` as their key deserializer get each fetch as one ``Fetched``, where that is possible:
        recovery reads it with compiled code, instead of 2 us a record in the event loop.
    """

    def unpack(self: PartitionRecords) -> Iterator[Any]:
        fetch = proxy(self) if self._tp.topic in partly_read else self  # whoever asks for a record holds the fetch
        asked = whole_fetches and self._key_deserializer is whole
        # Named by the broker to readers of what is committed, and to no others.
        aborted = self._aborted_transactions if asked else ()
        found = Fetched.of(self._records.data, self.next_fetch_offset, aborted) if asked else None
        return _only(fetch, found) if found else _unpack_records(fetch)

    fetcher.MemoryRecords = _KeepsData if whole_fetches else MemoryRecords
    PartitionRecords._unpack_records = unpack


def _only(fetch: Any, found: Fetched) -> Iterator[Fetched]:
    fetch.next_fetch_offset = found.end
    yield found


class _KeepsData(MemoryRecords):
    """aiokafka's parser does not give back the bytes it parses."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


def set_fetch_options(consumer: AIOKafkaConsumer, *, min_bytes: int, max_wait_ms: int, isolation_level: str) -> None:
    """Set options of a consumer that Faust has made and not started yet: Faust does not pass them to aiokafka."""
    consumer._fetch_min_bytes = min_bytes
    consumer._fetch_max_wait_ms = max_wait_ms
    consumer._isolation_level = isolation_level


def wait_while_idle(of: fetcher.Fetcher) -> None:
    """Let a broker whose last response was empty wait longer, and respond with the first record that it gets.

    The settings let a broker collect records for some milliseconds. While there are none, each wait is a request for
    nothing: 190 a second, 7 % of a core in an idle worker and as much in its broker. To be called once for each
    fetcher; a new assignment begins with the wait of the settings.
    """
    request_records = of._proc_fetch_request
    idle: dict[int, Any] = {}  # broker -> assignment for which its last response was empty

    async def request_patiently(assignment: Any, node_id: int, request: Any) -> bool:
        if idle.get(node_id) is assignment:
            request._min_bytes, request._max_wait_ms = 1, max(IDLE_WAIT_MS, request._max_wait_ms)
        found: bool = await request_records(assignment, node_id, request)
        idle[node_id] = None if found else assignment
        return found

    of._proc_fetch_request = request_patiently


def with_isolation_level(of: fetcher.Fetcher, isolation_level: int) -> fetcher.Fetcher:
    """A copy of the fetcher that asks for offsets at this level: aiokafka's has one level for everything."""
    copied = copy.copy(of)
    copied._isolation_level = isolation_level
    return copied


def report_lost_membership(coordinator: GroupCoordinator, on_lost_membership: Callable[[], None]) -> None:
    """Call this when the group does not know the member any more, before aiokafka joins again under a new identity.

    aiokafka logs it and joins again. For a static member that is wrong: it would take the place of the process that
    has the same ``group.instance.id`` now, in the same generation of the group.
    """
    reset = coordinator.reset_generation

    def reset_generation() -> None:
        if not coordinator._closing.done():
            on_lost_membership()
        reset()

    coordinator.reset_generation = reset_generation


async def close_without_acknowledgements(producer: AIOKafkaProducer) -> None:
    """Close a producer that still waits for acknowledgements: ``stop`` would wait for ever when no broker answers."""
    producer._closed = True
    await producer.client.close()
    await producer._sender.close()

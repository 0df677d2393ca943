"""What aiokafka and Faust do with our changes, and without: when a test of the latter fails, a change is not needed."""

import asyncio
import gc
import hashlib
import inspect
import struct
import subprocess
import sys
import weakref
from types import SimpleNamespace

import aiokafka
import faust
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.sender import Sender
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from faust.utils import venusian

from app.kafka import patches

ORIGINALS = {  # as they are before any test of this process calls a patch
    (AIOKafkaConnection, "close"): AIOKafkaConnection.close,
    (OAuthAuthenticator, "step"): OAuthAuthenticator.step,
    (MessageBatch, "failure"): MessageBatch.failure,
    (AIOKafkaClient, "_metadata_update"): AIOKafkaClient._metadata_update,
    (PartitionRecords, "_consumer_record"): PartitionRecords._consumer_record,
    (PartitionRecords, "_contains_abort_marker"): PartitionRecords._contains_abort_marker,
    (PartitionRecords, "_unpack_records"): PartitionRecords._unpack_records,
    (fetcher, "MemoryRecords"): MemoryRecords,
    (venusian, "attach"): venusian.attach,
}
READ = {
    Fetcher._get_actions_per_node: "1dab2cf937d165d0",
    Fetcher._proc_fetch_request: "59bf948fff47eed5",
    OAuthAuthenticator.step: "3a013ab61098033c",
    AIOKafkaConnection.close: "28f164aa1e4f0bbc",
    MessageBatch.failure: "719b2122c318e955",
    AIOKafkaClient._metadata_update: "06dc51ed3e0d38b8",
    Sender._sender_routine: "2380dc5e333d9ebd",
    Sender.close: "f60b3d023d2526f4",
    AIOKafkaProducer.stop: "43ef97147111893b",
    AIOKafkaConsumer.start: "2f1ba70443327538",
    Fetcher._retrieve_offsets: "21d33dde2892a56a",
    Fetcher._proc_offset_request: "40c09472da94d88c",
    GroupCoordinator.reset_generation: "537aa37c531b4de9",
    GroupCoordinator._do_heartbeat: "dc1d6632aaa68e96",
    PartitionRecords._consumer_record: "e668541600b047ab",
    PartitionRecords._contains_abort_marker: "17e9ad2322ef4e0a",
    PartitionRecords._unpack_records: "b803e6d46480732c",
    faust.App.agent: "ae1d2b662569c68b",
    venusian.attach: "bb8ca2183f846603",
}


def test_they_are_for_this_version():
    assert f"aiokafka {aiokafka.__version__} and Faust {faust.__version__}" in patches.__doc__


@pytest.mark.parametrize("function", READ, ids=lambda function: function.__qualname__)
def test_the_source_is_the_one_that_was_read(function):
    assert hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16] == READ[function]


def test_importing_them_changes_nothing():
    code = (
        "from aiokafka.conn import AIOKafkaConnection\n"
        "from aiokafka.consumer import fetcher\n"
        "from aiokafka.producer.message_accumulator import MessageBatch\n"
        "def now(): return (AIOKafkaConnection.close, MessageBatch.failure, fetcher.MemoryRecords,\n"
        "    fetcher.PartitionRecords._consumer_record, fetcher.PartitionRecords._unpack_records)\n"
        "before = now()\n"
        "from app.kafka import patches\n"
        "print(before == now(), end=' ')\n"
        "patches.close_tls_connections_at_once()\n"
        "print(before == now())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    for (owner, name), original in ORIGINALS.items():
        monkeypatch.setattr(owner, name, original)


def applied():
    given = {"parsed": ("p",), "partly_read": ("t",), "whole_fetches": False}
    patches.apply(**given, on_lost_batch=lambda partition, error: None)


def closed(protocol):
    """Whether the transport of such a connection is aborted when it is closed."""
    aborted = []

    async def close():
        connection = AIOKafkaConnection("host", 1, security_protocol=protocol)
        transport = SimpleNamespace(abort=lambda: aborted.append(True))
        connection._writer = SimpleNamespace(transport=transport, close=lambda: None)
        assert connection.close() is connection._closed_fut
        connection._writer = None
        connection.close()  # twice is no error

    asyncio.run(close())
    return bool(aborted)


def files_looked_up(monkeypatch):
    """By the standard library, for an agent that is made."""
    looked_up = []
    app = faust.App("marks", store="memory://")
    monkeypatch.setattr(inspect, "getmodule", lambda object, _filename=None: looked_up.append(object))

    @app.agent(app.topic("topic"))
    async def agent(stream):
        pass

    assert list(app.agents.values()) == [agent]
    return len(looked_up)


def test_an_agent_is_made_without_a_mark_for_discovery(monkeypatch):
    assert files_looked_up(monkeypatch)
    patches.skip_marks_for_discovery()
    assert not files_looked_up(monkeypatch)


def test_a_tls_connection_is_closed_at_once():
    assert not closed("SSL")
    patches.close_tls_connections_at_once()
    assert [closed(protocol) for protocol in ("SSL", "SASL_SSL", "PLAINTEXT")] == [True, True, False]


def test_brokers_that_are_away_are_not_asked_without_pause(monkeypatch):
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)

    async def asked():
        client = AIOKafkaClient(retry_backoff_ms=250)
        return await client._metadata_update(client.cluster, set())  # it knows no broker

    monkeypatch.setattr(patches.asyncio, "sleep", pause)
    assert asyncio.run(asked()) is False and pauses == []
    patches.wait_between_tries()
    assert asyncio.run(asked()) is False and pauses == [0.25]


def test_a_lost_batch_is_reported_before_its_futures_are_done():
    reported = []

    async def fail():
        batch = MessageBatch(TopicPartition("t", 1), None, 1.0, 0.0)
        batch.failure(OSError("gone"))
        return batch.future.done()

    patches.report_lost_batches(lambda partition, error: reported.append((partition, str(error))))
    assert not asyncio.run(fail())
    assert reported == [(TopicPartition("t", 1), "gone")]


def fetch(first=0, topic="t"):
    """Five records as aiokafka reads them from a response, from offset ``first`` on."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    for offset in range(5):
        builder.append(offset, 7, b"k", b"%d" % offset, [])
    data = fetcher.MemoryRecords(bytes(builder.build()))
    return PartitionRecords(TopicPartition(topic, 0), data, [], first, None, None, True, 0)


def test_records_of_some_topics_are_kept_as_parsed():
    applied()
    assert [isinstance(next(fetch(topic=topic)), ConsumerRecord) for topic in ("p", "t")] == [False, True]


def test_a_mark_of_a_transaction_that_compaction_has_emptied_is_passed_over():
    emptied = DefaultRecordBatchBuilder(2, 0, 1, 5, 0, 0, 1000).build()
    struct.pack_into(">h", emptied, 21, 0x30)
    struct.pack_into(">I", emptied, 17, calc_crc32c(bytes(emptied[21:])))

    def read():
        records = fetcher.MemoryRecords(bytes(emptied))
        return list(PartitionRecords(TopicPartition("t", 0), records, [], 0, None, None, True, 1))

    with pytest.raises(KafkaError, match="Control batch did not contain any records"):
        read()
    applied()
    assert read() == []


def test_a_fetch_that_is_read_in_part_is_freed_at_once():
    def outlives_who_read_it(topic="t"):
        part = fetch(topic=topic)
        assert next(part).value == b"0" and part.next_fetch_offset == 1
        reference = weakref.ref(part)
        del part
        return reference() is not None

    gc.disable()  # only counts of references free anything
    try:
        assert outlives_who_read_it()  # aiokafka's own
        applied()
        assert not outlives_who_read_it()
        assert outlives_who_read_it("another")
    finally:
        gc.enable()


def test_a_fetch_that_is_read_to_its_end_is_the_same():
    def read():
        whole = fetch(first=2)
        return [(record.offset, record.key, record.value) for record in whole], whole.next_fetch_offset

    before = read()
    applied()
    assert read() == before == ([(at, b"k", b"%d" % at) for at in (2, 3, 4)], 5)


def test_applied_twice_they_are_there_once():
    lost = []
    for name in ("first", "second"):
        patches.report_lost_batches(lambda *_, name=name: lost.append(name))
        patches.unpack_fetches(partly_read=(), whole_fetches=True)
    assert issubclass(fetcher.MemoryRecords, MemoryRecords)
    assert [record.offset for record in fetch()] == [0, 1, 2, 3, 4]
    MessageBatch.failure(SimpleNamespace(tp=None), OSError())
    assert lost == ["second"]


class Asked:
    """A fetcher whose brokers answer as they are told to, and what it asked them."""

    def __init__(self):
        self.asked = []

    async def _proc_fetch_request(self, assignment, node_id, request):
        self.asked.append((node_id, request._min_bytes, request._max_wait_ms))
        return request.found


def test_only_a_broker_that_had_nothing_is_asked_to_wait_longer():
    async def ask(found, node=1, assignment="first", wait_ms=5):
        request = FetchRequest(wait_ms, 3000, 1 << 20, 0, [])
        request.found = found
        await of._proc_fetch_request(assignment, node, request)
        return of.asked[-1]

    async def course():
        assert await ask(found=False) == (1, 3000, 5)
        assert await ask(found=False) == (1, 1, 100)
        assert await ask(found=True, node=2) == (2, 3000, 5)
        assert await ask(found=True) == (1, 1, 100)
        assert await ask(found=False) == (1, 3000, 5), "records came"
        assert await ask(found=False, assignment="second") == (1, 3000, 5)
        assert await ask(found=False, assignment="second", wait_ms=700) == (1, 1, 700), "as long as the settings say"

    of = Asked()
    patches.wait_while_idle(of)
    asyncio.run(course())


def test_a_consumer_is_started_with_the_options_that_are_set():
    async def made():
        consumer = AIOKafkaConsumer()
        names = set(vars(consumer))
        patches.set_fetch_options(consumer, min_bytes=7, max_wait_ms=11, isolation_level="read_committed")
        assert set(vars(consumer)) == names
        return consumer._fetch_min_bytes, consumer._fetch_max_wait_ms, consumer._isolation_level

    assert asyncio.run(made()) == (7, 11, "read_committed")


def test_a_fetcher_with_another_isolation_level_leaves_the_first_as_it_is():
    first = object.__new__(Fetcher)
    first._isolation_level = fetcher.READ_COMMITTED
    second = patches.with_isolation_level(first, fetcher.READ_UNCOMMITTED)
    assert (first._isolation_level, second._isolation_level) == (fetcher.READ_COMMITTED, fetcher.READ_UNCOMMITTED)


@pytest.mark.parametrize("closing", [False, True])
def test_lost_membership_is_reported_before_the_member_joins_again_unless_it_is_closing(closing):
    class Coordinator:
        def __init__(self):
            self._closing = asyncio.Future()

        def reset_generation(self):
            events.append("reset")

    async def lose():
        coordinator = Coordinator()
        patches.report_lost_membership(coordinator, lambda: events.append("reported"))
        if closing:
            coordinator._closing.set_result(None)
        coordinator.reset_generation()

    events = []
    asyncio.run(lose())
    assert events == (["reset"] if closing else ["reported", "reset"])


def test_a_producer_is_closed_without_its_acknowledgements():
    events = []

    def closing(name):
        async def close():
            events.append(name)

        return SimpleNamespace(close=close)

    producer = SimpleNamespace(_closed=False, client=closing("client"), _sender=closing("sender"))
    asyncio.run(patches.close_without_acknowledgements(producer))
    assert producer._closed and events == ["client", "sender"]


def test_a_request_is_sent_with_what_it_was_changed_to():
    request = FetchRequest(5, 3000, 1 << 20, 0, [])
    request._min_bytes, request._max_wait_ms = 1, 100
    sent = request.build(FetchRequest_v4)
    assert (sent.min_bytes, sent.max_wait_time) == (1, 100)

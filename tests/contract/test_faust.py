"""Every private attribute of Faust and aiokafka that this program relies on, by name.

Faust is pinned exactly; when the pin moves, this file says what to look at.
"""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import aiokafka
import faust
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import consumer as aiokafka_consumer
from aiokafka.consumer import subscription_state
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.app import base
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import conductor, consumer
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage, Message
from mode import Service, threads
from mode import worker as mode_worker

from app.settings import Settings
from app.stream.transport import Consumer

RELIED_ON = [
    (base.BootStrategy, "server"),
    (base.BootStrategy, "enable_web"),
    (base.App, "_new_transport"),
    (base.App, "_fetcher"),
    (base.App, "consumer_generation_id"),
    (base.App, "flow_control"),
    (base.App, "on_rebalance_end"),
    (base.App, "on_rebalance_complete"),
    (base.App, "rebalancing"),
    (driver.Transport, "Consumer"),
    (driver.Transport, "Producer"),
    (driver.Producer, "_settings_extra"),
    (driver.Producer, "_producer"),
    (driver.Consumer, "_new_consumer_thread"),
    (driver.Consumer, "_drain_messages"),
    (driver.Consumer, "_wait_next_records"),
    (driver.Consumer, "on_partitions_revoked"),
    (driver.Consumer, "on_buffer_full"),
    (driver.Consumer, "on_buffer_drop"),
    (driver.Consumer, "commit"),
    (driver.Consumer, "consumer_stopped_errors"),
    (driver.Consumer, "verify_all_partitions_active"),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
    (driver.AIOKafkaConsumerThread, "call_thread"),
    (driver.AIOKafkaConsumerThread, "seek"),
    (TableManager, "_recovery"),
    (TableManager, "_update_channels"),
    (TableManager, "on_actives_ready"),
    (TableManager, "on_standbys_ready"),
    (Recovery, "_restart_recovery"),
    (Recovery, "_slurp_changelogs"),
    (Recovery, "_publish_stats"),
    (Recovery, "signal_recovery_start"),
    (Recovery, "_set_recovery_started"),
    (Recovery, "_set_recovery_ended"),
    (Recovery, "_wait"),
    (threads.MethodQueue, "Worker"),
    (threads.MethodQueue, "_process_enqueued"),
    (threads.MethodQueue, "_queue"),
    (threads.MethodQueueWorker, "_method_queue_do_work"),
    (threads.QueueServiceThread, "_method_queue"),
    (mode_worker.Worker, "_gather_all"),
    (mode_worker.Worker, "_sentinel_task"),
    (GroupCoordinator, "fetch_committed_offsets"),
    (GroupCoordinator, "reset_generation"),
    (PartitionRecords, "_consumer_record"),
    (PartitionRecords, "_unpack_records"),
    (subscription_state.SubscriptionState, "subscription"),
    (subscription_state.Subscription, "assignment"),
    (subscription_state.Assignment, "state_value"),
    (subscription_state.TopicPartitionState, "position"),
    (subscription_state.TopicPartitionState, "has_valid_position"),
    (AIOKafkaAdminClient, "_send_request"),
    (AIOKafkaAdminClient, "_send_request_to_node"),
    (AIOKafkaConnection, "close"),
    (AIOKafkaClient, "_metadata_update"),
    (AIOKafkaClient, "_wait_on_metadata"),
    (Fetcher, "_proc_fetch_request"),
    (Fetcher, "_retrieve_offsets"),
    (Service, "_stopped"),
    (PartitionRecords, "_contains_abort_marker"),
    (MessageBatch, "failure"),
    (MessageBatch, "tp"),
    (BatchBuilder, "append"),
    (BatchBuilder, "close"),
    (BatchBuilder, "record_count"),
    (BatchBuilder, "size"),
    (BatchBuilder, "_set_producer_state"),
    (BatchBuilder, "_build"),
    (aiokafka.AIOKafkaProducer, "send_batch"),
]


@pytest.mark.parametrize(("owner", "name"), RELIED_ON, ids=lambda part: getattr(part, "__name__", part))
def test_it_is_there(owner, name):
    declared = {key for kind in owner.__mro__ for key in (*vars(kind), *getattr(kind, "__annotations__", {}))}
    assert name in declared


ASSIGNED = [
    (faust.App.on_init_dependencies, "self.sensors.add(self.monitor)"),
    (consumer.Consumer._commit_livelock_detector.fun, "await self.verify_all_partitions_active()"),
    (aiokafka_consumer.AIOKafkaConsumer.__init__, "self._fetch_min_bytes = "),
    (aiokafka_consumer.AIOKafkaConsumer.__init__, "self._fetch_max_wait_ms = "),
    (aiokafka_consumer.AIOKafkaConsumer.__init__, "self._isolation_level = "),
    (aiokafka_consumer.AIOKafkaConsumer.start, "isolation_level=self._isolation_level"),
    (aiokafka_consumer.AIOKafkaConsumer.start, "self._fetcher = Fetcher("),
    (Fetcher._proc_offset_request, "OffsetRequest(-1, self._isolation_level, "),
    (Fetcher._proc_fetch_request, "tp_state.lso = lso"),
    (aiokafka_consumer.AIOKafkaConsumer.start, "fetch_min_bytes=self._fetch_min_bytes"),
    (aiokafka_consumer.AIOKafkaConsumer.start, "fetch_max_wait_ms=self._fetch_max_wait_ms"),
    (aiokafka_consumer.AIOKafkaConsumer.start, "self._coordinator = GroupCoordinator("),
    (aiokafka_consumer.AIOKafkaConsumer.__init__, "self._subscription = "),
    (aiokafka_consumer.AIOKafkaConsumer.__init__, "self._client = AIOKafkaClient("),
    (aiokafka_consumer.AIOKafkaConsumer.__init__, "self._request_timeout_ms = "),
    (aiokafka.AIOKafkaProducer.__init__, "self._sender = Sender("),
    (aiokafka.AIOKafkaProducer.stop, "if self._closed:"),
    (AIOKafkaClient.__init__, "self._retry_backoff = retry_backoff_ms / 1000"),
    (PartitionRecords.__init__, "self._tp = "),
    (PartitionRecords.__init__, "self._aborted_transactions = "),
    (PartitionRecords.__init__, "self._key_deserializer = "),
    (PartitionRecords.__init__, "self._records = "),
    (FetchRequest.__init__, "self._min_bytes = "),
    (FetchRequest.__init__, "self._max_wait_ms = "),
    (AIOKafkaAdminClient.__init__, "self._client = AIOKafkaClient("),
    (AIOKafkaConnection.connect, "self._writer, self._protocol = reader, writer, protocol"),
    (AIOKafkaConnection.__init__, "self._security_protocol = security_protocol"),
    (GroupCoordinator.coordinator_dead, "self.coordinator_id = None"),
    (GroupCoordinator.__init__, "self._closing = "),
    (GroupCoordinator._do_heartbeat, "self.reset_generation()"),
    (GroupCoordinator._maybe_leave_group, "self._group_instance_id is None"),
    (driver.AIOKafkaConsumerThread._create_worker_consumer, "group_instance_id=conf.consumer_group_instance_id"),
    (GroupCoordinator._send_req, "self.coordinator_dead()"),
    (Fetcher._proc_fetch_request, "records = MemoryRecords(part_data[-1])"),
    (PartitionRecords.__init__, "self._records_iterator = self._unpack_records()"),
    (driver.AIOKafkaConsumerThread._ensure_consumer, "raise ConsumerNotStarted"),
    (consumer.Consumer.__init__, "self.callback = "),
    (consumer.Consumer.resume_flow, "self.flow_active = True"),
    (consumer.Consumer.__init__, "self.suspend_flow = "),
    (consumer.Consumer.__init__, "self.can_resume_flow = "),
    (consumer.Consumer._commit_handler.fun, "await self.commit()"),
    (Recovery.on_rebalance, "self.signal_recovery_start.set()"),
    (Recovery.on_rebalance, "self._generation_id = generation_id"),
    (Recovery.__init__, "self.completed = "),
    (TableManager.on_start, "await self.sleep(1.0)"),
    (TableManager._update_channels, "self._tables_registered.set()"),
    (consumer.ThreadDelegateConsumer.__init__, "self._thread = "),
]


@pytest.mark.parametrize(("function", "text"), ASSIGNED, ids=[text for _, text in ASSIGNED])
def test_it_still_works_as_read(function, text):
    assert text in inspect.getsource(inspect.unwrap(function))


ROOT = Path(__file__).parents[2]
KNOWN_ELSEWHERE = {
    "app/compiled": "tests/unit/compiled/test_patches.py holds numba's",
    "app/store": "alembic's _upgrade_revs, without which the migrations of its tests do not run",
}
DOCUMENTED = {"_replace", "_asdict", "_exit"}  # of named tuples, of os


def private_names(tree: ast.Module) -> Iterator[ast.Attribute]:
    """Attributes beside dunder names that begin with an underscore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr) and node.attr not in DOCUMENTED:
            yield node


def own_names(tree: ast.Module) -> set[str]:
    """Private names that a module defines: functions, classes, fields, variables, attributes of ``self``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
    return names


def changes(text: str) -> list[str]:
    """Private attributes of other packages' objects that a module sets."""
    tree = ast.parse(text)
    known = own_names(tree)
    return [
        ast.unparse(node)
        for node in private_names(tree)
        if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) not in ("self", "cls") and node.attr not in known
    ]


def test_private_attributes_of_others_are_set_by_patches_alone():
    own = {"app/settings/loading.py": ["trial.settings._given"], "app/settings/model.py": ["kafka._rekeys"]}
    for path in sorted((ROOT / "app").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name not in ("app/kafka/patches.py", "app/compiled/patches.py"):
            assert set(changes(path.read_text())) <= set(own.get(name, ())), name
    assert changes("consumer._fetcher = 1") == ["consumer._fetcher"]


def test_every_private_attribute_of_others_is_named_here():
    trees = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "app").rglob("*.py"))}
    ours = set().union(*map(own_names, trees.values()))
    guarded = {name for _, name in RELIED_ON}
    guarded.update(name for _, text in ASSIGNED for name in re.findall(r"_\w+", text))
    for path, tree in trees.items():
        name = str(path.relative_to(ROOT))
        if not name.startswith(tuple(KNOWN_ELSEWHERE)):
            assert {node.attr for node in private_names(tree)} - ours <= guarded, name


def test_a_parsed_record_has_what_we_read():
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000)
    builder.append(0, 1_700_000_000_123, b"key", b"value", [("name", b"text")])
    (record,) = MemoryRecords(bytes(builder.build())).next_batch()
    assert (record.offset, record.timestamp, record.key, record.value) == (0, 1_700_000_000_123, b"key", b"value")
    assert list(record.headers) == [("name", b"text")]


def test_a_message_takes_what_we_pass():
    for kind in (ConsumerMessage, Message):
        assert list(inspect.signature(kind.__init__).parameters)[1:13] == [
            "topic", "partition", "offset", "timestamp", "timestamp_type", "headers",
            "key", "value", "checksum", "serialized_key_size", "serialized_value_size", "tp",
        ]  # fmt: skip
    assert "generation_id" in inspect.signature(Message.__init__).parameters


def test_the_conductor_hands_a_message_to_the_topic_channel_whole():
    assert "ConsumerCallback" in inspect.getsource(conductor)


def test_faust_is_the_pinned_version():
    assert (faust.__version__, aiokafka.__version__) == ("0.15.3", "0.14.0")


def test_a_partition_that_is_not_ours_any_more_has_no_end():
    """A worker asks for it each second, in another thread than the one that takes partitions away."""

    async def ends() -> list[int | None]:
        tp, state = TopicPartition("raw-data", 0), SubscriptionState()
        consumer = object.__new__(Consumer)
        consumer._thread = SimpleNamespace(_ensure_consumer=lambda: SimpleNamespace(_subscription=state))
        consumer.app = SimpleNamespace(job=SimpleNamespace(settings=Settings()))
        before = consumer.readable_end(tp), consumer.read_to(tp)
        state.assign_from_user([tp])
        unread = consumer.readable_end(tp), consumer.read_to(tp)
        known = state.subscription.assignment.state_value(tp)
        known.highwater, known.lso = 9, 7
        known.seek(5)
        read = consumer.readable_end(tp), consumer.read_to(tp)
        consumer.app.job.settings = Settings(kafka={"isolation_level": "read_uncommitted"})
        return [before, unread, read, consumer.readable_end(tp), consumer.readable_end(TopicPartition("raw-data", 1))]

    assert asyncio.run(ends()) == [(None, None), (None, None), (7, 5), 9, None]

"""Faust's recovery service with its tasks replaced: partitions are taken over by app/stream/takeover.py.

A consumer of our own without a group reads the records: a million snapshots of 1.4 kB in 8 s, of 7.8 kB in 33 s
(tests/limits). Faust's recovery reads 7,000 records/s. The order at the end is: seek, resume the flow, resume the
partitions. Faust's own order (partitions first) skips records.
"""

import gc
import logging
import time
from typing import Any

from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition
from faust.tables import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

from app.kafka.client import client_options
from app.kafka.fetched import whole
from app.kafka.log_reader import LogReader
from app.settings import KafkaSettings
from app.stream import failpoints
from app.stream.crash import stop_process
from app.stream.takeover import take_over
from app.stream.transport import App

log = logging.getLogger(__name__)


def reader_of(kafka: KafkaSettings) -> LogReader:
    """The consumer that reads the logs of partitions; not started."""
    reader = LogReader(
        **client_options(kafka),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2 << 20,  # with twice as much recovery was slower
        fetch_max_wait_ms=50,
        isolation_level="read_committed",
        key_deserializer=whole,
    )
    # It then asks for these topics at its start; later it would wait .1 s for each topic that it does not know.
    topics = {kafka.input_topic, kafka.log_topic, kafka.output_topic, kafka.changelog_topic}
    reader.assign([TopicPartition(topic, 0) for topic in topics])
    reader.pause(*reader.assignment())
    return reader


class SnapshotRecovery(Recovery):
    """Faust calls it after each rebalance; the work is ours."""

    @Service.task
    async def _slurp_changelogs(self) -> None:
        return

    @Service.task
    async def _publish_stats(self) -> None:
        return

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                break
            self.signal_recovery_start.clear()
            generation = self._generation_id
            try:
                self._set_recovery_started()
                await self._wait(self._load(generation))
                failpoints.reach("recovered")
                await self._wait(self._resume(generation))
            except (RebalanceAgain, IllegalStateError):
                continue  # the assignment changed while we read: the next signal starts again
            except ServiceStopped:
                break
            except Exception as error:  # noqa: BLE001 - reported, and the process ends
                stop_process(error)

    async def _load(self, generation: int) -> None:
        app: App = self.app
        kafka, partitions, metrics = app.job.settings.kafka, app.partitions, app.job.metrics
        began = time.monotonic()
        assigned = app.consumer.assignment()
        wanted = sorted(tp.partition for tp in assigned if tp.topic == kafka.log_topic)
        to_rekey = sorted(tp.partition for tp in assigned if tp.topic != kafka.log_topic)
        for number in set(partitions) - set(wanted):
            partitions.drop(number)
        if wanted or to_rekey:
            reader = reader_of(kafka)
            await reader.start()
            gc.disable()  # what is loaded stays: collections that walk through it took two thirds of the time
            try:
                committed = app.consumer.committed_with_metadata
                await app.rekey_partitions.take_over(reader, committed, to_rekey)
                await take_over(app.job, partitions, reader, committed, wanted, generation)
            finally:
                gc.enable()
                await reader.stop()
        metrics.recovery_seconds.set(time.monotonic() - began)
        metrics.assigned_partitions.set(len(wanted))
        metrics.assigned_rekey_partitions.set(len(to_rekey))
        metrics.partitions.set(app.job.partitions_of[kafka.log_topic])
        metrics.rekey_partitions.set(app.job.partitions_of[kafka.input_topic] if kafka.rekeys else 0)

    async def _resume(self, generation: int) -> None:
        app: App = self.app
        consumer, partitions = app.consumer, app.partitions
        await app.on_rebalance_complete.send()
        self._set_recovery_ended()
        assignment = consumer.assignment()
        if app.consumer_generation_id != generation:
            return  # rebalanced again: another signal is on its way
        consumer.seek_to_next()
        self.completed.set()
        app.flow_control.resume()
        app.rekey_partitions.resume(generation)
        partitions.resume(generation)
        consumer.resume_partitions(assignment)
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        self.add_future(app.committer.confirm())  # Faust's first commit comes 2 s later, and /readyz waits for one
        # The recovered state stays, and batches are freed by reference counts: with Python's threshold of 700 new
        # objects the collector walked through each batch in vain, 8 % of the worker's time. With 100,000 and more,
        # cycles that aiokafka leaves would stay for minutes.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        log.info("ready: generation %d, partitions %s", generation, sorted(partitions))


class SnapshotTableManager(TableManager):
    """Faust's tables with this recovery. Faust gives agents a second to make theirs; ours are made before it starts."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._recovery = SnapshotRecovery(app, self, beacon=self.beacon, loop=self.loop)

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()

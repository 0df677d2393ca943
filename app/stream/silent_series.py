"""Finds series that send nothing, in all partitions of this worker, and writes a record of those that are overdue.

The record of a partition (app/wire/overdue.py) is written by its owner to the topic of decisions, where alerters read
it. Scoring does not wait for it, and no error here ends a worker: without the topic, or the permission to write to it,
silent series are not reported.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition

from app.errors import DeliveryError, TopicError
from app.kafka.decisions import all_overdue
from app.stream.overdue import OverdueDetector
from app.stream.partition import Partition
from app.wire import overdue

if TYPE_CHECKING:
    from app.stream.transport import App

EVERY_S = 5.0
SHARE = 0.02  # of the time that the checks may take: with very many series they are done less often
ANSWERED_S = 15.0  # longest time since the last answers of the group and of the partition's broker
RETRY_S = 60.0

log = logging.getLogger(__name__)


class SilentSeriesMonitor:
    """Call ``check`` every ``EVERY_S``."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._detectors: dict[int, tuple[Partition, OverdueDetector]] = {}
        self._ends: dict[int, int] = {}  # readable end of each partition at the last check
        self._retry_at = self._next_check_at = self._busy_s = 0.0
        rules = app.job.settings.alerting.silent
        self._off = bool(rules) and rules[0].match == "*" and rules[0].metric is None and not rules[0].enabled

    async def check(self) -> None:
        """Check every series; lets scoring continue after some thousands of them."""
        began = time.monotonic()
        if began < self._next_check_at:
            return
        self._busy_s = 0.0
        await self._check_all()
        self._next_check_at = began + self._busy_s / SHARE

    async def _check_all(self) -> None:
        partitions = self._app.partitions
        self._detectors = {number: of for number, of in self._detectors.items() if partitions.get(number) is of[0]}
        active = partitions.active()
        if new := [partition for partition in active if partition.number not in self._detectors]:
            await self._begin(new)
        for partition in active:
            if partition.number in self._detectors:
                await self._check_partition(*self._detectors[partition.number])
        count = sum(detector.count for _, detector in self._detectors.values())
        self._app.job.metrics.silent_series.set(count)

    async def _begin(self, new: list[Partition]) -> None:
        if time.monotonic() < self._retry_at:
            return
        settings = self._app.job.settings
        try:
            previous = await all_overdue(settings.kafka)
        except TopicError as error:
            first = settings.alerting.enabled and not self._retry_at
            log.log(logging.WARNING if first else logging.INFO, "silent sources are not reported: %s", error)
            self._retry_at = time.monotonic() + RETRY_S
            return
        limit = self._app.job.limits.get(settings.kafka.decisions_topic, overdue.MOST_BYTES)
        most_bytes = min(overdue.MOST_BYTES, limit // 2)
        for partition in new:
            number = partition.number
            detector = OverdueDetector(
                number, settings.alerting.silent, settings.alerting.max_age_s, previous.get(number), most_bytes
            )
            self._detectors[number] = partition, detector

    async def _check_partition(self, partition: Partition, detector: OverdueDetector) -> None:
        if not self._is_read(partition):
            detector.interrupted()
            return
        found, began = None, time.monotonic()
        for step in detector.check(partition.state.sources.rows, began, time.time()):
            found = step
            self._busy_s += time.monotonic() - began
            await asyncio.sleep(0)
            if not partition.active:
                return
            began = time.monotonic()
        if found is None or (self._off and not found.series and not detector.written.series):
            return
        job = self._app.job
        await job.committer.confirm()
        if not partition.active:
            return
        topic = job.settings.kafka.decisions_topic
        number = partition.number % job.partitions_of.get(topic, 1)
        try:
            sent = await job.outbox.send(topic, number, [(found.key.encode(), overdue.encode(found))])
            await job.outbox.acknowledged(sent)
        except DeliveryError as error:
            log.warning("%s: the record of overdue series was not written: %s", topic, error)
        else:
            detector.written = found

    def _is_read(self, partition: Partition) -> bool:
        """All is computed that was there at the last check, and the brokers have answered lately."""
        consumer, tp = self._app.consumer, partition.log
        end = consumer.readable_end(TopicPartition(tp.topic, tp.partition))
        previous_end = self._ends.get(partition.number)
        if end is None:
            self._ends.pop(partition.number, None)
            return False
        self._ends[partition.number] = end
        group_answered = time.monotonic() - self._app.committer.committed_at <= ANSWERED_S
        broker_answered = time.time() - consumer.asked_at(tp) <= ANSWERED_S
        return group_answered and broker_answered and previous_end is not None and partition.next >= previous_end

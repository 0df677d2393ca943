"""Looks out for series that send nothing, in all partitions of this worker, and writes down what is overdue.

The record of a partition (app/wire/overdue.py) is written by its owner to the topic of decisions, where alerters find
it. Scoring does not wait for it, and nothing here ends a worker: without the topic, or the right to write to it,
nobody is told of silent series.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from aiokafka.structs import TopicPartition

from app.errors import DeliveryError, TopicError
from app.kafka.decisions import all_overdue
from app.stream.overdue import Watch
from app.stream.partition import Partition
from app.wire import overdue

EVERY_S = 5.0
SHARE = 0.02  # of the time that looking may take: with very many series it is done less often
ANSWERED_S = 15.0  # how old the last word of group and partition may be
TRY_AGAIN_S = 60.0

log = logging.getLogger(__name__)


class LookOut:
    """Call ``look`` every ``EVERY_S``. ``app``: the Faust application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._watches: dict[int, tuple[Partition, Watch]] = {}
        self._ends: dict[int, int] = {}  # of the logs, when it last looked
        self._tries_at = self._looks_at = self._busy_s = 0.0
        rules = app.job.settings.alerting.silent
        self._off = bool(rules) and rules[0].match == "*" and rules[0].metric is None and not rules[0].enabled

    async def look(self) -> None:
        """Look at every series; it gives way to scoring after some thousands."""
        began = time.monotonic()
        if began < self._looks_at:
            return
        self._busy_s = 0.0
        await self._look_at_all()
        self._looks_at = began + self._busy_s / SHARE

    async def _look_at_all(self) -> None:
        partitions = self._app.partitions
        self._watches = {number: of for number, of in self._watches.items() if partitions.get(number) is of[0]}
        active = partitions.active()
        if new := [one for one in active if one.number not in self._watches]:
            await self._begin(new)
        for partition in active:
            if partition.number in self._watches:
                await self._look(*self._watches[partition.number])
        self._app.job.metrics.silent_series.set(sum(watch.count for _, watch in self._watches.values()))

    async def _begin(self, new: list[Partition]) -> None:
        if time.monotonic() < self._tries_at:
            return
        settings = self._app.job.settings
        try:
            before = await all_overdue(settings.kafka)
        except TopicError as error:
            first = settings.alerting.enabled and not self._tries_at
            log.log(logging.WARNING if first else logging.INFO, "silent sources are not told of: %s", error)
            self._tries_at = time.monotonic() + TRY_AGAIN_S
            return
        for one in new:
            known = before.get(one.number)
            limit = self._app.job.limits.get(settings.kafka.decisions_topic, overdue.MOST_BYTES)
            most_bytes = min(overdue.MOST_BYTES, limit // 2)
            watch = Watch(one.number, settings.alerting.silent, settings.alerting.max_age_s, known, most_bytes)
            self._watches[one.number] = one, watch

    async def _look(self, partition: Partition, watch: Watch) -> None:
        if not self._is_read(partition):
            watch.interrupted()
            return
        found, began = None, time.monotonic()
        for step in watch.look(partition.state.sources.rows, began, time.time()):
            found = step
            self._busy_s += time.monotonic() - began
            await asyncio.sleep(0)
            if not partition.active:
                return
            began = time.monotonic()
        if found is None or (self._off and not found.series and not watch.written.series):
            return
        job = self._app.job
        await job.committer.confirm()
        if not partition.active:
            return
        topic = job.settings.kafka.decisions_topic
        to = partition.number % job.partitions_of.get(topic, 1)
        try:
            sent = await job.outbox.send(topic, to, [(found.key.encode(), overdue.encode(found))])
            await job.outbox.acknowledged(sent)
        except DeliveryError as error:
            log.warning("%s: what is overdue was not written: %s", topic, error)
        else:
            watch.written = found

    def _is_read(self, partition: Partition) -> bool:
        """All is computed that was there when it last looked, and the brokers have answered lately."""
        consumer, tp = self._app.consumer, partition.log
        end = consumer.readable_end(TopicPartition(tp.topic, tp.partition))
        before = self._ends.get(partition.number)
        if end is None:
            self._ends.pop(partition.number, None)
            return False
        self._ends[partition.number] = end
        answered = time.monotonic() - self._app.committer.committed_at <= ANSWERED_S
        asked = time.time() - consumer.asked_at(tp) <= ANSWERED_S
        return answered and asked and before is not None and partition.next >= before

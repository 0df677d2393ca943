"""Reads the output topics for the view, without a consumer group and within a fixed budget.

Every worker shows the results of all workers, so it reads the topics like any other consumer and never uses its own
data. It must not slow the worker down: of each topic at most `per_s` records a second are decoded. If more than one
second's worth waits, it seeks near the end, so the view shows a sample of a busy stream and all of a quiet one.
(Reading 8,000 episodes a second in full, as a detector without warm-up gives, cost the worker 9 % of its rate.)

While no broker answers it retries; a failure here never ends the worker.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.web.topics.follower import TopicFollower
from app.web.topics.read_positions import ReadPositions

TICK_S = 0.25
# Of a partition, and in all; a broker sends at least one whole batch.
FETCH_BYTES, FETCHES_BYTES = 65_536, 4 << 20

# No consumer group, so nothing is committed. If retention has removed our position, continue at the end.
CONSUMER = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "latest",
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": FETCH_BYTES,
    "fetch_max_bytes": FETCHES_BYTES,
    "request_timeout_ms": 10_000,
}


class TopicReader(TopicFollower):
    """Calls `take` for each record of a topic, with its value and Kafka's time (epoch s).

    With ``read_positions`` it also passes partition and offset, and records there how far it has read.

    It begins with the last ``start_records`` of each partition, and reads at most ``per_s`` records a second over all
    partitions. ``clock`` gives seconds.
    """

    def __init__(
        self,
        topic: str,
        take: Callable[..., None],
        connect: Callable[[], Any],
        start_records: int,
        per_s: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        read_positions: ReadPositions | None = None,
    ) -> None:
        super().__init__(topic, connect, sleep)
        self._read_positions = read_positions
        self.skipped = 0  # records, to stay inside the budget
        self.produced_per_s: float | None = None  # by all workers; None until the end offsets were read twice
        self._take, self._start_records, self._per_s, self._clock = take, start_records, per_s, clock
        self._positions: dict[TopicPartition, int] = {}  # stay over reconnects: nothing is shown twice
        self._measured: tuple[float, int] | None = None  # when, and the sum of the ends then

    async def _read(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        for tp in partitions:
            first = self._positions.get(tp, ends[tp] - self._start_records)
            self._seek(consumer, tp, min(max(first, begins[tp]), ends[tp]))
        self._set_state("reading")
        self._measured, checked = None, self._clock()
        while True:
            started = self._clock()
            if started - checked >= 1.0:
                checked = started
                for tp in partitions:  # beyond the last record: aborted records and control records
                    self._at(tp, await consumer.position(tp))
                self._catch_up(consumer, await consumer.end_offsets(partitions))
            left = limit = int(self._per_s * TICK_S)
            # Each partition gets its share first: getmany would serve the first one that has records, up to the limit.
            for tp in partitions:
                if left:
                    share = min(max(limit // len(partitions), 1), left)
                    left -= self._hand_over(await consumer.getmany(tp, max_records=share))
            if left:
                left -= self._hand_over(await consumer.getmany(max_records=left))
            partitions = partitions[1:] + partitions[:1]  # with more partitions than the limit, each gets its turn
            idle = TICK_S - (self._clock() - started)
            await self._sleep(max(idle, 0.0))

    def _hand_over(self, fetched: dict[TopicPartition, list[Any]]) -> int:
        for tp, records in fetched.items():
            for record in records:
                if self._read_positions:
                    self._take(record.value, record.timestamp / 1000, (tp.partition, record.offset))
                else:
                    self._take(record.value, record.timestamp / 1000)
            self._at(tp, records[-1].offset + 1)
        return sum(map(len, fetched.values()))

    def _catch_up(self, consumer: Any, ends: dict[TopicPartition, int]) -> None:
        """Seek near the end if more records wait than the budget allows in a second."""
        now, total = self._clock(), sum(ends.values())
        if self._measured:
            self.produced_per_s = max(total - self._measured[1], 0) / max(now - self._measured[0], 1e-9)
        self._measured = now, total
        if sum(max(end - self._positions[tp], 0) for tp, end in ends.items()) <= self._per_s:
            return
        fair = max(self._per_s // len(ends), 1)
        for tp, end in ends.items():
            behind = end - self._positions[tp] - fair
            if behind > 0:
                self.skipped += behind
                if self._read_positions:
                    self._read_positions.skip(tp.partition, end - fair)
                self._seek(consumer, tp, end - fair)

    def _seek(self, consumer: Any, tp: TopicPartition, offset: int) -> None:
        consumer.seek(tp, offset)
        if self._read_positions and offset != self._positions.get(tp):
            self._read_positions.lost(tp.partition, offset)
        self._at(tp, offset)

    def _at(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        if self._read_positions:
            self._read_positions.positions[tp.partition] = offset


def kafka_consumer(options: dict[str, Any]) -> Callable[[], AIOKafkaConsumer]:
    """``connect`` for a `TopicReader`; ``options`` are those of app.kafka.client.client_options."""
    return lambda: AIOKafkaConsumer(**options, **CONSUMER)

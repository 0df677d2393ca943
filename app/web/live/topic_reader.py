"""Reads the output topics for the view, without a consumer group and within a fixed budget.

Every worker shows the results of all workers, so the view reads the topics like any other reader and
never touches the worker's own data. It must not slow the worker down: of each topic at most `per_s`
records a second are decoded, whatever is produced; what lies further back than one such second is skipped by
seeking near the end, so the view shows a sample of a busy stream and all of a quiet one. (Read in full, 8,000
episodes a second, as a detector without warm-up gives, cost the worker 9 % of its rate.)

While a broker is away the view retries: nothing here ever ends the worker.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.web.live.cursor import Feed
from app.web.live.follower import Follower

TICK_S = 0.25
# A partition, and in all; the broker sends a whole batch when the first one is larger.
FETCH_BYTES, FETCHES_BYTES = 65_536, 4 << 20

# Not a group's member, so nothing is committed; after retention removed our position, go on at the end.
CONSUMER = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "latest",
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": FETCH_BYTES,
    "fetch_max_bytes": FETCHES_BYTES,
    "request_timeout_ms": 10_000,
}


class TopicReader(Follower):
    """Hands one topic's records to `take`: value, and Kafka's time (epoch s).

    With a ``feed`` also the place, partition and offset; and the feed is told up to where all was read.

    It begins with the last ``start_records`` of each partition.

    ``per_s`` records a second at most, over all partitions. ``clock`` gives seconds.
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
        feed: Feed | None = None,
    ) -> None:
        super().__init__(topic, connect, sleep)
        self._feed = feed
        self.skipped = 0  # records passed over to stay inside the budget
        self.produced_per_s: float | None = None  # by all workers; None until the end offsets were read twice
        self._take, self._start_records, self._per_s, self._clock = take, start_records, per_s, clock
        self._positions: dict[TopicPartition, int] = {}  # kept over reconnects: nothing is shown twice
        self._measured: tuple[float, int] | None = None  # when, and the sum of the ends then

    async def _read(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        for tp in partitions:
            first = self._positions.get(tp, ends[tp] - self._start_records)
            self._seek(consumer, tp, min(max(first, begins[tp]), ends[tp]))
        self._now("reading")
        self._measured, checked = None, self._clock()
        while True:
            started = self._clock()
            if started - checked >= 1.0:
                checked = started
                for tp in partitions:  # beyond the last record: what was aborted, and marks of transactions
                    self._at(tp, await consumer.position(tp))
                self._catch_up(consumer, await consumer.end_offsets(partitions))
            left = limit = int(self._per_s * TICK_S)
            # Each partition its share first: getmany serves the first one that has records, up to the limit.
            for tp in partitions:
                if left:
                    share = min(max(limit // len(partitions), 1), left)
                    left -= self._hand_over(await consumer.getmany(tp, max_records=share))
            if left:
                left -= self._hand_over(await consumer.getmany(max_records=left))
            partitions = partitions[1:] + partitions[:1]  # more partitions than limit: each has its turn
            idle = TICK_S - (self._clock() - started)
            await self._sleep(max(idle, 0.0))

    def _hand_over(self, fetched: dict[TopicPartition, list[Any]]) -> int:
        for tp, records in fetched.items():
            for record in records:
                if self._feed:
                    self._take(record.value, record.timestamp / 1000, (tp.partition, record.offset))
                else:
                    self._take(record.value, record.timestamp / 1000)
            self._at(tp, records[-1].offset + 1)
        return sum(map(len, fetched.values()))

    def _catch_up(self, consumer: Any, ends: dict[TopicPartition, int]) -> None:
        """Seek near the end where more waits than the budget can read in a second."""
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
                if self._feed:
                    self._feed.skip(tp.partition, end - fair)
                self._seek(consumer, tp, end - fair)

    def _seek(self, consumer: Any, tp: TopicPartition, offset: int) -> None:
        consumer.seek(tp, offset)
        if self._feed and offset != self._positions.get(tp):
            self._feed.lost(tp.partition, offset)
        self._at(tp, offset)

    def _at(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        if self._feed:
            self._feed.positions[tp.partition] = offset


def kafka_consumer(options: dict[str, Any]) -> Callable[[], AIOKafkaConsumer]:
    """A maker of consumers for `TopicReader`; ``options`` are those of app.kafka.client.client_options."""
    return lambda: AIOKafkaConsumer(**options, **CONSUMER)

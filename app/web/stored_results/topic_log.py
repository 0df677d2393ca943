"""Reads partitions by offset and time, some batches at a time; slow work runs in a thread.

Unpacking and searching let other threads run; 1 MB of packed results, some 9,000, takes 5 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol

from aiokafka.structs import TopicPartition

from app.compiled.byte_columns import RecordColumns
from app.errors import StateError
from app.kafka.fetched import BASE, Fetched
from app.kafka.log_reader import PartitionData

FETCH_BYTES = 1 << 20  # bytes of a fetch of a longer read
PROBE_BYTES = 1 << 16  # of a probe; the broker sends at least one whole batch


class LogSource(Protocol):
    """What is asked of app.kafka.log_reader.LogReader."""

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...

    async def last_stable_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]: ...

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]: ...

    async def fetch(self, partition: TopicPartition, offset: int, size: int, wait_ms: int = 0) -> PartitionData: ...


class TopicLog:
    """One topic. ``number`` is always that of a partition."""

    def __init__(self, topic: str, reader: LogSource, thread: Executor | None) -> None:
        self.topic, self._reader, self._thread = topic, reader, thread

    async def ends(self, number: int) -> tuple[int, int]:
        """Its first offset, and that after the last which can be read."""
        at = TopicPartition(self.topic, number)
        begins = await self._reader.beginning_offsets([at])
        ends = await self._reader.last_stable_offsets([at])
        return begins[at], ends[at]

    async def at_time(self, number: int, time_s: float) -> int | None:
        """The first offset with a record of this time or later (Kafka's clock, epoch s); None: there is none."""
        at = TopicPartition(self.topic, number)
        found = (await self._reader.offsets_for_times({at: max(int(time_s * 1000), 0)}))[at]
        return None if found is None else found.offset

    async def read(self, number: int, offset: int, size: int = FETCH_BYTES) -> FetchedBatches:
        """What follows this offset, which must be in the log. Raises StateError for damaged bytes."""
        at = TopicPartition(self.topic, number)
        chunk = await self._reader.fetch(at, offset, size)
        try:
            return await self.run(FetchedBatches.of, chunk)
        except StateError as error:
            raise StateError(f"{self.topic}[{number}]{error}") from error

    async def run(self, call: Callable[..., Any], *given: Any) -> Any:
        """In the thread; here when there is none."""
        if self._thread is None:
            return call(*given)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *given)


class FetchedBatches(NamedTuple):
    """Whole record batches from around an offset on. Of the first one also what lies before the offset."""

    fetched: Fetched
    begin: int  # all that the log has from here ..
    end: int  # .. to here is in it; the offset asked for is between them

    @classmethod
    def of(cls, chunk: PartitionData) -> FetchedBatches:
        """Raises StateError when the bytes are damaged, or of a format older than Kafka 0.11's."""
        fetched = Fetched.of(chunk.data, 0, chunk.aborted)
        if fetched is None:
            raise StateError(f"@{chunk.first}: the record batch has the format of a Kafka before 0.11")
        fetched.check()
        if not len(fetched.batches):  # nothing that can be read, as in a log that ends here
            return cls(fetched, chunk.first, max(chunk.stable, chunk.first))
        return cls(fetched, min(int(fetched.batches[0, BASE]), chunk.first), max(fetched.end, chunk.first))

    def records(self) -> RecordColumns:
        return self.fetched.records()

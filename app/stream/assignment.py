"""The partitions assigned to this worker, and how it hands them over."""

import asyncio
import logging
import time
from typing import Generic, TypeVar

from app.errors import DeliveryError
from app.stream import failpoints
from app.stream.crash import stop_process
from app.stream.job import Job
from app.stream.partition import AssignedPartition, FetchedRecords, Partition

SAVE_FOR_S = 2.0  # longest that snapshots are taken before partitions are given up; replay covers the rest
SAVE_AT_ONCE = 1000  # sources

log = logging.getLogger(__name__)


PartitionT = TypeVar("PartitionT", bound=AssignedPartition)


class Assignment(dict[int, PartitionT], Generic[PartitionT]):
    """The assigned partitions of one topic: number -> partition."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._handing_over = asyncio.Lock()

    def active(self) -> list[PartitionT]:
        """Those that are recovered, and assigned to this worker in the group's present generation."""
        return [partition for partition in self.values() if partition.active]

    def takes(self, number: int) -> bool:
        """Records of the partition may be delivered now."""
        partition = self.get(number)
        return partition is not None and partition.active

    async def take(self, fetched: FetchedRecords) -> None:
        """Queue a fetched batch in its partition; dropped when that is no longer assigned here."""
        partition = self.get(fetched.partition)
        if partition is not None:
            await partition.take(fetched)

    async def hand_over(self, why: str) -> None:
        """Take no more records, finish what is in flight, save what is not saved yet (bounded), commit.

        A stop during a revocation waits until the hand-over is done: else the consumer would stop before the commit.
        """
        async with self._handing_over:
            await self._hand_over(why)

    def resume(self, generation: int) -> None:
        """All are recovered, and assigned to this worker in this generation of the group."""
        for partition in self.values():
            partition.generation, partition.active = generation, True

    def drop(self, number: int) -> None:
        self.pop(number).close()

    def clear(self) -> None:
        for number in list(self):
            self.drop(number)

    async def _hand_over(self, why: str) -> None:
        active = self.active()  # the others were handed over before, and may be assigned elsewhere by now
        if not active:
            return
        began = time.monotonic()
        for partition in active:
            partition.active = False
        try:
            async with asyncio.timeout(self._job.settings.kafka.session_timeout_s):
                saved = await asyncio.gather(*(self._finish(p, began + SAVE_FOR_S, why) for p in active))
        except TimeoutError:
            stop_process(DeliveryError("acknowledgements are missing while partitions are handed over"))
        accepted = await self._job.committer.commit(active)
        log.info(
            "%s: %d partitions of %s handed over in %.2f s, %d snapshots, commit %s",
            why, len(active), active[0].log.topic, time.monotonic() - began, sum(saved),
            "accepted" if accepted else "not accepted",
        )  # fmt: skip

    async def _finish(self, partition: PartitionT, until: float, why: str) -> int:
        """Wait until nothing is in flight; save state until the time ``until``. Returns the number of snapshots."""
        await partition.settled()
        return 0


class Partitions(Assignment[Partition]):
    """Those of the topic that is scored."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.recovered_records = 0  # read so far by all recoveries: it only shows that they make progress

    async def _finish(self, partition: Partition, until: float, why: str) -> int:
        saved = 0
        while time.monotonic() < until and (now := await partition.save(SAVE_AT_ONCE)):
            saved += now
            failpoints.reach(f"draining_{why}")
        await partition.settled()
        return saved

    async def save_idle(self) -> None:
        """Save the dirty sources of partitions without traffic, so that a later restart replays nothing."""
        for partition in self.active():
            if partition.silent_s > self._job.settings.state.idle_snapshot_s:
                await partition.save(SAVE_AT_ONCE // 2)
                await partition.forget()

    def resume(self, generation: int) -> None:
        super().resume(generation)
        self._job.committer.begin(generation)

    def drop(self, number: int) -> None:
        super().drop(number)
        self._job.metrics.forget([number])

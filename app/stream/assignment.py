"""The partitions this worker owns, and how it hands them over."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from app.errors import DeliveryError
from app.stream import failpoints
from app.stream.crash import stop_process
from app.stream.partition import Job, Partition

SAVE_FOR_S = 2.0  # longest that snapshots are taken before partitions are given up; replay covers the rest
SAVE_AT_ONCE = 1000  # sources
LEASE = 0.5  # of the session timeout: for so long an accepted commit says that the partitions are ours
NEVER = -1e9  # on a clock of seconds

log = logging.getLogger(__name__)


class Partitions(dict[int, Partition]):
    """Number -> partition. ``commit`` commits those given and says whether the group accepted."""

    def __init__(self, job: Job, commit: Callable[[Iterable[Partition]], Awaitable[bool]]) -> None:
        super().__init__()
        self._job = job
        self._commit = commit
        self.generation = -1  # of the group, when recovery last completed
        self.committed_at = NEVER  # time.monotonic() of the last accepted commit
        self.recovered_records = 0  # read so far by all recoveries: that they move is all it says
        self._confirming = asyncio.Lock()
        self._handing_over = asyncio.Lock()

    def active(self) -> list[Partition]:
        """Those that are recovered and confirmed as ours by the group's present generation."""
        return [partition for partition in self.values() if partition.active]

    def takes(self, number: int) -> bool:
        """Records of the partition may be delivered now."""
        partition = self.get(number)
        return partition is not None and partition.active

    async def take(self, message: Any) -> None:
        """Give a fetched batch to its partition; dropped when that is not ours any more."""
        partition = self.get(message.partition)
        if partition is not None:
            await partition.take(message)

    async def confirm(self) -> None:
        """Return when the group has taken a commit of ours not long ago, or no partition is active any more.

        A worker that was stopped past its session and goes on does not know that others own its partitions:
        it would score what it had fetched, and emit it once more. Asking with a commit, only when the last
        one is old, costs nothing in normal operation.
        """
        lease_s = LEASE * self._job.settings.kafka.session_timeout_s
        while time.monotonic() - self.committed_at > lease_s and self.active():
            async with self._confirming:
                if time.monotonic() - self.committed_at > lease_s and not await self._commit(self.active()):
                    await asyncio.sleep(0.1)  # refused: the rebalance that takes them from us is on its way

    async def hand_over(self, why: str) -> None:
        """Take nothing more, finish what is in flight, save what is not saved yet (bounded), commit.

        A stop amid a revocation waits until that is done: it would else take the consumer away from its commit.
        """
        async with self._handing_over:
            await self._hand_over(why)

    async def _hand_over(self, why: str) -> None:
        ours = self.active()  # the others were handed over before, and may be somebody else's by now
        if not ours:
            return
        began = time.monotonic()
        for partition in ours:
            partition.active = False
        try:
            async with asyncio.timeout(self._job.settings.kafka.session_timeout_s):
                saved = await asyncio.gather(*(self._save_all(p, began + SAVE_FOR_S, why) for p in ours))
        except TimeoutError:
            stop_process(DeliveryError("acknowledgements are missing while partitions are handed over"))
        accepted = await self._commit(ours)
        log.info(
            "%s: %d partitions handed over in %.2f s, %d snapshots, commit %s",
            why, len(ours), time.monotonic() - began, sum(saved), "accepted" if accepted else "not accepted",
        )  # fmt: skip

    async def _save_all(self, partition: Partition, until: float, why: str) -> int:
        saved = 0
        while time.monotonic() < until and (now := await partition.save(SAVE_AT_ONCE)):
            saved += now
            failpoints.reach(f"draining_{why}")
        await partition.settled()
        return saved

    async def save_idle(self) -> None:
        """Partitions without traffic save what is dirty, so that a later restart replays nothing."""
        for partition in self.active():
            if partition.silent_s > self._job.settings.state.idle_snapshot_s:
                await partition.save(SAVE_AT_ONCE // 2)
                await partition.forget()

    def resume(self, generation: int) -> None:
        """All are recovered, and ours by this generation of the group."""
        for partition in self.values():
            partition.generation, partition.active = generation, True
        self.generation = generation
        # So that a commit precedes each owner's first batch: results without one tell of a topic made anew.
        self.committed_at = NEVER

    def drop(self, number: int) -> None:
        self.pop(number).close()
        self._job.metrics.forget([number])

    def clear(self) -> None:
        for number in list(self):
            self.drop(number)

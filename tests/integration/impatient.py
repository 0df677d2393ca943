"""The worker with a watchdog that waits seconds where the real one waits tens, and with one part broken.

ALTERED=assigns_nothing python impatient.py worker --config FILE
"""

import asyncio
import os
import signal
import sys
from pathlib import Path


def as_it_is() -> None:
    """Only the times are short."""


def assigns_nothing() -> None:
    """The group's leader, after a broker's restart, knows no topics."""
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor as Assignor
    from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment as Assignment

    Assignor.assign = classmethod(lambda cls, _, members: {m: Assignment(cls.version, [], b"") for m in members})


def takes_nothing() -> None:
    """The fetcher is gone; the member sends its heartbeats."""
    from app.stream.transport import Consumer

    async def drain(self: Consumer, fetcher: object) -> None:
        await asyncio.sleep(3600.0)

    Consumer._drain = drain


def never_recovers() -> None:
    """Recovery waits for something that does not come."""
    from app.stream.recovery import SnapshotRecovery

    async def load(self: SnapshotRecovery, generation: int) -> None:
        await asyncio.sleep(3600.0)

    SnapshotRecovery._load = load


def commits_hang() -> None:
    """The consumer never gets an answer to its commits."""
    from aiokafka import AIOKafkaConsumer

    async def commit(self: AIOKafkaConsumer, offsets: object) -> None:
        await asyncio.sleep(3600.0)

    AIOKafkaConsumer.commit = commit


def blocks() -> None:
    """The event loop meets something that does not return."""
    import time

    from app.stream.partition import Partition

    def compute(self: Partition, records: object, end: int) -> None:
        time.sleep(3600.0)

    Partition._compute = compute


def producer_meets_no_broker() -> None:
    """The broker goes after the worker's checks and before the producer's start."""
    from aiokafka import AIOKafkaProducer

    start = AIOKafkaProducer.start

    async def start_elsewhere(self: AIOKafkaProducer) -> None:
        self.client._bootstrap_servers = NOBODY
        await start(self)

    AIOKafkaProducer.start = start_elsewhere


def consumer_meets_no_broker() -> None:
    """The same, before the start of the group's consumer."""
    from aiokafka import AIOKafkaConsumer

    start = AIOKafkaConsumer.start

    async def start_elsewhere(self: AIOKafkaConsumer) -> None:
        if self._group_id is not None:
            self._client._bootstrap_servers = NOBODY
        await start(self)

    AIOKafkaConsumer.start = start_elsewhere


def stops_before_scoring(lease: bool = True) -> None:
    """Its fifth batch is in hand, nothing of it is on its way, when the process is stopped."""
    from app.stream.committer import Committer

    confirm, left = Committer.confirm, 5

    async def confirm_after_a_stop(self: Committer) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            while not all(partition.ledger.idle for partition in self._active()):
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGSTOP)
        if lease or left > 0:
            await confirm(self)

    Committer.confirm = confirm_after_a_stop


def stops_and_has_no_lease() -> None:
    """The same, and when it continues it scores the batch that it holds."""
    stops_before_scoring(lease=False)


NOBODY = "127.0.0.1:1"
ALTERED = {altered.__name__: altered for altered in (
    as_it_is, assigns_nothing, takes_nothing, never_recovers, commits_hang, blocks, producer_meets_no_broker,
    consumer_meets_no_broker, stops_before_scoring, stops_and_has_no_lease,
)}  # fmt: skip

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from app.cli import main
    from app.stream import stall_detector, watchdog

    stall_detector.SURE_S, stall_detector.STALL_S, watchdog.EVERY_S = 1.0, 3.0, 0.5
    watchdog.EventLoopMonitor.__init__.__defaults__ = (3, *watchdog.EventLoopMonitor.__init__.__defaults__[1:])
    ALTERED[os.environ["ALTERED"]]()
    main()

"""How far the results have come, partition by partition, seen from outside many times a second."""

import asyncio
import contextlib
import threading
import time
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

EVERY_S = 0.05
IN_FLIGHT_S = 0.2  # what was on its way when a worker was killed


class Pulse:
    """``ends``: end offset of each partition of a topic, kept up to date by a thread; a broker may come and go."""

    def __init__(self, servers: list[str], topic: str, partitions: int) -> None:
        self.ends = [0] * partitions
        self._servers = servers
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(60.0)

    def back_s(self, since: float, timeout_s: float) -> float | None:
        """Seconds from ``since`` (time.monotonic()) until every partition has grown; None: not within the timeout."""
        time.sleep(max(0.0, since + IN_FLIGHT_S - time.monotonic()))
        before = list(self.ends)
        while not all(now > then for now, then in zip(self.ends, before)):
            if time.monotonic() - since > timeout_s:
                return None
            time.sleep(EVERY_S / 2)
        return time.monotonic() - since

    async def _watch(self) -> None:
        async with AIOKafkaConsumer(bootstrap_servers=self._servers) as consumer:
            while not self._ending.is_set():
                with contextlib.suppress(KafkaError, TimeoutError):
                    found = await asyncio.wait_for(consumer.end_offsets(self._partitions), 2.0)
                    self.ends = [found[partition] for partition in self._partitions]
                await asyncio.sleep(EVERY_S)

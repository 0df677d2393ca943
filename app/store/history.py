"""The service that keeps the history, inside a worker or an alerter: one of those that share a database writes it.

Nothing waits for it and nothing ends because of it. While the database or the brokers are away it tries again, says so
every half a minute, and shows it in ``status`` and in the metrics; the topics keep what is missing meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import ConfigurationError, StoreError
from app.metrics import Metrics
from app.metrics.machine import free_bytes
from app.settings import Settings
from app.store.database import ANSWER_S, REBUILD_S, Database, reported
from app.store.projection import DECISIONS, EPISODES, NOTIFICATIONS, Overtaken, Projection
from app.store.queries import Queries
from app.store.reader import Reader

log = logging.getLogger(__name__)

BATCH = 300  # records of a transaction: 11 ms of the event loop in ten pieces; of 100 it is 7 ms
BESIDE, ALONE = 0.05, 0.5  # of the time that it may be at work while much is to be read: beside scoring, or not
LONGEST_PAUSE_S = 2.0
WAIT_S = 0.5  # for the next record
TURN_S = 5.0  # between two looks whether the process that writes is still there
LOOK_S = 15.0  # between two looks whether topics and file are still the same
EXPIRE_S = 600.0
SAY_S = 30.0
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0

T = TypeVar("T")


class History(Queries):
    """Keeps the history of the settings' group, and answers questions about it.

    ``share``: of the time of its process that it may take; what it has not read yet waits in the topics.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.time, share: float = BESIDE
    ) -> None:
        self._share = share
        self._settings, self._metrics, self._clock = settings, metrics, clock
        kafka = settings.kafka
        self._kinds = {
            kafka.anomalies_topic: EPISODES,
            kafka.notifications_topic: NOTIFICATIONS,
            kafka.decisions_topic: DECISIONS,
        }
        self._task: asyncio.Task[None] | None = None
        self._state, self._trouble, self._lag = "starting", "", 0
        self._said_at = self._said_unreadable_at = float("-inf")
        self._retry_s = FIRST_RETRY_S
        super().__init__(Database.of(settings))

    def status(self) -> dict[str, Any]:
        """For /readyz and the view: what it is doing, records not read yet, and what is in the way, if something is."""
        status: dict[str, Any] = {"state": self._state, "database": self._database.shown, "lag": self._lag}
        if self._trouble:
            status["trouble"] = self._trouble
        return status

    async def start(self) -> None:
        """Begin to follow the topics. Waits for neither database nor brokers.

        Raises
        ------
        ConfigurationError
            The file of ``storage.url`` cannot be written. If nobody named it, there is a warning, and no history.
        """
        import alembic.config  # here: in the loop it would hold up what runs there  # noqa: F401

        default = self._settings.storage.url is None
        try:
            self._database.check_folder(create=default)
        except ConfigurationError as error:
            if not default:
                raise
            self._state, self._trouble = "off", str(error)
            log.warning("%s: there is no history; name another database there, or set storage.enabled to false", error)
            return
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End; also when never started."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task], timeout=5.0)
        await self._database.close()

    async def _run(self) -> None:
        while True:
            self._measure_disk()
            try:
                await self._database.open()
                async with self._database.writer() as connection:
                    if connection is not None:
                        await self._follow(connection)
                        continue
                self._now("waiting: another process writes")
                self._measured(0)
                self._well()
                await asyncio.sleep(TURN_S)
                continue
            except (StoreError, SQLAlchemyError) as error:
                self._metrics.history_down.set(1)
                self._failed(self._database.said(error))
            except (KafkaError, OSError, TimeoutError) as error:
                self._failed(f"history: no answer of Kafka: {type(error).__name__} {error}")
            except Overtaken:
                self._failed("history: another process wrote at the same time")
            await asyncio.sleep(self._retry_s * random.uniform(0.5, 1.0))
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    async def _follow(self, connection: AsyncConnection) -> None:
        """Read and write until a topic changes or the file is another one."""
        projection = Projection(connection, self._kinds, self._settings.storage.retention_days, self._clock)
        reader = Reader(self._settings.kafka, list(self._kinds))
        try:
            for sentence in await self._answered(projection.begin(await reader.start()), REBUILD_S):
                log.warning("history: %s", sentence)
            for topic in reader.denied:
                log.warning("history: this user may not see topic %s: allow it Read there; it is left out", topic)
            reader.seek(projection.positions)
            self._now("reading")
            started = looked = time.monotonic()
            expired = float("-inf")
            while True:
                records, after = await reader.read(BATCH, WAIT_S)
                began = time.monotonic()
                if after:
                    await self._answered(projection.take(records, after))
                    self._metrics.history_records.inc(len(records))
                    self._say_unreadable(projection)
                self._measured(reader.lag())
                if after or not self._lag or began - started > SAY_S:  # else what could not be written still waits
                    self._well()
                if began - expired >= EXPIRE_S and not await self._answered(projection.expire()):
                    expired = began
                if began - looked >= LOOK_S:
                    if self._database.replaced() or await reader.changed():
                        return
                    self._measure_disk()
                    looked = began
                busy_s = time.monotonic() - began
                await asyncio.sleep(min(busy_s * (1 / self._share - 1), LONGEST_PAUSE_S))
        finally:
            await reader.stop()

    async def _answered(self, step: Awaitable[T], limit_s: float = ANSWER_S) -> T:
        with reported(self._database):
            async with asyncio.timeout(limit_s):
                return await step

    def _measured(self, lag: int) -> None:
        self._lag = lag
        self._metrics.history_lag.set(lag)

    def _measure_disk(self) -> None:
        if self._database.path:
            self._metrics.history_free.set(free_bytes(self._database.path))

    def _well(self) -> None:
        self._metrics.history_down.set(0)
        self._retry_s = FIRST_RETRY_S
        if self._trouble:
            log.info("history in %s: goes on", self._database.shown)
            self._trouble = ""

    def _now(self, state: str) -> None:
        if state != self._state:
            log.info("history in %s: %s", self._database.shown, state)
        self._state = state

    def _failed(self, trouble: str) -> None:
        self._state, self._trouble = "down", trouble
        if time.monotonic() - self._said_at >= SAY_S:
            self._said_at = time.monotonic()
            log.warning("%s; trying again, nothing else waits for it", trouble)

    def _say_unreadable(self, projection: Projection) -> None:
        if projection.unreadable and time.monotonic() - self._said_unreadable_at >= SAY_S:
            self._said_unreadable_at = time.monotonic()
            log.warning("history: %d records passed over: %s", projection.unreadable, projection.last_unreadable)
            projection.unreadable = 0

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._state, self._trouble = "stopped", repr(error)
            self._metrics.history_down.set(1)
            log.error("history: it ended; nothing else does", exc_info=error)

"""The service that writes the history, in workers and alerters: one of the processes that share a database writes.

Nothing waits for it, and its failures end nothing. While the database or the brokers do not answer, it tries again,
logs this twice a minute, and shows it in ``status`` and in the metrics; the topics keep the missing records.
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
from app.store.history_reader import HistoryReader
from app.store.projection import DECISIONS, EPISODES, NOTIFICATIONS, Overtaken, Projection
from app.store.queries import Queries

log = logging.getLogger(__name__)

BATCH = 300  # records of a transaction: 11 ms of the event loop in ten pieces; of 100 it is 7 ms
BESIDE, ALONE = 0.05, 0.5  # largest share of the time while it is behind: in a worker, in a process without scoring
LONGEST_PAUSE_S = 2.0
WAIT_S = 0.5  # for the next record
TURN_S = 5.0  # between two attempts to become the writer
CHECK_S = 15.0  # between two checks that topics and file are still the same
EXPIRE_S = 600.0
LOG_S = 30.0
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0

T = TypeVar("T")


class History(Queries):
    """Writes the history of the group, and answers queries.

    ``share``: the largest part of its process's time that it uses.
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
        self._logged_at = self._logged_unreadable_at = float("-inf")
        self._retry_s = FIRST_RETRY_S
        super().__init__(Database.of(settings))

    def status(self) -> dict[str, Any]:
        """For /readyz and the view: its state, records not read yet, and the problem, if there is one."""
        status: dict[str, Any] = {"state": self._state, "database": self._database.shown, "lag": self._lag}
        if self._trouble:
            status["trouble"] = self._trouble
        return status

    async def start(self) -> None:
        """Start the task. Does not wait for database or brokers.

        Raises
        ------
        ConfigurationError
            The file of ``storage.url`` cannot be written. Without that setting: only a warning, and no history.
        """
        import alembic.config  # here, as importing it later would block the event loop  # noqa: F401

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
        """Stop the task; also if it was never started."""
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
                self._set_state("waiting: another process writes")
                self._set_lag(0)
                self._clear_trouble()
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
        """Read and write until a topic or the file is replaced."""
        projection = Projection(connection, self._kinds, self._settings.storage.retention_days, self._clock)
        reader = HistoryReader(self._settings.kafka, list(self._kinds))
        try:
            for sentence in await self._within(projection.begin(await reader.start()), REBUILD_S):
                log.warning("history: %s", sentence)
            for topic in reader.denied:
                log.warning("history: this user may not see topic %s: allow it Read there; it is left out", topic)
            reader.seek(projection.positions)
            self._set_state("reading")
            started = checked = time.monotonic()
            expired = float("-inf")
            while True:
                records, after = await reader.read(BATCH, WAIT_S)
                began = time.monotonic()
                if after:
                    await self._within(projection.take(records, after))
                    self._metrics.history_records.inc(len(records))
                    self._log_unreadable(projection)
                self._set_lag(reader.lag())
                if after or not self._lag or began - started > LOG_S:  # else unwritten records still wait
                    self._clear_trouble()
                if began - expired >= EXPIRE_S and not await self._within(projection.expire()):
                    expired = began
                if began - checked >= CHECK_S:
                    if self._database.replaced() or await reader.changed():
                        return
                    self._measure_disk()
                    checked = began
                busy_s = time.monotonic() - began
                await asyncio.sleep(min(busy_s * (1 / self._share - 1), LONGEST_PAUSE_S))
        finally:
            await reader.stop()

    async def _within(self, step: Awaitable[T], limit_s: float = ANSWER_S) -> T:
        with reported(self._database):
            async with asyncio.timeout(limit_s):
                return await step

    def _set_lag(self, lag: int) -> None:
        self._lag = lag
        self._metrics.history_lag.set(lag)

    def _measure_disk(self) -> None:
        if self._database.path:
            self._metrics.history_free.set(free_bytes(self._database.path))

    def _clear_trouble(self) -> None:
        self._metrics.history_down.set(0)
        self._retry_s = FIRST_RETRY_S
        if self._trouble:
            log.info("history in %s: works again", self._database.shown)
            self._trouble = ""

    def _set_state(self, state: str) -> None:
        if state != self._state:
            log.info("history in %s: %s", self._database.shown, state)
        self._state = state

    def _failed(self, trouble: str) -> None:
        self._state, self._trouble = "down", trouble
        if time.monotonic() - self._logged_at >= LOG_S:
            self._logged_at = time.monotonic()
            log.warning("%s; trying again, nothing else waits for it", trouble)

    def _log_unreadable(self, projection: Projection) -> None:
        if projection.unreadable and time.monotonic() - self._logged_unreadable_at >= LOG_S:
            self._logged_unreadable_at = time.monotonic()
            log.warning("history: %d records skipped: %s", projection.unreadable, projection.last_unreadable)
            projection.unreadable = 0

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._state, self._trouble = "stopped", repr(error)
            self._metrics.history_down.set(1)
            log.error("history: stopped because of an error; everything else goes on", exc_info=error)

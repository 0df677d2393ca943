"""The web view of one process: its server, the readers of topics, and their tasks."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from app import errors
from app.metrics import Metrics
from app.settings import Settings
from app.web.security.access_log import AccessLog, server_log
from app.web.security.limits import excess
from app.web.server import Server
from app.web.status.probes import Check
from app.web.status.system import Channels
from app.web.topics.decisions import DecisionsMirror, kafka_reader
from app.web.topics.recent_results import RecentResults
from app.web.topics.topic_reader import TopicReader, kafka_consumer

if TYPE_CHECKING:
    from app.store.history import History

log = logging.getLogger(__name__)

RESULTS_PER_S = 2_000  # about 2 % of a core
EVENTS_PER_S = 1_000  # as many as RecentResults keeps: of more, a second later none would be left
START_RESULTS, START_ANOMALIES = 200, 1_000  # records a partition read back at start
LONGEST_LINE = 32 << 10  # bytes of an address: names in other scripts than Latin take 9 and more a character
LOOK_S = 1.0


class View:
    """Serves `settings.dashboard`; without `enabled` probes and metrics only.

    ``health`` is called at each probe. ``options`` are those of app.kafka.client.client_options. If a reader fails,
    the worker goes on; the error is logged and shown in /api/statistics.

    Raises
    ------
    ConfigurationError
        The port would be open without protection, or a file of tokens or certificates cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        health: Check,
        options: dict[str, Any],
        history: "Callable[[], History | None]" = lambda: None,
        channels: Channels = dict,
    ) -> None:
        self.recent = RecentResults()
        connect, kafka = kafka_consumer(options), settings.kafka
        self._readers = [
            TopicReader(kafka.output_topic, self.recent.take_result, connect, START_RESULTS, RESULTS_PER_S),
        ]
        notifications = [(kafka.notifications_topic, self.recent.take_notification, self.recent.notifications)]
        for topic, take, read_positions in [
            (kafka.anomalies_topic, self.recent.take_event, self.recent.events),
            *(notifications if settings.alerting.enabled else ()),
        ]:
            self._readers.append(
                TopicReader(topic, take, connect, START_ANOMALIES, EVENTS_PER_S, read_positions=read_positions)
            )
        self._dashboard, self._most, self._cut = (
            settings.dashboard,
            settings.api.max_connections,
            metrics.cut_connections,
        )
        self._takes_reports = settings.api.writes
        self._access_log, self._root_path = settings.api.access_log, settings.api.root_path or ""
        self._mirror = (
            DecisionsMirror(kafka.decisions_topic, kafka_reader(options)) if settings.alerting.enabled else None
        )
        results, anomalies = self._readers[:2]
        of_topics = self.recent, results, anomalies
        self._server = Server(settings, metrics, health, *of_topics, history, channels, self._mirror)
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task] = []

    @property
    def port(self) -> int:
        """The port listened on, once started; 0 before."""
        return self._runner.addresses[0][1] if self._runner and self._runner.addresses else 0

    async def start(self) -> None:
        """Listen, then begin to read the topics.

        Raises
        ------
        ConfigurationError
            The address cannot be listened on; names the setting and the fix.
        """
        host, port = self._dashboard.host, self._dashboard.port
        guard = self._server.guard
        runner = web.AppRunner(
            self._server.application(),
            access_log=logging.getLogger("app.web.access") if self._access_log else None,
            access_log_class=AccessLog,
            logger=server_log(),
            auto_decompress=False,  # one megabyte may become a thousand, in the loop that scores
            max_line_size=LONGEST_LINE,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=guard.tls).start()
        except OSError as error:
            await runner.cleanup()
            raise errors.ConfigurationError(_listen_problem(error, host, port)) from error
        self._runner = runner
        self._run(self._look_after())
        if self._dashboard.enabled:
            for reader in self._readers:
                self._run(reader.run(), reader)
            if self._mirror:
                self._run(self._mirror.run(), self._mirror)
                if self._takes_reports:
                    self._run(self._server.reports.run())
            self._run(self._server.push.run())
            scheme, path = "https" if guard.tls else "http", self._root_path
            log.info("web view on %s://%s:%d%s/", scheme, f"[{host}]" if ":" in host else host, self.port, path)

    def _run(self, job: Coroutine[Any, Any, None], reader: TopicReader | DecisionsMirror | None = None) -> None:
        task = asyncio.create_task(job)
        task.add_done_callback(partial(_ended, reader))
        self._tasks.append(task)

    async def _look_after(self) -> None:
        """Each second: make room, and take what changed in files."""
        while self._runner:
            self._make_room()
            await self._server.guard.look()
            await asyncio.sleep(LOOK_S)

    def _make_room(self) -> None:
        """Cut the oldest of too many connections.

        A connection that sends no request, or reads no response, stays open for ever: a scraper that hangs and is
        started again each minute would take all the files that the process may open.
        """
        if not self._runner or not (server := self._runner.server):
            return
        pages = {client.transport for client in self._server.push.clients}
        others = [one.transport for one in server.connections if one.transport not in pages]  # oldest first
        of_one, of_all = excess(others, self._most, self._most // 2, self._server.guard.is_many)
        for transport in of_one + of_all:
            transport.abort()
        self._cut["one"].inc(len(of_one))
        self._cut["all"].inc(len(of_all))

    async def stop(self) -> None:
        """Close connections and end the tasks; also when never started."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._runner:
            await self._server.push.close()
            await self._runner.cleanup()
            await self._server.services.points.stop()
            await self._server.services.stored_results.stop()
            self._runner = None
        await self._server.decider.stop()


def _listen_problem(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"dashboard.port: {port} on {host} is in use; free it, choose another, or 0 for any free one"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"dashboard.port: {port} may not be listened on by this user; choose one from 1024, or 0 for any"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"dashboard.host: expected an address of this machine, got {host!r}: {error.strerror}"
    return f"dashboard.host, dashboard.port: cannot listen on {host}:{port}: {error}"


def _ended(reader: TopicReader | DecisionsMirror | None, task: asyncio.Task) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("web view: a task ended; the worker goes on", exc_info=error)
        if reader:
            reader.state = f"stopped: {error!r}"

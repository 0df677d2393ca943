"""Puts the worker together: settings, pipeline, tables, agents and web view on one Faust application.

``faust -A app worker`` and ``faust-anomaly worker`` both run the ``app`` made here. ``Preflight``, which Faust starts
first, finds problems before the group is joined: settings, topics, permissions, a port in use.
"""

import asyncio
import gc
import importlib
import importlib.util
import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import faust
from aiokafka.structs import TopicPartition
from mode import Service

from agents import alert, rekey, score
from app.alerting.alerter import Alerter
from app.compiled import jit
from app.errors import AnomalyError, ConfigurationError, NoBroker, TopicError
from app.kafka import patches, permissions
from app.kafka.client import client_options, ssl_context
from app.kafka.topics import doubts, limits, needed_names, require
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import Settings, load
from app.stream.log_filter import limit_repeats
from app.stream.outbox import stop_at_lost_batch
from app.stream.recovery import SnapshotTableManager
from app.stream.silent_series import EVERY_S, SilentSeriesMonitor
from app.stream.transport import BATCH_BYTES, App
from app.stream.warm_up import warm_up
from app.stream.watchdog import Watchdog
from app.web import View
from app.web.status.probes import Health, not_ready
from tables.sources import SourcesTable

COMMIT_EVERY_S = 1.0
HISTORY_AFTER_S = 10.0  # a worker that starts first has to catch up

log = logging.getLogger(__name__)


class Preflight(Service):
    """Checks settings and topics, compiles the detectors and opens the port, before the group is joined."""

    def __init__(self, app: App, view: View, keeper: "HistoryKeeper", **options: Any) -> None:
        self._app, self._view, self._keeper = app, view, keeper
        super().__init__(**options)

    async def on_start(self) -> None:
        job = self._app.job
        log_engine(job.pipeline.engine)
        try:
            needed = permissions.of_worker(job.settings)
            found = await require(job.settings, job.pipeline.max_snapshot_bytes(), needed)
            job.partitions_of.update((name, topic.partitions) for name, topic in found.items())
            job.topic_ids.update((name, topic.id) for name, topic in found.items())
            job.limits.update(limits(found))
            log_hidden_limits(job.limits, needed_names(job.settings.kafka)[1:])
            for doubt in doubts(job.settings.kafka, found):
                log.warning("%s", doubt)
            warm_up(job.pipeline, helped=True, rekeys=job.settings.kafka.rekeys)
            gc.freeze()  # all this stays: the collection after the first recovery need not look through it, .2 s
            gc.enable()  # off since the command began
            await self._view.start()
            await self._keeper.start()
        except AnomalyError as error:
            print(f"faust-anomaly: {error}", file=sys.stderr, flush=True)
            logging.shutdown()
            sys.exit(1 if isinstance(error, NoBroker) else 2)  # nothing was begun

    async def on_stop(self) -> None:
        await self._keeper.stop()
        await self._view.stop()


class HistoryKeeper:
    """Keeps the history in a worker. Loading SQLAlchemy takes half a second, so it is done after the start.

    A database that the settings name is checked at once, so that a wrong name stops the worker before it joins.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._wanted = settings.storage.enabled and settings.alerting.enabled
        self._history: Any = None
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises ConfigurationError if the database that was named cannot be."""
        if self._wanted:
            named = self._settings.storage.url is not None
            self._starting = asyncio.create_task(self._start(0.0 if named else HISTORY_AFTER_S))
            if named:
                await self._starting

    async def _start(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await asyncio.to_thread(importlib.import_module, "alembic.config")
        module = await asyncio.to_thread(importlib.import_module, "app.store.history")
        history = module.History(self._settings, self._metrics)
        await history.start()
        self._history = history

    async def stop(self) -> None:
        """Also when never started."""
        if self._starting:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._history:
            await self._history.stop()

    @property
    def history(self) -> Any:
        """None while there is none."""
        return self._history

    def status(self) -> dict[str, Any] | None:
        """For /readyz; None while there is none."""
        return self._history.status() if self._history else None


def log_hidden_limits(known: Mapping[str, int], written: Sequence[str]) -> None:
    """One line in the log for topics whose limits this user may not see."""
    if unseen := [name for name in written if name not in known]:
        log.info(
            "this user may not see the configuration of %s (DescribeConfigs): record batches have up to %d bytes "
            "there, and whether they are compacted as they must be is not checked",
            ", ".join(unseen), BATCH_BYTES,
        )  # fmt: skip


def log_engine(engine: str) -> None:
    """One line in the log: what scores, and the event loop; a warning where it is not the fast one."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    missing = [name for name, there in (("numba", engine == "numba"), ("uvloop", loop == "uvloop")) if not there]
    slow = f": {' and '.join(missing)} not installed, results are the same but slower" if missing else ""
    log.log(logging.WARNING if missing else logging.INFO, "engine %s, event loop %s%s", engine, loop, slow)


def make(settings: Settings) -> App:
    """The application for these settings; nothing is connected yet."""
    pipeline = Pipeline.of(settings)
    metrics = Metrics.of(settings, pipeline.engine)
    kafka = settings.kafka
    app = App(
        kafka.group_id,
        settings=settings,
        pipeline=pipeline,
        metrics=metrics,
        table=SourcesTable(pipeline),
        broker=[f"kafka://{server}" for server in kafka.bootstrap_servers],
        broker_credentials=_credentials(settings),
        store="memory://",
        datadir=tempfile.gettempdir(),  # Faust wants one; nothing is written there
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        # A leader that knew no partitions, just after a broker's restart, assigns again when it learns of them; the
        # default is five minutes.
        consumer_metadata_max_age_ms=10_000,
        consumer_group_instance_id=kafka.group_instance_id,
        broker_max_poll_records=kafka.max_poll_records,
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=min(1.0, kafka.session_timeout_s / 4),
        broker_rebalance_timeout=max(10.0, kafka.session_timeout_s),
        broker_request_timeout=max(30.0, kafka.session_timeout_s + 1),
        broker_commit_interval=COMMIT_EVERY_S,
        producer_linger=0.0,
        producer_max_batch_size=BATCH_BYTES,
        producer_max_request_size=8 << 20,
        producer_request_timeout=kafka.ack_timeout_s,
        stream_buffer_maxsize=16,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        table_standby_replicas=0,
        TableManager=SnapshotTableManager,
    )
    as_bytes: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "value_serializer": "raw"}
    score.attach(app, app.topic(kafka.log_topic, **as_bytes), app.partitions)
    if kafka.rekeys:
        rekey.attach(app, app.topic(kafka.input_topic, **as_bytes), app.rekey_partitions)
    watchdog = Watchdog(app, beacon=app.beacon)
    alerter = Alerter(settings, metrics) if settings.alerting.enabled else None
    keeper = HistoryKeeper(settings, metrics)
    view = View(
        settings, metrics, lambda: health(app, watchdog, alerter, keeper), client_options(kafka),
        lambda: keeper.history, alerter.channels if alerter else dict,
    )  # fmt: skip
    app.before_joining += [Preflight(app, view, keeper, beacon=app.beacon), watchdog]
    if alerter:
        alert.attach(app, alerter)
    _attach_timers(app)
    return app


def health(app: App, watchdog: Watchdog, alerter: Alerter | None, keeper: HistoryKeeper) -> Health:
    """Live: the watchdog makes its checks, and ends a process without progress.

    Ready: in the group, recovered, and the group accepted a commit within the session timeout.
    """
    partitions, rekey_partitions = app.partitions, app.rekey_partitions
    limit_s = app.job.settings.kafka.session_timeout_s
    age_s = time.monotonic() - app.committer.committed_at
    recovered = bool(app.tables.actives_ready and not app.rebalancing)
    why = not_ready(recovered, len(partitions) + len(rekey_partitions), app.consumer.group_answers, age_s, limit_s)
    details = {
        "partitions": sorted(partitions),
        "recovered": recovered,
        "generation": app.committer.generation,
    }
    if dead_letters := app.job.dead_letter_log.summary():
        details["dead_letters"] = dead_letters
    if alerter:
        details["alerter"] = alerter.summary()
    if history := keeper.status():
        details["history"] = history
    if app.job.settings.kafka.rekeys:
        details["rekey_partitions"] = sorted(rekey_partitions)
    if why:
        details["not_ready"] = why
    return Health(watchdog.alive, why is None, details)


def _attach_timers(app: App) -> None:
    silent_series = SilentSeriesMonitor(app)

    @app.timer(EVERY_S)
    async def check_silent_series() -> None:
        await silent_series.check()

    @app.timer(0.1)
    async def save_idle() -> None:
        await app.partitions.save_idle()

    @app.timer(1.0)
    async def measure() -> None:
        job, kafka = app.job, app.job.settings.kafka
        job.dead_letter_log.log_due()
        rows = [partition.state.sources.rows for partition in app.partitions.values()]
        job.metrics.sources_active.set(sum(map(len, rows)))
        job.metrics.sources_warming_up.set(sum(row.warming_up for row in rows))
        job.metrics.state_bytes.set(sum(row.nbytes for row in rows))
        for number, partition in app.partitions.items():
            ledger = partition.ledger
            end = app.consumer.readable_end(TopicPartition(kafka.log_topic, number)) or ledger.position
            job.metrics.lag(number, ledger.position, end)
            job.metrics.replay_backlog(number, ledger.position - ledger.replay_point)
        for number, rekeyed in app.rekey_partitions.items():
            end = app.consumer.readable_end(TopicPartition(kafka.input_topic, number)) or rekeyed.position
            job.metrics.rekey_lag(number, rekeyed.position, end)


def _credentials(settings: Settings) -> Any:
    kafka = settings.kafka
    secured = "SSL" in kafka.security_protocol
    context = ssl_context(kafka) if secured else None
    if kafka.security_protocol.startswith("SASL"):
        options = client_options(kafka)
        if "sasl_oauth_token_provider" in options:
            return faust.OAuthCredentials(oauth_cb=options["sasl_oauth_token_provider"], ssl_context=context)
        return faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if secured else None


def _make_from_environment() -> App:
    try:
        settings = load()
        if importlib.util.find_spec("uvloop"):  # it has no wheel for Windows
            import uvloop

            uvloop.install()
        patches.apply(
            parsed=(settings.kafka.input_topic, settings.kafka.log_topic, settings.kafka.changelog_topic),
            partly_read=(settings.kafka.output_topic, settings.kafka.anomalies_topic),
            whole_fetches=jit.AVAILABLE,
            on_lost_batch=stop_at_lost_batch,
        )
        limit_repeats()
        logging.disable(logging.DEBUG)  # aiokafka builds its debug records even when nobody reads them: 6 % of the time
        return make(settings)
    except (ConfigurationError, TopicError) as error:
        print(f"faust-anomaly: {error}", file=sys.stderr)
        sys.exit(2)


app = _make_from_environment()

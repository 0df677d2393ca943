"""The worker's Prometheus metrics, in their own registry.

Every attribute of `Metrics` is incremented once a batch, never once a record. No metric has a label for each source;
labels are from small fixed sets, or the partitions of this worker. Faust's own Prometheus sensor is not used: its names
have no prefix, times are in milliseconds, counters are gauges, and there is no lag.

A plain attribute is a prometheus_client object (`.inc(n)`, `.set(v)`, `.observe(v)`); an attribute with a
label of known values is a dict of them (`metrics.commits["refused"].inc()`: a misspelt value is a KeyError).

Examples
--------
>>> metrics = Metrics(engine="python")
>>> metrics.records_consumed.inc(400)
>>> metrics.scored({"zscore": 400})
>>> metrics.end_to_end_latency.observe_many([0.004, 0.012])
>>> print(*(line for line in metrics.render()[0].decode().splitlines() if " 400.0" in line), sep="\\n")
faust_anomaly_records_consumed_total 400.0
faust_anomaly_points_scored_total{detector="zscore"} 400.0
"""

import hashlib
import logging
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app import __version__
from app.metrics.machine import certificate_end, memory_limit_bytes
from app.settings import Settings
from app.wire.decisions import VERDICTS

log = logging.getLogger(__name__)

PREFIX = "faust_anomaly_"
STAGES = ("rekey", "decode", "score", "encode", "results_ack", "snapshot_ack", "commit")
SEVERITIES = ("low", "medium", "high", "critical")
REFUSED = ("401", "403", "429")
COMMIT_OUTCOMES = ("accepted", "refused", "failed")
NOTIFICATION_STATES = ("sent", "failed", "muted")
FEEDBACK_DAYS = 7  # for the metric of feedback

_RECORDS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
_STAGE_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Documented(NamedTuple):
    """One row of the table in docs/operations.md. `name` as Prometheus shows it (a histogram without _bucket)."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class Metrics:
    """All metrics of one worker process.

    ``engine`` is what runs the kernels, ``numba`` or ``python``. All durations are seconds, all sizes bytes.
    """

    def __init__(self, engine: str = "numba") -> None:
        # They double the counters and repeat process_start_time_seconds. The switch is one for the whole process.
        disable_created_metrics()
        self._engine = engine
        self.registry = CollectorRegistry()
        self.documented: list[Documented] = []
        self._children: dict[tuple[Counter, str], Counter] = {}  # by what is counted and its label
        counter, gauge, histogram = self._counter, self._gauge, self._histogram

        # Input and output.
        self.records_consumed = counter("records_consumed_total", "Records taken from the input topic.")
        self.rekeyed_records = counter(
            "rekeyed_records_total", "Records acknowledged in the topic by source, with input.rekey."
        )
        self.rekeyed_duplicates = counter(
            "rekeyed_duplicates_total", "Records of the topic by source dropped because they were there before."
        )
        self._invalid = counter("invalid_total", "Points and records written as dead letters.", "reason")
        self._skipped = counter("skipped_total", "Records and elements without a point, by intention.", "reason")
        self._scored = counter("points_scored_total", "Points with a score of the detector.", "detector")
        self.results_delivered = counter("results_delivered_total", "Results acknowledged by the broker.")
        self.results_suppressed = counter(
            "results_suppressed_total", "Results not sent after a restart, because the output topic has them."
        )
        self._anomalies = counter("anomalies_total", "Episodes opened, by severity at the opening.", "severity")
        self.drifts = counter("drifts_total", "Drifts in the scores of sources, found by detection.drift.")
        self.anomalous_points = counter("anomalous_points_total", "Points inside an episode.")

        # Durations.
        self.batch_size = histogram("batch_size_records", "Records in a batch.", _RECORDS)
        self.batch_duration = histogram(
            "batch_duration_seconds", "Time from the start of a batch to the acknowledgement of its results.", _STAGE_S
        )
        stage = histogram("stage_duration_seconds", "Time of one stage of a batch.", _STAGE_S, "stage")
        self.stage_duration = {name: stage.labels(name) for name in STAGES}
        self.end_to_end_latency = self._bulk_histogram(
            "end_to_end_latency_seconds",
            "Time from the Kafka timestamp of a record to the acknowledgement of its result.",
            _LATENCY_S,
        )
        self.event_time_lag = gauge(
            "event_time_lag_seconds", "Current time minus the newest event time of the last batch."
        )

        # Lag.
        self._lag = gauge("lag_records", "Records of the partition not yet consumed.", "partition")
        self._rekey_lag = gauge(
            "rekey_lag_records",
            "Records of the partition of the input topic not yet sorted by source, with input.rekey. lag_records is "
            "that of the topic by source then.",
            "partition",
        )
        self._backlog = gauge(
            "replay_backlog_records",
            "Records that a restart would replay: acknowledged minus replay point.",
            "partition",
        )
        self.assigned_partitions = gauge("assigned_partitions", "Input partitions assigned to this worker.")
        self.partitions = gauge(
            "partitions", "Input partitions that there are: as many have to be assigned to all workers together."
        )
        self.assigned_rekey_partitions = gauge(
            "assigned_rekey_partitions",
            "With input.rekey, partitions of the input topic assigned to this worker; assigned_partitions are of the "
            "topic by source then.",
        )
        self.rekey_partitions = gauge(
            "rekey_partitions",
            "With input.rekey, partitions of the input topic; partitions are of the topic by source then.",
        )

        # State, snapshots, recovery.
        self.sources_active = gauge("sources_active", "Series in memory: sources, and metrics of them that come alone.")
        self.sources_warming_up = gauge("sources_warming_up", "Series of which all detectors are warming up.")
        self.sources_forgotten = counter(
            "sources_forgotten_total", "Series deleted from memory and changelog after state.forget_after_records."
        )
        self.silent_series = gauge(
            "silent_series", "Series in the partitions of this worker that send nothing any more, though they should."
        )
        self.state_bytes = gauge("state_bytes", "Memory used by the state of the series.")
        self.snapshots = counter("snapshots_total", "Snapshots acknowledged in the changelog.")
        self.snapshot_bytes = counter("snapshot_bytes_total", "Size of these snapshots.")
        self.recovery_seconds = gauge("recovery_seconds", "Duration of the last recovery.")
        self.recovered_snapshots = counter(
            "recovered_snapshots_total", "Snapshots read from the changelog in recoveries."
        )
        self.replayed_points = counter(
            "replayed_points_total", "Points computed again in recoveries, to rebuild the state."
        )

        # The group.
        self.rebalances = counter(
            "rebalances_total", "Rebalances of the consumer group in which this worker took part."
        )
        commits = counter("commits_total", "Offset commits, by outcome.", "outcome")
        self.commits = {outcome: commits.labels(outcome) for outcome in COMMIT_OUTCOMES}

        # The alerter.
        self.episodes_open = gauge("episodes_open", "Open episodes of which somebody is to be notified.")
        self._notifications = counter(
            "notifications_total", "Messages that were sent, given up, or not sent because of a silence or rule.",
            "channel", "state",
        )  # fmt: skip
        self.notification_delay = histogram(
            "notification_delay_seconds",
            "Time from the newest point in a message until it was sent.",
            _LATENCY_S,
        )
        self._channel_up = gauge("channel_up", "Whether the channel took its last message: 1, else 0.", "channel")
        self.alerter_skipped = counter("alerter_skipped_total", "Records that the alerter could not read.")
        self.alerter_restarts = counter("alerter_restarts_total", "Times the alerter restarted after an error.")
        self.alerter_partitions = gauge(
            "alerter_assigned_partitions", "Partitions of the topic of anomalies whose episodes this process sends."
        )
        self.alerter_lag = gauge(
            "alerter_lag_records", "Records of these partitions of the topic of anomalies not yet read."
        )
        feedback = gauge(
            "feedback_episodes",
            f"Episodes of which people said in the last {FEEDBACK_DAYS} days what they were, by verdict; the same in "
            "each alerter.",
            "verdict",
        )
        self.feedback = {verdict: feedback.labels(verdict) for verdict in VERDICTS}

        # The history.
        self.history_records = counter("history_records_total", "Records of the topics taken into the history.")
        self.history_lag = gauge(
            "history_lag_records",
            "Records that the history does not hold yet; 0 in processes that leave it to another one.",
        )
        self.history_down = gauge(
            "history_down", "Whether the database of the history cannot be used: 1, else 0. Nothing but history waits."
        )
        self.history_free = gauge(
            "history_free_bytes",
            "Free space of the file system that has the history's file; NaN without such a file.",
        )
        self.history_free.set(float("nan"))

        # The port.
        refused = counter(
            "refused_requests_total",
            "Requests to the view and the API that were refused: 401 no valid token, 403 not allowed, 429 too many.",
            "status",
        )
        self.refused_requests = {status: refused.labels(status) for status in REFUSED}
        cut = counter(
            "cut_connections_total",
            "Connections cut: too many of all or of one address, or WebSockets that read too slowly.",
            "of",
        )
        self.cut_connections = {of: cut.labels(of) for of in ("all", "one", "slow")}

        # The process.
        self.ready = gauge("ready", "Whether /readyz answers 200: 1, else 0.")
        self.memory_limit = gauge(
            "memory_limit_bytes",
            "Memory that this process can have: the least of its control groups' limits and of the machine.",
        )
        self.memory_limit.set_function(memory_limit_bytes)  # a limit can change while it runs
        self._certificate_end = gauge(
            "certificate_expiry_timestamp_seconds",
            "When the certificate in use expires: api (api.tls_certificate_file), kafka (kafka.ssl_certfile).",
            "of",
        )
        self._settings = gauge(
            "settings_info",
            "Always 1; a hash of the sections input, detection, sources and output, which all workers should share.",
            "hash",
        )

        for severity in SEVERITIES:
            self._anomalies.labels(severity)  # a series that starts at 0 gives rate() its first increase
        self._build(engine)
        self._process = ProcessCollector(registry=self.registry)  # process_resident_memory_bytes, ..
        GCCollector(registry=self.registry)  # python_gc_collections_total, ..

    @classmethod
    def of(cls, settings: Settings, engine: str = "numba") -> "Metrics":
        """For a process with these settings."""
        metrics = cls(engine)
        metrics._settings.labels(_hashed(settings)).set(1)
        if settings.kafka.ssl_certfile:
            metrics.certificate("kafka", Path(settings.kafka.ssl_certfile))
        return metrics

    def certificate(self, of: str, path: Path) -> None:
        """Say when the certificate in this file expires, which was loaded just now. ``of``: api or kafka."""
        try:
            self._certificate_end.labels(of).set(certificate_end(path))
        except (OSError, ValueError) as error:  # who uses it says so better, and may have read it in between
            log.debug("%s: %s", path, error)
            self._certificate_end.remove(of)

    def invalid(self, reasons: Mapping[str, int]) -> None:
        """Count a batch's dead letters: label of the reason -> how many."""
        self._count(self._invalid, reasons)

    def skipped(self, reasons: Mapping[str, int]) -> None:
        """Add records that were skipped, by reason."""
        self._count(self._skipped, reasons)

    def scored(self, detectors: Mapping[str, int]) -> None:
        """Count a batch's votes: detector -> points it voted on."""
        self._count(self._scored, detectors)

    def opened(self, severities: Mapping[str, int]) -> None:
        """Count the episodes a batch opened: severity -> how many."""
        self._count(self._anomalies, severities)

    def _count(self, metric: Counter, counts: Mapping[str, int]) -> None:
        for label, count in counts.items():
            child = self._children.get((metric, label))
            if child is None:  # ``labels`` takes a lock, and longer than all else here
                child = self._children[metric, label] = metric.labels(label)
            if count:
                child.inc(count)

    def channels(self, names: Iterable[str]) -> None:
        """The channels that there are: their counts start at 0, so that rate() sees the first increase."""
        for name in names:
            for state in NOTIFICATION_STATES:
                self._notifications.labels(name, state)

    def notification(self, channel: str, state: str) -> None:
        """Count a message: sent, failed or muted."""
        self._notifications.labels(channel, state).inc()

    def channel_up(self, channel: str, up: bool) -> None:
        """Whether a channel takes messages."""
        self._channel_up.labels(channel).set(up)

    def channel_unknown(self, channel: str) -> None:
        """Nobody tries it here any more: its last 0 would alarm for ever."""
        self._channel_up.remove(channel)

    def lag(self, partition: int, consumed: int, end: int) -> None:
        """Set a partition's lag: its end offset minus the next offset to consume."""
        self._lag.labels(str(partition)).set(max(end - consumed, 0))

    def rekey_lag(self, partition: int, consumed: int, end: int) -> None:
        """The same of a partition of the input topic, with input.rekey."""
        self._rekey_lag.labels(str(partition)).set(max(end - consumed, 0))

    def replay_backlog(self, partition: int, records: int) -> None:
        """Set how many records a restart would replay for this partition."""
        self._backlog.labels(str(partition)).set(records)

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop the gauges of partitions this worker lost, or their last lag would alarm for ever."""
        for partition in partitions:
            self._lag.remove(str(partition))
            self._backlog.remove(str(partition))

    def forget_rekeyed(self, partitions: Iterable[int]) -> None:
        """The same for ``rekey_lag``."""
        for partition in partitions:
            self._rekey_lag.remove(str(partition))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page for a scrape and its content type; ``accept`` is the request's Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def total(self, *names: str) -> dict[str, float]:
        """Values of counters and gauges, summed over their labels; names without prefix, for the web view."""
        full = {PREFIX + name: name for name in names}
        values = dict.fromkeys(names, 0.0)
        for metric in self.registry.restricted_registry(list(full)).collect():
            for sample in metric.samples:
                if sample.name in full:
                    values[full[sample.name]] += sample.value
        return values

    @property
    def engine(self) -> str:
        """What runs the kernels."""
        return self._engine

    def process(self) -> dict[str, float]:
        """Of this process: ``resident_memory_bytes``, ``start_time_seconds`` (epoch) and others; empty beyond Linux."""
        return {one.name.removeprefix("process_"): one.samples[0].value for one in self._process.collect()}

    def labelled(self, name: str) -> dict[tuple[str, ...], float]:
        """Values of a counter or gauge by its labels, in their order; name without prefix, for the web view."""
        full = PREFIX + name
        return {
            tuple(sample.labels.values()): sample.value
            for metric in self.registry.restricted_registry([full]).collect()
            for sample in metric.samples
            if sample.name == full
        }

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.documented.append(Documented(PREFIX + name, "counter", labels, text))
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.documented.append(Documented(PREFIX + name, "gauge", labels, text))
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self.documented.append(Documented(PREFIX + name, "histogram", labels, text))
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)

    def _bulk_histogram(self, name: str, text: str, buckets: Sequence[float]) -> "BulkHistogram":
        self.documented.append(Documented(PREFIX + name, "histogram", (), text))
        return BulkHistogram(PREFIX + name, text, buckets, self.registry)

    def _build(self, engine: str) -> None:
        values = {"version": __version__, "python": platform.python_version(), "engine": engine}
        text = "Always 1; versions and engine as labels."
        Info(PREFIX + "build", text, registry=self.registry).info(values)
        self.documented.append(Documented(PREFIX + "build_info", "gauge", tuple(values), text))


class BulkHistogram(Collector):
    """A histogram that takes a whole batch of values in one call: 27 us for 4,000, 2 ms by observe().

    ``buckets`` are upper bounds, ascending; +Inf is added. A value below 0 (the clock of another machine is
    ahead of ours) counts as 0.
    """

    def __init__(self, name: str, text: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        self._bounds = np.asarray(buckets, dtype=np.float64)
        self._labels = [floatToGoString(bound) for bound in (*buckets, float("inf"))]
        self._counts = np.zeros(len(self._labels), dtype=np.int64)
        self._sum = 0.0
        self._lock = Lock()
        registry.register(self)

    def observe_many(self, values: ArrayLike) -> None:
        """Count values, in the histogram's unit; an empty batch is fine."""
        clipped = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
        counts = np.bincount(self._bounds.searchsorted(clipped), minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(clipped.sum())

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            cumulated, total = np.cumsum(self._counts).tolist(), self._sum
        yield HistogramMetricFamily(
            self._name, self._text, buckets=list(zip(self._labels, cumulated, strict=True)), sum_value=total
        )

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._text)]


def _hashed(settings: Settings) -> str:
    shared = settings.model_dump_json(include={"input", "detection", "sources", "output"})
    return hashlib.sha256(shared.encode()).hexdigest()[:8]


def table() -> str:
    """The table of metrics in docs/operations.md, in Markdown."""
    rows = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    for name, kind, labels, text in Metrics().documented:
        rows.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |")
    return "\n".join(rows)

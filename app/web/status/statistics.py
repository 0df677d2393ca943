"""Statistics of the topics and of this worker, for every page."""

import time
from typing import Annotated, Literal

from msgspec import Meta, Struct

from app import __version__
from app.metrics import Metrics
from app.settings import Settings
from app.web.topics.recent_results import RecentResults
from app.web.topics.topic_reader import TopicReader

Updates = Literal["push", "poll", "off"]


class Reading(Struct):
    """How the view reads one topic."""

    state: Annotated[str, Meta(description="`reading`, or why not.")]


class ReadingResults(Reading):
    per_s: Annotated[float | None, Meta(description="Results that all workers write per second; null: not yet known.")]


class WorkerStatistics(Struct):
    """Of this worker, and of none where the process is no worker."""

    records_consumed_total: float
    results_delivered_total: float
    invalid_total: Annotated[float, Meta(description="Dead letters.")]
    lag_records: Annotated[float, Meta(description="Input records of its partitions that it has not read yet.")]
    assigned_partitions: float
    sources_active: float
    sources_warming_up: float
    records_per_s: Annotated[float | None, Meta(description="null: not yet measured.")]


class ProcessStatistics(Struct):
    """Of the topics (all workers), and of this process."""

    version: str
    updates: Annotated[Updates, Meta(description="How pages learn what is new: over /ws, by asking, or not at all.")]
    input_topic: str
    results: ReadingResults
    anomalies: Reading
    shown: Annotated[int, Meta(description="Results that the view has read.")]
    skipped: Annotated[int, Meta(description="Results that it left out, because they came faster than it reads.")]
    unreadable: Annotated[int, Meta(description="Records of the output topics that it could not read.")]
    sources: Annotated[int, Meta(description="Series known.")]
    episodes_open: Annotated[int, Meta(description="Episodes open, of those that the view remembers.")]
    episodes_opened: Annotated[int, Meta(description="Episodes that opened while it looked.")]
    pages_open: Annotated[int, Meta(description="WebSockets open.")]
    worker: WorkerStatistics


WORKER = (
    "records_consumed_total",
    "results_delivered_total",
    "invalid_total",
    "lag_records",
    "assigned_partitions",
    "sources_active",
    "sources_warming_up",
)


class Statistics:
    """Its only state is the last measurement of the worker's throughput."""

    def __init__(
        self, settings: Settings, metrics: Metrics, recent: RecentResults, results: TopicReader, anomalies: TopicReader
    ) -> None:
        self._settings, self._metrics, self._recent = settings, metrics, recent
        self._results, self._anomalies = results, anomalies
        self._measured: tuple[float, float] | None = None  # when, and records consumed then
        self._records_per_s: float | None = None
        self.pages_open = 0

    @property
    def updates(self) -> Updates:
        """How the page gets new results: push, poll or off."""
        dashboard = self._settings.dashboard
        if not dashboard.real_time_updates:
            return "off"
        return "push" if dashboard.websocket_enabled else "poll"

    def now(self) -> ProcessStatistics:
        """What /api/statistics shows: of the topics (all workers), and of this worker."""
        worker = self._metrics.total(*WORKER)
        self._measure_rate(worker["records_consumed_total"])
        return ProcessStatistics(
            version=__version__,
            updates=self.updates,
            input_topic=self._settings.kafka.input_topic,
            results=ReadingResults(self._results.state, self._results.produced_per_s),
            anomalies=Reading(self._anomalies.state),
            shown=self._recent.results,
            skipped=self._results.skipped,
            unreadable=self._recent.unreadable,
            sources=len(self._recent),
            episodes_open=self._recent.open_episodes,
            episodes_opened=self._recent.opened,
            pages_open=self.pages_open,
            worker=WorkerStatistics(**worker, records_per_s=self._records_per_s),
        )

    def _measure_rate(self, consumed: float) -> None:
        now = time.monotonic()
        if self._measured is None:
            self._measured = now, consumed
        elif now - self._measured[0] >= 0.9:  # many pages ask; a shorter time would show noise
            self._records_per_s = (consumed - self._measured[1]) / (now - self._measured[0])
            self._measured = now, consumed

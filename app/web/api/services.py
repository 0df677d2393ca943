"""The parts of the server that handlers use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.metrics import Metrics
from app.settings import Settings
from app.web.api.point_rate import PointRate
from app.web.episodes import Episodes
from app.web.security.access import Access
from app.web.status.consumer_groups import ConsumerGroups
from app.web.status.probes import Check
from app.web.status.statistics import Statistics
from app.web.status.system import SystemView
from app.web.stored_results.queries import StoredResults
from app.web.topics.recent_results import RecentResults
from app.web.topics.topic_reader import TopicReader
from app.web.websocket.push import Push
from app.web.writers.decision_writer import DecisionWriter
from app.web.writers.point_writer import PointWriter
from app.web.writers.report_writer import ReportWriter

if TYPE_CHECKING:
    from app.store.history import History


@dataclass
class Services:
    settings: Settings
    metrics: Metrics
    health: Check
    recent: RecentResults
    push: Push
    statistics: Statistics
    results: TopicReader
    history: Callable[[], History | None]  # None: off, or not there yet
    points: PointWriter
    point_rate: PointRate
    stored_results: StoredResults
    system: SystemView
    workers: ConsumerGroups
    episodes: Episodes
    decider: DecisionWriter
    reports: ReportWriter
    routes: list[Any]  # all that are served, for the document
    access: Access

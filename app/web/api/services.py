"""What handlers may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.metrics import Metrics
from app.settings import Settings
from app.web.api.point_rate import PointRate
from app.web.kept_results import KeptResults
from app.web.live.decider import Decider
from app.web.live.episodes import Episodes
from app.web.live.push import Push
from app.web.live.recent_results import RecentResults
from app.web.live.reports import Reports
from app.web.live.statistics import Statistics
from app.web.live.topic_reader import TopicReader
from app.web.point_writer import PointWriter
from app.web.probes import Check
from app.web.security.access import Access
from app.web.system import SystemView
from app.web.workers import Workers

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
    kept: KeptResults
    system: SystemView
    workers: Workers
    episodes: Episodes
    decider: Decider
    reports: Reports
    routes: list[Any]  # all that are served, for the document
    access: Access

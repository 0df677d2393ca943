"""The web application: all routes, behind the middlewares.

Routes are declared with their handlers, in app/web/api. Every request passes the middlewares of
app/web/security/guard.py first.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from app.metrics import Metrics
from app.settings import Settings
from app.web.api import (
    alerts,
    episodes,
    openapi,
    points,
    results,
    session,
    silences,
    sources,
    status,
    websocket,
)
from app.web.api.pages import STATIC, pages
from app.web.api.point_rate import PointRate
from app.web.api.routes import OPEN, HttpRoute, routes_of
from app.web.api.services import Services
from app.web.episodes import Episodes
from app.web.problems import as_problems
from app.web.security.guard import Guard
from app.web.status.consumer_groups import ConsumerGroups
from app.web.status.probes import Check
from app.web.status.statistics import Statistics
from app.web.status.system import Channels, SystemView
from app.web.stored_results.queries import StoredResults
from app.web.topics.decisions import DecisionsMirror
from app.web.topics.recent_results import RecentResults
from app.web.topics.topic_reader import TopicReader
from app.web.websocket.push import Push
from app.web.writers.decision_writer import DecisionWriter
from app.web.writers.point_writer import PointWriter
from app.web.writers.report_writer import ReportWriter

if TYPE_CHECKING:
    from app.store.history import History

ALWAYS = [status.livez, status.readyz, status.scrape, status.health]  # also without dashboard.enabled
SUBJECTS = [
    points,
    status,
    session,
    sources,
    results,
    episodes,
    alerts,
    silences,
    websocket,
    openapi,
]


class Server:
    """The application of one process; starts nothing."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        health: Check,
        recent: RecentResults,
        results: TopicReader,
        anomalies: TopicReader,
        history: "Callable[[], History | None]" = lambda: None,
        channels: Channels = dict,
        mirror: DecisionsMirror | None = None,
    ) -> None:
        self.guard = Guard(settings, metrics)
        statistics = Statistics(settings, metrics, recent, results, anomalies)
        known = Episodes(recent, history, mirror)
        self.push = Push(recent, statistics, known, metrics.cut_connections["slow"])
        routes = routes_of(SUBJECTS) + pages()
        if not settings.dashboard.enabled:
            routes = [one for one in routes if one.handler in ALWAYS]
        self.decider = DecisionWriter(settings, mirror)
        self.reports = ReportWriter(settings, self.decider)
        self.services = Services(
            settings, metrics, health, recent, self.push, statistics, results, history,
            PointWriter(settings), PointRate(settings.api.max_point_rate), StoredResults(settings),
            SystemView(settings, metrics, health, channels), ConsumerGroups(settings, health),
            known, self.decider, self.reports, routes, self.guard.access,
        )  # fmt: skip

    @property
    def routes(self) -> list[HttpRoute]:
        return self.services.routes

    def application(self) -> web.Application:
        """All routes; without dashboard.enabled only probes and metrics.

        With api.root_path each is there twice: some proxies leave the path that they serve us under in front, others
        take it away, and probes know nothing of it.
        """
        settings = self.services.settings
        app = web.Application(middlewares=[as_problems], client_max_size=settings.api.max_body_bytes)
        roles: dict[Handler, tuple[str, ...]] = {}
        handlers = [(one, one.bound(self.services)) for one in self.routes]
        for before in {"": None, settings.api.root_path or "": None}:
            for one, handler in handlers:
                roles[handler] = one.roles
                add = app.router.add_get if one.method == "GET" else partial(app.router.add_route, one.method)
                add(before + one.path, handler)
            if settings.dashboard.enabled:
                for static in app.router.add_static(before + "/static", STATIC):
                    roles[static.handler] = (OPEN,)
            if before:
                app.router.add_get(before, into_folder)
                roles[into_folder] = (OPEN,)
        self.guard.stand_before(app, roles)
        return app


async def into_folder(request: web.Request) -> web.StreamResponse:
    """From /anomaly to /anomaly/, below which the addresses in pages are."""
    raise web.HTTPPermanentRedirect(request.rel_url.raw_path.rpartition("/")[2] + "/")

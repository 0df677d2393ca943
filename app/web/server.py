"""The web application: all routes, and what stands before them.

Routes are declared where their handlers are, in app/web/api. A request comes through the middlewares in the order of
``Server.application``; there is no other way to a handler.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from app.metrics import Metrics
from app.settings import Settings
from app.web.api import episodes, live, points, sources, status
from app.web.api.pages import STATIC, pages
from app.web.api.point_rate import PointRate
from app.web.api.routes import Route, routes_of
from app.web.api.services import Services
from app.web.live.push import Push
from app.web.live.recent_results import RecentResults
from app.web.live.statistics import Statistics
from app.web.live.topic_reader import TopicReader
from app.web.point_writer import PointWriter
from app.web.probes import Check
from app.web.problems import as_problems
from app.web.security.headers import secured
from app.web.security.hosts import only_for

if TYPE_CHECKING:
    from app.store.history import History

ALWAYS = [status.livez, status.readyz, status.scrape, status.health]  # also without dashboard.enabled
SUBJECTS = [points, status, sources, episodes, live]


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
    ) -> None:
        statistics = Statistics(settings, metrics, recent, results, anomalies)
        self.push = Push(recent, statistics)
        routes = routes_of(SUBJECTS) + pages()
        if not settings.dashboard.enabled:
            routes = [one for one in routes if one.handler in ALWAYS]
        self.services = Services(
            settings, metrics, health, recent, self.push, statistics, results, history,
            PointWriter(settings), PointRate(settings.api.max_point_rate), None, routes,
        )  # fmt: skip

    @property
    def routes(self) -> list[Route]:
        return self.services.routes

    def application(self) -> web.Application:
        """All routes; without dashboard.enabled only probes and metrics."""
        settings = self.services.settings
        dashboard = settings.dashboard
        middlewares = [as_problems, only_for([dashboard.host, *dashboard.allowed_hosts])]
        app = web.Application(middlewares=middlewares, client_max_size=settings.api.max_body_bytes)
        app.on_response_prepare.append(secured)
        for one in self.routes:
            handler = one.bound(self.services)
            if one.method == "GET":
                app.router.add_get(one.path, handler)
            else:
                app.router.add_route(one.method, one.path, handler)
        if dashboard.enabled:
            app.router.add_static("/static", STATIC)
        return app

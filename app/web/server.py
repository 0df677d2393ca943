"""The routes of the web view, of probes and of the scrape.

    GET /                        the page
    GET /static/{path}           its script and style
    GET /api/health              what the worker says about itself; always 200
    GET /api/statistics          counts, rates and lag
    GET /api/sources             latest result of each series: ?search= &sort=score|alert|source|recent &limit=
    GET /api/series              last points of one, in order of arrival: ?source= &metric= &limit=
    GET /api/series/{source}     the same: ?metric= &limit=
    GET /api/anomalies           newest episodes, of all or one: ?source= &metric= &limit=
    GET /api/anomalies/{source}  the same: ?metric= &limit=
    GET /ws                      what is new, as it comes (app/web/push.py)
    GET /metrics                 for Prometheus
    GET /livez                   200, or 503: restart me
    GET /readyz                  200, or 503: send me nothing yet

The page asks with ?source=, since a browser takes "." and ".." out of any path.

Read only, and only for pages of this server: no CORS, Host must be a name of ours (app/web/hosts.py), a WebSocket's
Origin must be this host, a strict content security policy. There is no authentication yet, hence the loopback
address by default.
"""

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from app import __version__
from app.metrics import Metrics
from app.settings import Settings
from app.state.series import joined, shown
from app.web.hosts import only_for
from app.web.probes import Check
from app.web.push import Push
from app.web.recent_results import RecentResults
from app.web.records import row
from app.web.responses import in_json, json, query, secured
from app.web.topic_reader import TopicReader

STATIC = Path(__file__).parent / "static"

WORKER = (
    "records_consumed_total",
    "results_delivered_total",
    "invalid_total",
    "lag_records",
    "assigned_partitions",
    "sources_active",
    "sources_warming_up",
)


class Server:
    """Handlers over the recent results; the only state is the last measurement of the worker's throughput."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        health: Check,
        recent: RecentResults,
        results: TopicReader,
        anomalies: TopicReader,
    ) -> None:
        self.recent = recent
        self.push = Push(recent, self.statistics)
        self._settings, self._metrics, self._health = settings, metrics, health
        self._results, self._anomalies = results, anomalies
        self._measured: tuple[float, float] | None = None  # when, and records consumed then
        self._records_per_s: float | None = None

    def application(self) -> web.Application:
        """All routes; without dashboard.enabled only probes and metrics."""
        dashboard = self._settings.dashboard
        app = web.Application(middlewares=[in_json, only_for([dashboard.host, *dashboard.allowed_hosts])])
        app.on_response_prepare.append(secured)
        get = app.router.add_get
        get("/metrics", self.scrape)
        get("/livez", self.livez)
        get("/readyz", self.readyz)
        get("/api/health", self.health)
        if dashboard.enabled:
            get("/", self.page)
            app.router.add_static("/static", STATIC)
            get("/api/statistics", self.get_statistics)
            get("/api/sources", self.sources)
            get("/api/series", self.series)
            get(r"/api/series/{source:[\s\S]+}", self.series)
            get("/api/anomalies", self.anomalies)
            get(r"/api/anomalies/{source:[\s\S]+}", self.anomalies)
            get("/ws", self.websocket)
        return app

    @property
    def updates(self) -> str:
        """How the page gets new results: push, poll or off."""
        dashboard = self._settings.dashboard
        if not dashboard.real_time_updates:
            return "off"
        return "push" if dashboard.websocket_enabled else "poll"

    def statistics(self) -> dict[str, Any]:
        """What /api/statistics shows: of the topics (all workers), and of this worker."""
        worker = self._metrics.total(*WORKER)
        self._measure_rate(worker["records_consumed_total"])
        return {
            "version": __version__,
            "updates": self.updates,
            "input_topic": self._settings.kafka.input_topic,
            "results": {"state": self._results.state, "per_s": self._results.produced_per_s},
            "anomalies": {"state": self._anomalies.state},
            "shown": self.recent.results,
            "skipped": self._results.skipped,
            "unreadable": self.recent.unreadable,
            "sources": len(self.recent),
            "episodes_open": self.recent.open_episodes,
            "episodes_opened": self.recent.opened,
            "pages_open": len(self.push.clients),
            "worker": worker | {"records_per_s": self._records_per_s},
        }

    async def page(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / "index.html")

    async def health(self, request: web.Request) -> web.Response:
        return json(self._health())

    async def livez(self, request: web.Request) -> web.Response:
        health = self._health()
        return json(health, 200 if health.alive else 503)

    async def readyz(self, request: web.Request) -> web.Response:
        health = self._health()
        return json(health, 200 if health.alive and health.ready else 503)

    async def scrape(self, request: web.Request) -> web.Response:
        page, content_type = self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def get_statistics(self, request: web.Request) -> web.Response:
        query(request)
        return json(self.statistics())

    async def sources(self, request: web.Request) -> web.Response:
        asked = query(request, search="", sort="score", limit=200)
        matching, found = self.recent.sources(**asked)
        return json({"known": len(self.recent), "matching": matching, "sources": [row(result) for result in found]})

    async def series(self, request: web.Request) -> web.Response:
        asked = query(request, source=request.match_info.get("source"), metric="", limit=500)
        source, metric = asked.pop("source"), asked.pop("metric")
        if source is None:
            raise web.HTTPBadRequest(text="source: is missing; give ?source=")
        name = joined(source, metric)
        points = self.recent.series(name, **asked)
        if points is None:
            raise web.HTTPNotFound(text=f"no result of {shown(name)} since this view started")
        found = {"source": source, "metric": metric, "threshold": self.threshold(source, metric)}
        return json({**found, "sampled": self._results.skipped > 0, "points": points})

    async def anomalies(self, request: web.Request) -> web.Response:
        source = request.match_info.get("source") or request.query.get("source")
        asked = query(request, source=source, metric=None, limit=50 if source else 100)
        return json({"anomalies": self.recent.anomalies(**asked)})

    async def websocket(self, request: web.Request) -> web.WebSocketResponse:
        if self.updates != "push":
            raise web.HTTPNotFound(text="off: dashboard.websocket_enabled or dashboard.real_time_updates is false")
        origin = request.headers.get("Origin")  # browsers always send it; what sends none acts for no page
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text=f"Origin must be this server, {request.host!r}, got {origin!r}")
        return await self.push.serve(request)

    def threshold(self, source: str, metric: str = "") -> float:
        """The alert score at which an episode of this series opens."""
        if self._settings.input.value_fields:  # results name a metric, and the series is the source
            metric = ""
        for override in self._settings.sources:
            if override.applies_to(source, metric):
                return self._settings.detection.overridden(override).threshold
        return self._settings.detection.threshold

    def _measure_rate(self, consumed: float) -> None:
        now = time.monotonic()
        if self._measured is None:
            self._measured = now, consumed
        elif now - self._measured[0] >= 0.9:  # many pages ask; a shorter time would show noise
            self._records_per_s = (consumed - self._measured[1]) / (now - self._measured[0])
            self._measured = now, consumed

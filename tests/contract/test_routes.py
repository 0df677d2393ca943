"""The routes are a promise to pages, probes and scrapers: a new or a lost one must be meant."""

import re
from types import SimpleNamespace

from app.metrics import Metrics
from app.settings import Settings
from app.web import server as module
from app.web.probes import Health
from app.web.recent_results import RecentResults
from app.web.server import Server

PROMISED = {
    "/",
    "/static/{path}",
    "/api/health",
    "/api/statistics",
    "/api/sources",
    "/api/series",
    "/api/series/{source}",
    "/api/anomalies",
    "/api/anomalies/{source}",
    "/ws",
    "/metrics",
    "/livez",
    "/readyz",
}


def routes() -> set[tuple[str, str]]:
    reader = SimpleNamespace()
    server = Server(Settings(), Metrics(), lambda: Health(True, True), RecentResults(), reader, reader)
    found = set()
    for route in server.application().router.routes():
        path = route.resource.canonical
        found.add((route.method, "/static/{path}" if path == "/static" else path))
    return found


def test_every_route_is_promised_and_read_only():
    assert routes() == {(method, path) for path in PROMISED for method in ("GET", "HEAD")}


def test_every_route_is_described_where_it_is_made():
    assert set(re.findall(r"^    GET (\S+)", module.__doc__, re.M)) == PROMISED

"""The routes are a promise to pages, programs, probes and scrapers: a new or a lost one must be meant."""

from types import SimpleNamespace

from app.metrics import Metrics
from app.settings import Settings
from app.web.api.routes import ROLES
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults

PROMISED = {
    ("DELETE", "/api/silences/{id}"): "admin",
    ("GET", "/anomalies"): "read",
    ("GET", "/api/episodes/{episode}"): "read",
    ("GET", "/api/episodes/{episode}/notifications"): "read",
    ("GET", "/api/silences"): "read",
    ("POST", "/api/episodes/{episode}/acknowledgement"): "admin",
    ("POST", "/api/episodes/{episode}/feedback"): "admin",
    ("POST", "/api/alert"): "write",
    ("POST", "/api/silences"): "admin",
    ("GET", "/"): "read",
    ("GET", "/api/anomalies"): "read",
    ("GET", "/api/anomalies/{source}"): "read",
    ("GET", "/api/docs"): "read|write",
    ("GET", "/api/health"): "read",
    ("DELETE", "/api/session"): "read|write|admin",
    ("GET", "/api/openapi.json"): "read|write",
    ("GET", "/api/results"): "read",
    ("GET", "/api/results/{id}"): "read|write",
    ("GET", "/api/series"): "read",
    ("GET", "/api/series/{source}"): "read",
    ("GET", "/api/session"): "read|write|admin",
    ("GET", "/api/settings"): "admin",
    ("GET", "/api/sources"): "read",
    ("GET", "/api/sources/{source}/results"): "read",
    ("GET", "/api/statistics"): "read",
    ("GET", "/docs"): "read",
    ("GET", "/api/system"): "read",
    ("GET", "/api/workers"): "read",
    ("GET", "/livez"): "probe",
    ("GET", "/login"): "open",
    ("GET", "/metrics"): "metrics",
    ("GET", "/readyz"): "probe",
    ("GET", "/source"): "read",
    ("GET", "/system"): "read",
    ("GET", "/ws"): "read",
    ("POST", "/api/session"): "open",
    ("POST", "/data"): "write",
    ("POST", "/detect"): "write",
}


def server(**settings) -> Server:
    reader = SimpleNamespace()
    return Server(Settings(**settings), Metrics(), lambda: Health(True, True), RecentResults(), reader, reader)


def test_every_route_is_promised_and_says_who_may():
    made = server()
    roles = {(one.method, one.path.replace(r":[\s\S]+", "")): "|".join(one.roles) for one in made.routes}
    assert roles == PROMISED
    served = {(one.method, one.resource.canonical) for one in made.application().router.routes()}
    heads = {("HEAD", path) for method, path in PROMISED if method == "GET"}
    assert served == PROMISED.keys() | heads | {("GET", "/static"), ("HEAD", "/static")}


def test_only_probes_and_the_page_of_the_login_are_for_everybody():
    free = {one.path for one in server().routes if not set(one.roles) & set(ROLES)}
    assert free <= {"/livez", "/readyz", "/metrics", "/login", "/api/session"}


def test_every_route_is_documented():
    for one in server().routes:
        title, _ = one.document
        assert title.endswith((".", "me", "yet")) and len(title) > 10, one
        assert one.parameters.keys() <= {"services", "asked", "body", "request"}, one

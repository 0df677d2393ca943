"""What the process says about itself: health, probes, statistics, the scrape."""

from aiohttp import web

from app.web.api.routes import METRICS, PROBE, READ, Answer, route
from app.web.api.services import Services
from app.web.live.statistics import Figures
from app.web.probes import Health


@route("GET", "/api/health", READ, {200: Health})
async def health(services: Services) -> Health:
    """What the worker says about itself; always 200."""
    return services.health()


@route("GET", "/livez", PROBE, {200: Health, 503: Health})
async def livez(services: Services) -> Answer:
    """200, or 503: restart me."""
    health = services.health()
    return Answer(200 if health.alive else 503, health)


@route("GET", "/readyz", PROBE, {200: Health, 503: Health})
async def readyz(services: Services) -> Answer:
    """200, or 503: send me nothing yet."""
    health = services.health()
    return Answer(200 if health.alive and health.ready else 503, health)


@route("GET", "/metrics", METRICS, {200: str}, in_document=False)
async def scrape(services: Services, request: web.Request) -> web.Response:
    """For Prometheus."""
    page, content_type = services.metrics.render(request.headers.get("Accept", ""))
    return web.Response(body=page, headers={"Content-Type": content_type})


@route("GET", "/api/statistics", READ, {200: Figures})
async def statistics(services: Services) -> Figures:
    """Counts, rates and lag."""
    return services.statistics.now()

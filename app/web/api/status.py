"""Health, probes, statistics and metrics of the process."""

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from app.settings import as_text, describe
from app.web.api.routes import ADMIN, METRICS, PROBE, READ, JsonResponse, route
from app.web.api.services import Services
from app.web.status.consumer_groups import ConsumerGroupsState
from app.web.status.probes import Health
from app.web.status.statistics import ProcessStatistics
from app.web.status.system import SystemState


@route("GET", "/api/health", READ, {200: Health})
async def health(services: Services) -> Health:
    """What the worker says about itself; always 200."""
    return services.health()


@route("GET", "/livez", PROBE, {200: Health, 503: Health})
async def livez(services: Services) -> JsonResponse:
    """200, or 503: restart me."""
    health = _for_all(services)
    return JsonResponse(200 if health.alive else 503, health)


@route("GET", "/readyz", PROBE, {200: Health, 503: Health})
async def readyz(services: Services) -> JsonResponse:
    """200, or 503: send me nothing yet."""
    health = _for_all(services)
    return JsonResponse(200 if health.alive and health.ready else 503, health)


@route("GET", "/metrics", METRICS, {200: str}, in_document=False)
async def scrape(services: Services, request: web.Request) -> web.Response:
    """For Prometheus."""
    health = services.health()
    services.metrics.ready.set(health.alive and health.ready)
    page, content_type = services.metrics.render(request.headers.get("Accept", ""))
    return web.Response(body=page, headers={"Content-Type": content_type})


@route("GET", "/api/statistics", READ, {200: ProcessStatistics})
async def statistics(services: Services) -> ProcessStatistics:
    """Counts, rates and lag."""
    return services.statistics.now()


@route("GET", "/api/system", READ, {200: SystemState})
async def system(services: Services) -> SystemState:
    """This process: versions, memory, lag by partition, dead letters by reason, channels, history, topics."""
    return services.system.now()


@route("GET", "/api/workers", READ, {200: ConsumerGroupsState})
async def workers(services: Services) -> ConsumerGroupsState:
    """The consumer groups: members, their partitions and lag, at most five seconds old.

    Where the user of this process may not see a group, ``problem`` says so.
    """
    return await services.workers.now()


class SettingsParameters(Struct):
    all: Annotated[bool, Meta(description="Also those that nobody gave.")] = False


class ShownSetting(Struct):
    """``value``: as in a variable, ****** for a secret. ``origin``: file and line, variable, or default."""

    name: str
    value: str
    origin: str
    unit: str
    description: str


@route("GET", "/api/settings", ADMIN, {200: list[ShownSetting]})
async def settings(services: Services, asked: SettingsParameters) -> list[ShownSetting]:
    """The settings that were given, or all of them; secrets are hidden."""
    return [
        ShownSetting(row.name, as_text(row.value), row.origin, row.unit, row.description)
        for row in describe(services.settings)
        if asked.all or row.origin != "default"
    ]


def _for_all(services: Services) -> Health:
    """Without details where others need a token to see them: they name sources and channels."""
    health = services.health()
    if services.access.asks and services.settings.api.probes_open:
        return Health(health.alive, health.ready)
    return health

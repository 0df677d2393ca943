"""What keeps to its document passes, and what does not is found. tests/integration/test_api.py does it to a worker."""

import asyncio
from types import SimpleNamespace
from typing import Annotated

from aiohttp.test_utils import TestServer
from msgspec import Meta, Struct

from app.metrics import Metrics
from app.settings import Settings
from app.web.api import openapi
from app.web.api.routes import READ, HttpRoute, JsonResponse, routes_of
from app.web.api.services import Services
from app.web.problems import HttpProblem
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults
from tests.fuzz.run import findings, reported


class Asked(Struct):
    limit: Annotated[int, Meta(ge=0, le=10, description="How many.")] = 0


class Answered(Struct):
    count: int


async def right(services: Services, asked: Asked):
    """What is documented."""
    return Answered(asked.limit)


async def wrong_type(services: Services, asked: Asked):
    """A text for a number."""
    return {"count": "many"}


async def other_status(services: Services, asked: Asked):
    """A status that is not in the document."""
    return JsonResponse(202, Answered(1))


async def undeclared_problem(services: Services, asked: Asked):
    """A refusal that is not in the document."""
    raise HttpProblem(404, "nowhere")


async def falls(services: Services, asked: Asked):
    """A fault."""
    return 1 // asked.limit


def test_what_keeps_to_its_document_passes_and_what_does_not_is_found():
    reader = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
    server = Server(Settings(), Metrics(), lambda: Health(True, True), RecentResults(), reader, reader)
    server.routes[:] = routes_of([openapi])
    for handler in (right, wrong_type, other_status, undeclared_problem, falls):
        server.routes.append(HttpRoute("GET", f"/api/{handler.__name__}", (READ,), {200: Answered}, handler))

    async def tried():
        async with TestServer(server.application()) as listening:
            only = ["--phases", "coverage", "--exclude-path", "/api/openapi.json"]
            return await reported(str(listening.make_url("")).rstrip("/"), *only, cases=1)

    report = asyncio.run(tried())
    assert report["operations"]["tested"] == 5, report["said"]
    found = " ".join(findings(report))
    assert {name for name in server_names(server) if f"/api/{name}" in found} == {
        "wrong_type", "other_status", "undeclared_problem", "falls",
    }  # fmt: skip


def server_names(server):
    return {one.handler.__name__ for one in server.routes}

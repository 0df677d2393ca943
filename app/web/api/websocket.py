"""New results, episodes and decisions over a WebSocket."""

from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct

from app.web.api.routes import READ, route
from app.web.api.services import Services
from app.web.problems import HttpProblem
from app.web.websocket.push import TYPES, Filter


class LiveParameters(Struct):
    """The filter; a client may also send it later."""

    source: Annotated[str, Meta(max_length=512)] = ""
    severity: Literal["", "low", "medium", "high", "critical"] = ""
    kind: Annotated[str, Meta(max_length=512)] = ""
    types: Annotated[str, Meta(max_length=512)] = ",".join(TYPES)
    cursor: str = ""


@route("GET", "/ws", READ, {101: None}, in_document=False)
async def websocket(services: Services, asked: LiveParameters, request: web.Request) -> web.WebSocketResponse:
    """What is new, as it comes (docs/api.md says which messages there are)."""
    if services.statistics.updates != "push":
        raise HttpProblem(404, "off: dashboard.websocket_enabled or dashboard.real_time_updates is false")
    types = asked.types.split(",")
    if unknown := [name for name in types if name not in TYPES]:
        raise HttpProblem.at("?types", f"expected {', '.join(TYPES)}, with commas between, got {unknown[0][:80]!r}")
    kinds = tuple(asked.kind.split(",")) if asked.kind else ()
    wants = Filter(asked.source, asked.severity, kinds, tuple(types))  # type: ignore[arg-type]
    return await services.push.serve(request, wants, asked.cursor)

"""New results and episodes over a WebSocket."""

from aiohttp import web

from app.web.api.routes import READ, route
from app.web.api.services import Services
from app.web.problems import Problem


@route("GET", "/ws", READ, {101: None}, in_document=False)
async def websocket(services: Services, request: web.Request) -> web.WebSocketResponse:
    """What is new, as it comes (app/web/live/push.py)."""
    if services.statistics.updates != "push":
        raise Problem(404, "off: dashboard.websocket_enabled or dashboard.real_time_updates is false")
    return await services.push.serve(request)

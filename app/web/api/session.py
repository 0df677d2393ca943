"""The login of the view's pages: a token becomes a cookie (app/web/security/sessions.py)."""

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from app.web.api.routes import ADMIN, OPEN, ROLES, JsonResponse, json_response, route
from app.web.api.services import Services
from app.web.security import sessions
from app.web.security.access import CALLER
from app.web.security.clients import CLIENT
from app.web.security.roles import Caller
from app.web.security.tokens import LONGEST


class LogIn(Struct, forbid_unknown_fields=True):
    token: Annotated[str, Meta(min_length=1, max_length=LONGEST)]


class Session(Struct):
    """``name``: of the token; "" while none is asked for. ``csrf``: to be sent as X-CSRF-Token with what changes
    something; "" without a cookie. ``decides``: whether this one may decide on episodes here."""

    name: str
    roles: list[str]
    csrf: str
    decides: bool


@route("POST", "/api/session", OPEN, {200: Session}, problems=(401, 422, 429, 503))
async def log_in(services: Services, request: web.Request, body: LogIn) -> web.StreamResponse:
    """Log in: the token comes back as a cookie, which browsers send from the view's own pages only.

    Where no token is asked for, any is taken.
    """
    client = request[CLIENT]
    caller = await services.access.log_in(body.token, client)
    if not services.access.asks:
        return json_response(JsonResponse(200, _session(services, caller, "")))
    response = json_response(JsonResponse(200, _session(services, caller, sessions.csrf_token(body.token))))
    sessions.keep(response, client, body.token)
    return response


@route("GET", "/api/session", ROLES, {200: Session})
async def session(services: Services, request: web.Request) -> Session:
    """Who asks, what that one may do, and what a page must send with what changes something."""
    token = sessions.token_in(request, request[CLIENT]) if "Authorization" not in request.headers else None
    return _session(services, request[CALLER], sessions.csrf_token(token) if token and services.access.asks else "")


@route("DELETE", "/api/session", ROLES, {204: None})
async def log_out(services: Services, request: web.Request) -> web.StreamResponse:
    """Log out: the cookie is taken back. The token stays valid until it is revoked."""
    response = json_response(JsonResponse(204, None))
    sessions.drop(response, request[CLIENT])
    return response


def _session(services: Services, caller: Caller, csrf: str) -> Session:
    roles = [role for role in ROLES if caller.may([role])]
    return Session(caller.name, roles, csrf, ADMIN in roles and services.settings.api.writes)

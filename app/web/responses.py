"""What all responses share: checked parameters, errors as JSON, security headers."""

from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from app.web.records import SORTS

MAX_LIMIT = 1_000
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def query(request: web.Request, **defaults: Any) -> dict[str, Any]:
    """The parameters of a request, by name and default; anything else is a 400 that says what is allowed."""
    values = dict(defaults)
    for name, text in request.query.items():
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise web.HTTPBadRequest(text=f"{name}: no such parameter; known: {known}")
        if name == "limit":
            if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MAX_LIMIT):
                raise web.HTTPBadRequest(text=f"limit: expected a whole number from 0 to {MAX_LIMIT}, got {text!r}")
            values[name] = int(text)
        elif name == "sort" and text not in SORTS:
            raise web.HTTPBadRequest(text=f"sort: expected one of {', '.join(SORTS)}, got {text!r}")
        else:
            values[name] = text
    return values


def json(body: Any, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers)


@web.middleware
async def in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON, like every other response: {"error": sentence}."""
    try:
        return await handler(request)
    except web.HTTPException as refused:
        if refused.status < 400:
            raise
        answer = json({"error": refused.text}, refused.status)
        if "Allow" in refused.headers:
            answer.headers["Allow"] = refused.headers["Allow"]
        return answer


async def secured(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)

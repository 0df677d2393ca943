"""Error responses by RFC 9457: ``application/problem+json`` with type, title, status, detail and errors.

A handler raises ``HttpProblem``; other errors of aiohttp become one here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class RequestError(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request."""

    at: str  # a parameter, "?limit"; a place in the body, "/values/temperature" (RFC 6901); a header, "Host"
    detail: str  # what is expected, and what was given


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of every answer from 400 on."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    errors: list[RequestError] = []


class HttpProblem(Exception):
    """An error response, raised by handlers and middlewares."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[RequestError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, list(errors), dict(headers or {})

    @classmethod
    def at(cls, place: str, detail: str, status: int = 400) -> HttpProblem:
        """One thing is wrong."""
        return cls(status, f"{place}: {detail}", [RequestError(place, detail)])

    def details(self) -> ProblemDetails:
        return ProblemDetails(
            title=HTTPStatus(self.status).phrase, status=self.status, detail=self.detail, errors=self.errors
        )

    def response(self) -> web.Response:
        body = msgspec.json.encode(self.details())
        headers = {"Cache-Control": "no-store"} | self.headers
        return web.Response(body=body, status=self.status, content_type=MEDIA_TYPE, headers=headers)


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware."""
    try:
        return await handler(request)
    except HttpProblem as problem:
        return problem.response()
    except web.HTTPException as refused:
        if refused.status < 400:
            raise
        kept = {name: refused.headers[name] for name in ("Allow",) if name in refused.headers}
        return HttpProblem(refused.status, _said(request, refused), headers=kept).response()
    except Exception:
        log.exception(
            "web: %s %s: no answer because of a fault of this program", request.method, request.rel_url.raw_path[:256]
        )
        return HttpProblem(500, "a fault of this program; its log says more").response()


def _said(request: web.Request, refused: web.HTTPException) -> str:
    """What aiohttp's own refusals mean here."""
    if isinstance(refused, web.HTTPMethodNotAllowed):
        return f"expected {' or '.join(sorted(refused.allowed_methods))} for this path, got {request.method}"
    if isinstance(refused, web.HTTPNotFound):
        slash = ", without the / at its end" if request.path != "/" and request.path.endswith("/") else ""
        return f"there is nothing at this path{slash}; /docs shows what there is"
    return refused.text or ""

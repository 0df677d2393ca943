"""Routes: how a request becomes the arguments of a handler, and what the handler returns becomes a response.

    @route("GET", "/api/sources/{source}/results", READ, {200: Results})
    async def results(services: Services, asked: Span) -> Results: ...

A handler has the parameters that it needs, by name: ``services``; ``asked``, a msgspec struct of the parameters in path
and query; ``body``, a type that the JSON of the body is decoded to; ``request``, aiohttp's. It returns a value that is
encoded as JSON with status 200, a ``JsonResponse`` with another status, or a response of aiohttp. Its docstring is its
documentation in the API.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web

from app.web.problems import HttpProblem, RequestError
from app.web.security.roles import ADMIN, METRICS, OPEN, PROBE, READ, ROLES, WRITE

if TYPE_CHECKING:
    from app.web.api.services import Services

__all__ = [
    "ADMIN",
    "METRICS",
    "OPEN",
    "PROBE",
    "READ",
    "ROLES",
    "WRITE",
    "HttpRoute",
    "JsonResponse",
    "route",
    "routes_of",
]

JSON = "application/json"
NDJSON = "application/x-ndjson"
INSTEAD = "x-instead"  # in extra_json_schema: a schema that replaces the one that msgspec makes of the type
# Paths may hold names of sources, with any character.
SOURCE = r"{source:[\s\S]+}"


@dataclass(frozen=True)
class JsonResponse:
    """A response with another status than 200, or with headers."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpRoute:
    """One method of one path.

    ``answers``: by status the type of the body, None for one without. ``problems``: statuses of the Problems that it
    raises itself, beside those of ``parsed`` and ``read_body``. ``consumes``: media types of the body, and ``body`` its
    type, where the handler reads it itself.
    """

    method: str
    path: str
    roles: tuple[str, ...]
    answers: Mapping[int, Any]
    handler: Callable[..., Awaitable[Any]]
    consumes: tuple[str, ...] = (JSON,)
    problems: tuple[int, ...] = ()
    body: Any = None
    in_document: bool = True
    any_query: bool = False  # parameters are for a script in the page

    @property
    def parameters(self) -> dict[str, Any]:
        """Types of the handler's parameters."""
        hints = typing.get_type_hints(self.handler, {**self.handler.__globals__, "Services": Any}, include_extras=True)
        return {name: hints[name] for name in inspect.signature(self.handler).parameters}

    @property
    def document(self) -> tuple[str, str]:
        """First line of the docstring, and the rest."""
        first, _, rest = inspect.cleandoc(self.handler.__doc__ or "").partition("\n")
        return first, rest.strip()

    def bound(self, services: Services) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler as aiohttp calls it."""
        parameters = self.parameters
        asked, body = parameters.get("asked"), parameters.get("body")

        async def handle(request: web.Request) -> web.StreamResponse:
            given: dict[str, Any] = {"services": services, "request": request}
            if asked is not None:
                given["asked"] = parsed(asked, request)
            elif not self.any_query:
                parsed(Nothing, request)
            if body is not None:
                given["body"] = await read_body(body, request, self.consumes)
            found = await self.handler(**{name: given[name] for name in parameters})
            if isinstance(found, web.StreamResponse):
                return found
            if not isinstance(found, JsonResponse):
                found = JsonResponse(200, found)
            return json_response(found)

        return handle


class Nothing(msgspec.Struct):
    """No parameters."""


def route(
    method: str,
    path: str,
    role: str | tuple[str, ...],
    answers: Mapping[int, Any],
    **more: Any,
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """Make a function the handler of a route; of several roles one is enough."""
    roles = (role,) if isinstance(role, str) else role

    def made(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        function.__dict__.setdefault("routes", []).append(HttpRoute(method, path, roles, answers, function, **more))
        return function

    return made


def routes_of(modules: Iterable[ModuleType]) -> list[HttpRoute]:
    """All routes of the handlers in these modules, in the order of the files."""
    return [
        one
        for module in modules
        for function in vars(module).values()
        if inspect.isfunction(function) and function.__module__ == module.__name__
        for one in getattr(function, "routes", ())
    ]


def parsed(kind: type[msgspec.Struct], request: web.Request) -> Any:
    """The parameters of a request as such a struct; a HttpProblem that names each that is wrong or not known."""
    known = {one.encode_name: one for one in msgspec.structs.fields(kind)}
    in_path = set(request.match_info)
    given: dict[str, Any] = {}
    wrong: list[RequestError] = []
    for name in dict.fromkeys(request.query):
        values = request.query.getall(name)
        if name not in known or name in in_path:
            words = ", ".join(one for one in known if one not in in_path) or "none"
            wrong.append(RequestError(f"?{name}", f"no such parameter; known: {words}"))
        elif len(values) > 1:
            wrong.append(RequestError(f"?{name}", f"expected once, got {len(values)} times"))
        else:
            given[name] = values[0]
    given |= request.match_info
    for name in list(given):  # one at a time, so that each is named
        text = given[name]
        try:
            given[name] = value = msgspec.convert(text, without_none(known[name].type), strict=False)
            if type(value) is bool and text not in ("true", "false"):
                raise msgspec.ValidationError("Expected true or false")
            if (type(value) is int and str(value) != text) or (type(value) is float and not math.isfinite(value)):
                raise msgspec.ValidationError(f"Expected a {'whole' if type(value) is int else 'finite'} number")
        except msgspec.ValidationError as error:
            what = str(error).partition(" - at ")[0].lower().replace("`", "")
            wrong.append(RequestError(name if name in in_path else f"?{name}", f"{what}, got {text[:80]!r}"))
            del given[name]
    for name, one in known.items():
        if one.required and name not in given and not any(each.at in (name, f"?{name}") for each in wrong):
            wrong.append(RequestError(f"?{name}", "is missing"))
    if wrong:
        raise HttpProblem(400, "; ".join(f"{one.at}: {one.detail}" for one in wrong), wrong)
    return kind(**{known[name].name: value for name, value in given.items()})


def without_none(kind: Any) -> Any:
    """The type of a parameter that is given: it may be left out, but no text means None.

    >>> without_none(int | None), without_none(str)
    (<class 'int'>, <class 'str'>)
    """
    if typing.get_origin(kind) is Annotated:
        inner, *notes = typing.get_args(kind)
        return Annotated[without_none(inner), *notes]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        some = [one for one in typing.get_args(kind) if one not in (type(None), msgspec.UnsetType)]
        return functools.reduce(operator.or_, some)
    return kind


async def read_body(kind: Any, request: web.Request, consumes: tuple[str, ...] = (JSON,)) -> Any:
    """The body of a request, read as this type of JSON. Raises HttpProblem: 400, 413, 415."""
    raw = await raw_body(request, consumes)
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at ")
        raise HttpProblem.at(pointer(path), what.replace("`", "")) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise HttpProblem.at("", f"the body is no JSON: {error}") from error


async def raw_body(request: web.Request, consumes: tuple[str, ...] = (JSON,)) -> bytes:
    """The bytes of a body of one of these media types. Raises HttpProblem: 413, 415."""
    if request.content_type not in consumes:
        raise HttpProblem(
            415, f"Content-Type: expected {' or '.join(consumes)}, got {request.content_type!r}",
            [RequestError("Content-Type", f"expected {' or '.join(consumes)}")], {"Accept-Post": ", ".join(consumes)},
        )  # fmt: skip
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise HttpProblem(413, f"the body: expected at most {request.client_max_size} bytes") from error


def pointer(path: str) -> str:
    """RFC 6901 of msgspec's `$.values[...]`; keys of mappings are not told by it.

    >>> pointer("`$.points[3].value`"), pointer("`$`"), pointer("")
    ('/points/3/value', '', '')
    """
    path = path.strip("`").removeprefix("$").replace("[...]", "")
    return re.sub(r"\[([0-9]+)\]", r"/\1", path).replace(".", "/")


def json_response(answer: JsonResponse) -> web.Response:
    headers = {"Cache-Control": "no-store"} | dict(answer.headers)
    if answer.body is None:
        return web.Response(status=answer.status, headers=headers)
    body = msgspec.json.encode(answer.body)
    return web.Response(body=body, status=answer.status, content_type=JSON, headers=headers)

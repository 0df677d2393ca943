"""The OpenAPI 3.1 document, generated from the routes.

msgspec makes schemas of types; docstrings become descriptions and roles become security. Errors of the server's common
checks (parameters, bodies, callers) are added to those of each route. So document and routes cannot differ.
"""

import re
import sys
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from app import __version__
from app.settings import Settings
from app.settings.web import ApiSettings
from app.web.api.routes import INSTEAD, JSON, PROBE, READ, ROLES, WRITE, HttpRoute, route, without_none
from app.web.api.services import Services
from app.web.problems import MEDIA_TYPE, ProblemDetails

SCHEMA = "#/components/schemas/{name}"
ABOUT = """\
Send points, get their results, and decide on episodes of anomalies.

- Times are Unix seconds (UTC) in answers; some parameters also accept ISO 8601.
- An answer from 400 on is `application/problem+json` (RFC 9457): `detail` says what is wrong, `errors` lists where.
- Unknown parameters are refused, so that a misspelt filter is noticed.
- A source name in a path may contain any character, percent-encoded (`/` is `%2F`). For the names `.` and `..`, which
  clients remove from paths, use `?source=`.
- Clients should ignore unknown fields: later versions may add some.
"""
REFUSALS = {
    400: "The request is wrong; `errors` says where.",
    401: "No token, or an unknown one: send `Authorization: Bearer TOKEN`.",
    403: "The token's roles do not allow it, or the host name, the origin or the CSRF token is wrong.",
    404: "Not found.",
    409: "Not possible in the present state or with the present settings.",
    410: "It existed, but is no longer stored.",
    413: "The body, or the number of points in it, is larger than the limit.",
    415: "The Content-Type of the body is not supported.",
    422: "The request can be read, but not accepted; `errors` says why.",
    429: "Too many requests or points; try again after the seconds in `Retry-After`.",
    501: "The settings of this server exclude it; `detail` says which.",
    503: "Not available now; try again later.",
}


@route("GET", "/api/openapi.json", (READ, WRITE), {200: dict[str, Any]})
async def openapi(services: Services) -> dict[str, Any]:
    """This document."""
    return document(services.settings, services.routes)


@route("GET", "/api/docs", (READ, WRITE), {302: None}, in_document=False)
async def docs(services: Services) -> web.Response:
    """The page that shows it."""
    return web.Response(status=302, headers={"Location": "../docs"})


def document(settings: Settings, routes: Sequence[HttpRoute]) -> dict[str, Any]:
    """Of a server with these settings and routes."""
    shown = [one for one in routes if one.in_document]
    schemas = Schemas([kind for one in shown for kind in types_of(one)])
    paths: dict[str, dict[str, Any]] = {}
    for one in shown:
        paths.setdefault(plain(one.path), {})[one.method.lower()] = operation(one, shown, schemas, settings.api)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "faust-anomaly",
            "version": __version__,
            "summary": "Anomalies in time series, as they arrive in Kafka",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": settings.api.root_path or "/"}],
        "tags": [{"name": name, "description": text} for name, text in subjects(shown).items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {str(status): refusal(status, schemas) for status in REFUSALS},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token made by `faust-anomaly token`, or an access token of the OpenID Connect "
                    "issuer. The roles of a route are those of which one is enough; `admin` may do everything.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "fa_token",
                    "description": "Of the view's pages, after the login. Over TLS its name begins with `__Host-`, or "
                    "with `__Secure-` under another path than `/`. What changes something also carries `X-CSRF-Token`.",
                },
            },
        },
    }


class Schemas:
    """JSON Schemas of types: structs are named components, everything else stands where it is used.

    A schema under ``INSTEAD`` in a type's ``Meta`` replaces the one that msgspec makes.
    """

    def __init__(self, kinds: Sequence[Any]) -> None:
        unique = list({repr(kind): kind for kind in [*kinds, ProblemDetails]}.values())
        schemas, self.components = msgspec.json.schema_components(unique, ref_template=SCHEMA)
        self._of = {repr(kind): schema for kind, schema in zip(unique, schemas)}
        _put_instead([*schemas, self.components])

    def __getitem__(self, kind: Any) -> dict[str, Any]:
        return dict(self._of[repr(kind)])


def _put_instead(schema: Any) -> None:
    if isinstance(schema, dict):
        schema |= schema.pop(INSTEAD, {})
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _put_instead(inner)


def types_of(one: HttpRoute) -> list[Any]:
    """Every type that an operation needs a schema of."""
    body = body_of(one)
    fields = [without_none(field.type) for field in parameter_fields(one)]
    return fields + [kind for kind in [body, *one.answers.values()] if kind is not None]


def body_of(one: HttpRoute) -> Any:
    return one.parameters.get("body") or one.body


def parameter_fields(one: HttpRoute) -> "Sequence[msgspec.structs.FieldInfo]":
    asked = one.parameters.get("asked")
    return msgspec.structs.fields(asked) if asked else ()


def operation(one: HttpRoute, shown: Sequence[HttpRoute], schemas: Schemas, api: ApiSettings) -> dict[str, Any]:
    title, text = one.document
    made: dict[str, Any] = {
        "operationId": identity(one, shown),
        "tags": [subject(one)],
        "summary": title.rstrip("."),
        "description": f"{title}\n\n{text}".strip(),
    }
    if fields := parameter_fields(one):
        made["parameters"] = [parameter(one, field, schemas) for field in fields]
    if body := body_of(one):
        content = {kind: {"schema": schemas[body] if kind == JSON else {"type": "string"}} for kind in one.consumes}
        made["requestBody"] = {"required": True, "content": content}
    asked, free = asked_roles(one, api), not (api.tokens_file or api.oidc_issuer)
    answers = {**refusals(one, asked, api), **one.answers}
    made["responses"] = {str(status): response(status, answers[status], schemas) for status in sorted(answers)}
    made["security"] = [{scheme: [role]} for scheme in ("token", "cookie") for role in asked]
    if asked and free:  # nobody is asked
        made["security"].insert(0, {})
    return made


def asked_roles(one: HttpRoute, api: ApiSettings) -> list[str]:
    """Of a token, one of which is needed; none: it is for everybody."""
    if one.roles == (PROBE,):
        return [] if api.probes_open else [READ]
    return [role for role in one.roles if role in ROLES]


def parameter(one: HttpRoute, field: "msgspec.structs.FieldInfo", schemas: Schemas) -> dict[str, Any]:
    name = field.encode_name
    schema = schemas[without_none(field.type)]
    made: dict[str, Any] = {"name": name, "in": "query", "required": field.required}
    if f"{{{name}}}" in plain(one.path):
        made |= {"in": "path", "required": True}
        if schema.get("type") == "string":
            schema.setdefault("minLength", 1)
    elif not field.required and field.default not in (msgspec.NODEFAULT, None, msgspec.UNSET):
        schema["default"] = field.default
    if description := schema.pop("description", ""):
        made["description"] = description
    return made | {"schema": schema}


def refusals(one: HttpRoute, asked: Sequence[str], api: ApiSettings) -> dict[int, Any]:
    """What is refused before and by the handler."""
    found = {400, 403, *one.problems}
    if asked:
        found |= {401, 503} if api.oidc_issuer else {401}
    if one.method != "GET":
        found |= {415}
    if body_of(one) is not None:
        found |= {413}
    return dict.fromkeys(found, ProblemDetails)


def response(status: int, kind: Any, schemas: Schemas) -> dict[str, Any]:
    if kind is ProblemDetails:
        return {"$ref": f"#/components/responses/{status}"}
    made = {"description": HTTPStatus(status).phrase}
    return made if kind is None else made | {"content": {JSON: {"schema": schemas[kind]}}}


def refusal(status: int, schemas: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {"description": REFUSALS[status]}
    if status in (429, 503):
        seconds = {"type": "integer", "minimum": 0}
        made["headers"] = {"Retry-After": {"description": "Seconds.", "required": status == 429, "schema": seconds}}
    return made | {"content": {MEDIA_TYPE: {"schema": schemas[ProblemDetails]}}}


def plain(path: str) -> str:
    """Without the patterns of aiohttp.

    >>> plain(r"/api/sources/{source:[\\s\\S]+}/results")
    '/api/sources/{source}/results'
    """
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path)


def identity(one: HttpRoute, shown: Sequence[HttpRoute]) -> str:
    """The name of the handler, and of parameters in the path where one handler has several routes."""
    name = one.handler.__name__
    if sum(other.handler is one.handler for other in shown) > 1 and (names := re.findall(r"\{(\w+)", one.path)):
        return f"{name}_by_{'_'.join(names)}"
    return name


def subject(one: HttpRoute) -> str:
    """The module of the handler."""
    return one.handler.__module__.rpartition(".")[2]


def subjects(shown: Sequence[HttpRoute]) -> dict[str, str]:
    """First lines of the docstrings of modules, by name."""
    modules = {subject(one): sys.modules[one.handler.__module__].__doc__ or "" for one in shown}
    return {name: text.strip().partition("\n")[0] for name, text in modules.items()}

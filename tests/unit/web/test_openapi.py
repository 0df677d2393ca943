"""The document of the API says what is served."""

import json
import re
from typing import Annotated

import pytest
from contract.test_routes import server
from msgspec import UNSET, Meta, Struct, UnsetType

from app.settings import Settings
from app.web.api import openapi as openapi_module
from app.web.api.openapi import document, plain
from app.web.api.routes import OPEN, READ, WRITE, HttpRoute, JsonResponse
from app.web.api.services import Services


def made(routes=None, **settings):
    return json.loads(json.dumps(document(Settings(**settings), routes or server().routes)))


DOCUMENT = made()
OPERATIONS = {
    (method.upper(), path): one for path, methods in DOCUMENT["paths"].items() for method, one in methods.items()
}


def test_every_route_but_pages_and_streams_is_in_it():
    left_out = {
        (one.method, plain(one.path)) for one in server().routes if (one.method, plain(one.path)) not in OPERATIONS
    }
    assert {path for _, path in left_out if path.startswith("/api/")} <= {"/api/docs"}
    assert OPERATIONS.keys() >= {("GET", "/api/sources"), ("GET", "/api/series/{source}"), ("GET", "/livez")}


def test_every_reference_leads_somewhere():
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)))
    assert len(references) > 10
    for reference in references:
        found = DOCUMENT
        for part in reference.split("/"):
            found = found[part]


def test_operations_have_names_of_their_own():
    names = [one["operationId"] for one in OPERATIONS.values()]
    assert len(set(names)) == len(names) and {"series", "series_by_source"} <= set(names)


def test_every_parameter_is_described():
    blank = [
        (operation, one["name"])
        for operation, made in OPERATIONS.items()
        for one in made.get("parameters", ())
        if not one.get("description")
    ]
    assert blank == []


def test_every_answer_says_its_fields():
    """A dict of anything would be true of any answer."""
    for operation, one in OPERATIONS.items():
        for status, answer in one["responses"].items():
            for content in answer.get("content", {}).values():
                schema = content["schema"]
                vague = "$ref" not in schema and schema.get("type") == "object" and "properties" not in schema
                assert not vague or operation == ("GET", "/api/openapi.json"), (operation, status)


def test_ranges_and_defaults_are_those_of_the_parser():
    [limit] = [one for one in OPERATIONS["GET", "/api/sources"]["parameters"] if one["name"] == "limit"]
    assert limit["schema"] == {"type": "integer", "minimum": 0, "maximum": 1000, "default": 200}
    path, *_ = OPERATIONS["GET", "/api/series/{source}"]["parameters"]
    assert (path["in"], path["required"], path["schema"]["minLength"]) == ("path", True, 1)
    query, *_ = OPERATIONS["GET", "/api/series"]["parameters"]
    assert (query["in"], query["required"]) == ("query", True)


class Asked(Struct):
    name: str
    at: Annotated[float, Meta(ge=0)] | None = None
    kind: str | UnsetType = UNSET


class Body(Struct):
    value: float


async def changed(services: Services, asked: Asked, body: Body) -> JsonResponse:
    """Change it.

    As said.
    """


def test_a_route_becomes_an_operation_with_what_its_checks_refuse():
    one = HttpRoute("POST", "/api/it/{name}", (WRITE,), {202: Body, 204: None}, changed, problems=(429,))
    found = made([one])["paths"]["/api/it/{name}"]["post"]
    assert found["summary"] == "Change it" and found["description"] == "Change it.\n\nAs said."
    assert set(found["responses"]) == {"202", "204", "400", "401", "403", "413", "415", "429"}
    assert found["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}},
    }
    name, at, kind = found["parameters"]
    assert at["schema"] == {"type": "number", "minimum": 0.0}, "none is said by leaving it out"
    assert (name["in"], kind["schema"]) == ("path", {"type": "string"})


def test_security_follows_from_roles_and_settings():
    read = HttpRoute("GET", "/a", (READ, WRITE), {204: None}, openapi_module.openapi)
    free = HttpRoute("GET", "/b", (OPEN,), {204: None}, openapi_module.openapi)
    asked = [{"token": ["read"]}, {"token": ["write"]}, {"cookie": ["read"]}, {"cookie": ["write"]}]
    paths = made([read, free], api={"tokens_file": "tokens"})["paths"]
    assert paths["/a"]["get"]["security"] == asked and paths["/b"]["get"]["security"] == []
    assert "401" not in paths["/b"]["get"]["responses"]
    assert made([read])["paths"]["/a"]["get"]["security"] == [{}, *asked], "nobody is asked"


@pytest.mark.parametrize(("root", "url"), [(None, "/"), ("/watch/anomalies", "/watch/anomalies")])
def test_the_address_is_that_beneath_a_proxy(root, url):
    assert made(api={"root_path": root})["servers"] == [{"url": url}]

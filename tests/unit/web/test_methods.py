"""Every route, as programs try it: methods that it has and has not, a slash too many, a path that is not there."""

import asyncio
import re

import pytest
from aiohttp.test_utils import TestClient, TestServer
from contract.test_routes import server

from app.web.api.openapi import plain

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture(scope="module")
def answers():
    """(method, path) -> (status, headers, body) of every method of every path; names in paths are `a b`."""
    made = server()
    paths = {re.sub(r"\{\w+\}", "a%20b", plain(one.path)) for one in made.routes}
    paths -= {"/ws", "/api/workers"}  # the second waits for a Kafka, which is not there

    async def run():
        found = {}
        async with TestClient(TestServer(made.application())) as client:
            for path in sorted(paths):
                for method in METHODS:
                    async with client.request(method, path, allow_redirects=False) as answer:
                        found[method, path] = answer.status, answer.headers, await answer.read()
            for path in ("/nowhere", "/api/sources/", "/api/anomalies//x/", "/API/sources"):
                async with client.get(path) as answer:
                    found["GET", path] = answer.status, answer.headers, await answer.read()
        return found

    return asyncio.run(run())


def test_a_method_that_a_path_has_not_is_405_and_allow_lists_those_that_it_has(answers):
    for (method, path), (status, headers, _) in answers.items():
        if status == 405:
            allowed = headers["Allow"].split(",")
            assert method not in allowed and headers["Content-Type"] == "application/problem+json"
            assert all(answers[other, path][0] != 405 for other in allowed), (path, allowed)
    for path in {path for _, path in answers if ("PUT", path) in answers}:
        assert answers["PUT", path][0] == answers["TRACE", path][0] == 405, path


def test_head_is_get_without_its_body(answers):
    for (method, path), (status, headers, body) in answers.items():
        if method == "HEAD" and status != 405:
            asked = answers["GET", path]
            assert status == asked[0] and body == b"", path
            assert headers.get("Content-Type") == asked[1].get("Content-Type"), path


def test_a_path_that_is_not_there_is_a_problem_that_says_where_to_look(answers):
    for path in ("/nowhere", "/api/sources/", "/API/sources"):
        status, headers, body = answers["GET", path]
        assert status == 404 and headers["Content-Type"] == "application/problem+json" and b"/docs" in body
    assert b"without the / at its end" in answers["GET", "/api/sources/"][2]

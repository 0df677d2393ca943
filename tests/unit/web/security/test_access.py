"""Who is let in: tokens, the cookie of the pages, other origins, and what a refusal says."""

import asyncio
import re
from urllib.parse import parse_qsl

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from app.web.api import routes
from app.web.security import access
from app.web.security.tokens import remove
from app.web.status.probes import Health
from tests.support.guarded import UPGRADE, Keys, make_server

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("tokens"))


def during(scenario, server, **options):
    """Run scenario(client) beside the server."""

    async def run():
        jar = CookieJar(unsafe=True)  # takes the cookies of an address too
        async with TestClient(TestServer(server.application()), cookie_jar=jar, **options) as client:
            return await scenario(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def ask(server, *requests):
    """(status, headers, body) of each (method, path, headers, json)."""

    async def scenario(client):
        answers = []
        for method, path, headers, *body in requests:
            given = {"json": body[0]} if body else {}
            async with client.request(method, path, headers=headers, allow_redirects=False, **given) as answer:
                parsed = await answer.json(content_type=None) if "json" in answer.content_type else await answer.text()
                answers.append((answer.status, answer.headers, parsed))
        return answers

    return during(scenario, server)


def guarded(keys, **api):
    return make_server(tokens_file=str(keys.path), **api)


def test_without_a_token_it_says_what_is_expected(keys):
    ((status, headers, body),) = ask(guarded(keys), ("GET", "/api/sources", {}))
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="faust-anomaly"')
    assert headers["Content-Type"].startswith("application/problem+json") and "Authorization" in body["detail"]
    ((status, headers, body),) = ask(guarded(keys), ("GET", "/api/sources", keys.bearer("revoked")))
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="faust-anomaly", error="invalid_token"')
    assert keys["revoked"] not in str(body)


def test_a_role_that_is_missing_is_named(keys):
    ((status, headers, body),) = ask(guarded(keys), ("GET", "/api/sources", keys.bearer("write")))
    assert (status, body["detail"]) == (403, "this needs a token with the role read; write has write")
    assert headers["WWW-Authenticate"] == 'Bearer realm="faust-anomaly", error="insufficient_scope", scope="read"'


@pytest.mark.parametrize("name", ["read", "admin"])
def test_a_token_of_the_role_is_let_in(keys, name):
    answers = ask(guarded(keys), ("GET", "/api/sources", keys.bearer(name)), ("GET", "/", keys.bearer(name)),
                  ("GET", "/api/session", keys.bearer(name)),
                  ("GET", "/api/sources", {"Authorization": f"bearer  {keys[name]} "}))  # fmt: skip
    assert [status for status, *_ in answers] == [200] * 4
    roles = ["read"] if name == "read" else list(routes.ROLES)
    assert answers[2][2] == {"name": name, "roles": roles, "csrf": "", "decides": "admin" in roles}


def test_without_tokens_nothing_is_asked():
    answers = ask(make_server(), ("GET", "/api/sources", {}), ("GET", "/", HTML), ("GET", "/api/session", {}),
                  ("POST", "/api/session", {}, {"token": "any"}))  # fmt: skip
    assert [status for status, *_ in answers] == [200] * 4
    everybody = {"name": "", "roles": ["read", "write", "admin"], "csrf": "", "decides": True}
    assert answers[2][2] == answers[3][2] == everybody
    ((_, _, said),) = ask(make_server(writes=False), ("GET", "/api/session", {}))
    assert said == everybody | {"decides": False}, "api.writes is false"
    assert "Set-Cookie" not in answers[3][1]


@pytest.mark.parametrize(("probes", "metrics"), [(True, True), (False, True), (True, False)])
def test_probes_and_metrics_are_open_or_not(keys, probes, metrics):
    server = guarded(keys, probes_open=probes, metrics_open=metrics)
    answers = ask(server, *(("GET", path, {}) for path in ("/livez", "/readyz", "/metrics")))
    assert [status for status, *_ in answers] == [200 if probes else 401] * 2 + [200 if metrics else 401]
    answers = ask(server, *(("GET", path, keys.bearer("read")) for path in ("/livez", "/readyz", "/metrics")))
    assert [status for status, *_ in answers] == [200] * 3


def test_probes_that_anybody_may_ask_give_no_details_where_others_need_a_token(keys):
    told = {"alive": True, "ready": True, "details": {"partitions": [0]}}
    for server, details in ((make_server(), True), (guarded(keys), False), (guarded(keys, probes_open=False), True)):
        server.services.health = lambda: Health(True, True, {"partitions": [0]})
        answers = ask(server, *(("GET", path, keys.bearer("read")) for path in ("/livez", "/readyz", "/api/health")))
        bodies = [body for _, _, body in answers]
        assert bodies == [told | ({} if details else {"details": {}})] * 2 + [told]


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("/", ""),
        ("/?a=b&c=d%26e", "?a=b&c=d%26e"),
        ("/?next=//evil.example", "?next=//evil.example"),
    ],
)
def test_a_person_is_sent_to_the_login_and_a_program_is_not(keys, path, to):
    (status, headers, _), (program, *_), (poster, *_) = ask(
        guarded(keys), ("GET", path, HTML), ("GET", path, {}), ("DELETE", "/api/session", HTML)
    )
    assert (status, program, poster) == (303, 401, 401)
    page, _, query = headers["Location"].partition("?")
    assert page == "./login" and parse_qsl(query, keep_blank_values=True) == [("next", to)]


def test_who_follows_a_link_from_elsewhere_is_asked_to_come_again_with_the_cookie(keys):
    link = HTML | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    (status, headers, body), (again, *_) = ask(
        guarded(keys), ("GET", "/", link), ("GET", "/", HTML | {"Sec-Fetch-Site": "same-origin"})
    )
    assert (status, body, again) == (200, access.AGAIN, 303) and headers["Content-Type"].startswith("text/html")


def test_a_login_gives_a_cookie_that_reads_and_with_its_csrf_token_writes(keys):
    async def scenario(client):
        async with client.post("/api/session", json={"token": keys["read"]}) as answer:
            said, cookie = await answer.json(), answer.headers["Set-Cookie"]
        assert cookie == f"fa_token={keys['read']}; HttpOnly; Path=/; SameSite=Strict"
        assert said["roles"] == ["read"] and re.fullmatch("[0-9a-f]{64}", said["csrf"])
        async with client.get("/api/session") as answer:
            assert await answer.json() == said
        async with client.get("/api/sources") as answer:
            assert answer.status == 200
        async with client.ws_connect("/ws", headers={"Origin": str(client.make_url("")).rstrip("/")}) as socket:
            assert not socket.closed
        ours = str(client.make_url("")).rstrip("/")
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": said["csrf"][:-1]}, {"X-CSRF-Token": "ü"},
                        {"X-CSRF-Token": said["csrf"], "Origin": "http://evil.example"},
                        {"X-CSRF-Token": said["csrf"], "Sec-Fetch-Site": "cross-site"},
                        {"X-CSRF-Token": said["csrf"], "Origin": ours, "Sec-Fetch-Site": "same-site"}):  # fmt: skip
            async with client.delete("/api/session", headers=headers) as answer:
                assert answer.status == 403, headers
        good = {"X-CSRF-Token": said["csrf"], "Origin": ours, "Sec-Fetch-Site": "same-origin"}
        async with client.delete("/api/session", headers=good) as answer:
            assert answer.status == 204 and 'fa_token=""' in answer.headers["Set-Cookie"]
        async with client.get("/api/sources") as answer:
            assert answer.status == 401

    during(scenario, guarded(keys))


def test_a_login_that_fails_says_always_the_same_and_is_bounded(keys, monkeypatch):
    server = guarded(keys, trusted_proxies=["127.0.0.1"])

    async def scenario(client):
        async def log_in(token, address="192.0.2.7"):
            headers = {"X-Forwarded-For": address}
            async with client.post("/api/session", json={"token": token}, headers=headers) as answer:
                return answer.status, await answer.json(), answer.headers.get("Retry-After")

        wrong = [await log_in(token) for token in ("x", keys["expired"], keys["revoked"], keys["read"][:-1], "ü", "\0")]
        assert {status for status, *_ in wrong} == {401} and len({str(body) for _, body, _ in wrong}) == 1
        for _ in range(access.FAILED_LOGINS - len(wrong)):
            await log_in("x")
        status, _, after = await log_in(keys["read"])
        assert status == 429 and 1 <= int(after) <= 7
        assert (await log_in(keys["read"], "192.0.2.8"))[0] == 200, "others are let in"

    during(scenario, server)


@pytest.mark.parametrize(
    "body", [{}, {"token": ""}, {"token": 7}, {"token": "x", "more": 1}, [], "x", {"token": "x" * 9000}]
)
def test_a_login_is_an_object_with_a_token(keys, body):
    ((status, *_),) = ask(guarded(keys), ("POST", "/api/session", {}, body))
    assert status == 400


def test_a_login_is_short(keys):
    much = {"token": "x" * access.OPEN_BYTES}
    ((status, _, body),) = ask(guarded(keys), ("POST", "/api/session", {}, much))
    assert (status, body["detail"]) == (413, f"the body: expected at most {access.OPEN_BYTES} bytes")


def test_the_cookie_is_as_strict_as_the_way_allows(keys):
    server = guarded(keys, trusted_proxies=["127.0.0.1"], root_path="/anomaly")
    secure = {"X-Forwarded-Proto": "https"}
    login = {"token": keys["read"]}
    given = [headers["Set-Cookie"] for _, headers, _ in ask(
        server, ("POST", "/api/session", {}, login), ("POST", "/anomaly/api/session", secure, login),
        ("POST", "/api/session", secure | {"X-Forwarded-Prefix": "/"}, login))]  # fmt: skip
    rest = f"{keys['read']}; HttpOnly; Path=/anomaly; "
    assert given[0] == f"fa_token={rest}SameSite=Strict"
    assert given[1] == f"__Secure-fa_token={rest}SameSite=Strict; Secure"
    server = guarded(keys, trusted_proxies=["127.0.0.1"])
    ((_, headers, _),) = ask(server, ("POST", "/api/session", secure, login))
    assert headers["Set-Cookie"] == f"__Host-fa_token={keys['read']}; HttpOnly; Path=/; SameSite=Strict; Secure"
    plain, other = f"fa_token={keys['read']}", f"__Host-fa_token={keys['read']}"
    answers = ask(server, *(("GET", "/api/sources", secure | {"Cookie": cookie}) for cookie in
                            (other, plain, f"{other}; {other}", f"a=b;  {other}")))  # fmt: skip
    assert [status for status, *_ in answers] == [200, 401, 401, 200], "one without TLS does not count with it"


async def cut(socket):
    """Wait until it is closed, whatever it was sent before."""
    while not socket.closed:
        await socket.receive(timeout=30)


def test_a_socket_is_cut_when_its_token_is_revoked(tmp_path):
    keys = Keys(tmp_path)
    server = guarded(keys)

    async def scenario(client):
        async with (
            client.ws_connect("/ws", headers=keys.bearer("read")) as socket,
            client.ws_connect("/ws", headers=keys.bearer("admin")) as other,
        ):
            while len(server.push.clients) < 2:
                await asyncio.sleep(0)
            await server.guard.look()
            assert len(server.push.clients) == 2
            remove(keys.path, "read")
            await server.guard.look()
            await cut(socket)
            assert not other.closed
            keys.path.write_text(keys.path.read_text().replace("admin admin", "admin write"))
            await server.guard.look()
            await cut(other)

    during(scenario, server)


def test_pages_of_named_origins_may_use_the_api_with_a_token(keys):
    server = guarded(keys, cors_origins=["https://grafana.example"])
    named, evil = {"Origin": "https://grafana.example"}, {"Origin": "https://evil.example"}
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight, refused, read, unread, failed, cookie = ask(
        server,
        ("OPTIONS", "/api/sources", named | wanted),
        ("OPTIONS", "/api/sources", evil | wanted),
        ("GET", "/api/sources", named | keys.bearer("read")),
        ("GET", "/api/sources", evil | keys.bearer("read")),
        ("GET", "/api/sources", named),
        ("GET", "/api/sources", named | {"Cookie": f"fa_token={keys['read']}"}),
    )
    assert preflight[0] == 204 and preflight[1]["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    assert refused[0] == 405
    assert [one[0] for one in (read, unread, failed, cookie)] == [200, 200, 401, 403]
    for one in (preflight, read, failed, cookie):
        assert one[1]["Access-Control-Allow-Origin"] == "https://grafana.example" and "Origin" in one[1]["Vary"]
        assert "Access-Control-Allow-Credentials" not in one[1]
    for one in (refused, unread):
        assert not [name for name in one[1] if name.startswith("Access-Control")] and "Origin" in one[1]["Vary"]


def test_a_socket_of_another_origin_is_refused_also_where_no_token_is_asked_for(keys):
    for server, extra in ((make_server(), {}), (guarded(keys), keys.bearer("read"))):
        for origin in ("http://evil.example", "null", "", "http://127.0.0.1:1"):
            ((status, *_),) = ask(server, ("GET", "/ws", UPGRADE | extra | {"Origin": origin}))
            assert status == 403, origin


def test_a_route_without_a_role_does_not_start(keys):
    server = make_server()
    for roles in ((), ("reader",), ("read", "")):
        server.services.routes[:] = [routes.HttpRoute("GET", "/x", roles, {}, server.routes[0].handler)]
        with pytest.raises(ValueError, match="/x: its roles are"):
            server.application()


def test_what_is_no_json_is_refused_before_anything_reads_it(keys):
    async def scenario(client):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            async with client.post("/api/session", data=b'{"token": "x"}', headers={"Content-Type": kind}) as answer:
                assert answer.status == 415
                assert "expected application/json" in (await answer.json())["detail"]

    during(scenario, guarded(keys))


def test_under_a_root_path_all_is_served_with_it_and_without(keys):
    server = guarded(keys, root_path="/anomaly")
    read = keys.bearer("read")
    answers = ask(server, *(("GET", path, read) for path in (
        "/", "/anomaly/", "/anomaly/api/sources", "/api/sources", "/anomaly/static/dom.js", "/static/dom.js",
        "/anomaly/livez", "/anomaly")))  # fmt: skip
    assert [status for status, *_ in answers] == [200] * 7 + [308]
    assert answers[-1][1]["Location"] == "anomaly/"
    assert [one[0] for one in ask(server, ("GET", "/anomaly/api/sources", {}), ("GET", "/anomalyx/", read))] == [
        401,
        404,
    ]
    ((_, headers, _),) = ask(server, ("GET", "/anomaly/", HTML))
    assert headers["Location"] == "./login?next="
    ((_, headers, _),) = ask(server, ("GET", "/anomaly/api/sources", HTML))
    assert headers["Location"] == "../login?next=api/sources"


def test_refusals_are_counted(keys):
    server = guarded(keys)
    ask(server, ("GET", "/api/sources", {}), ("GET", "/api/sources", keys.bearer("write")), ("GET", "/livez", {}))
    page = server.services.metrics.render()[0].decode()
    assert 'faust_anomaly_refused_requests_total{status="401"} 1.0' in page
    assert 'faust_anomaly_refused_requests_total{status="403"} 1.0' in page

"""Nothing that must be refused gets in, however it is written: tokens, hosts, origins, paths, methods.

Every route is spied on: an answer says whether its handler was reached, whatever the status. Requests are written as
bytes on a socket, as a client library would put odd ones right. The same requests find each of some checks missing.
"""

import asyncio
import contextlib
import itertools
import re
import socket
import threading
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.web.api.pages import STATIC
from app.web.api.routes import METRICS, OPEN, PROBE, ROLES, HttpRoute
from app.web.security import access, clients, guard, origins, sessions, tokens
from app.web.security.roles import Caller
from tests.support.guarded import UPGRADE, Keys, make_server

HOST, NAMED, ROOT = "view.example", "https://grafana.example", "/anomaly"
OURS = f"http://{HOST}"


@dataclass(frozen=True)
class Spied(HttpRoute):
    def bound(self, services):
        async def reached(request: web.Request) -> web.Response:
            return web.Response(headers={"X-Reached": f"{self.method} {self.path}"})

        return reached


class Server:
    """In a thread of its own, spied on; ``routes`` are those that are not for everybody."""

    def __init__(self, keys: Keys) -> None:
        made = make_server(
            {"allowed_hosts": [HOST]}, tokens_file=str(keys.path), cors_origins=[NAMED], root_path=ROOT,
            probes_open=False, metrics_open=False,
        )  # fmt: skip
        every = made.services.routes
        every[:] = [Spied(**{name: getattr(one, name) for name in HttpRoute.__dataclass_fields__}) for one in every]
        self.routes = [one for one in every if OPEN not in one.roles]
        self.open_routes = [one for one in every if OPEN in one.roles]
        self._application = made.application()
        self._started, self._stop = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._socket: socket.socket | None = None

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(60)
        return self

    def __exit__(self, *exception):
        self._hang_up()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self._application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    def _hang_up(self):
        if self._socket:
            self._socket.close()
        self._socket = None

    def ask(self, request: bytes) -> "Reply":
        """What comes back; status 0 if the connection was closed instead."""
        for _ in range(2):  # a connection that was kept open may have been closed since
            fresh = self._socket is None
            if fresh:
                self._socket = socket.create_connection(("127.0.0.1", self.port), 60)
            with contextlib.suppress(ConnectionError):
                self._socket.sendall(request)
                if reply := self._read(request.startswith(b"HEAD")):
                    return reply
            self._hang_up()
            if fresh:
                break
        return Reply(0, {}, b"")

    def _read(self, head_only: bool) -> "Reply | None":
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self._socket.recv(1 << 16)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(body) < length:
            body += self._socket.recv(1 << 16)
        status = int(first.split()[1])
        if status in (101, 400) or "close" in headers.get("connection", "") or "transfer-encoding" in headers:
            self._hang_up()
        return Reply(status, headers, body)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reached(self) -> str | None:
        return self.headers.get("x-reached")


class Attempt(NamedTuple):
    """A request. ``headers`` are written in order, as often as they are given.

    ``even_open``: it must not reach the routes that are for everybody either.
    """

    method: str
    path: str | bytes
    headers: tuple[tuple[str, str | bytes], ...] = ()
    host: str | bytes | None = HOST
    even_open: bool = False

    def raw(self) -> bytes:
        def as_bytes(text):
            return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")

        body = b"{}" if self.method in ("POST", "PUT", "PATCH") else b""
        lines = [b" ".join([self.method.encode(), as_bytes(self.path), b"HTTP/1.1"])]
        if self.host is not None:
            lines.append(b"Host: " + as_bytes(self.host))
        lines += [as_bytes(name) + b": " + as_bytes(value) for name, value in self.headers]
        if body:
            lines += [b"Content-Type: application/json", b"Content-Length: 2"]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def server(keys):
    with Server(keys) as running:
        yield running


def path_of(route):
    return re.sub(r"\{\w+(:[^}]*)?\}", "pump-7", route.path)


def roles_of(route):
    return ["read"] if {PROBE, METRICS} & set(route.roles) else route.roles


def bearer(token):
    return (("Authorization", f"Bearer {token}"),)


def cookie(token, csrf=True):
    sent = (("Cookie", f"fa_token={token}"),)
    return (*sent, (sessions.CSRF_HEADER, sessions.csrf_token(token))) if csrf else sent


def upgrade(route):
    return tuple(UPGRADE.items()) if route.path == "/ws" else ()


def unsafe(route):
    return route.method not in ("GET", "HEAD") or route.path == "/ws"


# --- what is tried


OTHER_HEADERS = [
    "X-API-Key", "X-Auth-Token", "Proxy-Authorization", "X-Forwarded-User", "X-Remote-User", "Token", "X-Authorization",
    "Authentication", "X-Forwarded-Authorization", "Authorization_", "X_Authorization",
]  # fmt: skip


def bad_credentials(keys):
    """Headers that prove nothing."""
    good = keys["admin"]
    wrong = [
        "", "x", good[:-1], good[:-2], good + "A", good + "=", good.upper(), good.lower(), good.swapcase(), good[3:],
        good[::-1], keys["expired"], keys["revoked"], tokens.digest(good), f"{good}, {good}", f"{good} {good}",
        f'"{good}"', f"'{good}'", f"{good[:20]} {good[20:]}", f"{good};", f"{good}\0", f"\0{good}",
        good.replace("fa_", "FA_"), "fa_", "fa_*", "*", "null", "undefined", "admin", "ü" * 40,
        good + "\u0301", "\udcff", "../tokens",
        "A" * 8_000, "A" * 7_000 + good, "%00", good.replace("fa_", "fa%5F"), "eyJhbGciOiJub25lIn0.e30.", "a.b.c",
    ]  # fmt: skip
    yield ()
    for token in wrong:
        yield bearer(token)
        yield cookie(token) if not token.endswith(";") else ()
        yield (("Authorization", token),)
    for scheme in ("Basic", "Token", "Bearer:", "BearerX", "Digest", "ApiKey", "Bearer\u00a0"):
        yield (("Authorization", f"{scheme} {good}"),)
    yield (("Authorization", f"Bearer{good}"),)
    for first, second in itertools.product(("x", good), repeat=2):
        yield bearer(first) + bearer(second)
        yield cookie(first) + cookie(second)[:1]
        yield (("Cookie", f"fa_token={first}; fa_token={second}"),)
    yield bearer("x") + cookie(good)
    yield bearer(keys["revoked"]) + cookie(good)
    for name in OTHER_HEADERS:
        yield ((name, f"Bearer {good}"),)
        yield ((name, good),)
    for name in ("__Host-fa_token", "__Secure-fa_token", "FA_TOKEN", "fa_token ", "fa%5Ftoken", "token", "session"):
        yield (("Cookie", f"{name}={good}"),)
    yield (("Cookie", f"fa_token={good}"), ("X-Forwarded-Proto", "https"), ("Cookie", f"fa_token={good}x"))


BAD_HOSTS = [
    "evil.example", "evil.example:8000", "view.example.evil.example", "xview.example", "view.example@evil.example",
    "evil.example@view.example", "view.example/evil", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost",
    "", " ", "*", "0x7f.1", "127.1", "2130706433", "view.example..", "view.example,evil.example", "[evil.example]",
    "[::1", "view.example\0", "vi\u0435w.example", b"view.example\xff", "evil.example\tview.example", "null",
    "a" * 4_000, "view_example", ".view.example", "http://view.example",
]  # fmt: skip
BAD_ORIGINS = [
    "http://evil.example", "https://evil.example", "null", "", " ", "*", "file://", "http://", "view.example",
    "http://view.example.evil.example", "http://evil.example/view.example", "http://view.example@evil.example",
    "http://evil.example@view.example", "http://view.example:8000", "http://view.example:", "ftp://view.example",
    "http://view.example/", "http://view.example\0", "http://localhost", "http://127.0.0.1", f"{NAMED}:444",
    NAMED.replace("https", "http"), f"{NAMED}/", NAMED.upper(), f"{NAMED}.evil.example", f"{NAMED}, {OURS}",
    f"{OURS}, http://evil.example", f"{OURS} http://evil.example", "chrome-extension://abc", b"http://view.example\xff",
    "http://xn--viw-bma.example", "http://vi\u0435w.example", "a" * 4_000, "https://view.example:80", "//view.example",
]  # fmt: skip
FORWARDED = [
    (("X-Forwarded-Host", "10.9.9.9"), ("Origin", "http://10.9.9.9")),
    (("X-Forwarded-Host", "localhost"), ("X-Forwarded-Proto", "https"), ("Origin", "https://localhost")),
    (("X-Host", "localhost"), ("Forwarded", "host=localhost;proto=https"), ("Origin", "https://localhost")),
]
LINK = (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
SITES = ["cross-site", "same-site", "", "Same-Origin", "same-origin, cross-site", "evil"]


def tricks(path):
    """Ways to write a path so that a check by prefix would not know it, or that end somewhere else."""
    first = path[1:2] or "x"
    ups = ("..", "%2e%2e", ".%2e", "%2e.", "..%2f", "..;", "%252e%252e", "..%00", "..\\")
    inside = ("/login", "/static", "/static/dom.js", "/livez", "/api/session", ROOT, f"{ROOT}/static", "/x")
    yield from (
        path, ROOT + path, f"/{path}", f"//{path}", f"///evil.example{path}", f"/.{path}", f"/./{path[1:]}", f"{path}/",
        f"{path}/.", f"{path}//", f"{path}?", f"{path}?login", f"{path}#/login", f"{path};/login", f"{path}%20",
        f"{path}%00", f"{path}%2f", f"{path}%3f", f"{path}.html", f"{path}.js", f"{path}/../login", f"{path}/login",
        path.upper(), path.replace("/", "%2f"), path.replace("/", "%2F"), path.replace("/", "\\"),
        path.replace("/", "//"), path.replace("/", "/./"),
        f"/%{ord(first):02x}{path[2:]}", f"/%25{ord(first):02x}{path[2:]}", path[1:],
        f"http://view.example{path}", f"http://evil.example{path}", f"//view.example{path}", f"{path}\t", f"\t{path}",
        path.replace("a", "\uff41"), path.replace("a", "%c1%a1"), f"*{path}", "*", "",
    )  # fmt: skip
    for before, up in itertools.product(inside, ups):
        yield f"{before}/{up}{path}"


OVERRIDES = [
    (), (("X-HTTP-Method-Override", "GET"),), (("X-HTTP-Method", "GET"),), (("X-Method-Override", "POST"),),
    (("X-Original-URL", "/login"),), (("X-Rewrite-URL", "/login"),), (("X-Forwarded-Prefix", "/login"),),
    (("X-Forwarded-For", "127.0.0.1"),), (("X-Real-IP", "127.0.0.1"),), (("X-Forwarded-Host", "localhost"),),
    (("Referer", f"{OURS}/login"),), (("Origin", OURS),), (("Accept", "text/html"),),
    (("Connection", "close, Authorization"),), (("Origin", NAMED), ("Access-Control-Request-Method", "GET")),
    (("Expect", "100-continue"),), tuple(UPGRADE.items()),
    (("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "navigate")),
]  # fmt: skip
METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "Get",
    "GETX",
    "PURGE",
]


def of_route(route, keys):
    """What must not reach this route, nor another that is not for everybody."""
    path, extra = path_of(route), upgrade(route)
    admin, held = bearer(keys["admin"]), cookie(keys["admin"])
    for method in METHODS:
        yield Attempt(method, path, extra)
    for override in OVERRIDES:
        yield Attempt(route.method, path, override)
        yield Attempt("POST" if route.method == "GET" else "GET", path, override)
    for role in ROLES[:2]:
        if role not in roles_of(route):
            yield Attempt(route.method, path, bearer(keys[role]) + extra)
            yield Attempt(route.method, path, cookie(keys[role]) + extra)
    for headers in bad_credentials(keys):
        yield Attempt(route.method, path, headers + extra)
    for host in BAD_HOSTS:
        yield Attempt(route.method, path, admin + extra, host)
    for host in (HOST, "evil.example"):
        yield Attempt(route.method, path, (*admin, *extra, ("Host", host)))
    for origin in (*BAD_ORIGINS, NAMED):
        yield Attempt(route.method, path, (*held, *extra, ("Origin", origin)))
    for site, mode in itertools.product(SITES, ("cors", "no-cors", "navigate", "websocket", "")):
        sent = (("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", "iframe"))
        yield Attempt(route.method, path, admin + extra + sent)
    for trick in tricks(path):
        yield Attempt(route.method, trick, extra)
    if unsafe(route):
        for proof in (admin + extra, held + extra):
            for origin in BAD_ORIGINS:
                yield Attempt(route.method, path, (*proof, ("Origin", origin)))
            for site in SITES:
                yield Attempt(route.method, path, (*proof, ("Sec-Fetch-Site", site)))
                yield Attempt(route.method, path, (*proof, ("Origin", OURS), ("Sec-Fetch-Site", site)))
            for forwarded in FORWARDED:
                yield Attempt(route.method, path, proof + forwarded)
            yield Attempt(route.method, path, (*proof, ("Origin", OURS), ("Origin", "http://evil.example")))
    if route.method != "GET":
        held, right = cookie(keys["admin"], csrf=False), sessions.csrf_token(keys["admin"])
        others = (
            "",
            right[:-1],
            right.upper(),
            right + "0",
            sessions.csrf_token(keys["read"]),
            keys["admin"],
            "ü",
            "\0",
        )
        for csrf in others:
            yield Attempt(route.method, path, (*held, (sessions.CSRF_HEADER, csrf)))
        yield Attempt(route.method, path, held)
        yield Attempt(route.method, path, (*held, (sessions.CSRF_HEADER, right), (sessions.CSRF_HEADER, "x")))


def attempts(server, keys):
    """All of ``of_route`` for one route of each method and roles; of the others each a third of them, in turn."""
    alike = set()
    for number, route in enumerate(server.routes):
        kind = route.method, route.roles, route.path == "/ws"
        first, step = (number % 3, 3) if kind in alike else (0, 1)
        yield from itertools.islice(of_route(route, keys), first, None, step)
        alike.add(kind)
    for route in server.open_routes:  # these are for everybody, but not under any name, nor for pages of others
        for host in BAD_HOSTS:
            yield Attempt(route.method, path_of(route), (), host, True)
        for origin in BAD_ORIGINS if unsafe(route) else ():
            yield Attempt(route.method, path_of(route), (("Origin", origin),), HOST, True)


def got_in(server, tried, most=None):
    """Those of these attempts that reached the handler of a route, as text; stops after ``most``."""
    found, free = [], {f"{one.method} {one.path}" for one in server.open_routes}
    for attempt in tried:
        reached = server.ask(attempt.raw()).reached
        if reached and (attempt.even_open or reached not in free):
            found.append(f"{attempt} reached {reached}")
        if most is not None and len(found) >= most:
            break
    return found


# --- and none gets in


def test_what_is_right_gets_in(server, keys):
    """Without this the rest would say nothing."""
    for route in server.routes + server.open_routes:
        name = next(iter(role for role in ROLES if role in roles_of(route)), "admin")
        for path in (path_of(route), ROOT + path_of(route)):
            for headers in (bearer(keys[name]), bearer(keys["admin"]), cookie(keys["admin"]),
                            (*cookie(keys["admin"]), ("Origin", OURS), ("Sec-Fetch-Site", "same-origin")),
                            (*bearer(keys["admin"]), ("Origin", NAMED), ("Sec-Fetch-Site", "cross-site"))):  # fmt: skip
                reply = server.ask(Attempt(route.method, path, headers + upgrade(route)).raw())
                assert reply.reached == f"{route.method} {route.path}", (route, headers, reply)
            if not unsafe(route):
                reply = server.ask(Attempt("GET", path, bearer(keys["admin"]) + LINK).raw())
                assert reply.reached == f"GET {route.path}", "a link from elsewhere"


def test_none_gets_in(server, keys):
    tried = list(attempts(server, keys))
    assert len(tried) > 150 * len(server.routes)
    assert got_in(server, tried) == []


def test_files_are_served_from_their_folder_only(server):
    names = {file.relative_to(STATIC).as_posix(): file.read_bytes() for file in STATIC.rglob("*") if file.is_file()}
    assert server.ask(Attempt("GET", "/static/dom.js").raw()).body == names["dom.js"]
    ups = ("..", "%2e%2e", "..%2f..", "..%5c", "..\\", "%252e%252e", "....", "..;", ".%00.", "%c0%ae%c0%ae", "..%c0%af")
    targets = ("server.py", "../app/web/server.py", "etc/passwd", "")
    for before in ("/static/", "/static//", f"{ROOT}/static/", "/static/dom.js/"):
        for up, depth, target in itertools.product(ups, (1, 4), targets):
            reply = server.ask(Attempt("GET", before + "/".join([up] * depth) + "/" + target).raw())
            assert reply.status not in (200, 206) or reply.body in names.values(), (before, up, target)
    for target in (
        "/static",
        "/static/",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/C:\\",
        "/static/~root",
    ):
        assert server.ask(Attempt("GET", target).raw()).status in (0, 400, 403, 404), target


ODD = st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)
QUICK = settings(
    max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@QUICK
@given(
    odd=ODD,
    place=st.sampled_from(["bearer", "near", "cookie", "authorization", "host", "origin", "path", "name"]),
    data=st.data(),
)
def test_odd_bytes_let_nobody_in(server, keys, odd, place, data):
    route = data.draw(st.sampled_from(server.routes))
    path, good = path_of(route), keys["admin"].encode()
    at = data.draw(st.integers(0, len(good) - 1))
    near = good[:at] + (odd or b"x") + good[at + data.draw(st.integers(0, 1)) :]
    wanted = {
        "bearer": Attempt(route.method, path, (("Authorization", b"Bearer " + odd),)),
        "near": Attempt(route.method, path, (("Authorization", b"Bearer " + near),)),
        "cookie": Attempt(route.method, path, (("Cookie", b"fa_token=" + near),)),
        "authorization": Attempt(route.method, path, (("Authorization", odd + good),)),
        "host": Attempt(route.method, path, bearer(keys["admin"]), b"evil.example" + odd),
        "origin": Attempt(route.method, path, (*cookie(keys["admin"]), ("Origin", b"http://evil.example" + odd))),
        "path": Attempt(route.method, path.encode() + odd),
        "name": Attempt(route.method, path, ((odd.replace(b":", b""), good), ("Authorization", b"Bearer x"))),
    }[place]
    if near == good or b"\r" in odd or b"\n" in odd:
        return  # the token itself; another header, which is tried above
    if place == "authorization" and odd.strip().lower() == b"bearer" and odd[-1:] == b" ":
        return
    assert got_in(server, [wanted]) == []


# --- a server that lacks a check is found out


def without(name):
    def made(self, roles):
        every = {"hosts": self._hosts, "origins": self._origins.check, "access": self.access.middleware(roles)}
        return [self.proxies.middleware(), *(one for key, one in every.items() if key != name)]

    return guard.Guard, "_middlewares", made


def forgetting(name, value):
    """TokensFile.find with the entries changed."""
    find = tokens.TokensFile.find

    def changed(self, token, now=None):
        self._entries = tuple(replace(entry, **{name: value}) for entry in self._entries)
        return find(self, token, now)

    return tokens.TokensFile, "find", changed


BROKEN = {
    "no check of hosts": without("hosts"),
    "no check of origins": without("origins"),
    "no check of tokens": without("access"),
    "no check of roles": (Caller, "may", lambda self, roles: True),
    "tokens never expire": forgetting("expires", None),
    "everybody is admin": forgetting("roles", frozenset({"admin"})),
    "no CSRF token": (access.sessions, "csrf_fits", lambda request, token: True),
    "every origin is ours": (access, "is_ours", lambda origin, client: True),
    "every origin is ours, too": (origins, "is_ours", lambda origin, client: True),
    "every proxy is trusted": (clients.Proxies, "trusts", lambda self, address: True),
    "reading needs no token": (access.Access, "_identified", None),
    "the first cookie counts": (sessions, "token_in", None),
}


def broken_by_hand(name, identified=access.Access._identified):
    async def reading(self, request):
        return (Caller("x", frozenset({"read"})), "") if request.method == "HEAD" else await identified(self, request)

    def first_cookie(request, client):
        parts = (part.strip() for part in request.headers.get("Cookie", "").split(";"))
        return next((part.removeprefix("fa_token=") for part in parts if part.startswith("fa_token=")), None)

    return {"reading needs no token": reading, "the first cookie counts": first_cookie}[name]


@pytest.mark.parametrize("name", BROKEN)
def test_a_missing_check_is_found(keys, monkeypatch, name):
    owner, attribute, instead = BROKEN[name]
    monkeypatch.setattr(owner, attribute, instead or broken_by_hand(name))
    with Server(keys) as broken:
        assert got_in(broken, attempts(broken, keys), most=1)

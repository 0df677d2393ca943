"""Behind the nginx of Debian, at a path of another host, with the configuration of docs/security.md."""

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import pytest
from aiohttp import ClientSession, CookieJar, TCPConnector, WSServerHandshakeError, web
from aiohttp.test_utils import TestServer
from support.browser import CHROMIUM, browser

from app.web.api.pages import pages
from tests.docs.pages import ROOT
from tests.support.guarded import Keys, make_server
from tests.support.kafka_tools import HANG_S
from tests.support.secured import Certificates

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIG = ROOT / "docs" / "security.md"
LINK = re.compile(r'(?:href|src)="([^"#]+)')

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx: apt-get install nginx-light")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def written(directory, certificates, port, behind):
    """The configuration of the document, with the ports and files of this test."""
    block = re.search(r"```nginx\n(.*?)```", CONFIG.read_text("utf-8"), re.S)[1]
    pem = certificates.sign("view.example", "DNS:view.example")
    for old, new in (("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"), ("127.0.0.1:8000", f"127.0.0.1:{behind}"),
                     ("/etc/nginx/view.example.crt", str(pem)), ("/etc/nginx/view.example.key", str(pem))):  # fmt: skip
        assert block.count(old) == 1, old
        block = block.replace(old, new)
    folders = "".join(f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    head = f"daemon off; master_process off; pid {directory}/pid; events {{}}"
    config = directory / "nginx.conf"
    config.write_text(f"{head}\nhttp {{ access_log off; {folders}\n{block} }}\n")
    return config


@asynccontextmanager
async def nginx(directory, certificates, behind):
    """Its port, when it listens."""
    port = free_port()
    config = written(directory, certificates, port, behind)
    command = [NGINX, "-p", str(directory), "-c", str(config), "-e", str(directory / "errors")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(HANG_S):
            while True:
                assert process.poll() is None, process.stderr.read()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield port
    finally:
        process.terminate()
        process.wait(HANG_S)
        process.stderr.close()


@asynccontextmanager
async def elsewhere(url):
    """The address of a page of another site, with a link to ours."""

    async def linking(request):
        text = f'<!doctype html><link rel="icon" href="data:,"><a href="{url}?from=there">there</a>'
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", linking)
    async with TestServer(app) as running:
        yield f"http://other.localhost:{running.port}/"


async def in_a_browser(url, server, token):
    """Log in, see what is new come, come again by a link from elsewhere, log out."""
    async with browser() as page:
        await page.call("Security.setIgnoreCertificateErrors", ignore=True)
        await page.open(url)
        await page.until("location.pathname === '/anomaly/login' && document.activeElement.id === 'token'")
        await page.run(f"document.querySelector('#token').value = '{token}'")
        await page.run("document.querySelector('#form').requestSubmit()")
        await page.until("location.pathname === '/anomaly/' && document.querySelector('main')")
        async with asyncio.timeout(HANG_S):
            while not server.push.clients:
                await asyncio.sleep(0.02)
        assert await page.run("document.cookie") == "" and page.complaints == []
        async with elsewhere(url) as other:
            await page.open(other)
            await page.until("document.querySelector('a')")
            await page.run("document.querySelector('a').click()")
            await page.until("location.pathname === '/anomaly/' && location.search && document.querySelector('main')")
        await page.run("import('./static/api.js').then((api) => api.remove('api/session'))")
        await page.run("location.reload()")
        await page.until("location.pathname === '/anomaly/login' && document.activeElement.id === 'token'")


def test_the_view_works_at_a_path_of_another_host(tmp_path):
    keys = Keys(tmp_path)
    server = make_server(
        {"allowed_hosts": ["view.example"]}, tokens_file=str(keys.path), root_path="/anomaly",
        trusted_proxies=["127.0.0.1"],
    )  # fmt: skip
    certificates = Certificates(tmp_path)

    async def run():
        trusting = ssl.create_default_context(cafile=certificates.ca)
        async with (
            TestServer(server.application()) as behind,
            nginx(tmp_path, certificates, behind.port) as port,
            ClientSession(
                f"https://127.0.0.1:{port}",
                connector=TCPConnector(ssl=trusting),
                cookie_jar=CookieJar(unsafe=True),
                headers={"Host": f"view.example:{port}"},
            ) as session,
        ):
            await look(session, f"https://view.example:{port}")
            if CHROMIUM:
                await in_a_browser(f"https://view.localhost:{port}/anomaly/", server, keys["read"])

    async def look(session, ours):
        def ask(method, path, **options):
            return session.request(method, path, server_hostname="view.example", allow_redirects=False, **options)

        async with ask("GET", "/anomaly") as answer:
            assert answer.status == 308 and answer.headers["Location"].endswith("/anomaly/")
        async with ask("GET", "/anomaly/", headers={"Accept": "text/html"}) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "./login?next=")
        async with ask("GET", "/anomaly/static/dom.js") as answer:
            assert answer.status == 200
        async with ask("GET", "/livez") as answer:
            assert answer.status == 404, "nothing beside the path"
        async with ask("GET", "/anomaly/api/sources", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403

        async with ask(
            "POST", "/anomaly/api/session", json={"token": keys["read"]}, headers={"Origin": ours}
        ) as answer:
            said, cookie = await answer.json(), answer.headers["Set-Cookie"]
        assert cookie == f"__Secure-fa_token={keys['read']}; HttpOnly; Path=/anomaly; SameSite=Strict; Secure"
        # aiohttp's jar takes the address for the host.
        held = {"Cookie": cookie.partition(";")[0], "Origin": ours}
        async with ask("GET", "/anomaly/api/sources", headers=held) as answer:
            assert answer.status == 200
        for page in pages():
            async with ask("GET", f"/anomaly{page.path}", headers=held) as answer:
                text = await answer.text()
            links = [urljoin(f"{ours}/anomaly{page.path}", link) for link in LINK.findall(text)]
            assert answer.status == 200 and links
            for link in links:
                assert link.startswith(f"{ours}/anomaly/"), "an address in a page must be relative"
                async with ask("GET", link.removeprefix(ours), headers=held) as answer:
                    assert answer.status == 200, link
        async with session.ws_connect("/anomaly/ws", headers=held, server_hostname="view.example") as socket:
            server.push.send_changes()
            assert (await socket.receive_json(timeout=HANG_S))["type"] in ("heartbeat", "statistics")
        for origin in ("https://evil.example", ours.replace("https", "http"), ours.rpartition(":")[0]):
            with pytest.raises(WSServerHandshakeError) as refused:
                await session.ws_connect(
                    "/anomaly/ws", headers=held | {"Origin": origin}, server_hostname="view.example"
                )
            assert refused.value.status == 403

        async with ask("DELETE", "/anomaly/api/session", headers=held) as answer:
            assert answer.status == 403
        async with ask("DELETE", "/anomaly/api/session", headers=held | {"X-CSRF-Token": said["csrf"]}) as answer:
            assert answer.status == 204 and "Path=/anomaly" in answer.headers["Set-Cookie"]

    asyncio.run(asyncio.wait_for(run(), 2 * HANG_S))

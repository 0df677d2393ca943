"""A webhook: what is sent, its signature, and what becomes of a receiver that fails in each way."""

import asyncio
import base64
import json
import ssl
import time
from email.utils import formatdate

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from standardwebhooks import Webhook
from support.messages import burst, context, ended, event, told
from support.secured import Certificates

from app.alerting.channels import webhook
from app.alerting.channels.api import MessageRejected, Retry
from app.errors import ConfigurationError
from app.wire.notifications import News

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PATH = "/services/T0/s3cr3t-path"


def channel(url, *, allowed=("127.0.0.1", "localhost"), **options):
    return webhook.Channel("hook", webhook.Options(url=url, **options), context(*allowed))


class Receiver:
    """Keeps (headers, body) of what it gets and answers with ``answer``: a function of the request."""

    def __init__(self, answer=None):
        self.got, self.answer = [], answer

    async def handle(self, request):
        self.got.append((request.headers, await request.read()))
        return await self.answer(request) if self.answer else web.Response(text="taken")


def exchanged(receiver, *notifications, **options):
    """What came of sending each: answers and errors."""

    async def run():
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/{path:.*}", receiver.handle)
        async with TestServer(app, host="127.0.0.1") as server:
            return await sent(channel(f"http://127.0.0.1:{server.port}{PATH}", **options), *notifications)

    return asyncio.run(asyncio.wait_for(run(), 60))


async def sent(to, *notifications):
    results = []
    for notification in notifications or (told(),):
        try:
            results.append(await to.send(notification))
        except (Retry, MessageRejected) as error:
            results.append(error)
    await to.close()
    return results


def test_what_is_sent():
    receiver = Receiver()
    [answer] = exchanged(receiver)
    assert answer.said == "200 taken"
    [(headers, body)] = receiver.got
    assert headers["Content-Type"] == "application/json" and headers["webhook-id"] == "n-1"
    assert "webhook-signature" not in headers
    found = json.loads(body)
    assert (found["type"], found["timestamp"]) == ("episodes", "2023-10-27T09:37:41.500Z")
    data = found["data"]
    assert {name: data[name] for name in ("id", "channel", "route", "title", "severity")} == {
        "id": "n-1", "channel": "hook", "route": "rules[0]", "severity": "critical",
        "title": "critical: pump-7 temperature is 90.44, expected 50.02",
    }  # fmt: skip
    [episode] = data["episodes"]
    assert episode["why"] == "opened" and episode["source"] == "pump-7" and episode["value"] == 90.4406
    assert episode["link"].endswith("#source=pump-7&metric=temperature")


def test_an_end_has_what_began_and_a_digest_has_all_its_episodes():
    receiver = Receiver()
    exchanged(receiver, ended(), burst())
    [end], many = (json.loads(body)["data"]["episodes"] for _, body in receiver.got)
    assert (end["why"], end["reason"], end["began"]["value"]) == ("closed", "recovered", 90.4406)
    assert len(many) == 1934


def test_the_signature_is_that_of_standard_webhooks(tmp_path):
    (tmp_path / "secret").write_text(SECRET + "\n")
    for given in ({"signing_secret": SECRET}, {"signing_secret_file": str(tmp_path / "secret")}):
        receiver = Receiver()
        exchanged(receiver, told(News(event(source="Süd\n\u2028<b>"), "opened")), **given)
        [(headers, body)] = receiver.got
        assert Webhook(SECRET).verify(body, dict(headers))["type"] == "episodes"
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(SECRET).verify(body + b" ", dict(headers))


def test_a_retry_has_the_same_id_and_bytes():
    receiver = Receiver()
    exchanged(receiver, told(), told(), signing_secret=SECRET)
    (first, body), (again, same) = receiver.got
    assert first["webhook-id"] == again["webhook-id"] and body == same


def test_further_headers(tmp_path):
    (tmp_path / "headers").write_text("Authorization: Bearer t0ken\n\nX-Tenant:a b\n")
    receiver = Receiver()
    exchanged(receiver, headers_file=str(tmp_path / "headers"))
    [(headers, _)] = receiver.got
    assert (headers["Authorization"], headers["X-Tenant"]) == ("Bearer t0ken", "a b")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"signing_secret": "whsec_%%%"}, "signing_secret: expected whsec_ and 24 to 64 bytes in base64, got other"),
        ({"signing_secret": "whsec_c2hvcnQ="}, "signing_secret: expected whsec_"),
        ({"signing_secret_file": "/no/such/file"}, "signing_secret_file: expected a readable file"),
        ({"headers": "Authorization Bearer"}, "headers: line 1 must be Name: value"),
        ({"headers": "A: b\nWebhook-Id: x"}, "headers: line 2 must be Name: value, with another name than"),
    ],
)
def test_wrong_secrets_and_headers_are_refused_at_the_start_and_not_shown(options, said):
    with pytest.raises(ConfigurationError, match=said) as refusal:
        channel("https://hooks.example/", **options)
    assert not any(value in str(refusal.value) for name, value in options.items() if not name.endswith("_file"))


# --- receivers that fail


def answering(status, text="", **headers):
    async def answer(request):
        return web.Response(status=status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


@pytest.mark.parametrize("status", [401, 403, 404, 408, 410, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_or_be_mended_is_tried_again(status):
    [error] = exchanged(Receiver(answering(status, "busy\nvery")))
    assert type(error) is Retry and f": {status} busy\\nvery" in str(error) and error.after_s is None


@pytest.mark.parametrize("status", [400, 413, 415, 422, 431])
def test_a_status_of_the_message_is_a_refusal(status):
    [error] = exchanged(Receiver(answering(status, "too many words")))
    assert type(error) is MessageRejected and f": {status} too many words" in str(error)


def test_retry_after_is_obeyed_as_a_number_and_as_a_date():
    [error] = exchanged(Receiver(answering(429, Retry_After="17")))
    assert error.after_s == 17.0
    [error] = exchanged(Receiver(answering(503, Retry_After=formatdate(time.time() + 100, usegmt=True))))
    assert 0.0 < error.after_s <= 100.0
    [error] = exchanged(Receiver(answering(503, Retry_After="soon")))
    assert error.after_s is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_tried_again_and_says_where_to(status):
    receiver = Receiver(answering(status, Location="https://other.example:8443/x?token=1"))
    [error] = exchanged(receiver)
    assert type(error) is Retry and len(receiver.got) == 1
    assert str(error).endswith(f"{status}, a redirect to https://other.example:8443; give the address itself")


def test_a_receiver_that_is_down():
    [error] = asyncio.run(sent(channel(f"http://127.0.0.1:{unused_port()}{PATH}")))
    assert type(error) is Retry and "Cannot connect to host 127.0.0.1" in str(error)


def test_a_slow_receiver():
    async def slow(request):
        await asyncio.sleep(60)

    [error] = exchanged(Receiver(slow), timeout_s=0.2)
    assert type(error) is Retry and str(error).endswith("no answer within 0.2 s")


def test_a_receiver_that_is_no_name_of_the_net():
    [error] = asyncio.run(sent(channel(f"http://no-such-host.invalid{PATH}")))
    assert type(error) is Retry and "no-such-host.invalid" in str(error)


def test_an_address_that_is_not_allowed():
    receiver = Receiver()
    [error] = exchanged(receiver, allowed=())
    assert type(error) is Retry and "alerting.allowed_addresses" in str(error) and not receiver.got


HEAD = "HTTP/1.1 {} X\r\nContent-Length: 100\r\n\r\nhalf of it"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("", Retry),  # closed at once
        ("reset", Retry),
        ("nonsense\r\n\r\n", Retry),
        ("HTTP/1.1 200 OK\r\nContent-Le", Retry),
        (HEAD.format(200), tuple),  # taken: its status says so
        (HEAD.format(500), Retry),
        (HEAD.format(400), Retry),
    ],
)
def test_half_an_answer(raw, kind):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if raw == "reset":
            writer.transport.abort()
        else:
            writer.write(raw.encode())
            await writer.drain()
            writer.close()

    async def run():
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            return await sent(channel(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"))

    [result] = asyncio.run(asyncio.wait_for(run(), 60))
    assert isinstance(result, kind)
    assert "s3cr3t" not in str(result)


def test_a_certificate_must_be_right(tmp_path, monkeypatch):
    authority = Certificates(tmp_path)

    def asked(name, **how):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(authority.sign(name, **how))
        receiver = Receiver()

        async def run():
            app = web.Application()
            app.router.add_post("/{path:.*}", receiver.handle)
            server = TestServer(app, host="127.0.0.1", scheme="https")
            await server.start_server(ssl=tls)
            try:
                return await sent(channel(f"https://127.0.0.1:{server.port}{PATH}"))
            finally:
                await server.close()

        [result] = asyncio.run(asyncio.wait_for(run(), 60))
        return result, len(receiver.got)

    unknown, got = asked("first")
    assert type(unknown) is Retry and "certificate verify failed" in str(unknown) and got == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    good, got = asked("good")
    assert good == ("200 taken", "") and got == 1
    for name, how in {"old": {"end": "20200101000000Z"}, "other": {"host": "DNS:elsewhere.example"}}.items():
        bad, got = asked(name, **how)
        assert type(bad) is Retry and "certificate" in str(bad).lower() and got == 0


def test_secrets_are_in_no_answer():
    """Also of a receiver that says back what it got."""

    async def echo(request):
        said = f"POST {request.path}: {request.headers['Authorization'].split()[1]}"
        return web.Response(status=int(request.headers["X-Status"]), text=said)

    for status in (200, 404, 500):
        [result] = exchanged(Receiver(echo), headers=f"Authorization: Bearer t0ken\nX-Status: {status}")
        assert "s3cr3t" not in str(result) and "t0ken" not in str(result) and "******" in str(result)

"""The channel email against aiosmtpd: what arrives, encrypted, in which thread; and what becomes of each refusal."""

import asyncio
import email
import email.policy
import math
import ssl
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import pytest
from aiohttp.test_utils import unused_port
from aiosmtpd.smtp import SMTP, AuthResult
from support.kafka_tools import HANG_S
from support.messages import PUMP, burst, context, ended, event, told
from support.secured import Certificates

from app.alerting.channels.api import MessageRejected, Retry
from app.alerting.channels.email import Channel, Options, compose
from app.alerting.outgoing import Outgoing
from app.errors import ConfigurationError
from app.wire.notifications import News

HOST, WHO, WHOM = "mail.example", "Anomalies <anomalies@pumps.example>", "ann@example.com, Bob <bob@example.com>"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.sign("mail", host=f"DNS:{HOST}")
    return made


class Server:
    """A mail server that keeps what it takes. ``answers``: command -> its next answers, "" to close the connection."""

    def __init__(self, answers=None):
        self.mails, self.to, self.sessions, self.logins = [], [], [], []
        self.answers = {name: list(given) for name, given in (answers or {}).items()}

    def _answer(self, name, server):
        if not (given := self.answers.get(name)):
            return None
        if (answer := given.pop(0)) == "":
            server.transport.close()
        return answer

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return self._answer("MAIL", server) or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if answer := self._answer("RCPT", server):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        answer = self._answer("DATA", server)
        if answer is None:
            self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
            self.to.append(envelope.rcpt_tos)
            self.sessions.append((server.transport.get_extra_info("cipher") is not None, session.host_name))
        return answer if answer is not None else "250 queued as 4711"

    def login(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=self.logins[-1] == ("ann", "s3cr3t"), handled=False)


@asynccontextmanager
async def running(server, certificates, security="starttls", offers_tls=True):
    """Its port."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.directory / "mail.pem")
    starttls = {"tls_context": tls, "require_starttls": True} if security == "starttls" and offers_tls else {}
    login = {"authenticator": server.login, "auth_require_tls": security == "starttls"}

    def made():
        return SMTP(server, hostname=HOST, loop=asyncio.get_running_loop(), **starttls, **login)

    listening = await asyncio.get_running_loop().create_server(
        made, "127.0.0.1", 0, ssl=tls if security == "tls" else None
    )
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def channel(port, certificates, security="starttls", host=HOST, allowed=(HOST, "localhost"), **more):
    async def lookup(host, port):
        return ["127.0.0.1"]

    known = {name: more.pop(name) for name in ("reference", "history") if name in more}
    given = {"host": host, "port": port, "security": security, "from": WHO, "to": WHOM}
    given["ca_file"] = str(certificates.ca)
    return Channel("mail", Options(**given | more), context(outgoing=Outgoing(allowed, lookup), **known))


def exchanged(certificates, server, *notifications, security="starttls", offers_tls=True, **options):
    """What came of sending each: answers and errors."""

    async def run():
        async with running(server, certificates, security, offers_tls) as port:
            to, results = channel(port, certificates, security, **options), []
            for notification in notifications or (told(),):
                try:
                    results.append(await to.send(notification))
                except (Retry, MessageRejected) as error:
                    results.append(error)
            await to.close()
            return results

    return asyncio.run(asyncio.wait_for(run(), HANG_S))


def parts(mail):
    return {part.get_content_type(): part for part in mail.walk() if not part.is_multipart()}


def results(count=40):
    """The last results of the pump, as the topic has them."""
    found = []
    for i in range(count):
        last, middle = i == count - 1, 50.0 + 5.0 * math.sin(i / 6.0)
        found.append({
            "timestamp": PUMP.timestamp - 10.0 * (count - 1 - i),
            "value": 90.4406 if last else middle + (i * 7 % 5) - 2.0, "expected": middle,
             "expected_lower": middle - 9.0, "expected_upper": middle + 9.0, "is_anomaly": last,
            **({"episode": PUMP.episode} if last else {}),
        })  # fmt: skip
    return found


async def history(event):
    return results()


class Html(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_what_arrives(certificates):
    server = Server()
    [answer] = exchanged(certificates, server, username="ann", password="s3cr3t", history=history)
    assert answer == ("queued as 4711", "<n-1@pumps.example>")
    [mail] = server.mails
    assert server.sessions == [(True, "[127.0.0.1]")] and server.logins == [("ann", "s3cr3t")]
    assert server.to == [["ann@example.com", "bob@example.com"]]
    assert {name: str(mail[name]) for name in mail if name not in ("MIME-Version", "Content-Type", "X-Peer")} == {
        "From": WHO, "To": WHOM, "Subject": "critical: pump-7 temperature is 90.44, expected 50.02",
        "Date": "Fri, 27 Oct 2023 09:37:41 -0000", "Message-ID": "<n-1@pumps.example>",
        "Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All",
        **{name: str(mail[name]) for name in ("X-MailFrom", "X-RcptTo") if name in mail},
    }  # fmt: skip
    found = parts(mail)
    assert list(found) == ["text/plain", "text/html", "image/png"]
    assert "difference  40.42 above the expected (81%)" in found["text/plain"].get_content()
    page, picture = Html(found["text/html"].get_content()), found["image/png"]
    [image] = [given for tag, given in page.tags if tag == "img"]
    assert image["src"] == f"cid:{picture['Content-ID'].strip('<>')}" and "pump-7 temperature" in image["alt"]
    assert picture.get_content().startswith(b"\x89PNG") and picture.get_content_disposition() == "inline"
    assert len(mail.as_bytes()) < 30_000


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_mails_of_an_episode_are_a_thread(certificates, security):
    server, first = Server(), "<n-1@pumps.example>"
    host = "localhost" if security == "none" else HOST
    sent = exchanged(
        certificates, server, ended(), burst(), security=security, host=host,
        reference=lambda channel, episode: first if episode == PUMP.episode else "",
    )  # fmt: skip
    assert [answer.reference for answer in sent] == [first, "<n-3@pumps.example>"]
    end, digest = server.mails
    assert (end["Message-ID"], end["In-Reply-To"], end["References"]) == ("<n-2@pumps.example>", first, first)
    assert digest["In-Reply-To"] is None and "and 1,924 more" in parts(digest)["text/html"].get_content()
    assert [encrypted for encrypted, _ in server.sessions] == [security != "none"] * 2


def test_the_same_mail_each_time():
    options = Options(**{"host": HOST, "from": WHO, "to": WHOM})
    first, again = (compose(told(), options, context(), picture=b"png").as_bytes() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
def test_the_certificate_has_to_name_the_host(certificates, host):
    for security in ("starttls", "tls"):
        server = Server()
        [error] = exchanged(certificates, server, security=security, host=host, allowed=[host])
        assert type(error) is Retry and "certificate verify failed" in str(error) and not server.mails


def test_nothing_leaves_in_the_clear(certificates):
    server = Server()
    [error] = exchanged(certificates, server, offers_tls=False, username="ann", password="s3cr3t")
    assert type(error) is Retry and "STARTTLS" in str(error) and not server.mails and not server.logins


@pytest.mark.parametrize(
    ("answers", "error", "after_s", "words"),
    [
        ({"MAIL": ["451 later"]}, Retry, None, "451 later"),
        ({"MAIL": ["550 5.7.1 not you"]}, Retry, 300.0, "550 5.7.1 not you"),
        ({"MAIL": ["552 too large"]}, MessageRejected, None, "552 too large"),
        ({"MAIL": [""]}, Retry, None, HOST),
        ({"RCPT": ["450 later", "450 later"]}, Retry, None, "ann@example.com: 450 later"),
        ({"RCPT": ["550 nobody", "551 gone"]}, Retry, 300.0, "bob@example.com: 551 gone"),
        ({"RCPT": ["550 nobody", "450 later"]}, Retry, None, "bob@example.com: 450 later"),
        ({"DATA": ["452 full"]}, Retry, None, "452 full"),
        ({"DATA": ["554 spam\nreally"]}, MessageRejected, None, "554 spam"),
        ({"DATA": [""]}, Retry, None, HOST),
    ],
)
def test_what_is_refused_and_what_is_tried_again(certificates, answers, error, after_s, words):
    server = Server(answers)
    first, second = exchanged(certificates, server, told(), told())
    assert type(first) is error and words in str(first) and getattr(first, "after_s", None) == after_s
    assert second.said == "queued as 4711" and len(server.mails) == 1


def test_some_recipients_are_refused(certificates):
    server = Server({"RCPT": [None, "550 nobody"]})
    [answer] = exchanged(certificates, server)
    assert answer.said == "queued as 4711; not taken for 1 of 2: bob@example.com: 550 nobody"


def test_who_has_got_it_does_not_get_it_again(certificates):
    server = Server({"RCPT": [None, "450 greylisted"]})
    first, second, third = exchanged(certificates, server, told(), told(), told(id="n-9"))
    assert type(first) is Retry and (second.said, third.said) == ("queued as 4711", "queued as 4711")
    assert server.to == [["ann@example.com"], ["bob@example.com"], ["ann@example.com", "bob@example.com"]]


def test_a_login_that_fails_is_not_tried_often(certificates):
    server = Server()
    [error] = exchanged(certificates, server, username="ann", password="wr0ng")
    assert type(error) is Retry and error.after_s == 300.0 and "the login failed: 535" in str(error)
    assert "wr0ng" not in str(error)


def test_where_nobody_listens_or_nobody_may_go(certificates):
    async def run(**options):
        with pytest.raises(Retry) as raised:
            await channel(unused_port(), certificates, **options).send(told())
        return str(raised.value)

    assert f"{HOST}:" in asyncio.run(run()) and "alerting.allowed_addresses" in asyncio.run(run(allowed=()))


def test_data_adds_no_headers_and_no_html(certificates):
    evil = 'pump\r\nBcc: eve@example.com\r\n\r\n<img src="https://evil.example/x.png"><script>alert(1)</script>'
    server, news = Server(), event(source=evil, metric=evil, explanation=evil, labels={evil: evil}, kind=evil)
    exchanged(certificates, server, told(News(news, "opened")), told(News(news, "opened"), News(news, "opened")))
    for mail in server.mails:
        assert mail["Bcc"] is None and not mail.defects and mail["Subject"].startswith(("critical: pump", "2 episodes"))
        page = Html(parts(mail)["text/html"].get_content())
        allowed = {"html", "head", "meta", "body", "div", "h1", "p", "table", "tr", "td", "ul", "li", "a"}
        assert {tag for tag, _ in page.tags} <= allowed
        links = [value for _, given in page.tags for name, value in given.items() if name in ("src", "href")]
        assert links and all(link.startswith("https://alerts.example/view/#source=pump%") for link in links)
        assert evil.split("\n")[-1] in page.text


@pytest.mark.parametrize(
    "fault", [[], [{"timestamp": "never", "value": 1.0}], OSError("broker"), TimeoutError(), KeyError("x")]
)
def test_a_mail_without_a_chart_is_better_than_none(certificates, fault):
    async def history(event):
        if isinstance(fault, Exception):
            raise fault
        return fault

    server = Server()
    exchanged(certificates, server, history=history)
    assert list(parts(server.mails[0])) == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"security": "none"}, "for this machine only"),
        ({"username": "ann"}, "username and password, or neither"),
        ({"ca_file": "/none"}, "expected certificates in PEM, got '/none'"),
    ],
)
def test_settings_that_cannot_be(options, words):
    given = {"host": HOST, "from": WHO, "to": WHOM}
    with pytest.raises(ConfigurationError, match=words):
        Channel("mail", Options(**given | options), context())


@pytest.mark.parametrize(
    "address", ["", "ann", "ann@", "a b@example.com", "ann@example.com\nBcc: x@y", "<>", "ä@b.example"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError):
        Options(**{"host": HOST, "from": address, "to": WHOM})
    with pytest.raises(ValueError):
        Options(**{"host": HOST, "from": WHO, "to": [address]})

"""E-mail by SMTP: text and HTML, with a small chart of the last points; all mails of an episode are one thread.

The Message-ID is made of the notification's id and is the same on each attempt, so that a mail that arrives twice can
be known by it. What is not taken now is tried again, also for some recipients, and then only for these. Final is what
the server says of the mail itself: what it says of the login, the sender or all recipients, somebody may mend. Mail
leaves encrypted, or goes to this machine.
"""

from __future__ import annotations

import asyncio
import html
import logging
import re
import socket
import ssl
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from email.utils import formatdate, parseaddr
from ipaddress import ip_address
from typing import Annotated, Any, Literal

import aiosmtplib
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from app.alerting.channels.api import (
    Answer,
    BaseChannel,
    ChannelOptions,
    Context,
    MessageRejected,
    Retry,
    setting,
)
from app.alerting.chart import HEIGHT, WIDTH, chart, metric_of
from app.alerting.message import Message, clean
from app.alerting.outgoing import CONNECT_S, Forbidden
from app.errors import AnomalyError, ConfigurationError
from app.settings.fields import HostName
from app.wire.episodes import Event
from app.wire.notifications import Notification

PORTS = {"starttls": 587, "tls": 465, "none": 25}
COMMAND_S = 20.0  # for each answer of the server
CHART_S = 5.0
FIX_S = 300.0  # until it is tried again where somebody has to change something: servers lock out who asks too often
TOO_LARGE = 552
COLORS = {"critical": "#c8102e", "high": "#c2570c", "medium": "#8a6d00", "low": "#4a5568", "": "#1d7a46"}
CHART = "chart"

log = logging.getLogger(__name__)


def _address(text: str) -> str:
    """``name@host``, or ``Name <name@host>``. Raises ValueError for anything else."""
    if not text.isprintable() or not re.fullmatch(r"[\w!#$%&'*+/=?^`{|}~.-]+@[\w-]+(\.[\w-]+)*", _bare(text), re.ASCII):
        raise ValueError
    _named(text)
    return text


def _split(given: Any) -> Any:
    return [one.strip() for one in given.split(",") if one.strip()] if isinstance(given, str) else given


MailAddress = Annotated[str, AfterValidator(_address)]


class Options(ChannelOptions):
    host: HostName = setting(..., "the mail server", expected="a host name or address")
    port: int | None = setting(None, "its port; none: 587, or 465 with tls, 25 with none", at_least=1, at_most=65535)
    security: Literal["starttls", "tls", "none"] = setting(
        "starttls", "starttls: encrypted after the greeting; tls: from the start; none: to this machine only"
    )
    ca_file: str | None = setting(
        None, "authorities that the server's certificate may be of; none: the system's", expected="the path of a file"
    )
    username: str | None = setting(None, "for the login; none: without one", expected="text")
    password: SecretStr | None = setting(None, "for the login", expected="text")
    password_file: str | None = setting(None, "file with the password", expected="the path of a file")
    from_: MailAddress = Field(
        alias="from",
        description="who sends it",
        json_schema_extra={"unit": "", "allowed": "name@host, or Name <name@host>"},
    )
    to: Annotated[list[MailAddress], BeforeValidator(_split)] = setting(
        ..., "who gets it", expected="addresses, as name@host or Name <name@host>", min_length=1, max_length=100
    )


class Channel(BaseChannel):
    options: Options

    def __init__(self, name: str, options: Options, context: Context) -> None:
        super().__init__(name, options, context)
        if options.security == "none" and not _is_this_machine(options.host):
            raise ConfigurationError(f"security: none is for this machine only, got host {options.host!r}")
        if (options.username is None) != (options.secret("password") is None):
            raise ConfigurationError("expected username and password, or neither")
        try:
            self._tls = ssl.create_default_context(cafile=options.ca_file)
        except OSError as error:
            raise ConfigurationError(f"ca_file: expected certificates in PEM, got {options.ca_file!r}") from error
        self._taken: tuple[str, set[str]] = ("", set())  # notification, recipients who have got it

    def hosts(self) -> list[tuple[str, int]]:
        return [(self.options.host, self._port)]

    async def send(self, notification: Notification) -> Answer:
        if self._taken[0] != notification.id:
            self._taken = notification.id, set()
        first = self._first(notification)
        mail = compose(notification, self.options, self.context, first=first, picture=await self._picture(notification))
        taken = self._taken[1]
        waiting = [address for address in dict.fromkeys(map(_bare, self.options.to)) if address not in taken]
        refused, said = await self._deliver(waiting, mail.as_bytes(policy=POLICY.clone(cte_type="7bit")))
        taken.update(address for address in waiting if address not in refused)
        words = "; ".join(f"{address}: {_reply(*reply)}" for address, reply in refused.items())
        if any(400 <= code < 500 for code, _ in refused.values()):
            raise Retry(words)
        if not taken:
            raise Retry(words, FIX_S)
        reference = first or str(mail["Message-ID"])
        missed = f"not taken for {len(refused)} of {len(taken) + len(refused)}: {words}" if refused else ""
        return Answer("; ".join(filter(None, [said, missed])), reference)

    def _first(self, notification: Notification) -> str:
        """The Message-ID of the episode's first mail; "" if this is it."""
        if notification.about != "episodes" or len(notification.news) != 1:
            return ""
        return self.context.reference(self.name, notification.news[0].event.episode)

    async def _picture(self, notification: Notification) -> bytes | None:
        if self.context.history is None or len(notification.news) != 1:
            return None
        event = notification.news[0].event
        try:
            async with asyncio.timeout(CHART_S):
                results = await self.context.history(event)
                return await asyncio.to_thread(chart, results, event)
        except (AnomalyError, OSError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            log.warning("channel %s: no chart: %s", self.name, str(error) or type(error).__name__)
            return None

    # --- SMTP

    async def _deliver(self, to: list[str], mail: bytes) -> tuple[dict[str, tuple[int, str]], str]:
        """(recipients who were refused, with the answer; what the server said). Raises Retry or MessageRejected."""
        options, place = self.options, f"{self.options.host}:{self._port}"
        client = aiosmtplib.SMTP(
            hostname=options.host,
            sock=(sock := await self._connect()),
            local_hostname=_literal(sock),
            use_tls=options.security == "tls",
            start_tls=options.security == "starttls",
            tls_context=self._tls,
            timeout=COMMAND_S,
        )
        try:
            await client.connect()
            if options.username:
                await client.login(options.username, options.secret("password") or "")
            refused, said = await client.sendmail(_bare(options.from_), to, mail)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: (one.code, one.message) for one in error.recipients}, ""
        except aiosmtplib.SMTPAuthenticationError as error:
            raise Retry(f"{place}: the login failed: {_reply(error.code, error.message)}", FIX_S) from error
        except aiosmtplib.SMTPResponseException as error:
            words, final = f"{place}: {_reply(error.code, error.message)}", 500 <= error.code < 600
            if final and (isinstance(error, aiosmtplib.SMTPDataError) or error.code == TOO_LARGE):
                raise MessageRejected(words) from error
            raise Retry(words, FIX_S if final else None) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            words = str(error) or type(error).__name__
            raise Retry(clean(words if options.host in words else f"{place}: {words}", 300)) from error
        finally:
            with suppress(aiosmtplib.SMTPException, OSError):
                if client.is_connected:
                    await client.quit(timeout=1.0)
            client.close()
            sock.close()
        return {address: (reply.code, reply.message) for address, reply in refused.items()}, clean(said, 300)

    async def _connect(self) -> socket.socket:
        """A connection to an address that may be connected to."""
        if self.context.check is None:
            raise Retry("addresses cannot be checked")
        host, port = self.options.host, self._port
        try:
            addresses = await self.context.check(host, port)
        except (Forbidden, OSError) as error:
            raise Retry(f"{host}: {error}" if host not in str(error) else str(error)) from error
        if self.options.security == "none":
            addresses = [one for one in addresses if ip_address(one).is_loopback]
        why = f"{host} is not this machine"
        for address in addresses:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_S):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
                return sock
            except (TimeoutError, OSError) as error:
                why = f"{host}:{port}: {str(error) or f'no connection within {CONNECT_S:g} s'}"
                sock.close()
            except BaseException:
                sock.close()
                raise
        raise Retry(why)

    @property
    def _port(self) -> int:
        return self.options.port or PORTS[self.options.security]


def compose(
    notification: Notification, options: Options, context: Context, first: str = "", picture: bytes | None = None
) -> EmailMessage:
    """The mail: the same bytes for the same notification and picture.

    Parameters
    ----------
    first
        Message-ID of the mail that this one belongs to.
    """
    message = Message.of(notification, context)
    domain = _bare(options.from_).rpartition("@")[2]
    token = re.sub(r"[^A-Za-z0-9.-]", "-", notification.id)
    mail = EmailMessage()
    mail["From"] = _named(options.from_)
    mail["To"] = list(map(_named, options.to))
    mail["Subject"] = message.title
    mail["Date"] = formatdate(notification.created_at)
    mail["Message-ID"] = f"<{token}@{domain}>"
    if first:
        mail["In-Reply-To"] = mail["References"] = first
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
    mail["X-Auto-Response-Suppress"] = "All"  # the same for Exchange
    mail.set_content(message.plain())
    event = notification.news[0].event if picture else None
    color = COLORS[message.severity] if notification.about != "channel_down" else COLORS["high"]
    mail.add_alternative(page(message, color, event), subtype="html")
    if picture:
        [_, related] = mail.iter_parts()
        assert isinstance(related, EmailMessage)
        related.add_related(picture, "image", "png", cid=f"<{CHART}>", disposition="inline", filename="chart.png")
        related.set_boundary(f"=_{token}_2")
    mail.set_boundary(f"=_{token}_1")
    return mail


def page(message: Message, color: str, pictured: Event | None = None) -> str:
    """The mail as HTML; ``pictured``: what its chart is of. All that comes from data is escaped; nothing is loaded."""
    cell = "padding:2px 12px 2px 0;vertical-align:top"
    parts = [f'<h1 style="font-size:18px;margin:0 0 8px;color:{color}">{html.escape(message.title)}</h1>']
    if message.text:
        parts.append(f'<p style="margin:0 0 12px">{html.escape(message.text)}</p>')
    if pictured:
        name = html.escape(f"{pictured.source} {metric_of(pictured)}" if pictured.metric else pictured.source)
        parts.append(
            f'<p style="margin:0 0 12px"><img src="cid:{CHART}" width="{WIDTH}" height="{HEIGHT}" '
            f'alt="Chart: the last values of {name}, what was expected with its band, and the episode" '
            'style="max-width:100%;height:auto"></p>'
        )
    if message.lines:
        rows = [
            f'<tr><td style="{cell};color:#616e7c">{html.escape(label)}</td>'
            f'<td style="{cell};word-break:break-word">{html.escape(text)}</td></tr>'
            for label, text in message.lines
        ]
        parts.append(f'<table role="presentation" cellspacing="0" style="margin:0 0 12px">{"".join(rows)}</table>')
    if message.items:
        items = [
            f'<li style="margin:0 0 4px">{html.escape(item.text)}{_linked("view", item.link)}</li>'
            for item in message.items
        ]
        items += [f"<li>and {message.more:,} more</li>"] if message.more else []
        parts.append(f'<ul style="margin:0 0 12px;padding-left:20px">{"".join(items)}</ul>')
    if message.link:
        parts.append(f'<p style="margin:0">{_linked("Open the view", message.link)}</p>')
    body = "\n".join(parts)
    box = f"max-width:600px;border-left:4px solid {color};padding-left:16px"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="color-scheme" content="light"></head>\n'
        '<body style="margin:0;padding:16px;background:#ffffff;color:#1f2933;font:14px/1.45 sans-serif">\n'
        f'<div style="{box}">\n{body}\n</div>\n</body></html>\n'
    )


def _linked(text: str, link: str) -> str:
    """A link; "" without an address."""
    return f' <a href="{html.escape(link)}">{text}</a>' if link else ""


def _bare(address: str) -> str:
    return parseaddr(address)[1]


def _named(address: str) -> Address:
    name, bare = parseaddr(address)
    return Address(name, addr_spec=bare)


def _reply(code: int, message: str) -> str:
    return clean(f"{code} {message}", 200)


def _literal(sock: socket.socket) -> str:
    """Who we are, for EHLO: RFC 5321, section 4.1.3. The name of this machine may be nobody's business."""
    address = sock.getsockname()[0].partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

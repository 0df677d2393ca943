"""Sends by Apprise, to the hundred and more services it knows (https://github.com/caronc/apprise/wiki).

Apprise says only whether a service took a message, so what it did not take is tried again. Its own retries and
redirects are off. Its services are written for threads and resolve names themselves: while one of them sends, names
are resolved by ``Context.check`` instead, and so it connects only to where other channels may connect to as well.
Services that use neither HTTP nor SMTP, as those of the desktop, are refused: they would pass by this.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from app.alerting.channels.api import Answer, BaseChannel, ChannelOptions, Context, Retry, setting
from app.alerting.message import Message, clean
from app.alerting.outgoing import CONNECT_S, Forbidden
from app.errors import ConfigurationError
from app.settings.messages import SECRET
from app.wire.notifications import Notification

OVER = ("requests", "smtplib")  # modules that a service we can watch over uses
# What would call everybody of a room, or make a link with other words, where a service reads Markdown or mentions.
LIVE = re.compile(r"(?<=@)(?=\w)|(?<=<)(?=[!@#])|(?<=\])(?=\()")
WORD_JOINER = "\u2060"  # without a shape


class Options(ChannelOptions):
    urls: SecretStr | None = setting(
        None, "Apprise's URLs, as discord://id/token", expected="URLs, separated by spaces or lines"
    )
    urls_file: str | None = setting(None, "file with such URLs", expected="the path of a file")
    timeout_s: float = setting(10.0, "longest wait for an answer", unit="s", at_least=0.1, at_most=300.0)


class Channel(BaseChannel):
    options: Options

    def __init__(self, name: str, options: Options, context: Context) -> None:
        """Raises ConfigurationError for a URL that Apprise does not know, or one that turns off what protects."""
        super().__init__(name, options, context)
        self._services = [_Service(url, i, options.timeout_s) for i, url in enumerate(_urls(options), 1)]
        self._took: tuple[str, set[int]] = ("", set())  # id, and who took it already

    async def send(self, notification: Notification) -> Answer:
        message = Message.of(notification, self.context)
        if self._took[0] != notification.id:
            self._took = (notification.id, set())
        took, loop, failed = self._took[1], asyncio.get_running_loop(), []

        def judge(host: str) -> list[str]:
            assert self.context.check is not None
            return asyncio.run_coroutine_threadsafe(self.context.check(host, 0), loop).result(CONNECT_S)

        for service in self._services:
            if service.number in took:
                continue
            reason = await asyncio.to_thread(service.send, message, _kind(notification, message), judge)
            if reason:
                failed.append(f"{service.name} (URL {service.number}): {reason}")
            else:
                took.add(service.number)
        if failed:
            raise Retry("; ".join(failed))
        return Answer(f"taken by {', '.join(service.name for service in self._services)}")


class _Service:
    """One URL. ``send`` returns why it was not taken, "" if it was."""

    def __init__(self, url: str, number: int, timeout_s: float) -> None:
        import apprise  # not at the top: a third of a second, and few use it

        _watch()
        scheme = clean(url.partition("://")[0], 40)
        asset = apprise.AppriseAsset(
            async_mode=False, http_redirects=False, secure_logging=True, allow_templates=False,
            storage_mode=apprise.PersistentStoreMode.MEMORY,
        )  # fmt: skip
        plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if plugin is None:
            raise ConfigurationError(f"urls: URL {number} ({scheme}://) is none that Apprise can use")
        modules = [sys.modules[one.__module__] for one in type(plugin).__mro__]
        if not any(hasattr(module, name) for module in modules for name in OVER):
            raise ConfigurationError(f"urls: URL {number} ({scheme}://) sends neither over HTTP nor by SMTP")
        if not plugin.verify_certificate:
            raise ConfigurationError(f"urls: URL {number} ({scheme}://) must not have verify=no")
        plugin.redirects, plugin.retry = False, 0
        plugin.socket_connect_timeout = min(timeout_s, CONNECT_S)
        plugin.socket_read_timeout = timeout_s
        if "overflow=" not in url:
            plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
        self.name, self.number = clean(str(plugin.service_name), 40), number
        self._secrets = sorted((part for part in re.split(r"[/:@?&=]+", url) if len(part) > 5), key=len, reverse=True)
        self._send = plugin.send
        plugin.send = self._watched  # type: ignore[method-assign]
        self._judge: Callable[[str], list[str]] | None = None
        self._said: list[str] = []
        self._forbidden = ""
        self._apprise = apprise.Apprise(asset=asset)
        self._apprise.add(plugin)

    def send(self, message: Message, kind: str, judge: Callable[[str], list[str]]) -> str:
        self._judge, self._said, self._forbidden = judge, [], ""
        taken = self._apprise.notify(
            title=LIVE.sub(WORD_JOINER, message.title),
            body=LIVE.sub(WORD_JOINER, message.plain().partition("\n")[2].strip() or message.title),
            notify_type=kind,
            body_format="text",
        )
        if taken:
            return ""
        if self._forbidden:
            return self._forbidden
        reason = "; ".join(self._said) or "not taken, and Apprise does not say why"
        for secret in self._secrets:
            reason = reason.replace(secret, SECRET)
        return clean(reason, 400)

    def _watched(self, *args: Any, **kwargs: Any) -> Any:
        """The plugin's own ``send``, in whichever thread Apprise calls it."""
        _here.judge, _here.said = self._judge, self._said
        try:
            return self._send(*args, **kwargs)
        except Forbidden as error:
            self._forbidden = str(error)
            return False
        finally:
            del _here.judge, _here.said


def _urls(options: Options) -> list[str]:
    urls = (options.secret("urls") or "").split()
    if not urls:
        raise ConfigurationError(
            "urls: expected at least one of Apprise's URLs, by a variable or in urls_file, got none"
        )
    return urls


def _kind(notification: Notification, message: Message) -> str:
    """Of Apprise's: it chooses pictures and colours."""
    if message.severity:
        return "failure" if message.severity in ("high", "critical") else "warning"
    return {"episodes": "success", "channel_up": "success", "channel_down": "failure"}.get(notification.about, "info")


# --- what services do in their threads

_here = threading.local()  # judge, said: while a service of ours sends in this thread
_resolve = socket.getaddrinfo


def _watch() -> None:
    """From now on names that a service of ours resolves are judged. All others are resolved as ever.

    What Apprise logs can have parts of URLs: it goes to who sends, and to no log.
    """
    if socket.getaddrinfo is not _judged:
        socket.getaddrinfo = _judged
        logger = logging.getLogger("apprise")
        logger.propagate = False
        logger.addHandler(_Heard())


def _judged(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
    judge = getattr(_here, "judge", None)
    if judge is None or not host:
        return _resolve(host, port, *args, **kwargs)
    found = []
    for address in judge(host.decode() if isinstance(host, bytes) else str(host)):
        try:
            found += _resolve(address, port, *args, **kwargs)
        except socket.gaierror:  # of the family that was not asked for
            continue
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no address of this family")
    return found


class _Heard(logging.Handler):
    """Keeps what Apprise says of a service while it sends."""

    def emit(self, record: logging.LogRecord) -> None:
        said: list[str] | None = getattr(_here, "said", None)
        if said is not None and record.levelno >= logging.WARNING:
            said.append(record.getMessage())

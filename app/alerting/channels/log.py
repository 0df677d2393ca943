"""A line of JSON for each episode of a message, in ``alerting.anomaly_log_file``; or lines of the program's log.

The file is opened for each message and only added to, so that it may be renamed or cut by a rotation at any time, and
several workers of one machine may write the same one. A line that a full disk broke off is ended before the next.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import stat
from typing import Any

import msgspec

from app.alerting.channels.api import Answer, BaseChannel, ChannelOptions, Context, Retry
from app.alerting.message import TEXT, Message, clean, headline, moment
from app.errors import ConfigurationError
from app.wire.notifications import News, Notification

log = logging.getLogger(__name__)

MOST_LINES = 10  # of a message in the program's log
# Not escaped by JSON, and not for a terminal either: C1 controls, separators of lines, what reverses writing.
_HIDDEN = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Options(ChannelOptions):
    """None of its own."""


class Channel(BaseChannel):
    MESSAGES_PER_MINUTE = 600.0

    def __init__(self, name: str, options: Options, context: Context) -> None:
        """Raises ConfigurationError if the file cannot be written."""
        super().__init__(name, options, context)
        if path := context.log_file:
            try:
                os.close(_open(path))
            except OSError as error:
                reason = error.strerror or str(error)
                raise ConfigurationError(
                    f"alerting.anomaly_log_file: expected a file that can be written, in a directory that exists, "
                    f"got {path!r}: {reason}"
                ) from error

    async def send(self, notification: Notification) -> Answer:
        if (path := self.context.log_file) is None:
            return Answer(self._to_program(notification))
        lines = [_line(each) for each in self._records(notification)]
        try:
            await asyncio.to_thread(_append, path, b"".join(lines))
        except OSError as error:
            raise Retry(f"{path}: {error.strerror or error}") from error
        return Answer(f"{len(lines)} lines" if len(lines) > 1 else "1 line")

    def _records(self, notification: Notification) -> list[dict[str, Any]]:
        if notification.about == "episodes":
            return [self._of_episode(notification, news) for news in notification.news]
        message = Message.of(notification, self.context)
        said = {"what": notification.about, "message": f"{message.title}: {message.text}"}
        return [_head(notification) | said]

    def _of_episode(self, notification: Notification, news: News) -> dict[str, Any]:
        event: dict[str, Any] = msgspec.to_builtins(news.event)
        for name in ("event", "offset", "index"):
            event.pop(name, None)
        for name in ("timestamp", "opened_at"):
            event[name] = moment(event[name])
        link = self.context.link(news.event)
        words = {"what": news.why, "message": headline(news)} | ({"link": link} if link else {})
        return _head(notification) | words | event

    def _to_program(self, notification: Notification) -> str:
        message = Message.of(notification, self.context)
        if notification.about != "episodes":
            log.warning("%s: %s", message.title, message.text)
            return "1 line"
        many = len(notification.news) > 1
        if many:
            log.warning("alert: %s", message.title)
        for news in notification.news[:MOST_LINES]:
            sentence = f" ({clean(news.event.explanation, TEXT)})" if news.event.explanation else ""
            level = logging.INFO if news.why == "closed" else logging.WARNING
            log.log(level, "alert: %s%s; episode %s", headline(news), sentence, clean(news.event.episode, TEXT))
        return f"{min(len(notification.news), MOST_LINES) + many} lines" if many else "1 line"


def _head(notification: Notification) -> dict[str, Any]:
    return {"time": moment(notification.created_at), "notification": notification.id, "route": notification.route}


def _line(record: dict[str, Any]) -> bytes:
    text = msgspec.json.encode(record).decode()
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def _open(path: str) -> int:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def _append(path: str, lines: bytes) -> None:
    file = _open(path)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        written = os.write(file, lines)
        if written < len(lines):
            raise OSError(errno.ENOSPC, f"{written} of {len(lines)} bytes were written")
    finally:
        os.close(file)

"""A line of JSON for each episode of a message, in ``alerting.anomaly_log_file``; or lines of the program's log.

The file is opened for each message and only added to, so that it may be renamed or cut by a rotation at any time, and
several workers of one machine may write the same one. A line that a full disk broke off is ended before the next.
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import os
import re
import stat
from typing import Any

import msgspec

from app.alerting.channels.api import Answer, BaseChannel, ChannelOptions, Context, Retry
from app.alerting.message import TEXT, Message, clean, headline, many, moment
from app.errors import ConfigurationError
from app.wire.notifications import News, Notification

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

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
                _opened(path).close()
            except OSError as error:
                reason = error.strerror or str(error)
                raise ConfigurationError(
                    f"alerting.anomaly_log_file: expected a file that can be written, in a directory that exists, "
                    f"got {path!r}: {reason}"
                ) from error

    async def send(self, notification: Notification) -> Answer:
        if (path := self.context.log_file) is None:
            return Answer(self._to_program(notification))
        try:
            count = await asyncio.to_thread(self._to_file, path, notification)
        except OSError as error:
            raise Retry(f"{path}: {error.strerror or error}") from error
        return Answer(many(count, "line"))

    def _to_file(self, path: str, notification: Notification) -> int:
        """In a thread: thousands of lines take a while, and a disk can take longer."""
        lines = [_line(each) for each in self._records(notification)]
        _append(path, b"".join(lines))
        return len(lines)

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
            return many(1, "line")
        digest = len(notification.news) > 1
        if digest:
            log.warning("alert: %s", message.title)
        for news in notification.news[:MOST_LINES]:
            sentence = f" ({clean(news.event.explanation, TEXT)})" if news.event.explanation else ""
            level = logging.INFO if news.why == "closed" else logging.WARNING
            log.log(level, "alert: %s%s; episode %s", headline(news), sentence, clean(news.event.episode, TEXT))
        return many(min(len(notification.news), MOST_LINES) + digest, "line")


def _head(notification: Notification) -> dict[str, Any]:
    return {"time": moment(notification.created_at), "notification": notification.id, "route": notification.route}


def _line(record: dict[str, Any]) -> bytes:
    encoded = msgspec.json.encode(record)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded + b"\n"
    text = encoded.decode()
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode() + b"\n"


def _opened(path: str) -> io.FileIO:
    """The file, to add to. Raises OSError, also if it is no file."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)  # where it is a pipe
    file = io.FileIO(path, "ab+", opener=lambda name, flags: os.open(name, flags | without_waiting, 0o640))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file


def _append(path: str, lines: bytes) -> None:
    with _opened(path) as file:
        if fcntl:  # else the file may end where another writer is in the middle of a line
            fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            lines = lines if file.read(1) == b"\n" else b"\n" + lines
        written = _write(file, lines)
    if written < len(lines):
        raise OSError(errno.ENOSPC, f"{written} of {len(lines)} bytes were written")


def _write(file: io.FileIO, lines: bytes) -> int:
    """One call, so that lines of several writers do not mix. Returns how many bytes there was room for."""
    return file.write(lines) or 0

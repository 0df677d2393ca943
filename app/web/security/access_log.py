"""A line in the log for each request: method, path, status, bytes, milliseconds, whose token, address.

No query, header or body: what is secret is never in a path, and what looks like a token there is masked.
"""

import logging
import re
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from app.web.security.access import CALLER
from app.web.security.clients import CLIENT

SECRET = re.compile(r"fa_[A-Za-z0-9_-]{16,}|eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){1,2}")
LONGEST = 512  # characters of a path


class WithoutRequests(logging.Filter):
    """For aiohttp's own log: it would write requests that are no HTTP as they came, with the tokens in them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def server_log() -> logging.Logger:
    """The log for aiohttp's server."""
    log = logging.getLogger("app.web.http")
    if not log.filters:
        log.addFilter(WithoutRequests())
    return log


class AccessLog(AbstractAccessLogger):
    """As aiohttp calls it, when the answer was sent."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        client, caller = request.get(CLIENT), request.get(CALLER)
        address = client.address if client else request.remote
        self.logger.info(
            "%s %s %d %d B %.1f ms token=%s from=%s",
            request.method if request.method.isalpha() else "?",
            path(request),
            response.status,
            response.body_length,
            time * 1000.0,
            (caller.name if caller else "") or "-",
            address or "-",
        )


def path(request: Any) -> str:
    """Of a request, percent-encoded as it came, so on one line."""
    raw = request.rel_url.raw_path
    plain = "".join(sign if "!" <= sign <= "~" else "?" for sign in raw[:LONGEST])
    return SECRET.sub("***", plain)

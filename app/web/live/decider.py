"""Writes what people decide over HTTP to its topic, from where alerters, the history and all views take it."""

from __future__ import annotations

from aiohttp import web

from app.alerting.deciding import BadDecision, checked_words
from app.errors import DeliveryError, TopicError
from app.kafka.decisions import Writer
from app.settings import Settings
from app.web.live.decisions import Mirror
from app.web.problems import Problem
from app.web.security.access import CALLER
from app.wire import decisions
from app.wire.decisions import Decision

ANSWER_S = 10.0


class Decider:
    """``mirror``: None where alerting is off."""

    def __init__(self, settings: Settings, mirror: Mirror | None, writer: Writer | None = None) -> None:
        self._settings, self._mirror = settings, mirror
        self.writer = writer or Writer(settings.kafka, ANSWER_S)

    def check(self) -> None:
        """Raises Problem if nothing can be decided here, whatever it is."""
        if not self._settings.api.writes:
            raise Problem(403, "off: api.writes is false")
        self.mirror()

    def mirror(self) -> Mirror:
        """Raises Problem if there is none."""
        if self._mirror is None:
            raise Problem(404, "off: alerting.enabled is false")
        return self._mirror

    async def write(self, decision: Decision) -> None:
        """Return when every copy of the topic that is in sync has it. Raises Problem."""
        await self.put(self._settings.kafka.decisions_topic, decision.key.encode(), decisions.encode(decision))

    async def put(self, topic: str, key: bytes, value: bytes | None) -> None:
        """The same for any record; one of decisions is known here at once. Raises Problem."""
        try:
            await self.writer.write(topic, key, value)
        except (DeliveryError, TopicError) as error:
            raise Problem(
                503,
                f"Kafka did not confirm it, so that it may or may not be there: {error}",
                headers={"Retry-After": "5"},
            ) from error
        if topic == self._settings.kafka.decisions_topic:
            self.mirror().took(key, value)

    async def stop(self) -> None:
        """Also when nothing was written."""
        await self.writer.stop()


def said_by(request: web.Request, given: str | None) -> str:
    """Who decides: the name of the token where tokens are asked for, else the one in the body. Raises BadDecision."""
    if name := request[CALLER].name if CALLER in request else "":
        if given not in (None, name):
            raise BadDecision("by", f"this token is of {name!r}, got {given[:80]!r}")  # type: ignore[index]
        return name
    if given is None:
        raise BadDecision("by", "is missing: who says so")
    return checked_words("by", given, required=True)

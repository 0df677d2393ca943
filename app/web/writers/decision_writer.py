"""Writes decisions that come over HTTP to the topic of decisions; alerters, the history and all views read it."""

from __future__ import annotations

from aiohttp import web

from app.alerting.decision_checks import BadDecision, checked_text
from app.errors import DeliveryError, TopicError
from app.kafka.decisions import DecisionProducer
from app.settings import Settings
from app.web.problems import HttpProblem
from app.web.security.access import CALLER
from app.web.topics.decisions import DecisionsMirror
from app.wire import decisions
from app.wire.decisions import Decision

ANSWER_S = 10.0


class DecisionWriter:
    """``mirror``: None where alerting is off."""

    def __init__(
        self, settings: Settings, mirror: DecisionsMirror | None, writer: DecisionProducer | None = None
    ) -> None:
        self._settings, self._mirror = settings, mirror
        self.writer = writer or DecisionProducer(settings.kafka, ANSWER_S)

    def check(self) -> None:
        """Raises HttpProblem if this server takes no decisions."""
        if not self._settings.api.writes:
            raise HttpProblem(403, "off: api.writes is false")
        self.mirror()

    def mirror(self) -> DecisionsMirror:
        """The copy of the topic in memory. Raises HttpProblem if there is none."""
        if self._mirror is None:
            raise HttpProblem(404, "off: alerting.enabled is false")
        return self._mirror

    async def write(self, decision: Decision) -> None:
        """Return when all in-sync replicas have it. Raises HttpProblem."""
        await self.put(self._settings.kafka.decisions_topic, decision.key.encode(), decisions.encode(decision))

    async def put(self, topic: str, key: bytes, value: bytes | None) -> None:
        """The same for any record. A decision is in the copy in memory at once. Raises HttpProblem."""
        try:
            await self.writer.write(topic, key, value)
        except (DeliveryError, TopicError) as error:
            raise HttpProblem(
                503,
                f"Kafka did not acknowledge it: it may be written or not: {error}",
                headers={"Retry-After": "5"},
            ) from error
        if topic == self._settings.kafka.decisions_topic:
            self.mirror().written(key, value)

    async def stop(self) -> None:
        """Also when nothing was written."""
        await self.writer.stop()


def author_of(request: web.Request, given: str | None) -> str:
    """Who decides: the name of the token if tokens are required, else the one in the body. Raises BadDecision."""
    if name := request[CALLER].name if CALLER in request else "":
        if given not in (None, name):
            raise BadDecision("by", f"this token is of {name!r}, got {given[:80]!r}")  # type: ignore[index]
        return name
    if given is None:
        raise BadDecision("by", "is missing: the name of who decides")
    return checked_text("by", given, required=True)

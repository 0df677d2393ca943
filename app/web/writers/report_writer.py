"""Writes the episodes that other programs report to the topic of anomalies, like all other episodes.

First the event is written, then the state of the episode. So a report whose response was lost can be sent again, to any
server: it makes the same event, and readers drop the repetition. Before it decides, a server reads what other servers
have written.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

import msgspec

from app.alerting.external import SILENCE_S, Report, ReportOutcome, apply_report, close_silent, is_expired
from app.settings import Settings
from app.web.problems import HttpProblem
from app.web.topics.decisions import MOST_EXTERNAL
from app.web.writers.decision_writer import DecisionWriter
from app.wire import external
from app.wire.external import External

log = logging.getLogger(__name__)

LOOK_S = 60.0
WHOLE = 500  # reports that wait for those before them

encode = msgspec.json.encode


class ReportWriter:
    """Takes the reports of one server; ``run`` closes episodes that get no more reports."""

    def __init__(self, settings: Settings, decider: DecisionWriter, clock: Callable[[], float] = time.time) -> None:
        self._kafka, self._decider, self._clock = settings.kafka, decider, clock
        self._locks = [asyncio.Lock() for _ in range(64)]  # reports of one key are taken one at a time
        self._waiting = 0

    async def take(self, report: Report) -> External | None:
        """The state of the episode after the report; None: no episode was open or opened. Raises HttpProblem."""
        self._decider.check()
        if self._waiting >= WHOLE:
            raise HttpProblem(503, f"{WHOLE} reports are already waiting", headers={"Retry-After": "1"})
        key = external.PREFIX + external.name(report.source, report.metric, report.anomaly_type)
        self._waiting += 1
        try:
            async with self._lock(key):
                return await self._take(key, report)
        finally:
            self._waiting -= 1

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks[hash(key) % len(self._locks)]

    async def _take(self, key: str, report: Report) -> External | None:
        mirror = self._decider.mirror()
        if not await mirror.catch_up():
            raise HttpProblem(
                503, f"topic {mirror.topic} cannot be read now: {mirror.state}", headers={"Retry-After": "2"}
            )
        before = mirror.external.get(key)
        if before is None and report.is_anomaly and len(mirror.external) >= MOST_EXTERNAL:
            raise HttpProblem(503, f"{MOST_EXTERNAL} sources, metrics and types are already reported")
        outcome = apply_report(before, report, self._clock())
        await self._write(outcome)
        return outcome.state or before

    async def _write(self, outcome: ReportOutcome) -> None:
        if outcome.state is None:
            return
        for event in outcome.events:
            key = external.record_key(event.episode)
            await self._decider.put(self._kafka.anomalies_topic, key, encode(event))
        record = outcome.state.key.encode(), external.encode(outcome.state)
        if outcome.write:
            await self._decider.put(self._kafka.decisions_topic, *record)
        else:
            self._decider.mirror().written(*record)

    async def run(self) -> None:
        """Until cancelled. Every server does it, at different times; what one has closed, the others see."""
        while True:
            await asyncio.sleep(LOOK_S * random.uniform(0.5, 1.5))
            try:
                await self.look()
            except HttpProblem as problem:
                log.warning("web: episodes reported by other programs: %s", problem)

    async def look(self) -> None:
        """Close episodes without reports for SILENCE_S; delete what closed long ago. Raises HttpProblem."""
        mirror, now = self._decider.mirror(), self._clock()
        for key in list(mirror.external):
            async with self._lock(key):
                state = mirror.external.get(key)
                if state and not state.closed and now - state.heard_at >= SILENCE_S:
                    await self._write(close_silent(state, now))
                elif state and is_expired(state, now):
                    await self._decider.put(self._kafka.decisions_topic, key.encode(), None)

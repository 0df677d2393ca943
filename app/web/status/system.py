"""What a process shows of itself on the page System, without asking other processes."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from msgspec import Struct

from app import __version__
from app.alerting.delivery import ChannelStatus
from app.metrics import Metrics
from app.settings import Settings
from app.web.status.probes import Check

PACKAGES = ("aiokafka", "faust-streaming", "numba", "numpy", "aiohttp")
Channels = Callable[[], Mapping[str, tuple[str, ChannelStatus | None]]]


class Process(Struct):
    """``engine``: what runs the detectors, "" in a process that scores nothing. ``memory_bytes``: resident. Times are
    epoch seconds; None where the operating system does not say."""

    version: str
    python: str
    engine: str
    packages: dict[str, str]
    started_at: float | None
    now: float
    memory_bytes: float | None
    cpu_seconds: float | None
    group: str


class PartitionLag(Struct):
    """``lag``: records not yet consumed; ``replay``: records that a restart would compute again."""

    topic: str
    partition: int
    lag: int
    replay: int | None


class DeadLetters(Struct):
    """Of one reason, since the start. ``last``: epoch seconds; ``example``: the last one; ``to_do``: the remedy."""

    reason: str
    total: int
    last: float
    example: str
    to_do: str


class ChannelState(Struct):
    """Of one channel, as this process sends by it. ``state``: up, failing (it is tried again), down (failing for a
    minute), unused. Counts are since the start; times epoch seconds, None: never."""

    name: str
    type: str
    state: str
    failing_since: float | None
    error: str
    sent: int
    failed: int
    muted: int
    waiting: int
    answered_at: float | None
    answer: str


class TopicUse(Struct):
    """A topic of this job."""

    name: str
    use: str


class SystemState(Struct):
    """``skipped``: records without a point, by reason. ``alerter``, ``history``: as in /readyz, None without them."""

    process: Process
    lag: list[PartitionLag]
    dead_letters: list[DeadLetters]
    dead_letters_topic: str
    skipped: dict[str, int]
    channels: list[ChannelState]
    alerter: dict[str, Any] | None
    history: dict[str, Any] | None
    topics: list[TopicUse]


class SystemView:
    """Of one process."""

    def __init__(self, settings: Settings, metrics: Metrics, health: Check, channels: Channels) -> None:
        self._settings, self._metrics, self._health, self._channels = settings, metrics, health, channels
        self._packages = _packages()

    def now(self) -> SystemState:
        details, kafka = self._health().details, self._settings.kafka
        scores = "generation" in details
        return SystemState(
            self._process(scores),
            self._lag(),
            [DeadLetters(**notice) for notice in details.get("dead_letters", ())],
            kafka.dead_letters_topic,
            {reason: int(count) for (reason,), count in self._metrics.labelled("skipped_total").items()},
            self._channel_states(),
            details.get("alerter"),
            details.get("history"),
            topics_of(self._settings),
        )

    def _process(self, scores: bool) -> Process:
        found = self._metrics.process()
        return Process(
            version=__version__,
            python=platform.python_version(),
            engine=self._metrics.engine if scores else "",
            packages=self._packages,
            started_at=found.get("start_time_seconds"),
            now=time.time(),
            memory_bytes=found.get("resident_memory_bytes"),
            cpu_seconds=found.get("cpu_seconds_total", found.get("cpu_seconds")),
            group=self._settings.kafka.group_id,
        )

    def _lag(self) -> list[PartitionLag]:
        kafka, replay = self._settings.kafka, self._metrics.labelled("replay_backlog_records")
        of_log = [
            PartitionLag(kafka.log_topic, int(key[0]), int(lag), int(replay[key]) if key in replay else None)
            for key, lag in self._metrics.labelled("lag_records").items()
        ]
        of_input = [
            PartitionLag(kafka.input_topic, int(number), int(lag), None)
            for (number,), lag in self._metrics.labelled("rekey_lag_records").items()
        ]
        return sorted(of_input + of_log, key=lambda one: (one.topic, one.partition))

    def _channel_states(self) -> list[ChannelState]:
        counted, up = self._metrics.labelled("notifications_total"), self._metrics.labelled("channel_up")
        states = []
        for name, (kind, known) in self._channels().items():
            sent, failed, muted = (int(counted.get((name, word), 0)) for word in ("sent", "failed", "muted"))
            status, used = known or ChannelStatus(), (name,) in up
            states.append(
                ChannelState(
                    name=name,
                    type=kind,
                    state="down" if status.down else "failing" if status.failing_since else "up" if used else "unused",
                    failing_since=status.failing_since or None,
                    error=status.error,
                    sent=sent,
                    failed=failed,
                    muted=muted,
                    waiting=status.waiting,
                    answered_at=status.answered_at or None,
                    answer=status.answer,
                )
            )
        return states


def topics_of(settings: Settings) -> list[TopicUse]:
    """The topics of this job, in the order of a record's way."""
    kafka = settings.kafka
    uses = {
        kafka.input_topic: "points come in",
        **({kafka.by_source_topic: "points, sorted by source"} if kafka.rekeys else {}),
        kafka.output_topic: "a result for each point",
        kafka.anomalies_topic: "episodes: opened, changed, closed",
        kafka.dead_letters_topic: "what could not be read, with the reason",
        kafka.changelog_topic: "state of the sources, for restarts",
        kafka.notifications_topic: "notifications: what was sent to whom",
        kafka.decisions_topic: "acknowledgements, silences, feedback",
    }
    return [TopicUse(name, use) for name, use in uses.items()]


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

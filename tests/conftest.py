"""What tests of several kinds share: a real broker, and names of their own for each test."""

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.local_kafka import LocalKafka

BROKER = {
    # Look for segments to compact or delete in seconds, not minutes; topics say for themselves what is due.
    "log.initial.task.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "group.min.session.timeout.ms": "500",  # Kafka's own least is 6 s, and tests wait for killed workers
}


@dataclass(frozen=True)
class Job:
    """A job with topics and a group that nobody else uses."""

    name: str
    servers: str
    kafka: dict[str, Any] = field(default_factory=dict)

    def overrides(self, **sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Keyword arguments for ``settings.load``: the job's names, and what the test says besides."""
        return {**sections, "kafka": {**self.kafka, **sections.get("kafka", {})}}

    def settings(self, **sections: Mapping[str, Any]) -> Any:
        from app.settings import load

        return load(environ={}, **self.overrides(**sections))

    def environ(self, **more: str) -> dict[str, str]:
        """The same for a process: variables that name the broker, the topics and the group."""
        names = {f"ANOMALY_KAFKA__{key.upper()}": str(value) for key, value in self.kafka.items()}
        return {**names, "ANOMALY_KAFKA__BOOTSTRAP_SERVERS": self.servers, **more}


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One broker for all tests. A test that kills it starts it again, on the same data and port."""
    with LocalKafka(tmp_path_factory.mktemp("kafka"), port=0, properties=BROKER) as broker:
        yield broker


@pytest.fixture
def job(kafka: LocalKafka, request: pytest.FixtureRequest) -> Job:
    """Names of this test's own: ``job.settings()``, ``job.environ()``. Makes no topics."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    name = f"{test}-{uuid.uuid4().hex[:8]}"
    return Job(
        name,
        kafka.bootstrap_servers,
        {
            "bootstrap_servers": [kafka.bootstrap_servers],
            "input_topic": f"{name}-raw",
            "output_topic": f"{name}-results",
            "anomalies_topic": f"{name}-anomalies",
            "group_id": f"{name}-group",
        },
    )


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "faust-anomaly"

"""A job with topics and a group that no other test uses."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """Names of one test's own, and how its broker is reached; makes no topics."""

    name: str
    servers: str
    kafka: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, test: str, servers: str, **kafka: Any) -> "Job":
        """For the test of this name; ``kafka`` are settings of the section beside the names."""
        name = f"{re.sub(r'[^a-z0-9]+', '-', test.lower())[:40].strip('-')}-{uuid.uuid4().hex[:8]}"
        names = {
            "bootstrap_servers": [servers],
            "input_topic": f"{name}-raw",
            "output_topic": f"{name}-results",
            "anomalies_topic": f"{name}-anomalies",
            "group_id": f"{name}-group",
        }
        return cls(name, servers, names | kafka)

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

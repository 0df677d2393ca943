"""Metricbeat's output.kafka: one metricset of one thing in a record.

    {"@timestamp": "2023-10-27T09:37:40.000Z", "event": {"dataset": "system.network", "module": "system"},
     "host": {"name": "web-1"}, "metricset": {"name": "network", "period": 10000},
     "system": {"network": {"name": "eth0", "in": {"bytes": 1024, "errors": 0}, "out": {"bytes": 512, "errors": 0}}}}

The source is the host, the metricset and what it measures there: web-1/system.network/eth0. Each number below the
object that is called as the module is a series of it: system.network.in.bytes. Metricsets whose things are named by
other fields than those below need a ``source_field`` of their own. A record without a number, as an error, is skipped.
"""

from __future__ import annotations

from typing import Any

from app.wire.mapping import Mapping

THINGS = (
    "system.network.name|system.filesystem.mount_point|system.diskio.name|system.core.id|process.pid|"
    "system.process.pid|kubernetes.container.id|kubernetes.pod.uid|kubernetes.pod.name|kubernetes.node.name|"
    "container.id|docker.container.id|"
)
INPUT = {
    "format": "metricbeat",
    "source_field": "{host.name|agent.name|beat.name}/{event.dataset|metricset.name}/{service.address|}/{"
    + THINGS
    + "}",
    "timestamp_field": "@timestamp",
    "value_fields": ["**"],
    "values_apart": True,
}


class Format(Mapping):
    """Of all numbers only those of the module."""

    def cells(self, element: dict[str, Any], record: Any) -> list[tuple[str, float]]:
        if not self.wild:
            return super().cells(element, record)
        of = element.get("event") or element.get("metricset")
        module = of.get("module") if type(of) is dict else None
        below = element.get(module) if type(module) is str else None
        return self.numbers(below, "**", f"{module}.") if type(below) is dict else []

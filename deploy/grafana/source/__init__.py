"""The four dashboards: `python -m tests.deploy.generate` writes their JSON to deploy/grafana/dashboards."""

from deploy.grafana.source import anomalies, infrastructure, models, pipeline
from deploy.grafana.source.panels import Json


def dashboards() -> dict[str, Json]:
    """uid -> JSON."""
    return {module.UID: module.build() for module in (pipeline, anomalies, models, infrastructure)}

"""Resources of Kubernetes as text, and those that are made from the rules of ``deploy/prometheus``."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from tests.deploy.named import DEPLOY

HEAD = "# Made from deploy/prometheus by `python -m tests.deploy.generate`: change it there.\n"


class _Lines(yaml.SafeDumper):
    """Text of several lines is written as such: expressions stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Lines.add_representer(str, _text)


def documents(made: Iterable[Mapping[str, Any]]) -> str:
    return yaml.dump_all(made, Dumper=_Lines, sort_keys=False, width=120, explicit_start=True, allow_unicode=True)


def prometheus_rule() -> str:
    """One PrometheusRule with all groups."""
    groups = []
    for path in sorted((DEPLOY / "prometheus").glob("*.yaml")):
        groups += yaml.safe_load(path.read_text("utf-8"))["groups"]
    labels = {"app.kubernetes.io/name": "faust-anomaly"}
    metadata = {"name": "faust-anomaly", "namespace": "faust-anomaly", "labels": labels}
    made = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata}
    return HEAD + documents([{**made, "spec": {"groups": groups}}])

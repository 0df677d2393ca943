"""Topics and users as resources of Strimzi, made from what the program creates and asks for."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from app.kafka import permissions
from app.kafka import topics as job
from app.kafka.permissions import Right
from app.pipeline import Pipeline
from app.settings import Settings, load
from tests.deploy.named import DEPLOY
from tests.deploy.resources import documents

FILE = DEPLOY / "kubernetes" / "base" / "anomaly.yaml"
API = "kafka.strimzi.io/v1"  # since Strimzi 0.49; 1.0 knows no other
NAMESPACE, CLUSTER = "kafka", "my-cluster"
PARTITIONS, COPIES = 12, 3  # twelve can be shared out evenly among 1, 2, 3, 4, 6 and 12 workers
HEAD = """\
# Made from {of} by `python -m tests.deploy.generate`: change it there.
# Strimzi looks into the namespace of its Kafka, and at this label: overlays/production puts your own there.
"""
# The workers score and do no more; the alerter tells people, and serves view and API.
WORKER = {"ANOMALY_DASHBOARD__ENABLED": "false", "ANOMALY_ALERTING__ENABLED": "false"}


@cache
def settings() -> Settings:
    """Of a worker, as its pod has them."""
    return load(FILE, environ=WORKER)


def topics() -> str:
    """A KafkaTopic for each topic of the job, like those that ``faust-anomaly topics --create`` makes."""
    kafka = settings().kafka
    wanted = job.wanted_configs(kafka, Pipeline.of(settings()).max_snapshot_bytes(), COPIES)
    made = []
    for name, configs in wanted.items():
        partitions = 1 if name == kafka.decisions_topic else PARTITIONS
        spec = {"partitions": partitions, "replicas": COPIES, "config": {key: _number(configs[key]) for key in configs}}
        made.append(_resource("KafkaTopic", name, spec))
    return HEAD.format(of="app/kafka/topics.py") + documents(made)


def rights() -> dict[str, list[Right]]:
    """User -> what it must be allowed. The alerter's pod takes decisions and points over HTTP too."""
    kafka = settings().kafka
    of_api = [*permissions.of_deciders(kafka), *permissions.of_posts(kafka.input_topic)]
    return {
        "faust-anomaly-worker": permissions.of_worker(settings()),
        "faust-anomaly-alerter": [*permissions.of_alerter(kafka), *of_api],
    }


def users() -> str:
    """A KafkaUser for the workers and one for the alerter, with a password that Strimzi makes."""
    made = []
    for name, needed in rights().items():
        authorization = {"type": "simple", "acls": _acls(needed)}
        spec = {"authentication": {"type": "scram-sha-512"}, "authorization": authorization}
        made.append(_resource("KafkaUser", name, spec))
    return HEAD.format(of="app/kafka/permissions.py") + documents(made)


def _acls(needed: Iterable[Right]) -> list[dict[str, Any]]:
    """One rule for each topic and group."""
    operations: dict[tuple[str, str], list[str]] = {}
    for right in needed:
        of = operations.setdefault((right.kind, right.name), [])
        if right.operation not in of:
            of.append(right.operation)
    return [
        {"resource": {"type": kind, "name": name, "patternType": "literal"}, "operations": of}
        for (kind, name), of in operations.items()
    ]


def _resource(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Where Kubernetes takes no such name, as with ``_`` or capitals, the topic's own stands in the spec."""
    valid = name.lower().replace("_", "-").strip(".-")
    named = {"topicName": name} if valid != name else {}
    metadata = {"name": valid, "namespace": NAMESPACE, "labels": {"strimzi.io/cluster": CLUSTER}}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": {**named, **spec}}


def _number(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text

"""The permissions that the user of each program needs on brokers with ACLs.

The lists are minimal: tests/integration/test_secured.py runs every program with exactly these rights, and takes
each one away from the worker. The tables of docs/operations.md are made of them. Read and Write include Describe.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from app.settings import KafkaSettings, Settings

AuthorizedOperations = Mapping[tuple[str, str], frozenset[str]]  # (kind, name) -> operations; absent: not known
VIEW = "the view, where dashboard.enabled"
EPISODES = "episodes to notify of, where alerting.enabled; " + VIEW


class Right(NamedTuple):
    """One operation on a topic or group; ``operation`` as ``kafka-acls.sh`` spells it."""

    operation: str
    kind: str  # topic or group
    name: str
    use: str


def of_worker(settings: "Settings") -> list[Right]:
    """Of a worker and its web view."""
    kafka = settings.kafka
    rights = [
        Right("Read", "topic", kafka.input_topic, "the points"),
        *(_of_rekey(kafka) if kafka.rekeys else ()),
        Right("Write", "topic", kafka.output_topic, "their results"),
        Right("Read", "topic", kafka.output_topic, "where they end, after a restart; the view"),
        Right("Write", "topic", kafka.anomalies_topic, "episodes"),
        Right("Read", "topic", kafka.anomalies_topic, EPISODES if kafka.alerts else VIEW),
        Right("Write", "topic", kafka.dead_letters_topic, "what cannot be read"),
        Right("Write", "topic", kafka.changelog_topic, "state"),
        Right("Read", "topic", kafka.changelog_topic, "state, after a restart"),
        Right("DescribeConfigs", "topic", kafka.changelog_topic, "whether it is compacted"),
        Right("Read", "group", kafka.group_id, "partitions and commits"),
        *(_of_alerter(kafka, ", where alerting.enabled") if kafka.alerts else ()),
    ]
    return [right for right in rights if settings.dashboard.enabled or right.use != VIEW]


def _of_rekey(kafka: "KafkaSettings") -> list[Right]:
    name = kafka.by_source_topic
    return [
        Right("Write", "topic", name, "the points by source"),
        Right("Read", "topic", name, "to score them"),
        Right("DescribeConfigs", "topic", name, "whether it is not compacted"),
    ]


def _of_alerter(kafka: "KafkaSettings", where: str = "") -> list[Right]:
    """Those of an alerter, without those on results and the topic of anomalies."""
    return [
        Right("Write", "topic", kafka.notifications_topic, f"who was notified of what{where}"),
        Right("Read", "topic", kafka.notifications_topic, f"the same, after a restart{where}"),
        Right("Read", "topic", kafka.decisions_topic, f"acknowledgements, silences, feedback{where}"),
        *((Right("Write", "topic", kafka.decisions_topic, f"which sources send nothing{where}"),) if where else ()),
        Right("Read", "group", kafka.alerter_group, f"partitions of the topic of anomalies{where}"),
    ]


def of_alerter(kafka: "KafkaSettings") -> list[Right]:
    """Of ``faust-anomaly alerter``."""
    return [
        Right("Read", "topic", kafka.anomalies_topic, "episodes to notify of"),
        Right("Read", "topic", kafka.output_topic, "the last points, for charts and details; the view"),
        *_of_alerter(kafka),
    ]


def of_generator(topic: str) -> list[Right]:
    """Of ``faust-anomaly generate``, and of any other producer of points to this topic."""
    return [Right("Write", "topic", topic, "the points")]


def of_posts(topic: str) -> list[Right]:
    """What a worker or alerter also needs to take points over HTTP. It starts without them."""
    return [Right("Write", "topic", topic, "points that come over HTTP")]


def of_deciders(kafka: "KafkaSettings") -> list[Right]:
    """What an alerter also needs to take decisions and reports over HTTP. It starts without them."""
    return [
        Right("Write", "topic", kafka.decisions_topic, "decisions, and what is known of reports, that come over HTTP"),
        Right("Write", "topic", kafka.anomalies_topic, "episodes of other programs that come over HTTP"),
    ]


def of_topic_creator(kafka: "KafkaSettings", topics: Sequence[str]) -> list[Right]:
    """Of ``faust-anomaly topics --create``, for these topics."""
    create = [Right("Create", "topic", name, "to make it") for name in topics]
    describe = [Right("Describe", "topic", name, "whether it is there") for name in topics]
    configs = [Right("DescribeConfigs", "topic", kafka.changelog_topic, "whether it is compacted")]
    return [*create, *describe, *configs, *(_of_rekey(kafka)[-1:] if kafka.rekeys else ())]


def missing(needed: Iterable[Right], authorized: AuthorizedOperations) -> list[Right]:
    """Those of the needed rights that the user does not have."""
    return [right for right in needed if right.operation not in authorized.get(right[1:3], {right.operation})]


def commands(needed: Iterable[Right], server: str, user: str) -> list[str]:
    """The commands that give these rights: one for each operation on topics, and on groups."""
    names: dict[tuple[str, str], list[str]] = {}
    for right in needed:
        names.setdefault(right[:2], []).append(right.name)
    return [
        f"kafka-acls.sh --bootstrap-server {server} --add --allow-principal User:{user} --operation {operation}"
        + "".join(f" --{kind} {name}" for name in of)
        for (operation, kind), of in names.items()
    ]

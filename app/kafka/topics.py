"""The topics of one job: the configuration they need, a check of it, and the creation of those that are missing.

A result, a snapshot and their point must be in partitions of the same number, and the changelog must have no retention
but compaction: otherwise results or state are lost later, without an error. So the worker calls ``require`` before it
joins its group, and ``faust-anomaly topics`` does the same check.

No request here creates a topic by asking for it, also where the broker has ``auto.create.topics.enable``.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.new_partitions import NewPartitions
from aiokafka.errors import TopicAlreadyExistsError, for_code

from app import errors
from app.kafka import permissions
from app.kafka.admin import connected, where
from app.kafka.authorized_operations import lacking
from app.kafka.permissions import Right
from app.kafka.topic_ids import TopicsWithIds

if TYPE_CHECKING:
    from app.settings import KafkaSettings, Settings

CREATE = "`faust-anomaly topics --create`"
EXTEND = "`faust-anomaly topics --extend`"
DEFAULT_PARTITIONS = 4
UNKNOWN_TOPIC, DENIED = 3, 29  # error codes of the protocol
KAFKA_MESSAGE_BYTES = 1_048_588  # max.message.bytes unless somebody sets it
MESSAGE_OVERHEAD = 1024  # bytes of a batch around one snapshot: headers, key of 264, lengths
RESULT_BYTES, METRIC_BYTES, LABEL_BYTES = 4096, 5 * 56, 320  # of a result; each metric, its name 32; each label
MESSAGE_BYTES = 600_000  # of a notification: app/alerting/engine.py has MOST_BYTES of news; the rest is overhead
DEAD_LETTER_BYTES = 4096  # of a dead letter with only the start of its record
REQUEST_BYTES = 100 * 2**20  # socket.request.max.bytes unless somebody sets it; a broker hangs up on what is larger
IN_SYNC = "min.insync.replicas"
CONFIGS = ("cleanup.policy", "max.message.bytes", "segment.bytes", IN_SYNC)
REKEYED_PARTITIONS = 256  # app/wire/by_source.py: PARTITIONS
WEEK_MS = 7 * 24 * 3600 * 1000
# The newest segment is never compacted, and all of it is read at a restart: 64 MiB instead of 1 GiB.
CHANGELOG_SEGMENT_BYTES = 64 * 2**20
DIRTY = 0.2  # part of a compacted log that may be old before it is compacted again
WHOLE_MS = str(WEEK_MS)  # how long the topic of anomalies keeps every event, and not only the last of each series
SMALLER = "lower input.max_metrics or detection.window_points, or let its detectors keep less"


@dataclass(frozen=True, slots=True)
class Topic:
    """What a broker reports of one of our topics; ``configs`` None: the user may not see them, or was not asked."""

    partitions: int
    configs: Mapping[str, str] | None = field(default_factory=dict)
    denied: bool = False
    id: str = ""  # "" from brokers before Kafka 2.8
    copies: int = 1  # of each partition, brokers that hold one


class TopicReport(NamedTuple):
    """The result of a check: existing topics by name, and problems with topics and permissions, in sentences.

    ``absent``: topics that do not exist; a sentence for each is among the problems.
    """

    topics: dict[str, Topic]
    problems: list[str]
    absent: list[str]


async def inspect(
    settings: "Settings", largest_snapshot_bytes: int = 0, needed: Sequence[Right] = (), patient: bool = True
) -> TopicReport:
    """The topics of a worker.

    ``needed`` are permissions that the user must have, where the brokers report which it has.
    Raises TopicError if the brokers cannot be asked; that is NoBroker when no one answers within 10 s, or at once if
    not ``patient``.
    """
    kafka = settings.kafka
    async with connected(kafka, patient) as admin:
        topics = await describe(admin, kafka)
        missing = await lacking(admin, needed)
    wrong = problems(kafka, topics, largest_snapshot_bytes, missing, result_bytes(settings))
    return TopicReport(topics, wrong, [name for name in needed_names(kafka) if name not in topics])


async def inspect_for_alerter(kafka: "KafkaSettings", patient: bool = True) -> TopicReport:
    """The topics of ``faust-anomaly alerter``, and its permissions. Raises as ``inspect`` does."""
    async with connected(kafka, patient) as admin:
        topics = await describe(admin, kafka)
        missing = await lacking(admin, permissions.of_alerter(kafka))
    names = [kafka.anomalies_topic, kafka.notifications_topic, kafka.decisions_topic]
    wrong = [*_missing(topics, names, missing), *rights_problems(kafka, missing), *_alerting_problems(kafka, topics)]
    return TopicReport({name: topics[name] for name in names if name in topics}, wrong,
                 [name for name in names if name not in topics])  # fmt: skip


async def require(
    settings: "Settings", largest_snapshot_bytes: int = 0, needed: Sequence[Right] = ()
) -> dict[str, Topic]:
    """The topics of a worker, by name. Raises as ``inspect`` does, and TopicError with every problem and its fix."""
    return _checked(settings.kafka, await inspect(settings, largest_snapshot_bytes, needed))


async def require_for_alerter(kafka: "KafkaSettings") -> None:
    """The topics and permissions that ``faust-anomaly alerter`` needs. Raises as ``require`` does."""
    _checked(kafka, await inspect_for_alerter(kafka))


def _checked(kafka: "KafkaSettings", found: TopicReport) -> dict[str, Topic]:
    if found.problems:
        raise errors.TopicError(problems_message(kafka, found.problems))
    return found.topics


async def create(
    settings: "Settings",
    partitions: int = DEFAULT_PARTITIONS,
    replication_factor: int | None = None,
    largest_snapshot_bytes: int = 0,
) -> list[str]:
    """Create the topics that are missing, and return their names. Existing topics are not changed.

    ``partitions`` are the input topic's; where that exists, the others get the number it has. With ``input.rekey`` they
    are the others': the number that one of them has, else the input topic's.
    ``replication_factor`` None: 3, or the number of brokers where there are fewer.
    Raises TopicError when a topic could not be made.
    """
    kafka = settings.kafka
    async with connected(kafka) as admin:
        found = await describe(admin, kafka)
        if like := [name for name in _giving_partitions(kafka) if name in found and not found[name].denied]:
            partitions = found[like[0]].partitions
        if replication_factor is None:
            replication_factor = min(3, len((await admin.describe_cluster())["brokers"]))
        wanted = wanted_configs(kafka, largest_snapshot_bytes, replication_factor)
        missing = [name for name in names(kafka) if name not in found]
        counts = dict.fromkeys(missing, partitions)
        if kafka.anomalies_topic in found and not found[kafka.anomalies_topic].denied:
            counts[kafka.notifications_topic] = found[kafka.anomalies_topic].partitions
        counts[kafka.decisions_topic] = 1
        new = [NewTopic(name, counts[name], replication_factor, topic_configs=wanted[name]) for name in missing]
        if new:
            answer = await admin.create_topics(new)
            denied = [name for name, code, _ in answer.topic_errors if code == DENIED]
            failed = rights_problems(kafka, [Right("Create", "topic", name, "to make it") for name in denied]) + [
                f"topic {name}: {for_code(code).__name__}: {message or for_code(code).description}"
                for name, code, message in answer.topic_errors
                if code not in (0, DENIED, TopicAlreadyExistsError.errno)
            ]
            if failed:
                raise errors.TopicError(f"{where(kafka)}: topics could not be made:\n- " + "\n- ".join(failed))
            await _until_known(admin, {**dict.fromkeys(found, 1), **{name: counts[name] for name in missing}})
    return missing


async def extend(kafka: "KafkaSettings") -> list[str]:
    """Give results and changelog as many partitions as the input topic has now, and notifications as many as anomalies.

    Names those that were given some. With ``input.rekey`` results and changelog get none: what is scored then is a
    topic of our own, to which none may be added, because a record that is written to it again would come into another
    partition than before, and nobody would know it again.

    Raises TopicError when partitions could not be added.
    """
    like = {kafka.notifications_topic: kafka.anomalies_topic}
    if not kafka.rekeys:
        like = {kafka.output_topic: kafka.input_topic, kafka.changelog_topic: kafka.input_topic} | like
    async with connected(kafka) as admin:
        found = await describe(admin, kafka)
        seen = {name: topic.partitions for name, topic in found.items() if not topic.denied}
        few = {name: seen[of] for name, of in like.items() if seen.get(name, 2**31) < seen.get(of, 0)}
        if few:
            await admin.create_partitions({name: NewPartitions(wanted) for name, wanted in few.items()})
            await _until_known(admin, few)
    return list(few)


async def _until_known(admin: AIOKafkaAdminClient, partitions: Mapping[str, int]) -> None:
    """Return when every broker knows so many partitions of these topics: they learn of them one after another."""
    request = TopicsWithIds(list(partitions))
    for broker in (await admin.describe_cluster())["brokers"]:
        while True:
            answer = (await admin._send_request_to_node(broker["node_id"], request)).to_object()
            if all(len(topic["partitions"]) >= partitions[topic["topic"]] for topic in answer["topics"]):
                break
            await asyncio.sleep(0.05)


def names(kafka: "KafkaSettings") -> list[str]:
    """The job's topics, the input first; also those of alerting where no worker needs them."""
    by_source = [kafka.by_source_topic] if kafka.rekeys else []
    outputs = [kafka.output_topic, kafka.anomalies_topic, kafka.dead_letters_topic]
    of_alerting = [kafka.notifications_topic, kafka.decisions_topic]
    return [kafka.input_topic, *by_source, *outputs, kafka.changelog_topic, *of_alerting]


def needed_names(kafka: "KafkaSettings") -> list[str]:
    """Those without which a worker does not start."""
    return names(kafka) if kafka.alerts else names(kafka)[:-2]


def _giving_partitions(kafka: "KafkaSettings") -> list[str]:
    """Topics whose number of partitions those that are made get, the first of them that exists."""
    of_state = [kafka.changelog_topic, kafka.by_source_topic, kafka.output_topic] if kafka.rekeys else []
    return [*of_state, kafka.input_topic]


def problems(
    kafka: "KafkaSettings",
    found: Mapping[str, Topic],
    largest_snapshot_bytes: int,
    missing: Sequence[Right] = (),
    largest_result_bytes: int = 0,
) -> list[str]:
    """What is wrong with these topics, in sentences: topic, expected, found, fix."""
    problems_found = _missing(found, needed_names(kafka), missing)
    problems_found += rights_problems(kafka, missing)
    topics = {name: topic for name, topic in found.items() if not topic.denied}
    source = topics.get(kafka.log_topic)
    for name, remedy in (
        (kafka.output_topic, "delete it, and the results in it, or name another in kafka.output_topic"),
        (kafka.changelog_topic, "delete it, and the state in it, or name another kafka.group_id"),
    ):
        if source and name in topics and topics[name].partitions != source.partitions:
            added = f"if partitions were added to {kafka.log_topic}, {EXTEND} adds as many here; otherwise "
            problems_found.append(
                f"topic {name} must have as many partitions as {kafka.log_topic}, {source.partitions}, "
                f"but has {topics[name].partitions}: "
                f"{added if topics[name].partitions < source.partitions and not kafka.rekeys else ''}"
                f"{remedy}; then {CREATE}"
            )
    if kafka.rekeys:
        problems_found += _rekey_problems(kafka, topics, missing)
    problems_found += _alerting_problems(kafka, topics)
    unknown = any(right[::2] == ("DescribeConfigs", kafka.changelog_topic) for right in missing)  # reported above
    if kafka.changelog_topic in topics and not unknown:
        problems_found += _changelog_problems(kafka, topics[kafka.changelog_topic].configs, largest_snapshot_bytes)
    for name, what, needed, remedy in (
        (kafka.output_topic, "a result", largest_result_bytes, ", or lower input.max_metrics"),
        (kafka.anomalies_topic, "an episode's event", largest_result_bytes, ", or lower input.max_metrics"),
        (kafka.dead_letters_topic, "a dead letter", DEAD_LETTER_BYTES, ""),
        *(
            [(kafka.by_source_topic, "a point", largest_result_bytes, ", or lower input.max_metrics")]
            if kafka.rekeys
            else ()
        ),
        *([(kafka.notifications_topic, "a message of many episodes", MESSAGE_BYTES, "")] if kafka.alerts else ()),
    ):
        if (limit := limits(topics).get(name, needed)) < needed:
            problems_found.append(
                f"topic {name}: max.message.bytes must be {needed} or more, as large as {what} can be, but is {limit}: "
                f"`{alter_command(kafka, name)} max.message.bytes={needed}`{remedy}"
            )
    return problems_found


def _missing(found: Mapping[str, Topic], names: Sequence[str], missing: Sequence[Right]) -> list[str]:
    """Topics that do not exist, or that this user may not see."""
    problems_found = []
    for name in names:
        if name not in found:
            problems_found.append(f"topic {name} is missing: make it with {CREATE}")
        elif found[name].denied and not any(right[1:3] == ("topic", name) for right in missing):
            problems_found.append(f"topic {name}: this user may not see it: allow it Describe on the topic")
    return problems_found


def partitions_changed(kafka: "KafkaSettings", known: int, now: int) -> str:
    """The message when the number of partitions of the scored topic has changed while a worker runs."""
    return f"topic {kafka.log_topic} had {known} partitions when this worker started, now {now}" + (
        f": add as many to results and changelog, with {EXTEND}, and start the workers again"
        if now > known and not kafka.rekeys
        else ""
    )


def result_bytes(settings: "Settings") -> int:
    """Bytes of a result with as many metrics and labels as these settings allow, with names of usual length."""
    return RESULT_BYTES + METRIC_BYTES * settings.input.max_metrics + LABEL_BYTES * len(settings.input.labels)


def limits(found: Mapping[str, Topic]) -> dict[str, int]:
    """Bytes of the largest record batch that each topic accepts, where the user may see it.

    The topic's max.message.bytes, which is the broker's message.max.bytes where the topic has none of its own; and no
    batch is larger than a segment.
    """
    names = ("max.message.bytes", "segment.bytes")
    known = {name: [int(topic.configs[one]) for one in names if one in topic.configs]
             for name, topic in found.items() if topic.configs}  # fmt: skip
    return {name: min(sizes) for name, sizes in known.items() if sizes}


def doubts(kafka: "KafkaSettings", found: Mapping[str, Topic]) -> list[str]:
    """What does not prevent a start, but loses results or stops workers when a broker fails: sentences with the fix."""
    found_doubts = []
    for name in needed_names(kafka)[1:]:
        topic = found.get(name)
        if topic is None or not topic.configs or IN_SYNC not in topic.configs:
            continue
        in_sync, copies = int(topic.configs[IN_SYNC]), topic.copies
        if in_sync == 1 and copies >= 3:
            found_doubts.append(
                f"topic {name}: {IN_SYNC} is 1 of {copies} copies: a record is acknowledged when one broker has it, "
                f"and lost with its disk: `{alter_command(kafka, name)} {IN_SYNC}=2`"
            )
        elif in_sync >= copies >= 2:
            found_doubts.append(
                f"topic {name}: {IN_SYNC} is {in_sync} of {copies} copies: while one of their brokers is away nothing "
                f"can be written, and workers end after kafka.ack_timeout_s: "
                f"`{alter_command(kafka, name)} {IN_SYNC}={copies - 1}`"
            )
    return found_doubts


def alter_command(kafka: "KafkaSettings", name: str) -> str:
    """The command that changes a topic's configuration; the values to set follow it."""
    return f"kafka-configs.sh --bootstrap-server {kafka.bootstrap_servers[0]} --alter --topic {name} --add-config"


def problems_message(kafka: "KafkaSettings", problems_found: list[str]) -> str:
    """The problems as one message."""
    return f"{where(kafka)}: the topics do not fit:\n- " + "\n- ".join(problems_found)


def rights_problems(kafka: "KafkaSettings", missing: Sequence[Right]) -> list[str]:
    """A sentence for each missing right, with the command that gives it."""
    user = kafka.sasl_username if kafka.security_protocol.startswith("SASL") else None
    problems_found = []
    for right in missing:
        [command] = permissions.commands([right], kafka.bootstrap_servers[0], user or "NAME")
        who = f"the user {user}" if user else "this user"
        problems_found.append(
            f"{right.kind} {right.name}: {who} may not {right.operation} it ({right.use}): `{command}`"
        )
    return problems_found


def _rekey_problems(kafka: "KafkaSettings", topics: Mapping[str, Topic], missing: Sequence[Right]) -> list[str]:
    """Problems of the topics of the hop: records of one source must not replace each other."""
    problems_found = []
    source, name = topics.get(kafka.input_topic), kafka.by_source_topic
    if source and source.partitions > REKEYED_PARTITIONS:
        problems_found.append(
            f"topic {kafka.input_topic}: input.rekey reads {REKEYED_PARTITIONS} partitions at most, and it has "
            f"{source.partitions}: key its records by source, and turn input.rekey off"
        )
    if name in topics and not any(right[::2] == ("DescribeConfigs", name) for right in missing):
        configs = topics[name].configs
        policy = "not known: allow this user DescribeConfigs" if configs is None else configs.get("cleanup.policy")
        if policy != "delete":
            problems_found.append(
                f"topic {name}: cleanup.policy must be delete, or points are lost that were not scored yet, but is "
                f"{policy}: `kafka-configs.sh --bootstrap-server {kafka.bootstrap_servers[0]} --alter --topic {name} "
                "--add-config cleanup.policy=delete`"
            )
    return problems_found


def _alerting_problems(kafka: "KafkaSettings", topics: Mapping[str, Topic]) -> list[str]:
    """Problems of the topics whose last records say what is open, who was notified, and what was decided."""
    problems_found = []
    for name, lost, more in (
        (
            kafka.anomalies_topic,
            "episodes that are open",
            f",min.compaction.lag.ms={WHOLE_MS},delete.retention.ms={WHOLE_MS}",
        ),
        (kafka.notifications_topic, "notifications that were sent", ""),
        (kafka.decisions_topic, "acknowledgements and silences", ""),
    ):
        configs = topics[name].configs if name in topics else None
        policy = configs.get("cleanup.policy", "compact") if configs else "compact"  # where it may not be seen
        if "compact" not in policy.split(","):
            problems_found.append(
                f"topic {name}: cleanup.policy must be compact, or {lost} are forgotten after some time, but is "
                f"{policy}: `{alter_command(kafka, name)} cleanup.policy=compact{more}`"
            )
    events, notifications = topics.get(kafka.anomalies_topic), topics.get(kafka.notifications_topic)
    if events and notifications and notifications.partitions < events.partitions:
        problems_found.append(
            f"topic {kafka.notifications_topic} must have as many partitions as {kafka.anomalies_topic}, "
            f"{events.partitions}, but has {notifications.partitions}: {EXTEND} adds them"
        )
    return problems_found


def _changelog_problems(kafka: "KafkaSettings", configs: Mapping[str, str] | None, largest: int) -> list[str]:
    name = kafka.changelog_topic
    if configs is None:
        return [
            f"topic {name}: it cannot be checked whether it is compacted: allow this user DescribeConfigs on the topic"
        ]
    alter = alter_command(kafka, name)
    problems_found = []
    if configs.get("cleanup.policy") != "compact":
        problems_found.append(
            f"topic {name}: cleanup.policy must be compact, or the state of quiet sources is deleted, but is "
            f"{configs.get('cleanup.policy')}: `{alter} cleanup.policy=compact`, or delete it and {CREATE}"
        )
    limit = int(configs.get("max.message.bytes", KAFKA_MESSAGE_BYTES))
    needed = largest + MESSAGE_OVERHEAD
    if needed + MESSAGE_OVERHEAD > REQUEST_BYTES:  # once more: what is around the batch in a request
        problems_found.append(
            f"topic {name}: a source's state can have {largest} bytes, and brokers accept no request of more than "
            f"{REQUEST_BYTES} (socket.request.max.bytes): {SMALLER}"
        )
    elif limit < needed:
        problems_found.append(
            f"topic {name}: max.message.bytes must be {needed} or more, as large as a source's state can be, but "
            f"is {limit}: `{alter} max.message.bytes={needed}`, or {SMALLER}"
        )
    return problems_found


def wanted_configs(kafka: "KafkaSettings", largest_snapshot_bytes: int, copies: int = 1) -> dict[str, dict[str, str]]:
    """Topic -> its configuration, as ``create`` makes it; also for those who make topics by other means."""
    changelog = {
        "cleanup.policy": "compact",
        "segment.bytes": str(CHANGELOG_SEGMENT_BYTES),
        "min.cleanable.dirty.ratio": str(DIRTY),
    }
    needed = min(largest_snapshot_bytes + MESSAGE_OVERHEAD, REQUEST_BYTES)  # more is refused by ``problems``
    if needed > KAFKA_MESSAGE_BYTES:
        changelog |= {"max.message.bytes": str(needed), "segment.bytes": str(64 * max(2**20, needed))}
    of_own = {kafka.changelog_topic: changelog}
    if kafka.rekeys:
        # Points that were not scored yet must still be there when a worker is started again: without them the state
        # of the group cannot be used. A shorter retention is possible.
        of_own[kafka.by_source_topic] = {"cleanup.policy": "delete", "retention.ms": str(WEEK_MS)}
    # Readers that were away for at most this long find every event, and tombstones too.
    whole = {"min.compaction.lag.ms": WHOLE_MS, "delete.retention.ms": WHOLE_MS}
    small = {"cleanup.policy": "compact", "segment.bytes": str(16 * 2**20), "min.cleanable.dirty.ratio": str(DIRTY)}
    of_own[kafka.anomalies_topic] = {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20), **whole}
    of_own |= {kafka.notifications_topic: small, kafka.decisions_topic: small}
    # An acknowledged record is on two disks, and one broker may be away. The default of brokers is 1.
    every = {IN_SYNC: "2"} if copies >= 3 else {}
    return {name: {"cleanup.policy": "delete", **of_own.get(name, {}), **every} for name in names(kafka)}


async def describe(admin: AIOKafkaAdminClient, kafka: "KafkaSettings") -> dict[str, Topic]:
    """The topics of the job that exist; those that are written, with the needed part of their configuration."""
    # Not admin.describe_topics: it asks with allow_auto_topic_creation, so that asking makes the topic.
    request = TopicsWithIds(names(kafka))
    found: dict[str, Topic] = {}
    for topic in (await admin._send_request(request)).to_object()["topics"]:
        if topic["error_code"] == DENIED:
            found[topic["topic"]] = Topic(0, None, denied=True)
        elif topic["error_code"] != UNKNOWN_TOPIC and topic["partitions"]:
            copies = min(len(partition["replicas"]) for partition in topic["partitions"])
            found[topic["topic"]] = Topic(len(topic["partitions"]), id=str(topic.get("topic_id", "")), copies=copies)
    written = [name for name in names(kafka)[1:] if name in found and not found[name].denied]
    if written:
        asked = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(CONFIGS)) for name in written]
        [answer] = await admin.describe_configs(asked)
        for code, _, _, name, entries in answer.resources:
            if code == UNKNOWN_TOPIC:  # to this broker, not to the one asked before: made a moment ago, or deleted
                del found[name]
                continue
            if code not in (0, DENIED):
                raise for_code(code)(f"configuration of {name}")
            configs = {entry[0]: entry[1] for entry in entries} if code == 0 else None
            found[name] = replace(found[name], configs=configs)
    return {name: found[name] for name in names(kafka) if name in found}

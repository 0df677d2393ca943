"""What is wrong with topics, decided from a description of them. The broker's part is in tests/integration."""

import asyncio
import io
import ssl
import uuid
from types import SimpleNamespace

import pytest
from aiokafka.errors import AuthenticationFailedError
from support.points import points, vectors

from app.errors import TopicError
from app.kafka import admin, permissions, topics
from app.kafka.topic_ids import MetadataResponse_v10, TopicsWithIds
from app.kafka.topics import Topic
from app.pipeline import Pipeline
from app.settings import Detection, KafkaSettings, Settings
from app.wire import by_source
from app.wire.results import encode_results

KAFKA = KafkaSettings()
COMPACTED = {"cleanup.policy": "compact", "max.message.bytes": "1048588"}
GOOD = {
    "raw-data": Topic(4),
    "anomaly-results": Topic(4),
    "anomalies": Topic(1, COMPACTED),  # any number will do
    "raw-data-dead-letters": Topic(2),
    "anomaly-detection-group-sources-changelog": Topic(4, COMPACTED),
    "anomaly-detection-group-notifications": Topic(1, COMPACTED),
    "anomaly-detection-group-decisions": Topic(1, COMPACTED),
}
QUIET = Settings(alerting={"enabled": False}).kafka
CHANGELOG = KAFKA.changelog_topic


def problems(largest_snapshot_bytes=10_000, largest_result_bytes=0, **changed):
    found = {**GOOD, **{name.replace("_", "-"): topic for name, topic in changed.items()}}
    found = {name: topic for name, topic in found.items() if topic is not None}
    return topics.problems(KAFKA, found, largest_snapshot_bytes, (), largest_result_bytes)


def test_good_topics_have_no_problems():
    assert list(GOOD) == topics.names(KAFKA)
    assert problems() == []


@pytest.mark.parametrize("missing", GOOD)
def test_a_missing_topic_is_named_with_the_command_that_makes_it(missing):
    [reported] = problems(**{missing: None})
    assert reported == f"topic {missing} is missing: make it with `faust-anomaly topics --create`"


@pytest.mark.parametrize("copies, in_sync, said", [
    (1, 1, None), (2, 1, None), (3, 2, None), (5, 3, None),
    (3, 1, "lost with its disk: `kafka-configs.sh --bootstrap-server localhost:9092 --alter --topic anomaly-results "
           "--add-config min.insync.replicas=2`"),
    (2, 2, "min.insync.replicas=1`"), (3, 3, "nothing can be written"),
])  # fmt: skip
def test_copies_that_cost_results_or_a_stop_are_told(copies, in_sync, said):
    found = {**GOOD, "anomaly-results": Topic(4, {"min.insync.replicas": str(in_sync)}, copies=copies)}
    doubts = topics.doubts(KAFKA, found)
    assert len(doubts) == (said is not None) and all(said in doubt for doubt in doubts)
    made = topics.wanted_configs(KAFKA, 0, copies)
    assert {of.get("min.insync.replicas") for of in made.values()} == {"2" if copies >= 3 else None}


def test_partitions_that_were_added_to_the_input_are_followed_by_a_command():
    reported = problems(raw_data=Topic(6))
    assert len(reported) == 2 and all("`faust-anomaly topics --extend` adds as many here" in told for told in reported)
    assert "--extend" not in "".join(problems(raw_data=Topic(3)))
    assert "start the workers again" in topics.partitions_changed(KAFKA, 4, 6)
    assert "--extend" not in topics.partitions_changed(KAFKA, 4, 3)


@pytest.mark.parametrize("policy", ["delete", "compact,delete", "delete,compact", ""])
def test_a_changelog_kept_by_anything_but_compaction_is_a_problem(policy):
    [reported] = problems(**{CHANGELOG: Topic(4, {**COMPACTED, "cleanup.policy": policy})})
    assert CHANGELOG in reported and "must be compact" in reported and "--add-config cleanup.policy=compact" in reported


@pytest.mark.parametrize("name, setting", [("anomaly-results", "output_topic"), (CHANGELOG, "group_id")])
@pytest.mark.parametrize("partitions", [1, 3, 5])
def test_another_number_of_partitions_is_a_problem_of_results_and_changelog(name, setting, partitions):
    [reported] = problems(**{name: Topic(partitions, COMPACTED)})
    assert f"topic {name} " in reported and f"4, but has {partitions}" in reported and f"kafka.{setting}" in reported


def test_grown_raw_data_makes_both_a_problem():
    reported = problems(**{"raw-data": Topic(8)})
    assert len(reported) == 2 and all("raw-data, 8, but has 4" in text for text in reported)


def test_the_largest_snapshot_must_fit_into_a_record_of_the_changelog():
    limit = int(COMPACTED["max.message.bytes"])
    assert problems(limit - topics.MESSAGE_OVERHEAD) == []
    [reported] = problems(limit - topics.MESSAGE_OVERHEAD + 1)
    assert f"max.message.bytes={limit + 1}" in reported


def test_a_snapshot_that_no_broker_takes_names_the_settings():
    largest = topics.REQUEST_BYTES - topics.MESSAGE_OVERHEAD - 1024
    unlimited = {CHANGELOG: Topic(4, {**COMPACTED, "max.message.bytes": str(2**31 - 1)})}
    assert problems(largest, **unlimited) == []
    [reported] = problems(largest + 1, **unlimited)
    for word in (CHANGELOG, "socket.request.max.bytes", "input.max_metrics", "detection.window_points"):
        assert word in reported


def test_what_may_not_be_seen_names_the_right_that_is_needed():
    [reported] = problems(**{"raw-data": Topic(0, None, denied=True)})
    assert "raw-data" in reported and "allow it Describe" in reported
    [reported] = problems(**{CHANGELOG: Topic(4, None)})
    assert CHANGELOG in reported and "DescribeConfigs" in reported


@pytest.mark.parametrize("largest", [0, 10_000, 5_000_000])
def test_the_changelog_we_make_has_no_problems_whatever_the_largest_snapshot(largest):
    configs = {"max.message.bytes": str(topics.KAFKA_MESSAGE_BYTES), **topics.wanted_configs(KAFKA, largest)[CHANGELOG]}
    assert problems(largest, **{CHANGELOG: Topic(4, configs)}) == []
    assert int(configs["segment.bytes"]) >= int(configs["max.message.bytes"])


@pytest.mark.parametrize("name", ["anomaly-results", "anomalies", "raw-data-dead-letters"])
def test_a_limit_too_small_for_one_record_names_topic_and_command(name):
    result = topics.result_bytes(Settings())
    needed = 4096 if name == "raw-data-dead-letters" else result
    partitions = GOOD[name].partitions
    assert problems(largest_result_bytes=result, **{name: Topic(partitions, {"max.message.bytes": str(needed)})}) == []
    for configs in ({"max.message.bytes": str(needed - 1)}, {"max.message.bytes": "100000", "segment.bytes": "1000"}):
        [reported] = problems(largest_result_bytes=result, **{name: Topic(partitions, configs)})
        assert f"topic {name}: max.message.bytes must be {needed} or more" in reported
        assert f"--alter --topic {name} --add-config max.message.bytes={needed}" in reported


def test_limits_are_those_of_topics_that_may_be_seen():
    seen = Topic(1, {"max.message.bytes": "100", "segment.bytes": "90"})
    assert topics.limits({"a": seen, "b": Topic(1, None), "c": Topic(0, None, denied=True), "d": Topic(1)}) == {"a": 90}


@pytest.mark.parametrize("metrics", [1, 32])
def test_results_are_no_larger_than_what_a_limit_is_compared_with(metrics):
    """Of metrics with names of 32 bytes, anomalous, by all that auto has; the longest name of a source."""
    names = [f"{number:032}" for number in range(metrics)]
    given = [float(i % 5) if i < 299 else 1e9 for i in range(300)]
    each = [{name: value + i for i, name in enumerate(names)} for value in given]
    made = vectors(each, "s" * 256) if metrics > 1 else points(given, "s" * 256)
    pipeline = Pipeline(Detection(), max_metrics=metrics, engine="python")
    outcome = pipeline.run(pipeline.sources(), made)
    _, last = encode_results(made, outcome, "t" * 249, 10**6)[-1]
    assert b'"is_anomaly":true' in last
    assert topics.RESULT_BYTES / 4 < len(last) < topics.RESULT_BYTES + metrics * topics.METRIC_BYTES - 400


OF_ALERTING = list(GOOD)[-2:]


@pytest.mark.parametrize("name", ["anomalies", *OF_ALERTING])
def test_topics_whose_last_records_count_must_be_compacted(name):
    """As anomalies of an earlier version is not; the command is what makes it as this version would."""
    [reported] = problems(**{name: Topic(1, {"cleanup.policy": "delete"})})
    assert f"topic {name}: cleanup.policy must be compact" in reported and "but is delete" in reported
    command = reported.partition("`")[2].rpartition("`")[0]
    assert command.startswith(
        f"kafka-configs.sh --bootstrap-server localhost:9092 --alter --topic {name} --add-config "
    )
    changed = dict(one.split("=") for one in command.split(" ")[-1].split(","))
    made = topics.wanted_configs(KAFKA, 0)[name]
    assert changed.items() <= made.items() and problems(**{name: Topic(1, changed)}) == []
    assert ("min.compaction.lag.ms" in made) == ("min.compaction.lag.ms" in changed) == (name == "anomalies")
    assert problems(**{name: Topic(1, {"cleanup.policy": "compact,delete"})}) == []
    assert problems(**{name: Topic(1, None)}) == [], "who may not see it writes to it all the same"


def test_notifications_need_a_partition_for_each_of_anomalies():
    assert problems(**{"anomalies": Topic(3, COMPACTED), OF_ALERTING[0]: Topic(4, COMPACTED)}) == []
    [reported] = problems(**{"anomalies": Topic(3, COMPACTED)})
    assert OF_ALERTING[0] in reported and "anomalies, 3, but has 1: `faust-anomaly topics --extend`" in reported


def test_workers_that_tell_nobody_need_no_topics_of_alerting():
    """They are made all the same, for `faust-anomaly alerter`; and what is there must be right."""
    assert topics.names(QUIET) == list(GOOD) and topics.needed_names(QUIET) == list(GOOD)[:-2]
    found = {name: topic for name, topic in GOOD.items() if name not in OF_ALERTING}
    assert topics.problems(QUIET, found, 10_000) == []
    assert topics.problems(QUIET, found | dict.fromkeys(OF_ALERTING, Topic(0, None, denied=True)), 10_000) == []
    assert len(topics.problems(QUIET, GOOD | {OF_ALERTING[0]: Topic(1, {"cleanup.policy": "delete"})}, 10_000)) == 1


def test_the_rights_of_alerting_are_those_of_an_alerter():
    quiet, told = (set(permissions.of_worker(Settings(alerting={"enabled": on}))) for on in (False, True))
    places = {right[:3] for right in told} - {right[:3] for right in quiet}
    read = {("Read", "topic", name) for name in ("anomalies", "anomaly-results")}
    overdue = {("Write", "topic", OF_ALERTING[1])}  # is a worker's
    of_alerter = {right[:3] for right in permissions.of_alerter(KAFKA)}
    assert places - overdue | read == of_alerter <= {right[:3] for right in told}
    assert ("Read", "group", "anomaly-detection-group-alerter") in places and len(places) == 5
    unseen = permissions.of_worker(Settings(dashboard={"enabled": False}))
    assert ("Read", "topic", "anomalies") in [right[:3] for right in unseen], "an alerter reads it without a view"


REKEYS = Settings(input={"rekey": True}).kafka
BY_SOURCE = "anomaly-detection-group-by-source"
DELETED = {"cleanup.policy": "delete", "retention.ms": "604800000"}


def problems_with_rekey(**changed):
    found = {**GOOD, BY_SOURCE: Topic(4, DELETED), **{name.replace("_", "-"): topic for name, topic in changed.items()}}
    return topics.problems(REKEYS, found, 10_000)


def test_with_rekey_raw_data_may_have_other_partitions_than_what_is_scored():
    assert topics.names(REKEYS) == ["raw-data", BY_SOURCE, *list(GOOD)[1:]]
    assert problems_with_rekey(raw_data=Topic(256)) == []
    [reported] = problems_with_rekey(raw_data=Topic(257))
    assert reported.startswith("topic raw-data: input.rekey reads 256 partitions at most, and it has 257")
    assert by_source.PARTITIONS == topics.REKEYED_PARTITIONS
    reported = problems_with_rekey(**{BY_SOURCE: Topic(8, DELETED)})
    assert len(reported) == 2 and all(f"{BY_SOURCE}, 8, but has 4" in text for text in reported)


@pytest.mark.parametrize("configs", [{"cleanup.policy": "compact"}, {"cleanup.policy": "compact,delete"}, None])
def test_a_topic_by_source_that_is_not_kept_by_deletion_alone_is_a_problem(configs):
    [reported] = problems_with_rekey(**{BY_SOURCE: Topic(4, configs)})
    assert BY_SOURCE in reported and "must be delete" in reported
    assert topics.wanted_configs(REKEYS, 0)[BY_SOURCE] == DELETED


def test_the_topic_by_source_needs_rights_of_its_own():
    plain, more = (set(permissions.of_worker(Settings(input={"rekey": on}))) for on in (False, True))
    assert plain < more
    assert {(right.operation, right.name) for right in more - plain} == {
        ("Read", BY_SOURCE), ("Write", BY_SOURCE), ("DescribeConfigs", BY_SOURCE),
    }  # fmt: skip


@pytest.mark.parametrize("ask", [topics.require, topics.create])
def test_a_broker_that_is_not_there_is_named_in_bounded_time(ask, monkeypatch, caplog):
    monkeypatch.setattr(admin, "TIMEOUT_S", 0.5)
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=["127.0.0.1:9"]))
    with pytest.raises(TopicError) as failed:
        asyncio.run(ask(settings))
    for word in ("127.0.0.1:9", "Errno 111", "kafka.bootstrap_servers", "faust-anomaly kafka start"):
        assert word in str(failed.value)
    assert not caplog.records  # the reason is reported once, not in aiokafka's log as well


def test_a_broker_that_comes_while_it_is_waited_for_is_found(monkeypatch):
    """And an address that never answers does not hide the one after it."""
    monkeypatch.setattr(admin, "TIMEOUT_S", 2.0)
    calls = []

    class Connection:
        async def send(self, request):
            pass

        def close(self):
            pass

    async def connect(host, port, **options):
        calls.append(host)
        if host == "dead":
            await asyncio.sleep(60)
        if len(calls) < 4:
            raise ConnectionRefusedError
        return Connection()

    monkeypatch.setattr(admin, "create_conn", connect)
    kafka = KafkaSettings(bootstrap_servers=["late:9092"])
    options = {"bootstrap_servers": kafka.bootstrap_servers, "security_protocol": "PLAINTEXT"}
    assert asyncio.run(admin._reached(kafka, options, 2.0)) == "late:9092"
    assert len(calls) == 4
    assert asyncio.run(admin._reached(kafka, {**options, "bootstrap_servers": ["dead:1", "late:2"]}, 0.5)) == "late:2"


def untrusted():
    error = ssl.SSLCertVerificationError("self-signed")
    error.verify_code = 18
    return error


@pytest.mark.parametrize("refused", [untrusted(), AuthenticationFailedError("no")])
def test_a_refused_user_or_certificate_is_not_tried_again(refused, monkeypatch):
    calls = []

    async def connect(host, port, **options):
        calls.append(host)
        raise refused

    monkeypatch.setattr(admin, "create_conn", connect)
    with pytest.raises(TopicError, match=type(refused).__name__):
        asyncio.run(topics.require(Settings()))
    assert len(calls) == 1


def test_topics_are_asked_for_by_the_newest_version_that_the_broker_speaks():
    asked = TopicsWithIds(["raw-data"])
    assert asked.prepare({3: (0, 13)}).API_VERSION == 10
    old = asked.prepare({3: (0, 8)})
    assert (old.API_VERSION, old.to_object()) == (5, {"topics": ["raw-data"], "allow_auto_topic_creation": False})


def test_a_topic_that_was_made_again_has_another_id():
    ids = uuid.UUID(int=7), uuid.UUID(int=8)
    partition = (0, 0, 1, 0, [1], [1], [], {})
    topics_told = [(0, "raw-data", topic_id, False, [partition], 0, {}) for topic_id in ids]
    answer = (0, [(1, "127.0.0.1", 9092, None, {})], "cluster", 1, topics_told, 0, {})
    sent = MetadataResponse_v10.SCHEMA.encode(answer)
    reported = MetadataResponse_v10.decode(io.BytesIO(sent)).to_object()["topics"]
    assert [topic["topic_id"] for topic in reported] == list(ids)
    assert [len(topic["partitions"]) for topic in reported] == [1, 1]


@pytest.mark.parametrize("away", [{0}, {1, 2}, {0, 1, 2}])
def test_a_broker_that_is_away_is_asked_only_where_all_are(away):
    asked = []

    async def ready(broker):
        return broker not in away

    async def send(broker, request):
        asked.append(broker)

    brokers = [SimpleNamespace(nodeId=number) for number in range(3)]
    client = admin.AnyBroker.__new__(admin.AnyBroker)
    cluster = SimpleNamespace(brokers=lambda: brokers)
    client._client = SimpleNamespace(cluster=cluster, ready=ready, send=send, get_random_node=lambda: 0)
    for _ in range(20):
        asyncio.run(client._send_request("?"))
    assert set(asked) <= ({0, 1, 2} - away or {0})

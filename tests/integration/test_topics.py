"""Topics of a real broker: made, checked, and refused when they are made otherwise."""

import asyncio

import pytest
from click.testing import CliRunner
from integration.workers import wait_for

from app.cli import main
from app.errors import TopicError
from app.kafka import admin, topics
from tests.support import kafka_tools


def run(job, *arguments):
    return CliRunner().invoke(main, ["topics", *arguments], env=job.environ())


def problems(job, largest=0):
    with pytest.raises(TopicError) as refused:
        asyncio.run(topics.require(job.settings(), largest))
    return str(refused.value).split("\n- ")[1:]


def test_the_command_tells_what_is_missing_makes_it_and_is_content(job):
    before = run(job)
    assert before.exit_code == 2
    names = topics.names(job.settings().kafka)
    assert all(f"topic {name} is missing" in before.stderr for name in names)
    assert not set(names) & set(kafka_tools.topics(job.servers))  # asking has made none

    created = run(job, "--create", "--partitions", "3")
    assert created.exit_code == 0, created.output
    assert created.stdout.splitlines() == [
        *(f"created {name}" for name in names),
        *(f"{name}: 3 partitions, ok" for name in names[:-1]),
        f"{names[-1]}: 1 partition, ok",
    ]
    again = run(job, "--create")
    assert again.exit_code == 0 and "created" not in again.stdout

    configs = {name: kafka_tools.configs(job.servers, name) for name in names}
    compacted = [name for name in names if configs[name]["cleanup.policy"] == "compact"]
    kafka = job.settings().kafka
    assert compacted == [kafka.anomalies_topic, kafka.changelog_topic, kafka.notifications_topic, kafka.decisions_topic]
    assert configs[kafka.anomalies_topic]["min.compaction.lag.ms"] == str(7 * 24 * 3600 * 1000)
    found = asyncio.run(topics.require(job.settings()))
    assert {name: topic.partitions for name, topic in found.items()} == {**dict.fromkeys(names, 3), names[-1]: 1}
    assert all(len(topic.id) == 36 for topic in found.values()) and len({t.id for t in found.values()}) == len(names)


def test_the_others_get_as_many_partitions_as_the_input_topic_has(job):
    settings = job.settings()
    kafka_tools.create_topic(job.servers, settings.kafka.input_topic, partitions=5)
    kafka_tools.create_topic(job.servers, settings.kafka.anomalies_topic, partitions=3)
    made = asyncio.run(topics.create(settings, partitions=2))
    *rest, decisions = [name for name in topics.names(settings.kafka)[1:] if name != settings.kafka.anomalies_topic]
    assert made == [*rest, decisions]
    [told] = problems(job)
    assert settings.kafka.anomalies_topic in told and "cleanup.policy must be compact" in told and "is delete" in told
    changed = dict(one.split("=") for one in told.rstrip("`").split(" ")[-1].split(","))
    kafka_tools.set_configs(job.servers, settings.kafka.anomalies_topic, **changed)
    wait_for(lambda: kafka_tools.configs(job.servers, settings.kafka.anomalies_topic).items() >= changed.items())
    found = {name: topic.partitions for name, topic in asyncio.run(topics.require(settings)).items()}
    given = {settings.kafka.anomalies_topic: 3, settings.kafka.notifications_topic: 3, decisions: 1}
    assert found == {**dict.fromkeys(found, 5), **given}


def test_a_changelog_with_the_default_policy_is_refused(job):
    settings = job.settings()
    kafka_tools.create_topic(job.servers, settings.kafka.changelog_topic, partitions=4)
    asyncio.run(topics.create(settings))
    [told] = problems(job)
    assert settings.kafka.changelog_topic in told and "cleanup.policy must be compact" in told


def test_other_numbers_of_partitions_are_refused_all_at_once(job):
    kafka = job.settings().kafka
    kafka_tools.create_topic(job.servers, kafka.output_topic, partitions=3)
    kafka_tools.create_topic(job.servers, kafka.changelog_topic, partitions=8, cleanup_policy="compact")
    asyncio.run(topics.create(job.settings(), partitions=4))
    results, changelog = problems(job)
    assert kafka.output_topic in results and "4, but has 3" in results
    assert kafka.changelog_topic in changelog and "4, but has 8" in changelog


def test_a_changelog_for_small_records_is_refused_and_one_for_large_ones_is_made(job):
    settings = job.settings()
    largest = 3_000_000
    asyncio.run(topics.create(settings, largest_snapshot_bytes=largest))
    assert asyncio.run(topics.require(settings, largest))
    [told] = problems(job, 2 * largest)
    assert "max.message.bytes must be" in told


def test_what_a_broker_will_not_make_is_an_error_that_says_why(job):
    result = run(job, "--create", "--replication-factor", "2")
    assert result.exit_code == 2
    assert "InvalidReplicationFactor" in result.stderr and job.settings().kafka.input_topic in result.stderr


@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT"])
def test_a_wrong_security_protocol_ends_in_bounded_time_and_names_the_setting(job, protocol, monkeypatch):
    monkeypatch.setattr(admin, "TIMEOUT_S", 2.0)
    user = {"sasl_username": "worker", "sasl_password": "secret"} if protocol == "SASL_PLAINTEXT" else {}
    settings = job.settings(kafka={"security_protocol": protocol, **user})
    with pytest.raises(TopicError, match=r"kafka\.security_protocol"):
        asyncio.run(asyncio.wait_for(topics.require(settings), 5))

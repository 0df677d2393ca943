"""`check` against a real broker: what a worker or alerter would be refused for, and waiting for what comes up."""

import pytest
from click.testing import CliRunner
from integration.workers import wait_for

from app.cli import check as module
from app.cli import main
from app.kafka import topics
from tests.support import kafka_tools


@pytest.fixture
def checked(job, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def run(*arguments: str, **environ: str):
        return CliRunner().invoke(main, ["check", *arguments], env=job.environ(**environ))

    return run


def test_missing_topics_are_waited_for_and_wrong_ones_are_not(job, checked, monkeypatch):
    settings = job.settings()
    kafka, names = settings.kafka, topics.names(settings.kafka)
    missing = checked()
    assert missing.exit_code == 1 and missing.stdout.count("missing topic ") == len(names) == 7
    assert missing.stdout.count("make it with `faust-anomaly topics --create`") == 7
    assert not set(names) & set(kafka_tools.topics(job.servers))  # asking has made none

    pauses = []

    async def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            await topics.create(settings, partitions=3)

    monkeypatch.setattr(module, "_pause", pause)
    came = checked("--wait", "600")
    assert (came.exit_code, len(pauses), came.stderr.count("waiting up to ")) == (0, 3, 1), came.output
    assert came.stdout.count("ok      topic ") == 7
    for line in (
        f"brokers: Kafka at {job.servers}, PLAINTEXT",
        f"topic {names[0]}: 3 partitions",
        f"topic {kafka.decisions_topic}: 1 partition",
        "permissions: 15 rights on topics and groups",
    ):
        assert f"ok      {line}\n" in came.stdout
    alone = checked("--for", "alerter", ANOMALY_ALERTING__ENABLED="false")
    assert alone.exit_code == 0 and alone.stdout.count("ok      topic ") == 3

    kafka_tools.set_configs(job.servers, kafka.notifications_topic, cleanup_policy="delete")
    wait_for(lambda: kafka_tools.configs(job.servers, kafka.notifications_topic)["cleanup.policy"] == "delete")
    wrong = checked("--wait", "600")
    assert (wrong.exit_code, len(pauses)) == (2, 3) and wrong.stdout.count("wrong ") == 1, wrong.output
    assert f"wrong   topic {kafka.notifications_topic}: cleanup.policy must be compact" in wrong.stdout
    assert f"ok      topic {kafka.notifications_topic}" not in wrong.stdout

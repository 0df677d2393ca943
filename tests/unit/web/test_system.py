"""What a process says of itself and of those it shares the partitions with."""

import asyncio
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestClient, TestServer

from app.alerting.delivery import ChannelStatus
from app.errors import TopicError
from app.kafka.groups import GroupDescription, MemberDescription
from app.metrics import Metrics
from app.settings import Settings, load
from app.web.server import Server
from app.web.status.consumer_groups import ConsumerGroups
from app.web.status.probes import Health
from app.web.status.system import SystemView
from app.web.topics.recent_results import RecentResults

LETTER = {"reason": "bad_source", "total": 7, "last": 1.7e9, "example": "raw-data[0]@3: ..", "to_do": "Name the field."}


def health(**details):
    return lambda: Health(True, True, {"generation": 3, "partitions": [0, 2], **details})


def test_it_says_what_lags_what_failed_and_what_each_channel_does():
    metrics = Metrics("python")
    metrics.lag(10, consumed=90, end=100)
    metrics.lag(9, consumed=5, end=5)
    metrics.replay_backlog(10, 40)
    metrics.skipped({"no_value": 4})
    for word in ("sent", "sent", "failed"):
        metrics.notification("page", word)
    metrics.channel_up("page", False)
    metrics.channel_up("mail", True)
    metrics.notification("log", "muted")
    channels = {
        "page": (
            "webhook",
            ChannelStatus(failing_since=5.0, error="503", down=True, waiting=2, answered_at=4.0, answer="ok"),
        ),
        "mail": ("email", ChannelStatus(answered_at=9.0)),
        "log": ("log", None),
    }
    view = SystemView(Settings(), metrics, health(dead_letters=[LETTER]), lambda: channels)
    now = view.now()
    assert [(one.topic, one.partition, one.lag, one.replay) for one in now.lag] == [
        ("raw-data", 9, 0, None),
        ("raw-data", 10, 10, 40),
    ]
    assert now.dead_letters[0].to_do == "Name the field." and now.skipped == {"no_value": 4}
    page, mail, log = now.channels
    assert (page.state, page.failing_since, page.sent, page.failed, page.waiting) == ("down", 5.0, 2, 1, 2)
    assert (mail.state, log.state, log.muted, log.answered_at) == ("up", "unused", 1, None)
    assert now.process.engine == "python" and now.process.packages["aiokafka"][0].isdigit()
    assert now.process.memory_bytes is None or now.process.memory_bytes > 1e6
    assert now.topics[0].name == "raw-data" and now.dead_letters_topic in {one.name for one in now.topics}


def test_a_process_that_scores_nothing_has_no_engine():
    alone = lambda: Health(True, True, {"alerter": {"state": "running"}})  # noqa: E731
    now = SystemView(Settings(), Metrics(), alone, dict).now()
    assert now.process.engine == "" and now.alerter == {"state": "running"} and now.lag == [] == now.channels


def asked(describe, **details):
    return asyncio.run(ConsumerGroups(Settings(), health(**details), describe).now())


def test_workers_are_named_with_their_partitions_and_lag():
    members = [
        MemberDescription("b-1", "faust-b", "10.0.0.2", {"raw-data": [1]}),
        MemberDescription("a-1", "faust-a", "10.0.0.1", {"raw-data": [0, 2]}),
    ]
    lag = {"raw-data": {0: 3, 1: None, 2: 4, 3: 9}}

    async def describe(kafka, topics):
        assert topics == {kafka.group_id: [kafka.input_topic], kafka.alerter_group: [kafka.anomalies_topic]}
        return {
            kafka.group_id: GroupDescription(kafka.group_id, "Stable", members, lag),
            kafka.alerter_group: "may not see it",
        }

    scoring, telling = asked(describe).groups
    assert [(one.host, one.partitions, one.lag, one.this) for one in scoring.members] == [
        ("10.0.0.2", {"raw-data": [1]}, None, False),
        ("10.0.0.1", {"raw-data": [0, 2]}, 7, True),
    ]
    assert scoring.unassigned == {"raw-data": [3]} and scoring.lag["raw-data"]["3"] == 9
    assert (telling.does, telling.problem, telling.members) == ("tells", "may not see it", [])


def test_kafka_is_asked_once_however_many_look():
    asks = []

    async def describe(kafka, topics):
        asks.append(topics)
        await asyncio.sleep(0)
        raise TopicError("Kafka at kafka-1:9092: no answer within 10 s")

    async def run():
        workers = ConsumerGroups(Settings(), health(), describe)
        return await asyncio.gather(*(workers.now() for _ in range(50)))

    found = asyncio.run(run())
    assert len(asks) == 1 and {one.problem for one in found[0].groups} == {
        "Kafka at kafka-1:9092: no answer within 10 s"
    }


@pytest.mark.parametrize(("query", "least", "most"), [("", 4, 4), ("?all=true", 90, 1000)])
def test_settings_are_shown_without_secrets(query, least, most):
    given = {"STORAGE__URL": "postgresql://u:hunter2@db/x", "KAFKA__GROUP_ID": "blue", "API__WRITES": "false"}
    given["ALERTING__CHANNELS__WEBHOOK__URL"] = "https://example.com/hunter2"
    settings = load(environ={f"ANOMALY_{name}": value for name, value in given.items()})
    reader = SimpleNamespace()
    made = Server(settings, Metrics(), lambda: Health(True, True), RecentResults(), reader, reader)

    async def run():
        async with TestClient(TestServer(made.application())) as client:
            answer = await client.get(f"/api/settings{query}")
            return answer.status, await answer.text(), await answer.json()

    status, text, rows = asyncio.run(run())
    assert status == 200 and least <= len(rows) <= most and "hunter2" not in text
    values = {row["name"]: (row["value"], row["origin"]) for row in rows}
    assert values["kafka.group_id"] == ("blue", "ANOMALY_KAFKA__GROUP_ID") and values["api.writes"][0] == "false"
    assert values["storage.url"][0] == values["alerting.channels.webhook.url"][0] == "******"

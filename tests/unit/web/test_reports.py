"""Reports of other programs over HTTP. No Kafka: what is written comes back as it would from there."""

import time

import pytest

from app.errors import DeliveryError
from app.settings import Settings
from app.wire import episodes, external
from tests.unit.web.test_episodes import Made

KAFKA = Settings().kafka


def body(at, anomalous=True, score=0.99, **more):
    fields = {"source": "pump-7", "value": 90.5, "metric": "temperature", "anomaly_type": "spike"}
    return fields | {"timestamp": at, "is_anomaly": anomalous, "anomaly_score": score} | more


class Reported(Made):
    """``taken``: how many records Kafka takes before it fails."""

    def __init__(self, **settings):
        super().__init__(history=False, **settings)
        self.taken, self.reads = 10**9, True

        async def write(topic, key, value):
            if self.taken <= 0:
                raise DeliveryError("no broker")
            self.taken -= 1
            self.written.append((topic, key, value))
            if topic == KAFKA.anomalies_topic:
                self.recent.take_event(value, 5.0)
            else:
                self.mirror.take(key, value)

        async def catch_up():
            return self.reads

        self.server.decider.writer.write, self.mirror.catch_up = write, catch_up

    def events(self):
        return [episodes.decode(value) for topic, _, value in self.written if topic == KAFKA.anomalies_topic]


def post(*bodies):
    return [("POST", "/api/alert", one) for one in bodies]


def test_an_anomaly_of_another_program_is_an_episode_like_others():
    made, now = Reported(), time.time()
    opened, again, normal, listed = made.ask(
        *post(body(now - 100), body(now - 99), body(now - 90, anomalous=False)), "/api/anomalies?kind=external"
    )
    assert opened == again == (200, {"episode": opened[1]["episode"], "state": "open", "severity": "critical"})
    assert normal[1] == opened[1] | {"state": "closed"}
    [one] = listed[1]["anomalies"]
    assert (one["source"], one["metric"]) == ("pump-7", "temperature")
    assert (one["state"], one["reason"]) == ("closed", "recovered")
    assert one["labels"] == {"anomaly_type": "spike"} and one["value"] == 90.5
    assert [event.event for event in made.events()] == ["opened", "closed"]
    assert [topic for topic, *_ in made.written] == [KAFKA.anomalies_topic, KAFKA.decisions_topic] * 2
    assert {key for topic, key, _ in made.written if topic == KAFKA.anomalies_topic} == {
        external.record_key(one["episode"])
    }  # fmt: skip


def test_what_is_not_confirmed_can_be_sent_again():
    for fails_at in (0, 1):  # the event, or what is known then
        made, now = Reported(), time.time()
        made.taken = fails_at
        assert made.ask(*post(body(now)))[0] == 503
        made.taken = 10**9
        assert made.ask(*post(body(now)))[0] == 200
        assert len({(event.episode, event.place) for event in made.events()}) == 1
    made.reads = False
    assert made.ask(*post(body(now + 1)))[0] == 503


def test_reports_of_a_normal_state_open_nothing():
    made = Reported()
    assert made.ask(*post(body(time.time(), anomalous=False)))[1] == {
        "episode": None, "state": "closed", "severity": None
    }  # fmt: skip
    assert made.written == []


def test_episodes_of_which_nothing_is_reported_end_and_are_forgotten():
    made, now = Reported(), time.time()
    made.ask(*post(body(now)))

    async def look():
        for at in (now + 3000, now + 3700, now + 3700, now + 3 * 86_400):
            made.server.reports._clock = lambda at=at: at
            await made.server.reports.look()

    made.run(look)
    assert [(event.event, event.reason) for event in made.events()] == [("opened", ""), ("closed", "silence")]
    assert made.written[-1][2] is None and not made.mirror.external


def test_what_one_server_closed_is_not_opened_again_by_one_that_did_not_know():
    made, now = Reported(), time.time()
    made.ask(*post(body(now), body(now + 61), body(now + 62, anomalous=False)))
    records = [(key, value) for topic, key, value in made.written if topic == KAFKA.decisions_topic]
    made.mirror.take(*records[1])
    assert next(iter(made.mirror.external.values())).closed
    made.mirror.take(*records[0][:1], b'{"decision": "external"}')
    assert made.mirror.unreadable == 1


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        ({"source": ""}, "/source"),
        ({"source": "x" * 257}, "/source"),
        ({"source": "ä" * 200}, "/source"),
        ({"metric": "ä" * 100}, "/metric"),
        ({"anomaly_score": 1.5}, "/anomaly_score"),
        ({"timestamp": "yesterday"}, "/timestamp"),
        ({"timestamp": -5}, "/timestamp"),
        ({"timestamp": 4e9}, "/timestamp"),
        ({"anomaly_type": ""}, "/anomaly_type"),
        ({"is_anomaly": 1}, "/is_anomaly"),
        ({"value": None}, "/value"),
        ({"values": 1}, ""),
    ],
)
def test_what_is_no_report_is_refused_by_name(wrong, at):
    made = Reported()
    status, problem = made.ask(*post(body(time.time()) | wrong))
    assert status in (400, 422) and [one["at"] for one in problem["errors"]] == [at] and made.written == []


def test_times_are_of_any_unit():
    made, now = Reported(), 1_700_000_000.0
    times = [now, now * 1e3, now * 1e9, "2023-11-14T22:13:20Z"]
    made.ask(*post(*(body(at, anomaly_type=f"t{number}") for number, at in enumerate(times))))
    assert [event.timestamp for event in made.events()] == [now] * 4


def test_reports_are_limited_and_can_be_off():
    made, now = Reported(api={"max_point_rate": 0.001}), time.time()
    assert [status for status, _ in made.ask(*post(body(now), body(now + 1)))] == [200, 429]
    status, problem = Reported(api={"writes": False}).ask(*post(body(now)))
    assert (status, problem["detail"]) == (403, "off: api.writes is false")

"""What an alerter remembers for its channels, and when it asks them to say again what is open."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from support.kafka_tools import HANG_S
from support.messages import END, PUMP, context, event, told

from app.alerting.alerter import _Run
from app.alerting.channels.api import BaseChannel, ChannelOptions
from app.alerting.routes import Routes
from app.metrics import Metrics
from app.settings import load
from app.wire import decisions
from app.wire.decisions import Feedback, Silence
from app.wire.notifications import News


@pytest.fixture
def run():
    settings = load(environ={})
    return _Run(settings, Metrics(), lambda: 0.0, Routes.of(settings.alerting), {}, {})


def test_the_last_reference_of_an_episode_counts_until_its_end_was_told(run):
    known = "hook", PUMP.episode
    opened = told(state="sent", reference="C:1")
    digest = told(News(PUMP, "repeated"), News(event(episode="e"), "opened"), state="sent", reference="C:2")
    anew = told(News(PUMP, "raised"), state="sent", reference="C:3")
    for notification, reference in [(opened, "C:1"), (digest, "C:1"), (told(reference="C:9"), "C:1"), (anew, "C:3")]:
        run._remember_reference(notification)
        assert run._references == {known: reference}
    run._remember_reference(told(News(END, "closed"), News(event(episode="e"), "opened"), state="sent"))
    assert run._references == {}


def test_what_is_open_is_said_again_also_if_nothing_is(run):
    """A channel may have to repeat what is over."""
    asked = asyncio.Event()

    class Channel(BaseChannel):
        REFRESH_S = 0.001

        async def refresh(self, episodes):
            assert list(episodes) == []
            asked.set()

    async def until_asked():
        task = asyncio.create_task(run._refresh(Channel("hook", ChannelOptions(), context())))
        await asyncio.wait_for(asked.wait(), HANG_S)
        task.cancel()

    asyncio.run(until_asked())


def record(value, key=b"k", topic="anomalies", offset=7):
    return SimpleNamespace(topic=topic, partition=0, offset=offset, key=key, value=value, timestamp=0)


def test_records_that_are_none_are_skipped_and_said_once(run, caplog):
    """Anybody can write to a topic; nothing of it ends the alerter."""
    taken = []
    owned = SimpleNamespace(engine=SimpleNamespace(take=lambda *of: taken.append(of)))
    garbage = [b"", b"{", b"[]", b"\xff", b'{"event":"opened"}', None]
    run._take(owned, None, [record(value) for value in garbage])
    silence = Silence("s", ["source=~("], 0.0, 9.0, "ann")
    for value in (*garbage[:-1], decisions.encode(silence)):
        run._decide(record(value, topic="decisions"))
    assert taken == []
    page = run._metrics.render()[0].decode()
    assert "faust_anomaly_alerter_skipped_total 11.0" in page
    [said] = [one.getMessage() for one in caplog.records]
    assert said.startswith("alerter: 1 records skipped, the last at anomalies[0]@7: ")


def test_feedback_of_a_week_is_counted_by_verdict(run):
    now = 1_000_000.0
    run._clock = lambda: now
    ages_days = {"a": ("anomaly", 6.0), "b": ("anomaly", 8.0), "c": ("expected", 0.1), "d": ("expected", 0.2)}
    for episode, (verdict, days) in ages_days.items():
        said = Feedback(episode, verdict, "ann", now - 86_400.0 * days)
        run._decide(record(decisions.encode(said), key=said.key.encode()))
    run._decide(record(None, key=b"feedback/d"))  # taken back
    run._measure()
    counted = run._metrics.labelled("feedback_episodes")
    assert counted == {("anomaly",): 1, ("expected",): 1, ("new_normal",): 0, ("not_useful",): 0}


def test_what_is_not_read_yet_is_counted_of_its_own_partitions(run):
    here, lost = TopicPartition("anomalies", 0), TopicPartition("anomalies", 1)
    run._consumer = SimpleNamespace(assignment=lambda: {here}, last_stable_offset=lambda tp: 100)
    run._positions = {here: 58, lost: 0}
    run.owned = {0: SimpleNamespace(engine=SimpleNamespace(open_count=lambda: 3))}
    run._measure()
    shown = run._metrics.total("alerter_lag_records", "alerter_assigned_partitions", "episodes_open")
    assert list(shown.values()) == [42, 1, 3]

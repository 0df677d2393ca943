"""Episodes that other programs report: their life, repeated and lost reports, and how people are told of them."""

import random

import msgspec
import pytest

from app.alerting.current_decisions import CurrentDecisions
from app.alerting.external import RETENTION_S, SILENCE_S, Report, apply_report, close_silent, is_expired
from app.wire import episodes, external
from app.wire.episodes import CHANGED, CLOSED, OPENED
from tests.unit.alerting.test_engine import START, Alerting, an_event


def report(at=0.0, anomalous=True, score=0.93, **more):
    fields = {"source": "pump-7", "metric": "temperature", "anomaly_type": "spike", "value": 90.5, "by": "scada"}
    return Report(timestamp=START + at, is_anomaly=anomalous, score=score, **(fields | more))


class Server:
    """Takes reports as a server does, with what is known and what was written."""

    def __init__(self):
        self.state, self.events = None, []

    def take(self, *reports):
        for one in reports:
            made = apply_report(self.state, one, one.timestamp)
            self.events += made.events
            self.state = made.state or self.state
        return self

    def said(self):
        return [(one.event, one.severity, one.timestamp - START, one.points) for one in self.events]


def test_reports_of_one_anomaly_are_one_episode():
    server = Server().take(
        report(0), report(10), report(20, score=0.99), report(30), report(70), report(80), report(81, anomalous=False)
    )
    assert server.said() == [
        (OPENED, "high", 0, 1),
        (CHANGED, "critical", 20, 3),
        (CHANGED, "critical", 80, 6),
        (CLOSED, "critical", 81, 6),
    ]
    first, *_, last = server.events
    assert len({one.episode for one in server.events}) == 1 and len({one.place for one in server.events}) == 4
    assert (first.kind, first.source, first.metric, first.value) == ("external", "pump-7", "temperature", 90.5)
    assert first.labels == {"anomaly_type": "spike", "reported_by": "scada"}
    assert first.explanation == "spike: 90.5 of temperature, reported by scada with a score of 0.93"
    assert (last.reason, last.opened_at) == ("recovered", START)
    assert episodes.decode(msgspec.json.encode(first)) == first


def test_another_type_metric_or_source_is_another_episode():
    others = [report(), report(metric=""), report(source="pump-8"), report(anomaly_type="drift")]
    events = [apply_report(None, one, START).events[0] for one in others]
    assert len({one.episode for one in events}) == len({one.thread for one in events}) == 4
    assert not {one.thread for one in events} & {one.series for one in events}
    assert len({external.record_key(one.episode) for one in events}) == 4


def test_what_is_normal_opens_nothing_and_what_is_old_changes_nothing():
    assert apply_report(None, report(anomalous=False), START) == (None, [], True)
    server = Server().take(report(0), report(50), report(60, anomalous=False))
    before = list(server.events)
    server.take(report(0), report(50), report(60), report(60, anomalous=False), report(40, anomalous=False))
    assert server.events == before and server.state.closed
    server.take(report(61))
    assert server.events[-1].event == OPENED and server.events[-1].episode != before[0].episode


def test_after_an_hour_without_a_report_it_ends_where_it_was_last_heard_of():
    server = Server().take(report(0), report(30))
    made = close_silent(server.state, START + 30 + SILENCE_S)
    assert [(one.event, one.timestamp, one.reason) for one in made.events] == [(CLOSED, START + 30, "silence")]
    server.take(report(31 + SILENCE_S))
    assert [one.event for one in server.events] == [OPENED, CLOSED, OPENED]
    assert server.events[1] == made.events[0]


def test_what_is_over_is_forgotten_when_no_later_episode_can_have_a_lower_number():
    server = Server()
    for number in range(5):  # more than one a minute: numbers run ahead of the clock
        server.take(report(number), report(number + 0.5, anomalous=False))
    assert len({one.episode for one in server.events}) == 5
    ends = server.state.number * 60 + RETENTION_S
    assert not is_expired(server.state, ends - 1) and is_expired(server.state, ends)
    assert not is_expired(Server().take(report()).state, ends * 2)


@pytest.mark.parametrize("seed", range(30))
def test_repeated_reports_and_lost_answers_change_nothing(seed):
    """A report is repeated, or taken twice because what was known of it was lost after its events were written."""
    rng, at, reports = random.Random(seed), 0.0, []
    for _ in range(60):
        at += rng.choice([0.5, 5.0, 30.0, 61.0, 4000.0])
        reports.append(report(at, anomalous=rng.random() < 0.7, score=rng.random()))
    once, server = Server().take(*reports), Server()
    for number, one in enumerate(reports):
        before = server.state
        server.take(one)
        if rng.random() < 0.3:
            server.state = before
            server.take(one)
        if rng.random() < 0.3:
            server.take(*reports[max(number - 2, 0) : number + 1])
    by_place = {(one.episode, one.place): one for one in reversed(server.events)}
    assert sorted(by_place) == sorted((one.episode, one.place) for one in once.events)
    assert all(by_place[one.episode, one.place] == one for one in once.events)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_known_is_restored_from_its_record(seed):
    rng, at = random.Random(seed), 0.0
    one, other = Server(), Server()
    for _ in range(40):
        at += rng.choice([1.0, 61.0, 4000.0])
        taken = report(at, anomalous=rng.random() < 0.7, score=rng.random())
        one.take(taken)
        other.take(taken)
        if other.state:
            other.state = external.decode(external.encode(other.state))
    assert one.events == other.events


def test_people_are_told_once_of_each_beside_a_scored_episode_of_the_same_series():
    alerting = Alerting()
    server = Server().take(report(0), report(5), report(20, score=0.99), report(30, anomalous=False))
    scored = an_event(source="pump-7", metric="temperature", severity="high", labels={})
    opened, raised, closed = server.events
    for event in (scored, opened, opened, raised, closed, raised, opened):
        alerting.take(event)
        alerting.settle(1.0)
    said = [(news.event.episode, news.why) for one in alerting.told for news in one.news]
    assert said == [(scored.episode, "opened"), *((opened.episode, why) for why in ("opened", "raised", "closed"))]
    assert alerting.engine.open_count() == 1  # the scored one


def test_what_is_known_of_reports_is_no_decision():
    decided = CurrentDecisions()
    state = Server().take(report()).state
    decided.take(state.key.encode(), external.encode(state))
    decided.take(state.key.encode(), None)
    assert decided.version == 0

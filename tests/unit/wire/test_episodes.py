"""What readers make of the events of episodes, and that notifications and decisions come back as they were written."""

import msgspec
import pytest

from app.errors import InvalidPoint, StateError
from app.wire import decisions, episodes, notifications
from app.wire.episodes import Event
from app.wire.notifications import News, Notification

DEEP = b"[" * 5000 + b"]" * 5000
EVENT = {
    "event": "opened", "episode": "raw-data:3:5658:0", "kind": "value", "severity": "high", "source": "pump-7",
    "timestamp": 1698399460.25, "opened_at": 1698399460.25, "points": 1, "peak_score": 0.97, "value": 90.44,
    "expected": 50.02, "labels": {"room": "B", "rack": 7}, "detectors": {"residual": 1.0},
}  # fmt: skip
OTHER_SHAPE = EVENT | {
    "timestamp": "2023-10-27T09:37:40.250000Z", "opened_at": "2023-10-27T09:37:40.250000Z",
    "values": {"value": 90.44}, "expected": {"value": 50.02},
}  # fmt: skip


def test_both_shapes_of_the_output_are_one_event():
    del (other := dict(OTHER_SHAPE))["value"]
    assert episodes.decode(msgspec.json.encode(other)) == episodes.decode(msgspec.json.encode(EVENT))


def test_a_vector_stays_one():
    event = episodes.decode(msgspec.json.encode(EVENT | {"values": {"a": 1.0, "value": 2.0}}))
    assert event.values == {"a": 1.0, "value": 2.0}


def test_labels_are_text_and_those_of_the_episode_come_first():
    event = episodes.decode(msgspec.json.encode(EVENT | {"labels": {"room": "B", "rack": 7, "severity": "odd"}}))
    assert event.named() == {
        "room": "B", "rack": "7", "source": "pump-7", "metric": "", "severity": "high", "kind": "value",
        "episode": "raw-data:3:5658:0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"", "expected the event of an episode"),
        (b'{"event":"opened"}', "expected the event of an episode"),
        (msgspec.json.encode(EVENT)[:-1] + b',"labels":{"a":' + DEEP + b"}}", "expected the event of an episode"),
        (msgspec.json.encode(EVENT | {"event": "began"}), "got 'began'"),
        (msgspec.json.encode(EVENT | {"timestamp": "noon"}), "expected times as numbers or ISO 8601"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(record, said):
    with pytest.raises(InvalidPoint, match=said):
        episodes.decode(record)


def test_notifications_and_decisions_come_back_as_they_were_written():
    event = Event(**EVENT)
    notification = Notification(
        id="n", state="queued", channel="log", news=[News(event, "opened")], created_at=1.5, answer="200"
    )
    assert notifications.decode(notifications.encode(notification)) == notification
    for decision in (
        decisions.Acknowledgement("e", "ann", 1.0),
        decisions.Silence("s", ['source=~"pump-.*"'], 1.0, 2.0, "ann", "works"),
        decisions.Feedback("e", "expected", "ann", 1.0),
    ):
        assert decisions.decode(decisions.encode(decision)) == decision
    for decode in (notifications.decode, decisions.decode):
        with pytest.raises(StateError, match=r"got b'\{\}'"):
            decode(b"{}")
        with pytest.raises(StateError):
            decode(b'{"more":' + DEEP + b"}")

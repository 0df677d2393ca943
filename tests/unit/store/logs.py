"""Topics in memory, records for them, and what the tables must hold: computed from all records at once."""

from typing import Any

import msgspec

from app.state import series
from app.store.projection import DECISIONS, EPISODES, NOTIFICATIONS, PartitionRange, Place, TopicRecord
from app.wire import decisions, notifications
from app.wire.episodes import CLOSED, EVENTS, Event
from app.wire.notifications import News, Notification

KINDS = {"anomalies": EPISODES, "group-notifications": NOTIFICATIONS, "group-decisions": DECISIONS}
LEVELS = ["low", "medium", "high", "critical"]
DAY = 86_400.0
NOW = 1_700_000_000.0


def event(episode: str = "raw-data:0:5:0", what: str = "opened", offset: int = 5, **more: Any) -> Event:
    """An event of an episode of source pump-7 that opened at 1000; a second passes with each offset."""
    fields = {
        "event": what, "episode": episode, "kind": "value", "severity": "high", "source": "pump-7", "opened_at": 1000.0,
        "timestamp": 1000.0 + offset, "points": 1 + offset, "peak_score": 0.9, "offset": offset, "index": 0,
        "value": 90.5, "expected": 50.0, "explanation": f"at {offset}", "labels": {"site": "north"},
    }  # fmt: skip
    if what == CLOSED:
        fields |= {"reason": "recovered", "value": 50.1, "explanation": ""}
    return Event(**(fields | more))


def notification(name: str, state: Any, *told: Event, **more: Any) -> Notification:
    fields: dict[str, Any] = {"id": name, "state": state, "channel": "log", "created_at": NOW}
    return Notification(**(fields | more), news=[News(one, "opened") for one in told])


class Topics:
    """Partitions that grow; ``ids`` are those of the topics."""

    def __init__(self) -> None:
        self.logs: dict[Place, list[TopicRecord]] = {("anomalies", 0): [], ("anomalies", 1): []}
        self.logs |= {("group-notifications", 0): [], ("group-notifications", 1): [], ("group-decisions", 0): []}
        self.ids = {topic: "first" for topic in KINDS}

    def write(self, one: Any, partition: int = 0, at: float = NOW) -> None:
        """An Event, a Notification, a decision; a text takes back the decision with this key."""
        match one:
            case Event():
                topic, key, value = "anomalies", series.to_bytes(one.series), msgspec.json.encode(one)
            case Notification():
                topic, key, value = "group-notifications", one.id.encode(), notifications.encode(one)
            case str():
                topic, key, value = "group-decisions", one.encode(), None
            case _:
                topic, key, value = "group-decisions", one.key.encode(), decisions.encode(one)
        self.put(topic, partition, key, value, at)

    def put(self, topic: str, partition: int, key: bytes | None, value: bytes | None, at: float = NOW) -> None:
        self.logs[topic, partition].append(TopicRecord(topic, partition, key, value, at))

    def found(self) -> dict[Place, PartitionRange]:
        return {place: PartitionRange(self.ids[place[0]], 0, len(log)) for place, log in self.logs.items()}

    def make_anew(self, topic: str) -> None:
        self.ids[topic] += "+"
        for place in self.logs:
            if place[0] == topic:
                self.logs[place] = []

    def of(self, topic: str) -> list[TopicRecord]:
        return [record for place, log in self.logs.items() if place[0] == topic for record in log]


def expected(topics: Topics, oldest: float) -> dict[str, dict[Any, tuple]]:
    """What the tables must hold, as ``held`` gives it."""
    episodes: dict[str, list[tuple[Event, float]]] = {}
    for record in topics.of("anomalies"):
        if record.value and record.time_s >= oldest:
            one = msgspec.json.decode(record.value, type=Event)
            episodes.setdefault(one.episode, []).append((one, record.time_s))
    of_episodes = {}
    for name, events in episodes.items():
        last = max((one for one, _ in events), key=lambda one: (*one.place, EVENTS.index(one.event)))
        shown = [one for one, _ in events if one.event != CLOSED] or [last]
        worst = max(LEVELS.index(one.severity) for one in shown)
        first = min((one for one in shown if LEVELS.index(one.severity) == worst), key=lambda one: one.place)
        ended = last.timestamp if last.event == CLOSED else None
        recorded = max(at for _, at in events)
        of_episodes[name] = (
            last.severity, ended, last.reason, last.points, last.peak_score, first.value, first.explanation, recorded
        )  # fmt: skip
    told: dict[str, list[tuple[Notification, float]]] = {}
    for record in topics.of("group-notifications"):
        if record.value and record.time_s >= oldest:
            one = notifications.decode(record.value)
            told.setdefault(one.id, []).append((one, record.time_s))
    of_notifications, of_news = {}, {}
    for name, states in told.items():
        done = [one for one, _ in states if one.state != "queued"]
        last = done[-1] if done else states[-1][0]
        of_notifications[name] = (last.state, last.attempts, last.answer, max(at for _, at in states))
        for one, _ in states:
            for place, item in enumerate(one.news):
                of_news.setdefault((name, item.event.episode), (place, item.why))
    said = {}
    for record in topics.of("group-decisions"):
        said[record.key.decode()] = record
    of_decisions = {}
    for key, record in said.items():
        if record.value is None:
            continue
        one = decisions.decode(record.value)
        if max(record.time_s, getattr(one, "ends_at", 0.0)) >= oldest:
            of_decisions[key] = (one.by, one.comment, getattr(one, "verdict", ""), record.time_s)
    return {
        "episodes": of_episodes, "notifications": of_notifications, "news": of_news, "decisions": of_decisions
    }  # fmt: skip

"""Episodes over HTTP: of the history and of recent events, joined, and what is decided on them. No Kafka."""

import asyncio
import json
import random
import time
from types import SimpleNamespace

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from app.errors import DeliveryError, StoreError
from app.metrics import Metrics
from app.settings import Settings
from app.store.database import Database
from app.store.queries import Queries
from app.web.episodes import EpisodeFilter, Episodes, like
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.decisions import DecisionsMirror
from app.web.topics.recent_results import RecentResults
from app.wire import decisions, notifications
from app.wire.decisions import Acknowledgement, Feedback
from app.wire.episodes import Event
from app.wire.notifications import News, Notification
from tests.unit.store.logs import NOW, Topics
from tests.unit.store.test_queries import write

SCORES = {"low": 0.7, "medium": 0.85, "high": 0.93, "critical": 0.99}
DECISIONS = Settings().kafka.decisions_topic


def event(number, what="opened", at=0, **more):
    opened_at = 1000.0 + number // 2
    fields = {
        "event": what, "episode": f"raw-data:0:{number}:0", "kind": "value", "severity": "high",
        "source": f"pump-{number % 3}", "opened_at": opened_at, "timestamp": opened_at + at, "points": 1 + at,
        "peak_score": 0.93, "offset": number + at, "index": 0,
        "value": 90.5, "expected": 50.0, "usual": 3.0, "explanation": f"sentence {number}",
        "labels": {"room": "a"}, "detectors": {"residual": 0.9},
    }  # fmt: skip
    return Event(**(fields | more))


def told(state, *events, channel="log", why="opened", **more):
    fields = {"id": f"n{channel}{state}", "state": state, "channel": channel, "created_at": NOW, "answer": "200 OK"}
    return Notification(**(fields | more), news=[News(one, why) for one in events])


class History(Queries):
    """Of a database that is filled by ``read``."""

    state, lag, fails = "reading", 0, False

    def status(self):
        return {"state": self.state, "database": "here", "lag": self.lag}

    async def episodes(self, *args, **kwargs):
        if self.fails:
            raise StoreError("gone")
        return await super().episodes(*args, **kwargs)


def kafka(records, mirror):
    """A writer whose records come back by the mirror."""

    async def write(topic, key, value):
        records.append((topic, key, value))
        mirror.take(key, value)

    async def stop():
        pass

    return SimpleNamespace(write=write, stop=stop)


class Made:
    """A server whose history has read ``stored`` and whose view ``recent``."""

    def __init__(self, stored=(), recent=(), history=True, tmp_path=None, **settings):
        self.stored, self.written = stored, []
        self.recent = RecentResults()
        for one in recent:
            if isinstance(one, Notification):
                self.recent.take_notification(notifications.encode(one), NOW)
            else:
                self.recent.take_event(msgspec.json.encode(one), NOW)
        self.history = None
        if history:
            from app.settings import load

            url = f"sqlite:///{tmp_path / 'history.db'}"
            self.database = Database.of(load(environ={}, storage={"url": url}, kafka={"group_id": "group"}))
            self.history = History(self.database)
        self.mirror = DecisionsMirror(DECISIONS, lambda: None)
        reader = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
        self.server = Server(
            Settings(**settings), Metrics(), lambda: Health(True, True), self.recent, reader, reader,
            lambda: self.history, mirror=self.mirror,
        )  # fmt: skip
        self.server.decider.writer = kafka(self.written, self.mirror)

    def run(self, scenario):
        async def run():
            if self.history:
                topics = Topics()
                for one in self.stored:
                    topics.write(one)
                await write(self.database, topics)
            try:
                return await scenario()
            finally:
                if self.history:
                    await self.database.close()

        return asyncio.run(run())

    def ask(self, *asked):
        """[(status, body)] of (method, path, body) or paths."""

        async def scenario():
            answers = []
            async with TestClient(TestServer(self.server.application())) as client:
                for one in asked:
                    method, path, body = (*one, None)[:3] if isinstance(one, tuple) else ("GET", one, None)
                    async with client.request(method, path, json=body) as answer:
                        answers.append((answer.status, json.loads(await answer.read())))
            return answers

        answers = self.run(scenario)
        return answers[0] if len(answers) == 1 else answers


@pytest.fixture
def make(tmp_path):
    return lambda *args, **kwargs: Made(*args, tmp_path=tmp_path, **kwargs)


def log_of(seed, episodes=40):
    """Events of some episodes in the order of a topic; and by id the last of each."""
    rng, log, last = random.Random(seed), [], {}
    running = []
    while episodes or running:
        if episodes and (not running or rng.random() < 0.5):
            episodes -= 1
            one = event(episodes, severity="low", peak_score=SCORES["low"])
            running.append(one)
        else:
            before = running.pop(rng.randrange(len(running)))
            at, ends = before.points, rng.random() < 0.5
            severity = rng.choice(list(SCORES)[list(SCORES).index(before.severity) :])
            one = event(
                before.offset - (before.points - 1), "closed" if ends else "changed", at, severity=severity,
                peak_score=SCORES[severity], points=at + 1, reason="recovered" if ends else "",
            )  # fmt: skip
            if not ends and rng.random() < 0.7:  # others stay open
                running.append(one)
        log.append(one)
        last[one.episode] = one
    return log, last


def brief(one):
    return one.episode, one.state, one.severity, one.points, one.closed_at


FILTERS = [
    {},
    {"state": "open"},
    {"severity": ("low", "critical")},
    {"source": "pump-[1]"},
    {"source": "pump-?"},
    {"source": "pump-1", "state": "closed"},
    {"since": 1003.0, "until": 1015.0},
]


@pytest.mark.parametrize("seed", range(12))
def test_pages_of_history_and_recent_events_are_those_of_all_events(seed, make):
    """However far the history has come, and however little the view has read: as if one had read all."""
    rng = random.Random(seed)
    log, last = log_of(seed)
    upto = rng.choice([0, len(log) // 2, len(log)])
    made = make(log[:upto], log[rng.randrange(upto + 1) :])
    every = sorted(
        (
            (one.opened_at, name, "closed" if one.event == "closed" else "open", one.severity, one.points,
             one.timestamp if one.event == "closed" else None, one.source)
            for name, one in last.items()
        ),
        reverse=True,
    )  # fmt: skip

    async def scenario():
        episodes = Episodes(made.recent, lambda: made.history, None)
        for filters in FILTERS:
            for limit in (3, 1000):
                found, cursor = [], ""
                while True:
                    page = await episodes.page(EpisodeFilter(limit=limit, cursor=cursor, **filters))
                    found += map(brief, page.anomalies)
                    assert page.source == "history" and len(page.anomalies) <= limit
                    if not (cursor := page.cursor):
                        break
                wanted = [
                    one[1:6]
                    for one in every
                    if filters.get("state", one[2]) == one[2]
                    and one[3] in filters.get("severity", (one[3],))
                    and like(filters.get("source", "*"), one[6])
                    and filters.get("since", 0) <= one[0] < filters.get("until", 9e9)
                ]
                assert found == wanted, filters

    made.run(scenario)


def test_a_page_goes_on_behind_the_last_one_whatever_opens_meanwhile(make):
    log = [event(number) for number in range(10)]
    made = make(log[:6], log[6:])

    async def scenario():
        episodes = Episodes(made.recent, lambda: made.history, None)
        first = await episodes.page(EpisodeFilter(limit=4))
        made.recent.take_event(msgspec.json.encode(event(50)), NOW)
        second = await episodes.page(EpisodeFilter(limit=4, cursor=first.cursor))
        third = await episodes.page(EpisodeFilter(limit=4, cursor=second.cursor))
        return [one.episode.split(":")[2] for page in (first, second, third) for one in page.anomalies], third.cursor

    assert made.run(scenario) == (["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"], "")


def test_an_episode_says_the_same_of_history_and_of_recent_events(make):
    """But for what only one of the two has."""
    one, word = event(3), told("sent", event(3), done_at=NOW + 2)
    stored, recent = make([one, word]), make((), [one, word], history=False)
    of_history = stored.ask("/api/episodes/raw-data:0:3:0")[1]
    of_recent = recent.ask("/api/episodes/raw-data:0:3:0")[1]
    assert of_recent.pop("told_at") == NOW
    assert of_history == of_recent
    assert of_history["told"] == [{"channel": "log", "state": "sent", "why": "opened", "at": NOW + 2, "said": "200 OK"}]
    assert (of_history["value"], of_history["expected"], of_history["explanation"]) == (90.5, 50.0, "sentence 3")
    assert of_history["detectors"] == {"residual": 0.9} and of_history["labels"] == {"room": "a"}


def test_without_a_history_the_answer_says_so(make):
    for state, words in (("off", "the history is off"), ("starting", "is starting")):
        made = make([event(1)], [event(2)])
        made.history.state = state
        body = made.ask("/api/anomalies")[1]
        assert body["from"] == "recent" and words in body["note"]
        assert [one["episode"] for one in body["anomalies"]] == ["raw-data:0:2:0"]
    made = make([event(1)], [event(2)], history=False)
    body = made.ask("/api/anomalies")[1]
    assert body["from"] == "recent" and "storage.enabled" in body["note"]


def test_a_history_that_fails_or_lags_is_said_too(make):
    made = make([event(1)], [event(2)])
    made.history.fails = True
    assert made.ask("/api/anomalies")[1]["from"] == "recent"
    made = make([event(1)], [event(2)])
    made.history.lag = 700
    body = made.ask("/api/anomalies")[1]
    assert (body["from"], len(body["anomalies"])) == ("history", 2) and "700 records" in body["note"]


def test_sources_that_send_nothing_are_among_the_open_ones_though_no_topic_of_events_has_them(make):
    silent = event(4, kind="silent", episode="raw-data:1:1000:silent-0123456789abcdef", points=0, value=None)
    for made in (make([told("sent", silent)]), make((), [told("muted", silent)], history=False)):
        body = made.ask("/api/anomalies?state=open&kind=silent")[1]
        assert [(one["episode"], one["kind"]) for one in body["anomalies"]] == [(silent.episode, "silent")]
    made = make((), [told("sent", silent), told("sent", msgspec.structs.replace(silent, event="closed"), why="closed")],
                history=False)  # fmt: skip
    assert made.ask("/api/anomalies?state=open")[1]["anomalies"] == []


def test_who_was_told_is_asked_of_one_episode(make):
    made = make([event(3), told("queued", event(3)), told("sent", event(3), id="nlogqueued", done_at=NOW + 1)])
    status, body = made.ask("/api/episodes/raw-data:0:3:0/notifications")
    assert status == 200 and [(one["id"], one["state"], one["why"]) for one in body["notifications"]] == [
        ("nlogqueued", "sent", "opened")
    ]
    made = make((), [event(3), told("muted", event(3), answer="silenced: by ann")], history=False)
    body = made.ask("/api/episodes/raw-data:0:3:0/notifications")[1]
    assert (
        "notifications" not in body and body["told"][0]["said"] == "silenced: by ann" and "no history" in body["note"]
    )


@pytest.mark.parametrize(
    ("path", "at"),
    [
        ("?severity=high,bad", "?severity"),
        ("?since=yesterday", "?since"),
        ("?until=1e300", "?until"),
        ("?since=-1", "?since"),
        ("?state=maybe", "?state"),
        ("?cursor=x", "?cursor"),
        ("?cursor=WyJ4Il0=", "?cursor"),
        ("/pump-1?cursor=x", "?cursor"),
        ("?source=" + "x" * 513, "?source"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(path, at, make):
    status, body = make(history=False).ask(f"/api/anomalies{path}")
    assert status in (400, 422) and [one["at"] for one in body["errors"]] == [at]


def test_times_are_numbers_or_iso_8601(make):
    made = make((), [event(0), event(20)], history=False)
    for since in ("1005", "1970-01-01T00:16:45Z", "1970-01-01T00:16:45", "1970-01-01T01:16:45%2B01:00"):
        assert len(made.ask(f"/api/anomalies?since={since}")[1]["anomalies"]) == 1
        assert len(made.ask(f"/api/anomalies?until={since}")[1]["anomalies"]) == 1


def test_a_name_of_a_source_in_the_path_is_no_pattern(make):
    made = make([event(1, source="a*"), event(2, source="ab")], [event(3, source="a*")])
    every, one, none = made.ask("/api/anomalies?source=a*", "/api/anomalies/a*", "/api/anomalies/a%3F")
    assert [len(body["anomalies"]) for _, body in (every, one, none)] == [3, 2, 0]


# --- decisions

EPISODE = "/api/episodes/raw-data:0:3:0"


def test_an_acknowledgement_and_a_feedback_are_written_and_shown(make):
    made = make([event(3)], [event(3)])
    acknowledged, said, shown, listed = made.ask(
        ("POST", f"{EPISODE}/acknowledgement", {"by": "ann", "comment": "on it"}),
        ("POST", f"{EPISODE}/feedback", {"verdict": "expected", "by": "bob"}),
        EPISODE,
        "/api/anomalies",
    )
    assert acknowledged[0] == said[0] == 200
    assert (acknowledged[1]["by"], acknowledged[1]["comment"]) == ("ann", "on it")
    assert shown[1]["acknowledged"] == acknowledged[1] == listed[1]["anomalies"][0]["acknowledged"]
    assert shown[1]["feedback"] == said[1] and said[1]["verdict"] == "expected"
    assert {topic for topic, *_ in made.written} == {DECISIONS}
    first, second = (decisions.decode(value) for *_, value in made.written)
    assert isinstance(first, Acknowledgement) and abs(first.at - time.time()) < 60
    assert isinstance(second, Feedback) and made.written[1][1] == second.key.encode()


def test_a_silence_begins_mutes_and_ends(make):
    made = make((), [event(3, labels={"room": "a"})], history=False)
    new = {"matchers": ['source=~"pump-.*"', "room=a"], "duration_s": 3600, "by": "ann", "comment": "new seals"}
    status, begun = made.ask(("POST", "/api/silences", new))
    assert status == 201 and begun["matchers"] == ['source=~"pump-.*"', 'room="a"']
    assert abs(begun["ends_at"] - begun["starts_at"] - 3600) < 1e-6
    held, shown, ended, again, left, heard = made.ask(
        "/api/silences",
        EPISODE,
        ("DELETE", f"/api/silences/{begun['id']}"),
        ("DELETE", f"/api/silences/{begun['id']}"),
        "/api/silences",
        EPISODE,
    )
    assert held[1]["silences"] == [begun]
    assert shown[1]["muted"] == {
        "silence": begun["id"], "why": "new seals", "until": begun["ends_at"], "by": "ann"
    }  # fmt: skip
    assert (ended[0], again[0], left[1]) == (200, 404, {"silences": []}) and "it has ended" in again[1]["detail"]
    assert "muted" not in heard[1]


@pytest.mark.parametrize(
    ("path", "body", "status", "at"),
    [
        (f"{EPISODE}/acknowledgement", {}, 422, "/by"),
        (f"{EPISODE}/acknowledgement", {"by": " "}, 422, "/by"),
        (f"{EPISODE}/acknowledgement", {"by": "ann", "comment": "x" * 1001}, 422, "/comment"),
        (f"{EPISODE}/acknowledgement", {"by": "ann", "coment": "x"}, 400, ""),
        (f"{EPISODE}/feedback", {"by": "ann", "verdict": "bad"}, 400, "/verdict"),
        ("/api/episodes/raw-data:0:4:0/acknowledgement", {"by": "ann"}, 404, None),
        ("/api/episodes/raw%20data:0:4:0/feedback", {"by": "ann", "verdict": "expected"}, 404, None),
        ("/api/silences", {"by": "ann", "matchers": ["source=a"]}, 422, "/duration_s"),
        ("/api/silences", {"by": "ann", "matchers": ["source=a"], "duration_s": 1, "ends_at": 1}, 422, "/duration_s"),
        ("/api/silences", {"by": "ann", "matchers": ["source=a"], "duration_s": -1}, 422, "/duration_s"),
        ("/api/silences", {"by": "ann", "matchers": ["source=a"], "duration_s": 1e300}, 422, "/duration_s"),
        ("/api/silences", {"by": "ann", "matchers": ["source=a"], "ends_at": 5.0}, 422, "/ends_at"),
        ("/api/silences", {"by": "ann", "matchers": ["source"], "duration_s": 5}, 422, "/matchers"),
        ("/api/silences", {"by": "ann", "matchers": [], "duration_s": 5}, 422, "/matchers"),
        ("/api/silences", {"by": "ann", "matchers": ['source=~".*"'], "duration_s": 5}, 422, "/matchers"),
        ("/api/silences", {"by": "ann", "matchers": ["source=" + "x" * 1000], "duration_s": 5}, 422, "/matchers"),
        ("/api/silences", {"by": "ann", "matchers": ["source=" + "x" * 900] * 12, "duration_s": 5}, 422, "/matchers"),
        ("/api/silences", {"by": "ann", "matchers": ["a=b"] * 101, "duration_s": 5}, 422, "/matchers"),
        ("/api/silences", {"matchers": ["source=a"], "duration_s": 5}, 422, "/by"),
    ],
)
def test_what_is_no_decision_is_refused_and_not_written(path, body, status, at, make):
    made = make([event(3)])
    answered, problem = made.ask(("POST", path, body))
    assert answered == status and made.written == []
    assert at is None or [one["at"] for one in problem["errors"]] == [at]


def test_an_episode_that_only_the_history_may_know_can_be_decided_on_while_it_is_away(make):
    made = make(history=False)
    assert made.ask(("POST", f"{EPISODE}/acknowledgement", {"by": "ann"}))[0] == 200


def test_nothing_is_decided_where_that_is_off(make):
    asked = [
        ("POST", f"{EPISODE}/acknowledgement", {"by": "ann"}),
        ("POST", "/api/silences", {"by": "ann", "matchers": ["source=a"], "duration_s": 5}),
        ("DELETE", "/api/silences/x"),
    ]
    made = make((), [event(3)], history=False, api={"writes": False})
    assert {(status, body["detail"]) for status, body in made.ask(*asked)} == {(403, "off: api.writes is false")}
    made.server.decider._mirror = None
    made.server.decider._settings = Settings()
    answers = made.ask(*asked, "/api/silences")
    assert {(status, body["detail"]) for status, body in answers} == {(404, "off: alerting.enabled is false")}


def test_what_kafka_did_not_take_is_not_said_to_be_taken(make):
    made = make((), [event(3)], history=False)

    async def write(*record):
        raise DeliveryError("no broker")

    made.server.decider.writer.write = write
    status, body = made.ask(("POST", f"{EPISODE}/acknowledgement", {"by": "ann"}))
    assert status == 503 and "no broker" in body["detail"]
    assert "acknowledged" not in made.ask(EPISODE)[1]


# --- anomalous points


def test_anomalous_points_the_newest_first(make):
    made = make(history=False)
    for at in range(5):
        point = {"id": f"raw-data:0:{at}:0", "source": "pump", "timestamp": float(at), "value": 1.0 + at}
        point |= {"is_anomaly": at != 2, "expected": 0.5, "usual": 0.25}
        made.recent.take_result(json.dumps(point).encode())
    vector = {"id": "raw-data:0:9:0", "source": "host", "timestamp": 9.0, "values": {"cpu": 3.0, "mem": 4.0}}
    vector |= {"is_anomaly": True, "expected": {"cpu": 1.0, "mem": 4.1}, "attribution": {"cpu": 0.9, "mem": 0.1}}
    made.recent.take_result(json.dumps(vector).encode())
    every, some = made.ask("/anomalies", "/anomalies?limit=1")
    assert [one["timestamp"] for one in every[1]] == [9.0, 4.0, 3.0, 1.0, 0.0]
    assert every[1][0] == {"source": "host", "value": 3.0, "timestamp": 9.0, "mean": 1.0, "std_dev": None}
    assert every[1][1] == {"source": "pump", "value": 5.0, "timestamp": 4.0, "mean": 0.5, "std_dev": 0.25}
    assert some[1] == every[1][:1]

"""The WebSocket: filters, cursors, decisions, and what comes when too much was missed. No Kafka."""

import asyncio
import json
import random

import msgspec
import pytest
from aiohttp import WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer

from app.web.topics.read_positions import ReadPositions
from app.web.topics.recent_results import RecentResults
from app.web.websocket.cursor import StreamCursor
from app.web.websocket.push import Filter
from app.wire import decisions
from app.wire.decisions import Acknowledgement, Feedback, Silence
from tests.unit.web.test_episodes import Made, event


def made(**settings):
    return Made(history=False, **settings)


def connected(made, *queries, scenario):
    """Run scenario(sockets), one for each query."""

    async def run():
        async with TestClient(TestServer(made.server.application())) as client:
            sockets = [await client.ws_connect(f"/ws{query}") for query in queries]
            while len(made.server.push.clients) < len(queries):
                await asyncio.sleep(0)
            await scenario(*sockets)

    asyncio.run(asyncio.wait_for(run(), 30))


async def until(socket, kind):
    """Messages up to the first of this kind."""
    messages = []
    while not messages or messages[-1]["type"] != kind:
        messages.append(await socket.receive_json(timeout=10))
    return messages


def take(recent, events, places):
    for one, place in zip(events, places):
        recent.take_event(msgspec.json.encode(one), 5.0, place)
        recent.events.positions[place[0]] = place[1] + 1


EPISODES = [
    event(0, severity="low", source="pump-1"),
    event(1, severity="high", source="pump-2", kind="stuck"),
    event(2, severity="critical", source="fan"),
]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", "012"),
        ("?source=pump-*", "01"),
        ("?severity=high", "12"),
        ("?kind=stuck,pair", "1"),
        ("?severity=high&source=pump-*&kind=value", ""),
        ("?types=statistics", ""),
    ],
)
@pytest.mark.parametrize("said", ["in the address", "later"])
def test_a_client_gets_the_episodes_that_it_wants(query, numbers, said):
    made_ = made()

    async def scenario(socket):
        await until(socket, "heartbeat")
        if said == "later":
            wants = dict(part.split("=") for part in query[1:].split("&") if part)
            wants |= {name: wants[name].split(",") for name in ("kind", "types") if name in wants}
            await socket.send_json({"filter": wants})
            while query and next(iter(made_.server.push.clients)).wants == Filter():
                await asyncio.sleep(0)
        take(made_.recent, EPISODES, [(0, 0), (0, 1), (0, 2)])
        made_.server.push.send_changes()
        messages = await until(socket, "statistics")
        found = [one["episode"].split(":")[2] for message in messages for one in message.get("anomalies", ())]
        assert "".join(sorted(found)) == numbers
        assert [message["type"] for message in messages] == ["anomalies", "statistics"][not numbers :]

    connected(made_, query if said == "in the address" else "", scenario=scenario)


def test_what_clients_want_alike_is_encoded_once():
    made_ = made()

    async def scenario(*sockets):
        for client in made_.server.push.clients:
            made_.server.push.clients[client].cancel()  # so that the queues stay full
        await asyncio.sleep(0)
        for client in made_.server.push.clients:
            client.queue._queue.clear()
        take(made_.recent, EPISODES, [(0, 0), (0, 1), (0, 2)])
        made_.recent.take_result(b'{"id": "raw-data:0:1:0", "source": "pump-1", "timestamp": 1.0, "value": 2.0}')
        made_.server.push.send_changes()
        queued = [list(client.queue._queue) for client in made_.server.push.clients]
        first, second, third = ({id(message) for message in messages} for messages in queued)
        assert len(first) == len(first & second) == 3 and len(first & third) == 1  # statistics

    connected(made_, "?source=pump-*", "?source=pump-*", "", scenario=scenario)


@pytest.mark.parametrize(
    "query", ["?severity=bad", "?types=x", "?cursor=x", "?cursor=W10=", "?cursor=W1stMV0sW10sW11d"]
)
def test_what_is_no_filter_or_cursor_is_refused(query):
    async def run():
        async with TestClient(TestServer(made().server.application())) as client:
            with pytest.raises(WSServerHandshakeError, match="400"):
                await client.ws_connect(f"/ws{query}")

    asyncio.run(run())


def test_heartbeats_come_at_once_and_then_each_few_seconds():
    made_ = made()

    async def scenario(socket):
        [first] = await until(socket, "heartbeat")
        assert StreamCursor.decoded(first["cursor"]) == StreamCursor([], [], [])
        take(made_.recent, EPISODES[:1], [(2, 41)])
        for _ in range(5):
            made_.server.push.send_changes()
        messages = await until(socket, "heartbeat")
        assert len([one for one in messages if one["type"] == "statistics"]) == 5
        assert StreamCursor.decoded(messages[-1]["cursor"]).events == [0, 0, 42]
        assert messages[-1]["cursor"] == messages[0]["cursor"]

    connected(made_, "", scenario=scenario)


@pytest.mark.parametrize("seed", range(20))
def test_who_comes_back_gets_every_episode_of_which_something_came_since_or_is_told_to_ask(seed):
    """From the cursor of one worker, at another that has begun at some other place and remembers few episodes."""
    rng = random.Random(seed)
    log, ends = [], [0, 0, 0]
    for _ in range(60):
        partition = rng.randrange(3)
        log.append((event(rng.randrange(25), at=len(log), what=rng.choice(["opened", "changed", "closed"])),
                    (partition, ends[partition])))  # fmt: skip
        ends[partition] += 1
    left = rng.randrange(len(log))
    there, here = RecentResults(), RecentResults(max_episodes=rng.choice([8, 1000]))
    take(there, *zip(*log[: left + 1]))
    cursor = StreamCursor.of(there.events.positions, {}, {})
    begins = [rng.choice([0, rng.randrange(end + 1)]) for end in ends]
    for partition, at in enumerate(begins):
        here.events.lost(partition, at)
        here.events.positions[partition] = at
    read = [(one, place) for one, place in log if place[1] >= begins[place[0]]]
    take(here, *zip(*read))
    since = here.events.since(cursor.events)
    missed = {one.episode for one, _ in log[left + 1 :]}
    known = {name for name, _ in here.episodes()}
    if since is None:
        assert any(begin for begin in begins) or len(known) < len({one.episode for one, _ in log})
    else:
        changed = {one.episode for one, place in log[left + 1 :]}
        assert since <= missed and since <= known
        silent = {one.episode for one in here_repeats(log, left, since)}
        assert changed - since <= silent


def here_repeats(log, left, since):
    """Events that change nothing of what is known, such as one that is not later than another before."""
    recent = RecentResults()
    for at, (one, place) in enumerate(log):
        before = recent.episode(one.episode)
        recent.take_event(msgspec.json.encode(one), 5.0, place)
        if at > left and recent.episode(one.episode) == before:
            yield one


def test_what_was_missed_is_sent_at_once():
    made_ = made()
    take(made_.recent, EPISODES, [(0, 0), (0, 1), (1, 0)])
    made_.mirror.take(b"acknowledgement/a", decisions.encode(Acknowledgement("a", "ann", 5.0)), (0, 0))
    made_.mirror.take(b"acknowledgement/b", decisions.encode(Acknowledgement("b", "ann", 6.0)), (0, 1))
    made_.server.push.send_changes()
    cursor = StreamCursor([1, 0], [], [1]).encoded()

    async def scenario(socket, other):
        anomalies, decided, _ = await until(socket, "heartbeat")
        assert [one["episode"] for one in anomalies["anomalies"]] == ["raw-data:0:1:0", "raw-data:0:2:0"]
        assert [one["episode"] for one in decided["decided"]] == ["b"]
        await until(other, "heartbeat")
        await other.send_json({"cursor": cursor})
        assert await until(other, "decided") == [anomalies, decided]

    connected(made_, f"?cursor={cursor}", "", scenario=scenario)


def test_who_was_away_for_too_long_is_told_to_ask():
    made_ = made()
    made_.recent.events.lost(0, 100)
    made_.recent.events.positions[0] = 200

    async def scenario(socket, other):
        reset, _ = await until(socket, "heartbeat")
        assert reset["type"] == "reset"
        assert (await until(other, "heartbeat"))[0]["type"] == "decided"

    cursors = [StreamCursor([at], [], []).encoded() for at in (99, 100)]
    connected(made_, *(f"?cursor={cursor}" for cursor in cursors), scenario=scenario)


def test_all_are_told_to_ask_when_events_were_passed_over():
    made_ = made()

    async def scenario(socket):
        made_.recent.events.skip(0, 500)
        made_.server.push.send_changes()
        made_.server.push.send_changes()
        messages = await until(socket, "statistics") + await until(socket, "statistics")
        assert [one["type"] for one in messages] == ["heartbeat", "reset", "statistics", "statistics"]

    connected(made_, "", scenario=scenario)


def test_decisions_are_pushed_to_every_page():
    made_ = made()
    take(made_.recent, EPISODES[:1], [(0, 0)])
    name = EPISODES[0].episode

    async def scenario(socket):
        await until(socket, "heartbeat")
        made_.server.push.send_changes()
        await until(socket, "statistics")
        made_.mirror.take(
            f"acknowledgement/{name}".encode(), decisions.encode(Acknowledgement(name, "ann", 5.0, "on it"))
        )
        made_.mirror.take(f"feedback/{name}".encode(), decisions.encode(Feedback(name, "expected", "bob", 6.0)))
        made_.server.push.send_changes()
        decided, _ = await until(socket, "statistics")
        assert decided["decided"] == [
            {
                "episode": name,
                "acknowledged": {"by": "ann", "at": 5.0, "comment": "on it"},
                "feedback": {"by": "bob", "at": 6.0, "verdict": "expected"},
            }
        ]
        assert "silences" not in decided
        silence = Silence("s1", ["source=a"], 1.0, 9e9, "ann")
        made_.mirror.take(b"silence/s1", decisions.encode(silence))
        made_.mirror.take(f"acknowledgement/{name}".encode(), None)
        made_.server.push.send_changes()
        decided, _ = await until(socket, "statistics")
        assert decided["silences"] == [
            {"id": "s1", "matchers": ["source=a"], "starts_at": 1.0, "ends_at": 9e9, "by": "ann", "comment": ""}
        ]  # as /api/silences has them
        assert decided["decided"][0]["acknowledged"] is None

    connected(made_, "", scenario=scenario)


def test_a_cursor_is_text_for_an_address():
    cursor = StreamCursor.of({0: 5, 2: 1 << 40}, {}, {0: 7})
    assert StreamCursor.decoded(cursor.encoded()) == StreamCursor([5, 0, 1 << 40], [], [7])
    assert not set(cursor.encoded()) & set("+/&?# ")


def test_a_cursor_far_ahead_is_of_another_topic():
    feed = ReadPositions()
    feed.positions = {0: 5}
    assert feed.since([6]) == set() and feed.since([5 + 20_000]) is None


def test_the_mirror_forgets_the_oldest_of_too_many():
    from app.web.topics.decisions import DecisionsMirror

    mirror = DecisionsMirror("decisions", lambda: None, most_bytes=100_000)
    for number in range(1_000):
        one = Acknowledgement(f"raw-data:0:{number}:0", "ann", 5.0, "x" * 50)
        mirror.take(one.key.encode(), decisions.encode(one), (0, number))
    assert mirror.nbytes <= 100_000 and mirror.acknowledged("raw-data:0:999:0")
    assert mirror.acknowledged("raw-data:0:0:0") is None
    assert mirror.positions.since([0]) is None and mirror.positions.since([999]) == {"raw-data:0:999:0"}
    for key, value in ((b"silence/x", b"{"), (b"x", b"x" * 70_000), (None, b"{}"), (b"overdue/0", b"no JSON")):
        mirror.take(key, value)
    assert mirror.unreadable == 2
    assert json.loads(json.dumps(mirror.silences())) == []

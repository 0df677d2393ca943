"""Whatever the batches, repeats, crashes and restarts: the tables are what the records say, on both databases."""

import asyncio
import json
import random
from contextlib import suppress

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.alerting.engine import MOST_NEWS
from app.store import rows, tables
from app.store.projection import DAY_S, Overtaken, PartitionRange, Projection
from app.wire import overdue
from app.wire.decisions import Acknowledgement, Feedback, Silence
from tests.unit.store.logs import DAY, KINDS, LEVELS, NOW, Topics, event, expected, notification

EPISODES = [f"raw-data:0:{offset}:0" for offset in (3, 4, 7)]


class Crash(Exception):
    pass


class Crashing:
    """A connection that fails at its nth statement."""

    def __init__(self, connection, statements):
        self._connection, self.left = connection, statements

    def __getattr__(self, name):
        return getattr(self._connection, name)

    async def execute(self, *args):
        self.left -= 1
        if self.left < 0:
            raise Crash
        return await self._connection.execute(*args)


async def held(connection):
    """What the tables hold, by key."""
    e, n, d = tables.episodes.c, tables.notifications.c, tables.decisions.c
    async with connection.begin():
        columns = (e.severity, e.ended_at, e.reason, e.points, e.peak_score, e.value, e.sentence, e.recorded_at)
        episodes = {row[0]: tuple(row[1:]) for row in await connection.execute(sa.select(e.id, *columns))}
        columns = (n.state, n.attempts, n.answer, n.recorded_at)
        told = {row[0]: tuple(row[1:]) for row in await connection.execute(sa.select(n.id, *columns))}
        news = {tuple(row[:2]): tuple(row[2:]) for row in await connection.execute(sa.select(tables.news))}
        columns = (d.author, d.comment, d.verdict, d.recorded_at)
        decisions = {row[0]: tuple(row[1:]) for row in await connection.execute(sa.select(d.key, *columns))}
    return {"episodes": episodes, "notifications": told, "news": news, "decisions": decisions}


async def emptied(connection):
    async with connection.begin():
        for table in (tables.episodes, tables.notifications, tables.news, tables.decisions, tables.positions):
            await connection.execute(sa.delete(table))


async def read_on(projection, topics, chance, whole=False):
    """One batch: some of the next records of some partitions; ``whole``: all there are."""
    records, after = [], {}
    for place, log in topics.logs.items():
        at = projection.positions[place]
        to = len(log) if whole else min(at + chance.randrange(4), len(log))
        if to > at:
            records += log[at:to]
            after[place] = to
    await projection.take(records, after)


def written(chance, topics):
    """Write one record: of what happened, of what was told, of what somebody said; often one that was there before."""
    at = NOW - chance.choice([0.0, 1.0, 89 * DAY, 91 * DAY])
    episode = chance.choice(EPISODES)
    offset = chance.randrange(3, 12)
    # What happened at one place is always the same.
    what = "opened" if offset < 5 else "closed" if offset > 9 else "changed"
    one = event(episode, what, offset, severity=LEVELS[min(offset // 3, 3)], peak_score=offset / 20)
    match chance.randrange(5):
        case 0 | 1:
            topics.write(one, 0, at)
        case 2:
            name = chance.choice("abc")
            state = chance.choice(["queued", "queued", "sent", "failed", "muted"])
            told = [event(other) for other in EPISODES[: "abc".index(name) + 1]]
            more = {"attempts": chance.randrange(3), "answer": chance.choice(["", "200 OK"])}
            topics.write(notification(name, state, *told, **more), "abc".index(name) % 2, at)
        case 3:
            by = chance.choice(["ann", "bob"])
            said = [
                Acknowledgement(episode, by, at),
                Feedback(episode, chance.choice(["anomaly", "expected"]), by, at, "a comment"),
                Silence("s1", ['source="a"'], at, at + chance.choice([10.0, 5 * DAY]), by),
            ]
            topics.write(chance.choice(said), 0, at)
        case 4:
            topics.write(chance.choice([f"acknowledgement/{episode}", "silence/s1"]), 0, at)


async def lived_through(database, seeds, projection_class=Projection):
    """For each seed a history of writing, reading, crashes and restarts; AssertionError where the tables are wrong."""
    await database.open()
    async with database.writer() as connection:
        for seed in seeds:
            chance = random.Random(seed)
            topics = Topics()
            await emptied(connection)

            async def begun(topics=topics):
                projection = projection_class(connection, KINDS, 90.0, lambda: NOW)
                await projection.begin(topics.found())
                return projection

            projection = await begun()
            for _ in range(chance.randrange(1, 12)):
                match chance.randrange(8):
                    case 0:
                        projection = await begun()
                    case 1:
                        failing = Crashing(connection, chance.randrange(1, 8))
                        projection._connection = failing
                        with suppress(Crash):
                            await read_on(projection, topics, chance)
                        projection = await begun()
                    case 2:
                        await emptied(connection)
                        projection = await begun()
                    case 3 | 4:
                        await read_on(projection, topics, chance)
                    case _:
                        for _ in range(chance.randrange(1, 9)):
                            written(chance, topics)
            await read_on(projection, topics, chance, whole=True)
            assert await held(connection) == expected(topics, NOW - 90 * DAY), seed


def ended(database, what):
    async def run():
        try:
            return await what
        finally:
            await database.close()

    return asyncio.run(run())


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.integers(0, 2**32), min_size=4, max_size=10))
def test_the_tables_are_what_the_records_say(database, seeds):
    ended(database, lived_through(database, seeds))


class LastReadCounts(Projection):
    async def _take_events(self, records, oldest):
        read = [(event, record.time_s) for record, event in self._read(records, rows.read_event, oldest)]
        await self._write(tables.episodes, [rows.episode_row(None, one, at) for one, at in read])


class PositionsApart(Projection):
    async def take(self, records, after):
        await super().take([], after)
        await super().take(records, {})


@pytest.mark.parametrize("broken", [LastReadCounts, PositionsApart])
def test_a_broken_projection_is_noticed(database, broken):
    with pytest.raises(AssertionError):
        ended(database, lived_through(database, range(60), broken))


async def filled(database, topics, days=90.0, now=NOW):
    """What the tables hold after one process has read these topics."""
    await database.open()
    async with database.writer() as connection:
        projection = Projection(connection, KINDS, days, lambda: now)
        said = await projection.begin(topics.found())
        await read_on(projection, topics, random, whole=True)
        while await projection.expire():
            pass
        return said, projection, await held(connection)


def test_an_opening_that_is_repeated_after_the_end_changes_nothing(database):
    topics = Topics()
    for one in (event(), event(what="closed", offset=9), event()):
        topics.write(one)
    _, _, held = ended(database, filled(database, topics))
    [(severity, ended_at, reason, *_)] = held["episodes"].values()
    assert (severity, ended_at, reason) == ("high", 1009.0, "recovered")


def test_of_sources_that_send_nothing_alerters_know_alone_and_their_episodes_are_there_too(database):
    topics = Topics()
    of = {"episode": "raw-data:0:1000000:silent-1", "kind": "silent", "value": None, "expected": None}
    topics.write(notification("n-1", "sent", event(**of, offset=1000, explanation="no point for 5 min")))
    topics.write(notification("n-2", "queued", event(**of, what="closed", offset=1000, index=1)))
    topics.put("group-decisions", 0, b"overdue/0", overdue.encode(overdue.Overdue(0, NOW)))
    _, projection, held = ended(database, filled(database, topics))
    [(episode, row)] = held["episodes"].items()
    assert (episode, row[1], row[6]) == (of["episode"], 2000.0, "no point for 5 min")
    assert projection.unreadable == 0 and held["decisions"] == {}


def test_what_retention_deleted_does_not_come_back_with_a_new_database(database):
    topics = Topics()
    topics.write(event("old"), at=NOW)
    topics.write(event("new"), at=NOW + 10 * DAY)
    topics.write(notification("a", "sent", event("old")), at=NOW)
    topics.write(Silence("over", [], NOW, NOW + 1, "ann"), at=NOW)
    topics.write(Silence("lasts", [], NOW, NOW + 300 * DAY, "ann"), at=NOW)
    later = NOW + 95 * DAY

    async def both():
        _, _, first = await filled(database, topics)
        assert set(first["episodes"]) == {"old", "new"} and set(first["news"]) == {("a", "old")}
        _, _, aged = await filled(database, topics, now=later)
        async with database.writer() as connection:
            await emptied(connection)
        _, _, rebuilt = await filled(database, topics, now=later)
        return aged, rebuilt

    aged, rebuilt = ended(database, both())
    assert aged == rebuilt
    assert set(aged["episodes"]) == {"new"} and set(aged["decisions"]) == {"silence/lasts"}
    assert not aged["notifications"] and not aged["news"]


def test_more_than_one_transaction_deletes_is_deleted(database):
    topics = Topics()
    for number in range(1200):
        topics.write(event(f"raw-data:0:{number}:0"))

    async def both():
        await filled(database, topics)
        return await filled(database, topics, now=NOW + 91 * DAY)

    assert not ended(database, both())[2]["episodes"]


def test_a_topic_that_was_created_again_is_read_from_its_beginning_and_its_history_is_gone(database):
    topics = Topics()
    topics.write(event("first"))
    topics.write(notification("a", "sent", event("first")))

    async def both():
        await filled(database, topics)
        topics.make_anew("anomalies")
        topics.write(event("second"))
        return await filled(database, topics)

    said, _, held = ended(database, both())
    assert set(held["episodes"]) == {"second"} and set(held["notifications"]) == {"a"}
    assert len(said) == 1 and "anomalies was created again" in said[0]


def test_without_ids_of_topics_a_position_beyond_the_end_says_that_one_was_made_anew(database):
    topics = Topics()
    topics.ids["anomalies"] = ""
    topics.write(event("first"))
    topics.write(event("first", "closed", 9))

    async def both():
        await filled(database, topics)
        topics.logs["anomalies", 0] = []
        topics.write(event("second"))
        return await filled(database, topics)

    assert set(ended(database, both())[2]["episodes"]) == {"second"}


def test_a_log_that_lost_its_end_is_read_again_and_nothing_is_deleted(database):
    topics = Topics()
    topics.write(event("first"))
    topics.write(event("lost"))

    async def both():
        await filled(database, topics)
        topics.logs["anomalies", 0].pop()
        return await filled(database, topics)

    said, projection, held = ended(database, both())
    assert set(held["episodes"]) == {"first", "lost"} and "ends at 1, but was read up to 2" in said[0]
    assert projection.positions["anomalies", 0] == 1


def test_records_below_the_beginning_of_the_log_are_not_waited_for(database):
    async def begun():
        await database.open()
        async with database.writer() as connection:
            projection = Projection(connection, KINDS, 90.0, lambda: NOW)
            await projection.begin({("anomalies", 0): PartitionRange("id", 0, 5)})
            await projection.begin({("anomalies", 0): PartitionRange("id", 3, 9)})
            return projection.positions

    assert ended(database, begun()) == {("anomalies", 0): 3}


def test_of_two_that_write_the_second_leaves_no_trace(database):
    topics = Topics()

    async def both():
        await database.open()
        async with database.writer() as connection:
            first, second = (Projection(connection, KINDS, 90.0, lambda: NOW) for _ in range(2))
            await first.begin(topics.found())
            await second.begin(topics.found())
            topics.write(event("first"))
            await read_on(first, topics, random, whole=True)
            topics.write(event("second"))
            with pytest.raises(Overtaken):
                await read_on(second, topics, random, whole=True)
            return await held(connection)

    assert set(ended(database, both())["episodes"]) == {"first"}


BAD = [
    b"",
    b"{}",
    b"\xff\xfe",
    b"null",
    b'{"event": "opened"}',
    b'{"id": "' + b"x" * 5000 + b'"}',
]


def test_what_is_no_record_of_ours_is_passed_over_and_counted(database, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BYTES", 5000)
    topics = Topics()
    topics.write(event("good"))
    for value in BAD:
        for topic in KINDS:
            topics.put(topic, 0, b"key", value)
    topics.put("anomalies", 0, b"key", None)
    topics.put("group-decisions", 0, None, None)
    topics.write(event("x" * 601))
    topics.write(event("nul\0"))
    topics.write(event("big", points=1 << 64))
    topics.write(event("after"))
    _, projection, held = ended(database, filled(database, topics))
    assert set(held["episodes"]) == {"good", "after"} and not held["notifications"] and not held["decisions"]
    assert projection.unreadable == 3 * len(BAD) + 3


def test_text_that_a_database_does_not_take_is_kept_without_it(database):
    topics = Topics()
    odd = "a\0b'\"\\%\u2028\U0001f600"
    topics.write(event("odd", source=odd, labels={odd: [odd, {"deep": odd}]}, explanation=odd, severity=odd))
    topics.write(notification("n", "sent", event("odd"), answer=odd))
    topics.write(Acknowledgement("odd", odd, NOW, odd))
    _, projection, held = ended(database, filled(database, topics))
    assert projection.unreadable == 0
    kept = odd.replace("\0", "\ufffd")
    assert held["episodes"]["odd"][0] == held["episodes"]["odd"][6] == kept
    assert held["notifications"]["n"][2] == kept and held["decisions"]["acknowledgement/odd"][:2] == (kept, kept)


def test_a_message_can_tell_of_as_many_episodes_as_alerters_put_into_one(database):
    topics = Topics()
    told = [event(f"raw-data:0:{number}:0", explanation="x" * 1000) for number in range(MOST_NEWS)]
    for state in ("queued", "sent"):
        topics.write(notification("n", state, *told))
    _, projection, held = ended(database, filled(database, topics))
    assert projection.unreadable == 0 and held["notifications"]["n"][0] == "sent"
    assert held["news"] == {("n", one.episode): (place, "opened") for place, one in enumerate(told)}


def nested(depth):
    return b'{"deep":' + b"[" * depth + b"1" + b"]" * depth + b"}"


def test_labels_as_wild_as_json_stop_nothing(database):
    topics = Topics()
    plain = msgspec.json.encode(event("plain", labels={}))
    for number, labels in enumerate([nested(40), nested(60), nested(5000), b'{"big":' + b"9" * 400 + b"}"]):
        value = plain.replace(b'"plain"', b'"e%d"' % number)[:-1] + b',"labels":' + labels + b"}"
        topics.put("anomalies", 0, b"key", value)
    _, projection, held = ended(database, filled(database, topics))
    assert (set(held["episodes"]), projection.unreadable) == ({"e0", "e3"}, 2)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
wild = st.fixed_dictionaries(
    {
        "labels": st.dictionaries(st.text(), anything, max_size=3),
        "source": st.text(),
        "metric": st.text(),
        "kind": st.text(),
        "severity": st.text(),
        "explanation": st.text(),
        "points": st.integers(-(2**64), 2**64),
        "offset": st.integers(-(2**64), 2**64),
        "index": st.integers(-(2**64), 2**64),
        "value": st.floats(allow_nan=False, allow_infinity=False),
        "expected": st.floats(allow_nan=False, allow_infinity=False) | st.dictionaries(st.text(), st.floats(0, 1)),
        "opened_at": st.floats(allow_nan=False, allow_infinity=False),
    }
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(wild, min_size=5, max_size=20))
def test_whatever_the_fields_of_an_event_hold_it_is_taken_or_passed_over(database, fields):
    topics = Topics()
    for number, one in enumerate(fields):
        value = json.dumps(msgspec.structs.asdict(event(f"e{number}")) | one).encode()
        topics.put("anomalies", 0, b"key", value)

    async def lived():
        await database.open()
        async with database.writer() as connection:
            await emptied(connection)
        return await filled(database, topics)

    _, projection, held = ended(database, lived())
    assert len(held["episodes"]) + projection.unreadable == len(fields)


def test_retention_in_days_is_seconds():
    assert DAY_S == DAY

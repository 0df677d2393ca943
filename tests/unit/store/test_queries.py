"""Episodes by page and filter, who was told and what was said; on both databases."""

import asyncio

import pytest

from app.errors import StoreError
from app.store.cursor import BadCursor
from app.store.projection import Projection
from app.store.queries import Queries
from app.wire.decisions import Acknowledgement, Feedback, Silence
from tests.unit.store.logs import KINDS, NOW, Topics, event, notification

SEVERITIES = ["low", "medium", "high", "critical"]


def opened(number, **more):
    """Ten episodes of ten sources, two at each time."""
    at = 1000.0 + number // 2
    fields = {"source": f"pump-{number}", "opened_at": at, "severity": SEVERITIES[number % 4]}
    return event(f"raw-data:0:{number}:0", offset=number, **(fields | more))


def closed(number):
    return opened(number, what="closed", index=1, timestamp=2000.0, value=1.0)


async def write(database, topics):
    await database.open()
    async with database.writer() as connection:
        projection = Projection(connection, KINDS, 90.0, lambda: NOW)
        await projection.begin(topics.found())
        records = [record for log in topics.logs.values() for record in log[projection.positions[_place(log)] :]]
        await projection.take(records, {place: len(log) for place, log in topics.logs.items()})


def _place(log):
    return (log[0].topic, log[0].partition) if log else ("anomalies", 0)


@pytest.fixture
def ask(database):
    """Fill the database and call this with the queries of it."""
    topics = Topics()
    for number in range(10):
        topics.write(opened(number))
    for number in (0, 3):
        topics.write(closed(number))
    topics.write(opened(10, source="Pump-[a]_%"))
    topics.write(notification("n1", "queued", opened(1), opened(2)))
    topics.write(notification("n2", "muted", opened(1), answer="silence s1"))
    topics.write(notification("n1", "sent", opened(1), opened(2), done_at=NOW + 1, attempts=2, answer="200 OK"))
    topics.write(Acknowledgement("raw-data:0:1:0", "ann", NOW, "on it"))
    topics.write(Feedback("raw-data:0:1:0", "expected", "bob", NOW + 5))
    topics.write(Silence("s1", ['source=~"pump-.*"'], NOW, NOW + 60, "ann"))

    def run(question):
        async def asked():
            try:
                await write(database, topics)
                return await question(Queries(database))
            finally:
                await database.close()

        return asyncio.run(asked())

    return run


def sources(page):
    return [one.source for one in page.episodes]


def test_pages_go_on_where_the_last_one_ended_whatever_is_written_between(ask, database):
    async def pages(queries):
        seen, cursor = [], ""
        late = Topics()
        late.ids = {topic: "second" for topic in late.ids}
        while True:
            page = await queries.episodes(limit=3, cursor=cursor)
            seen += sources(page)
            if not page.cursor:
                return seen
            cursor = page.cursor
            async with database.writer() as connection:
                projection = Projection(connection, KINDS, 90.0, lambda: NOW)
                topics = Topics()
                topics.write(opened(20 + len(seen)))
                place = ("anomalies", 1)
                await projection.begin({place: topics.found()["anomalies", 0]})
                await projection.take(topics.logs["anomalies", 0], {place: projection.positions[place]})

    assert ask(pages) == ["Pump-[a]_%", *(f"pump-{number}" for number in range(9, -1, -1))]


@pytest.mark.parametrize(
    "filters, expected",
    [
        ({"since": 1004.0}, [10, 9, 8]),
        ({"until": 1001.0}, [1, 0]),
        ({"since": 1001.0, "until": 1002.0}, [3, 2]),
        ({"severity": "critical"}, [7, 3]),
        ({"severity": ["critical", "low"], "until": 1002.5}, [4, 3, 0]),
        ({"source": "pump-7"}, [7]),
        ({"source": "pump-?", "limit": 2}, [9, 8]),
        ({"source": "*-1"}, [1]),
        ({"source": "Pump-[a]_*"}, [10]),
        ({"source": "Pump-?a?_%"}, [10]),
        ({"source": "pump-[a]*"}, []),
        ({"source": "pump-__%*"}, []),
        ({"kind": "value", "limit": 1}, [10]),
        ({"kind": "pair"}, []),
        ({"state": "closed"}, [3, 0]),
        ({"state": "open", "until": 1002.0}, [2, 1]),
    ],
)
def test_filters(ask, filters, expected):
    page = ask(lambda queries: queries.episodes(**filters))
    assert [int(one.id.split(":")[2]) for one in page.episodes] == expected


def test_an_episode_has_what_opened_it_and_how_it_ended(ask):
    one = ask(lambda queries: queries.episode("raw-data:0:3:0"))
    assert (one.state, one.ended_at, one.reason, one.severity) == ("closed", 2000.0, "recovered", "critical")
    assert (one.value, one.expected, one.sentence, one.labels) == (90.5, 50.0, "at 3", {"site": "north"})
    assert one.event["event"] == "opened" and one.event["offset"] == 3
    assert ask(lambda queries: queries.episode("no")) is None


def test_who_was_told_of_it_and_what_they_answered(ask):
    told = ask(lambda queries: queries.notifications("raw-data:0:1:0"))
    assert [(one.id, one.state, one.why, one.answer, one.attempts) for one in told] == [
        ("n1", "sent", "opened", "200 OK", 2),
        ("n2", "muted", "opened", "silence s1", 0),
    ]
    several = ask(lambda queries: queries.notifications("raw-data:0:1:0", "raw-data:0:2:0"))
    assert [(one.id, one.episode) for one in several] == [
        ("n1", "raw-data:0:1:0"),
        ("n1", "raw-data:0:2:0"),
        ("n2", "raw-data:0:1:0"),
    ]


def test_what_was_decided(ask):
    said = ask(lambda queries: queries.decisions("raw-data:0:1:0"))
    assert [(one.decision, one.by, one.verdict, one.comment) for one in said] == [
        ("acknowledgement", "ann", "", "on it"),
        ("feedback", "bob", "expected", ""),
    ]
    [silence] = [one for one in ask(lambda queries: queries.decisions()) if one.decision == "silence"]
    assert (silence.silence, silence.matchers, silence.ends_at) == ("s1", ['source=~"pump-.*"'], NOW + 60)


@pytest.mark.parametrize("cursor", ["x", "é", "W10=", "WyJhIiwiYiJd", "////"])
def test_a_cursor_of_somebody_else_is_refused(database, cursor):
    with pytest.raises(BadCursor, match="expected the cursor of an earlier page"):
        asyncio.run(Queries(database).episodes(cursor=cursor))


def test_a_database_that_cannot_be_asked_says_so(database):
    async def asked():
        try:
            await Queries(database).episodes()
        finally:
            await database.close()

    with pytest.raises(StoreError, match="history in"):
        asyncio.run(asked())

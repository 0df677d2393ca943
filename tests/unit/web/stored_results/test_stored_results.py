"""Results out of made logs, against reading all of them, wherever it begins and stops; pages, thinning, waiting."""

import asyncio
import math
import random
from types import SimpleNamespace

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError
from support.made_log import RAW, MadeLog, result

from app import errors
from app.settings import load
from app.web.stored_results import by_time, queries, waiter
from app.web.stored_results.downsampling import CollectedResult, ResultCollector
from app.web.stored_results.queries import MissingResult, StoredResults

NOW = 1_700_000_000.0
SOURCE = "pump-7"


def kept_of(log, **settings):
    return StoredResults(load(environ={}, **settings), lambda: log)


def run(kept, call):
    async def all_of_it():
        try:
            return await call
        finally:
            await kept.stop()

    return asyncio.run(all_of_it())


def read(log, begin, end, source=SOURCE, metric=None, settings=None, **options):
    """(results, pages) with a cursor from page to page."""
    kept = kept_of(log, **settings or {})

    async def pages():
        found = [await kept.series(source, metric, begin, end, **options)]
        while found[-1].cursor:
            assert not found[-1].complete
            found.append(await kept.series(source, metric, begin, end, cursor=found[-1].cursor, **options))
        return found

    found = run(kept, pages())
    assert found[-1].complete
    return [one for page in found for one in page.results], found


def times(results):
    return [msgspec.json.decode(one)["timestamp"] for one in results]


# --- complete, wherever it begins and stops ---


def made(seed, late_s=30.0):
    """A log in which points of the source are late by up to so much, and all that is in it of the source.

    Live, or replayed long after; its clock right or ahead; alone, or one among many others; in one partition of three.
    """
    choice = random.Random(seed)
    log, number = MadeLog(3), choice.randrange(3)
    others = choice.choice([0, 1, 20])
    first = NOW + choice.choice([-40_000_000.0, 0.0, 7_200.0])
    step = choice.choice([0.5, 1.0, 60.0])
    late = choice.choice([0.0, late_s * 0.9])
    ours, highest, now = [], -math.inf, NOW
    batch = []
    for n in range(400):
        time = first + n * step - choice.uniform(0.0, late) * (choice.random() < 0.2)
        time = max(time, highest - late_s)
        highest = max(highest, time)
        one = result(number, n, SOURCE, time, choice.gauss(0.0, 1.0))
        ours.append((time, one))
        batch += [one, *(result(number, n, f"other-{i}", time) for i in range(others))]
        now += step
        if len(batch) > 30:
            log.write(batch, number=number, written=now, per_batch=50)
            if choice.random() < 0.1:  # repeats of a late worker
                log.write(batch, number=number, written=now, per_batch=50)
            batch = []
    log.write(batch, number=number, written=now, per_batch=50)
    return log, ours, first, first + 400 * step


@pytest.fixture
def small(monkeypatch):
    """Pieces and probes so small that these logs have many."""
    monkeypatch.setattr(by_time, "PROBE_RECORDS", 60)
    monkeypatch.setattr(by_time, "FETCH_BYTES", 4_000)
    monkeypatch.setattr(by_time, "FAR_S", 50.0)


def lost(seed, late_s=30.0, **options):
    log, ours, first, end = made(seed)
    choice, gone = random.Random(seed), 0
    for _ in range(3):
        a, b = sorted(choice.uniform(first - 100.0, end + 100.0) for _ in range(2))
        wanted = [one for time, one in ours if a <= time < b]
        results, pages = read(log, a, b, late_s=late_s, **options)
        assert len(set(results)) == len(results) and set(results) <= set(wanted)
        assert sum(page.seen for page in pages) == len(results)
        assert all(times(page.results) == sorted(times(page.results)) for page in pages)
        gone += len(wanted) - len(results)
    return gone


@pytest.mark.parametrize("seed", range(25))
def test_nothing_is_missed(small, seed):
    assert lost(seed, records=[200, 2_000_000][seed % 2], limit=[7, 1_000][seed // 2 % 2]) == 0


def test_to_stop_at_the_first_point_beyond_the_end_misses_late_ones(small):
    """The control: the law above sees it."""
    assert any(lost(seed, late_s=0.0) for seed in range(25))


def test_without_a_bound_for_late_points_all_is_read(small):
    log = MadeLog()
    log.write([result(0, n, SOURCE, NOW + n % 50) for n in range(150)], written=NOW)  # sent three times
    results, _ = read(log, NOW + 10.0, NOW + 20.0, late_s=math.inf)
    assert len(results) == 30
    results, _ = read(log, NOW + 10.0, NOW + 20.0, late_s=5.0)
    assert len(results) < 30


def test_far_less_than_the_log_is_read(small):
    log = MadeLog()
    for hour in range(200):
        some = [result(0, hour * 100 + n, f"pump-{n % 10}", NOW + hour * 3600 + n * 36) for n in range(100)]
        log.write(some, written=NOW + hour * 3600 + 3600)
    begin = NOW + 100 * 3600.0
    results, [page] = read(log, begin, begin + 7200.0)
    assert len(results) == 20 and page.records < 1_000
    log.batches = {at: [(a, b, int(NOW * 1000) + 10**9, d) for a, b, _, d in some] for at, some in log.batches.items()}
    results, [page] = read(log, begin, begin + 7200.0)  # replayed
    assert len(results) == 20 and page.records < 2_000


def test_a_source_that_runs_ahead_is_found():
    log = MadeLog()
    log.write([result(0, n, SOURCE, NOW + n * 60.0) for n in range(1_000)], written=NOW)
    results, _ = read(log, NOW + 30_000.0, NOW + 36_000.0)
    assert len(results) == 100


def test_the_name_is_that_of_the_source_and_nothing_else():
    log = MadeLog()
    odd = 'a"b\\c\nü'
    ours = [result(0, 0, odd, NOW), result(0, 1, odd, NOW + 1.0, labels={"source": "pump-1"})]
    others = [result(0, 2, "pump-1", NOW, labels={"source": odd}), b'{"source":"pump-1"}', b"no JSON", b""]
    log.write([*ours, *others, result(0, 3, "pump-1", NOW)], written=NOW)
    assert read(log, NOW, NOW + 9.0, source=odd)[0] == ours
    assert read(log, NOW, NOW + 9.0, source="pump-1")[0] == [others[0], result(0, 3, "pump-1", NOW)]


def test_times_as_text_and_metrics():
    log = MadeLog()
    cpu = result(0, 0, SOURCE, NOW, metric="cpu")
    whole = result(0, 1, SOURCE, NOW)
    vector = msgspec.json.encode({
        "id": f"{RAW}:0:2:0", "source": SOURCE, "timestamp": "2023-11-14T22:13:20.250000Z",
        "values": {"cpu": 1.0, "ram": 2.0}, "anomaly_score": 0.5,
    })  # fmt: skip
    log.write([cpu, whole, vector], written=NOW)
    assert read(log, NOW, NOW + 1.0)[0] == [cpu, whole, vector]
    assert read(log, NOW, NOW + 1.0, metric="cpu")[0] == [cpu, vector]
    assert read(log, NOW, NOW + 1.0, metric="")[0] == [whole, vector]
    assert read(log, NOW + 0.1, NOW + 1.0)[0] == [vector]


def test_a_metric_that_comes_later_than_the_others_is_complete_by_itself():
    log = MadeLog()
    for n in range(100):
        cpu, ram = (result(0, 2 * n + i, SOURCE, NOW + n - 600 * i, metric=of) for i, of in enumerate(["cpu", "ram"]))
        log.write([cpu, ram], written=NOW + n)
    results, [page] = read(log, NOW - 590.0, NOW - 580.0, metric="ram", late_s=1.0)
    assert times(results) == [NOW - 590.0 + n for n in range(10)] and page.complete


def test_where_the_source_is(small):
    log = MadeLog(16)
    for number in range(16):
        log.write([result(number, 0, SOURCE if number in (2, 11) else "x", NOW)], number=number, written=NOW)
    looked = lambda **options: read(log, NOW, NOW + 1.0, **options)[1][0].partitions  # noqa: E731
    order = by_time.partitions_of(SOURCE, 16)
    assert sorted(order) == list(range(16)) and order[:2] == [0, 3]  # as Kafka's clients and librdkafka place it
    assert looked() == order[: order.index(2) + 1]
    assert looked(partitions=[11, 2]) == [11, 2]
    assert len(read(log, NOW, NOW + 1.0, partitions=[11, 2], limit=1)[0]) == 2
    assert looked(partitions=[16, -1]) == looked()  # there are no such
    with pytest.raises(ValueError, match="the 16 of"):
        read(log, NOW, NOW + 1.0, cursor="h16.0.0.-1-0")


def test_with_rekey_a_header_says_what_is_a_repeat():
    log, topic = MadeLog(4), "anomaly-detection-group-by-source"
    number = by_time.partitions_of(SOURCE, 4)[0]
    places = [7, 9, 11, 9, 11, 12]  # a late worker's in between
    values = [result(place % 2, 100 - place, SOURCE, NOW + place) for place in places]
    log.write(values, number=number, written=NOW, headers=(topic, [b"%d" % place for place in places]))
    settings = {"input": {"rekey": True}}
    assert read(log, NOW, NOW + 99.0, settings=settings)[0] == [values[i] for i in (0, 1, 2, 5)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cursor": "x"}, {"cursor": "a0.5.0"}, {"cursor": "h1.5.1.-1-0" + "0" * 30}, {"cursor": "a0.-5.0.-1-0"},
        {"limit": 0}, {"limit": 10**6}, {"late_s": -1.0}, {"late_s": math.nan}, {"most": 3}, {"partitions": [0] * 33},
    ],
)  # fmt: skip
def test_what_cannot_be_asked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        read(MadeLog(), NOW, NOW + 1.0, **wrong)


@pytest.mark.parametrize("span", [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_span_without_sense(span):
    with pytest.raises(ValueError, match="begin and end"):
        read(MadeLog(), *span)


@pytest.mark.parametrize("cursor", ["a3.17.1.-1-0", "h4-0-11.99.0.123-4"])
def test_a_cursor_is_its_text(cursor):
    assert by_time.ScanCursor.of(cursor).text() == cursor


def test_one_search_at_a_time_and_few_wait(monkeypatch):
    monkeypatch.setattr(queries, "QUEUE", 1)
    log = MadeLog()
    log.write([result(0, 0, SOURCE, NOW)], written=NOW)
    kept = kept_of(log)

    async def three():
        asked = [kept.series(SOURCE, None, NOW, NOW + 1.0) for _ in range(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = run(kept, three())
    assert len(first.results) == len(second.results) == 1 and isinstance(third, errors.Busy)


def test_without_a_broker_it_says_so():
    log = MadeLog()

    async def start():
        raise KafkaConnectionError("nobody there")

    log.start = start
    with pytest.raises(errors.Unreadable, match="nobody there"):
        read(log, NOW, NOW + 1.0)


# --- thinned ---


@pytest.mark.parametrize("seed", range(5))
def test_a_thinned_page_shows_every_spike(seed):
    choice = random.Random(seed)
    points = [
        CollectedResult(NOW + choice.random() * 1000.0, 0, n, choice.gauss(0, 1), n % 97 == 0, b"%d" % n)
        for n in range(5_000)
    ]
    collected = ResultCollector(NOW, NOW + 1000.0, most=40)
    for one in points:
        collected.take(one)
    kept = collected.results()
    assert collected.seen == 5_000 and len(kept) <= 40 + 52 and kept == sorted(kept)
    assert {one for one in points if one.is_anomaly} <= set(kept)
    for n in range(10):
        span = [one for one in points if n * 100 <= one.time - NOW < n * 100 + 100]
        ends = {min(span), max(span)}
        sides = {min(span, key=lambda one: one.figure), max(span, key=lambda one: one.figure)}
        assert ends | sides <= set(kept)


def test_a_page_can_be_thinned():
    log = MadeLog()
    log.write([result(0, n, SOURCE, NOW + n, 100.0 if n == 333 else 0.0) for n in range(1_000)], written=NOW)
    results, [page] = read(log, NOW, NOW + 1_000.0, most=20)
    assert page.seen == 1_000 and len(results) <= 20
    assert NOW + 333.0 in times(results)


# --- by id ---


def test_why_there_is_no_result():
    log = MadeLog(2)
    points = [b'{"source":"pump-7","value":%d}' % n for n in range(40)]
    points[20], points[39] = b"no JSON", b"no JSON either"
    points[21] = b'[{"source":"pump-7","value":1},{"source":"pump-7","value":2}]'
    log.write(points, RAW, 1, keys=[b"pump-7"] * 40)
    results = [result(1, n, SOURCE) for n in range(35) if n not in (20, 33)] + [result(1, 21, SOURCE, index=1)]
    results.sort(key=lambda one: int(msgspec.json.decode(one)["id"].split(":")[2]))
    log.write(results, number=1)
    log.delete_before(10, number=1)
    log.delete_before(3, RAW, 1)
    kept = kept_of(log)

    async def ask():
        return {
            of: await kept.result(of)
            for of in [
                "raw-data:1:10:0", "raw-data:1:21:1", "raw-data:1:21:2", "raw-data:1:20:0", "raw-data:1:33:0",
                "raw-data:1:36:0", "raw-data:1:39:0", "raw-data:1:40:0", "raw-data:2:0:0", "raw-data:1:4:0",
                "raw-data:1:2:0", "raw:1:1:0", "raw-data:1:1", "raw-data:1:-1:0", "", "raw-data:1:1:\u0661",
            ]
        }  # fmt: skip

    found = run(kept, ask())
    assert found.pop("raw-data:1:10:0") == result(1, 10, SOURCE)
    assert found.pop("raw-data:1:21:1") == result(1, 21, SOURCE, index=1)
    assert {of: one.state for of, one in found.items()} == {
        "raw-data:1:21:2": "never", "raw-data:1:20:0": "no_result", "raw-data:1:33:0": "no_result",
        "raw-data:1:36:0": "pending", "raw-data:1:39:0": "no_result", "raw-data:1:40:0": "never",
        "raw-data:2:0:0": "never",
        "raw-data:1:4:0": "gone", "raw-data:1:2:0": "gone",
        "raw:1:1:0": "bad_id", "raw-data:1:1": "bad_id", "raw-data:1:-1:0": "bad_id", "": "bad_id",
        "raw-data:1:1:\u0661": "bad_id",
    }  # fmt: skip
    assert "dead letter" in found["raw-data:1:39:0"].why and all(
        isinstance(one, MissingResult) for one in found.values()
    )


def test_with_rekey_a_result_is_in_the_partition_of_its_source():
    log = MadeLog(8)
    sources = [f"pump-{n % 5}" for n in range(100)]
    log.write([b'{"source":"%b","value":1}' % source.encode() for source in sources], RAW, 3)
    for n, source in enumerate(sources[:80]):
        log.write([result(3, n, source), result(4, n, source)], number=by_time.partitions_of(source, 8)[0])
    kept = kept_of(log, input={"rekey": True})

    async def ask():
        return [await kept.result(f"raw-data:3:{n}:0") for n in (0, 42, 79, 80, 100)]

    *found, pending, never = run(kept, ask())
    assert found == [result(3, n, sources[n]) for n in (0, 42, 79)]
    assert (pending.state, never.state) == ("pending", "never")
    log.delete_before(50, RAW, 3)
    assert asyncio.run(ask_one(log, "raw-data:3:42:0", input={"rekey": True})) == result(3, 42, sources[42])


def test_without_a_right_on_raw_data_results_tell_what_they_can():
    log = MadeLog(2)
    log.write([result(1, n) for n in range(20) if n != 7], number=1)

    async def ends(topics):
        if any(one.topic == RAW for one in topics):
            raise TopicAuthorizationFailedError(RAW)
        return await MadeLog.beginning_offsets(log, topics)

    log.beginning_offsets = ends
    states = [asyncio.run(ask_one(log, f"raw-data:1:{n}:0")) for n in (7, 8, 30)]
    assert [states[0].state, states[1], states[2].state] == ["no_result", result(1, 8), "pending"]


def test_retention_may_pass_by_while_it_is_read(monkeypatch):
    monkeypatch.setattr(by_time, "FETCH_BYTES", 1)  # a batch a fetch
    log = MadeLog()
    log.write([result(0, n, SOURCE, NOW + n) for n in range(500)], written=NOW)
    fetch = log.fetch

    async def once(*given):
        if log.fetches > 5:
            log.delete_before(300)
        return await fetch(*given)

    log.fetch = once
    results, _ = read(log, NOW, NOW + 500.0, late_s=math.inf)
    assert results[-200:] == [result(0, n, SOURCE, NOW + n) for n in range(300, 500)] and len(results) < 400


async def ask_one(log, of, **settings):
    kept = kept_of(log, **settings)
    try:
        return await kept.result(of)
    finally:
        await kept.stop()


# --- just written ---


def waiting(log, steps, **settings):
    kept = kept_of(log, **settings)
    return run(kept, steps(kept))


def test_results_of_points_just_written():
    log = MadeLog(2)
    log.write([result(1, n) for n in range(20)], number=1)

    async def steps(kept):
        async with kept.expecting([1]) as expected:
            log.write([result(1, 20)], number=1)  # before its id is known
            await asyncio.sleep(0.05)

            async def write_more():
                await asyncio.sleep(0.05)
                log.write([result(1, n) for n in range(21, 60)], number=1)

            writing = asyncio.create_task(write_more())
            ids = {f"raw-data:1:{n}:0": 1 for n in (20, 21, *range(30, 45), 99)}
            found = await expected.wait(ids, 0.5)
            same = await expected.wait({"raw-data:1:21:0": 1}, 0.5)
            await writing
        return found, same

    found, same = waiting(log, steps)
    assert found == {f"raw-data:1:{n}:0": result(1, n) for n in (20, 21, *range(30, 45))}
    assert same == {"raw-data:1:21:0": result(1, 21)}


def unanswered(seed, timeout_s):
    """Of 40 points that are written and waited for side by side, at moments drawn: those whose result never came."""
    log, choice = MadeLog(3), random.Random(seed)

    async def one(kept, n):
        id, number = f"raw-data:{n % 3}:{n}:0", n % 3
        await asyncio.sleep(choice.random() * 0.05)
        async with kept.expecting([number]) as expected:
            await asyncio.sleep(choice.random() * 0.005)
            log.write([result(number, n)], number=number)
            await asyncio.sleep(choice.choice([0.0, 0.01, 0.03]))
            return id not in await expected.wait({id: number}, timeout_s)

    async def steps(kept):
        return sum(await asyncio.gather(*(one(kept, n) for n in range(40))))

    return waiting(log, steps)


@pytest.mark.parametrize("seed", range(4))
def test_no_result_is_missed_that_is_expected(seed):
    assert unanswered(seed, 240.0) == 0


def test_without_what_came_meanwhile_some_are_missed(monkeypatch):
    """The control."""
    monkeypatch.setattr(waiter._FollowedPartition, "since", lambda self, number: [])
    assert unanswered(0, 0.2) > 0


def test_results_that_were_there_before_anybody_looked_are_found_by_bisection():
    log = MadeLog()
    log.write([result(0, n) for n in range(200)])

    async def steps(kept):
        return await kept.wait({"raw-data:0:150:0": 0, "raw-data:0:300:0": 0}, 0.3)

    assert waiting(log, steps) == {"raw-data:0:150:0": result(0, 150)}


def test_two_may_wait_for_the_same(monkeypatch):
    log = MadeLog()

    async def steps(kept):
        async with kept.expecting([0]) as expected:
            both = [asyncio.create_task(expected.wait({"raw-data:0:0:0": 0}, after)) for after in (0.01, 30.0)]
            first = await both[0]
            log.write([result(0, 0)])
            return first, await both[1]

    assert waiting(log, steps) == ({}, {"raw-data:0:0:0": result(0, 0)})


def test_nothing_is_read_while_nobody_expects_anything(monkeypatch):
    monkeypatch.setattr(waiter, "KEEP_S", 0.05)
    log = MadeLog()

    async def steps(kept):
        async with kept.expecting([0]):
            await asyncio.sleep(0.05)
        during = log.fetches
        while not all(task.done() for task in kept._waiter._tasks.values()):
            await asyncio.sleep(0.01)
        return during

    assert waiting(log, steps) > 0


def test_a_reader_that_falls_behind_goes_on_at_the_end(monkeypatch):
    monkeypatch.setattr(waiter, "BEHIND", 100)
    monkeypatch.setattr(waiter, "PARTITION_BYTES", 1_000)
    log = MadeLog()

    async def steps(kept):
        async with kept.expecting([0]) as expected:
            log.write([result(0, n) for n in range(5_000)])
            last = asyncio.create_task(expected.wait({"raw-data:0:5000:0": 0}, 30.0))
            while not kept._waiter.left_out:
                await asyncio.sleep(0.01)
            log.write([result(0, 5_000)])
            return await last

    assert waiting(log, steps) == {"raw-data:0:5000:0": result(0, 5_000)}


def test_it_rests_so_that_it_uses_its_share():
    from app.web.stored_results.waiter import REST_S, SAVED_S, SHARE, Allowance

    now = SimpleNamespace(s=0.0)
    allowance, used = Allowance(lambda: now.s), 0.0
    while now.s < 100.0:
        used += 0.01
        now.s += 0.01 + allowance.use(0.01)
    assert used <= SHARE * now.s + SAVED_S + 0.02
    assert used >= 0.9 * SHARE * now.s
    assert allowance.use(100.0) <= REST_S  # once

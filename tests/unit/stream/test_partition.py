"""One partition beside a broker that acknowledges at once: what it saves with a batch, and what it forgets."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from aiokafka import ConsumerRecord
from sample_detectors import running_mean

from app import detectors
from app.compiled.byte_columns import RecordColumns
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import load
from app.state import snapshot
from app.stream import assignment, compute, partition
from app.stream.assignment import Partitions
from app.stream.committer import Committer
from app.stream.compute import PartitionState
from app.stream.dead_letter_log import DeadLetterLog
from app.stream.job import Job
from app.stream.ledger import Ledger
from app.stream.outbox import Sent
from app.stream.partition import Partition
from tables.sources import TAG, SourcesTable

LARGE = 1_100_000  # bytes of a model: those of 32 metrics with trees


class Clock:
    """Time that passes only when something is said to take some."""

    now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now


class Broker:
    """Stands in for the outbox; topic -> what each send brought, as (key, value) pairs."""

    def __init__(self):
        self.sent = {}

    async def send(self, topic, number, records):
        pairs = records.pairs() if hasattr(records, "pairs") else list(records)
        if not pairs:
            return []
        self.sent.setdefault(topic, []).append(pairs)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return [Sent(done, len(pairs))]

    async def acknowledged(self, sent):
        return len(sent) if sent else None


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(partition, "time", clock)
    monkeypatch.setattr(assignment, "time", clock)
    return clock


class Bench:
    """A partition to feed; inside a running loop."""

    def __init__(self, **state):
        self.settings = load(environ={}, state={"snapshot_every": 1, "replay_records": 1000, **state},
                             detection={"detectors": {"running": {}}})  # fmt: skip
        self.broker, self.metrics = Broker(), Metrics()
        pipeline = Pipeline.of(self.settings)
        kafka = self.settings.kafka
        topics = (kafka.input_topic, kafka.dead_letters_topic, kafka.anomalies_topic)
        self.committed = []  # what each commit brought
        committer = Committer(kafka, self.metrics, {}, lambda: [], self._commit)
        self.job = Job(self.settings, pipeline, self.metrics, SourcesTable(pipeline), self.broker, committer,
                       DeadLetterLog("dead"), self._never, dict.fromkeys(topics, 1))  # fmt: skip
        self.next = 0
        self.partition = self.owner(self.job.table.take_over())

    def owner(self, of):
        ledger = Ledger(self.next, self.next, self.settings.state.snapshot_every, self.settings.state.replay_records)
        clock = partition.time.monotonic  # of the test, when it has one
        made = Partition(
            PartitionState(0, self.settings, self.job.pipeline, False, of, ledger, (-1, 0), clock), self.job
        )
        made.start()
        made.active, made.generation = True, 1
        return made

    async def feed(self, names, skip=0, **fields):
        """One batch, a point of each of these sources, so many offsets on; what stands in the changelog of it."""
        before = len(self.changelog)
        self.next += skip
        records = []
        for name in names:
            value = json.dumps({"source": name, "value": 1.0 + self.next % 7, **fields}).encode()
            records.append(ConsumerRecord("raw-data", 0, self.next, 10**12, 0, name.encode(), value, 0, 1, 1, ()))
            self.next += 1
        await self.partition.take(SimpleNamespace(records=records, end=self.next, generation_id=1))
        while self.partition.ledger.next < self.next or not self.partition.ledger.idle:
            await asyncio.sleep(0)
        return [pair for sent in self.changelog[before:] for pair in sent]

    def commit(self):
        self.partition.replay_committed = self.partition.ledger.replay_point

    @property
    def changelog(self):
        return self.broker.sent.get(self.settings.kafka.changelog_topic, [])

    async def _never(self, number):
        return 0

    async def _commit(self, offsets):
        self.committed.extend(offsets.values())


@pytest.fixture(autouse=True)
def with_library(monkeypatch):
    monkeypatch.setattr(detectors, "_libraries", [*detectors._libraries, running_mean])
    monkeypatch.setattr(running_mean.Running, "max_state_bytes", lambda self, params: LARGE)


def saved(pairs):
    return {snapshot.peek(value)[0] for _, value in pairs if value is not None}


def gone(pairs):
    return {key[:-TAG].decode() for key, value in pairs if value is None}


NAMES = [f"s{i}" for i in range(100)]


def test_snapshots_of_a_batch_stay_within_a_budget_of_bytes_and_the_rest_follows(monkeypatch):
    monkeypatch.setattr(running_mean.Running, "dumps", lambda self, model: bytes(LARGE))

    async def run():
        bench = Bench()
        first = await bench.feed(NAMES)
        assert 1 < len(saved(first)) < 100
        points, rest = [], []
        while len(rest) < 100 - len(first):
            points.append(bench.partition.ledger.replay_point)
            assert points[-1] == len(first) + len(rest), "it waits for the oldest that is not saved"
            rest += [pair for pair in await bench.feed(["other"]) if not pair[0].startswith(b"other")]
        assert saved(first) | saved(rest) == set(NAMES)
        assert len(bench.changelog) == len(points) + 1 >= 6
        for sent in bench.changelog:
            assert sum(len(value) for _, value in sent) < compute.SNAPSHOT_BYTES + 1.1 * LARGE

    asyncio.run(run())


def test_and_within_a_budget_of_time(monkeypatch, clock):
    def dumps(self, model):
        clock.now += 0.1
        return b"model"

    monkeypatch.setattr(running_mean.Running, "dumps", dumps)

    async def run():
        bench = Bench()
        began = clock.now
        assert len(saved(await bench.feed(NAMES))) == 3
        assert clock.now - began == pytest.approx(0.3)

    asyncio.run(run())


def test_partitions_are_handed_over_in_time_however_much_is_not_saved(monkeypatch, clock):
    def dumps(self, model):
        clock.now += 0.2
        return b"model"

    async def run():
        bench = Bench(snapshot_every=10**6)
        assert await bench.feed(NAMES) == []
        monkeypatch.setattr(running_mean.Running, "dumps", dumps)
        partitions = Partitions(bench.job)
        partitions[0] = bench.partition
        began = clock.now
        await partitions.hand_over("stopping")
        assert assignment.SAVE_FOR_S <= clock.now - began <= assignment.SAVE_FOR_S + 0.5
        done = len(saved([pair for sent in bench.changelog for pair in sent]))
        metadata = json.dumps({"v": 1, "replay": done}, separators=(",", ":"))
        assert 5 < done < 20 and bench.committed == [(len(NAMES), metadata)]

    asyncio.run(run())


def test_a_source_that_was_silent_for_twice_as_long_is_dropped_with_a_tombstone():
    async def run():
        bench = Bench(forget_after_records=1000)
        sources = bench.partition.state.sources.rows
        await bench.feed(NAMES)
        bench.commit()
        assert gone(await bench.feed(["other"], skip=1899)) == set(), "100 + 1,899 is not more than twice 1,000"
        bench.commit()
        await bench.feed(["other"], skip=49)
        assert len(sources) == 101, "the commit is what a successor reads"
        bench.commit()
        records = await bench.feed(["other"])
        assert gone(records) == {f"s{i}" for i in range(50)} and len(sources) == 51
        assert bench.metrics.total("sources_forgotten_total") == {"sources_forgotten_total": 50.0}
        at = sources.rows.count
        fresh = [f"fresh{i}" for i in range(50)]
        await bench.feed(fresh)
        assert sources.rows.count == at and sources.cells[0].count == at, "rows are used again"
        records = await bench.feed(["s3"])
        assert saved(records) == {"s3"} and sources.rows.get(sources.slots["s3"], "seen") == 1

    asyncio.run(run())


def test_an_idle_partition_forgets_too_and_what_an_earlier_owner_wrote_goes_as_well():
    async def run():
        bench = Bench(forget_after_records=1000)
        live = dict(await bench.feed(NAMES))
        await bench.feed(["other"], skip=2200)
        successor = bench.job.table.take_over()
        successor.load(RecordColumns.of((at, key, value) for at, (key, value) in enumerate(live.items())))
        bench.partition.close()
        bench.partition = bench.owner(successor)
        before = len(bench.changelog)
        await bench.partition.forget()
        while not bench.partition.ledger.idle:
            await asyncio.sleep(0)
        [tombstones] = bench.changelog[before:]
        assert dict(tombstones) == dict.fromkeys(live), "under the keys of the earlier owner"
        assert len(successor.rows) == 0

    asyncio.run(run())


def test_a_dirty_source_is_never_dropped():
    async def run():
        bench = Bench(forget_after_records=1000, snapshot_every=10**6)
        await bench.feed(NAMES)
        bench.partition.replay_committed = 10**6  # a lie: so that only what is not saved keeps them
        await bench.feed(["other"])
        assert len(bench.partition.state.sources.rows) == 101

    asyncio.run(run())


def test_the_unit_of_times_is_said_once_and_a_second_one_is_a_warning(caplog):
    async def run():
        bench = Bench()
        for time in (1.7e9, 1.7e9, 1.7e12, 1.7e12):
            await bench.feed(["a", "b"], timestamp=time)

    with caplog.at_level("INFO", "app.stream.partition"):
        asyncio.run(run())
    first, second = [(each.levelname, each.getMessage()) for each in caplog.records]
    assert first[0] == "INFO" and first[1].startswith("raw-data[0]@0: numeric timestamps are seconds, by their size")
    assert second[0] == "WARNING" and "raw-data[0]@4: numeric timestamps are seconds and milliseconds" in second[1]

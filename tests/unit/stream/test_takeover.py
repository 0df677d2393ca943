"""What a new owner makes of the logs it finds: where the watermark lies, what it refuses, and what it may keep.

Each of these was a hole once: docs/holes.md.
"""

import asyncio
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace

import pytest
from support.points import points, states

from app.compiled.byte_columns import Encoded
from app.errors import StateError
from app.kafka.fetched import Fetched
from app.kafka.record_batch import framed
from app.pipeline import Pipeline
from app.settings import Detection, KafkaSettings
from app.state import snapshot
from app.stream import takeover as module
from app.stream.takeover import RESULTS_TAIL, WHOLE, Logs, Takeover, _unchanged, commits_of
from tables.sources import SourcesTable

PIPELINE = Pipeline(Detection(), engine="python")


@dataclass
class Record:
    offset: int
    value: bytes | None
    key: bytes | None = None


@dataclass
class Commit:
    offset: int
    metadata: str


FIRST = Commit(0, '{"v":1,"replay":0}')  # of a worker that has joined


def found():
    return Takeover(KafkaSettings(), 3, SourcesTable(PIPELINE).take_over())


def saved(source, offset):
    """A changelog record of one source, as it stands after this offset."""
    sources = PIPELINE.sources()
    PIPELINE.run(sources, points([1.0], source, start=offset))
    return Record(0, snapshot.dumps(sources, 0, offset), source.encode() + b"\0" + bytes(8))


def watermark(positions, commit=FIRST, end=10_000, changelog=()):
    """By results at these (offset, index), the last RESULTS_TAIL of them."""
    takeover = found()
    takeover.snapshots(changelog)
    results = [b'{"id":"raw-data:3:%d:%d","source":"p"}' % position for position in positions]
    takeover.results(Record(i, value) for i, value in list(enumerate(results))[-RESULTS_TAIL:])
    return takeover.start(0, end, commit).watermark


def of_array(offset, elements):
    return [(offset, index) for index in range(elements)]


@pytest.mark.parametrize("emitted", [1, 5_000, RESULTS_TAIL, RESULTS_TAIL + 1, 41_999])
def test_the_mark_lies_inside_an_array_however_long(emitted):
    assert watermark([(6, 0), *of_array(7, emitted)]) == (7, emitted - 1)


def test_a_late_write_of_an_earlier_owner_does_not_hide_it():
    late = of_array(5, 3_000)
    assert watermark([*late, *of_array(7, 2_000), *late]) == (7, 1_999)
    assert watermark(chain.from_iterable([of_array(7, 2_000), late] * 3)) == (7, 1_999)


def test_a_later_write_than_is_read_hides_what_was_not_committed_and_no_more():
    """Then results are repeated, by an owner that was stopped past its session; see RESULTS_TAIL."""
    hidden = [*of_array(7, 2_000), *of_array(5, RESULTS_TAIL)]
    assert watermark(hidden) == (5, RESULTS_TAIL - 1)
    assert watermark(hidden, Commit(7, '{"v":1,"replay":2}')) == (6, WHOLE)
    assert watermark(hidden, Commit(8, '{"v":1,"replay":2}')) == (7, WHOLE)


def test_results_that_retention_has_deleted_are_known_from_the_snapshots():
    """A snapshot is sent when every result up to its offset is acknowledged; the last commit may be older."""
    changelog = [saved("a", 70), saved("b", 90)]
    assert watermark([], changelog=changelog) == (90, WHOLE)
    assert watermark([(95, 2)], changelog=changelog) == (95, 2)
    assert watermark([], Commit(92, '{"v":1,"replay":2}'), changelog=changelog) == (91, WHOLE)


FOREIGN_RESULTS = {
    "of another job": (b'{"id":"other:3:7:0"}', "a result of other\\[3\\] among .*: give each job an output topic"),
    "of another partition": (b'{"id":"raw-data:2:7:0"}', "a result of raw-data\\[2\\] among those of"),
    "of a job whose topic ends like ours": (b'{"id":"my-raw-data:3:7:0"}', "a result of my-raw-data\\[3\\]"),
    "without id": (b'{"source":"a"}', "expected a result with an id"),
    "with another id": (b'{"id":"7"}', "expected a result with an id"),
    "no JSON": (b"hello", "Only workers may write to this topic: .*kafka-delete-records.sh.*kafka.output_topic"),
    "a tombstone": (None, "expected a result with an id"),
}


@pytest.mark.parametrize("what", FOREIGN_RESULTS)
def test_a_foreign_record_among_the_results_is_refused_where_it_stands(what):
    value, said = FOREIGN_RESULTS[what]
    takeover = found()
    takeover.results([Record(40, b'{"id":"raw-data:3:6:0"}')])
    with pytest.raises(StateError, match=rf"anomaly-results\[3\]@41: .*{said}"):
        takeover.results([Record(41, value)])


GOOD = saved("a", 7)
FOREIGN_STATE = {
    "no snapshot": (GOOD.key, b"hello, this is no state of any source", "must start with b'fasn', found b'hell'"),
    "cut": (GOOD.key, GOOD.value[:-9], "it is cut or damaged"),
    "of another source": (b"b" + GOOD.key[1:], GOOD.value, "the snapshot of source 'a' has the key"),
    "no ownership": (b"a", GOOD.value, "the key must be a source and 9 bytes of ownership, got b'a'"),
    "no key": (None, GOOD.value, "the key must be a source and 9 bytes of ownership, got None"),
}


@pytest.mark.parametrize("what", FOREIGN_STATE)
def test_a_foreign_record_in_the_changelog_is_refused_where_it_stands(what):
    key, value, said = FOREIGN_STATE[what]
    takeover = found()
    takeover.snapshots([GOOD])
    with pytest.raises(StateError, match=r"sources-changelog\[3\]@55: .*" + said):
        takeover.snapshots([Record(55, value, key)])
    assert len(takeover.sources.rows) == 1 and takeover.sources.covers == 7


def test_a_fetch_read_whole_comes_to_what_its_records_come_to():
    records = [(record.key, record.value) for record in (saved("a", 70), saved("b", 90), saved("a", 80))]
    [batch] = framed(Encoded.of(records), 1_000_000, 0)
    data = batch._build()
    whole, one_by_one = found(), found()
    whole.snapshots([Fetched.of(bytes(data), 0)])
    one_by_one.snapshots([Record(at, value, key) for at, (key, value) in enumerate(records)])
    assert states(whole.sources.rows, 1) == states(one_by_one.sources.rows, 1)
    assert whole.sources.covered == one_by_one.sources.covered == {"a": 80, "b": 90}
    data[-9] ^= 1
    with pytest.raises(StateError, match=r"sources-changelog\[3\]@0: the record batch is damaged: .*kafka.group_id"):
        found().snapshots([Fetched.of(bytes(data), 0)])


@pytest.mark.parametrize("key", [b"a", b"", b"\xff" * 12, None])
def test_a_tombstone_of_any_key_is_taken(key):
    takeover = found()
    takeover.snapshots([GOOD, Record(56, None, key)])
    assert takeover.sources.covers == 7


OWNED_BEFORE = {"generation": 4, "idle": True, "results_end": 100, "changelog_end": 50}


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"generation": 3}, False),  # another worker may have owned it in generation 4
        ({"generation": 5}, False),
        ({"idle": False}, False),
        ({"results_end": 99}, False),  # somebody else has written
        ({"changelog_end": 49}, False),
        ({"results_end": None}, False),
    ],
    ids=str,
)
def test_a_partition_stays_in_memory_only_if_nobody_else_can_have_owned_it(changed, kept):
    of = {**OWNED_BEFORE, **changed}
    ledger = SimpleNamespace(idle=of.pop("idle"))
    logs = Logs(KafkaSettings())
    logs.end = {logs.results(3): 100, logs.changelog(3): 50}
    assert _unchanged(SimpleNamespace(number=3, ledger=ledger, **of), logs, generation=5) is kept


@pytest.mark.parametrize(
    ("known", "answers", "asked"),
    [
        (True, [{}, {}, {"raw": FIRST}], 3),  # a broker that has just come up
        (True, [{}], 5),  # then it is believed
        (True, [{"raw": FIRST}], 1),
        (False, [{}], 1),  # nobody was here before
    ],
)
def test_a_commit_that_must_be_there_is_asked_for_again(known, answers, asked, monkeypatch):
    waited, given = [], []

    async def sleep(seconds):
        waited.append(seconds)

    async def committed(partitions):
        assert partitions == ["raw"]
        given.append(answers[min(len(given), len(answers) - 1)])
        return given[-1]

    clock = SimpleNamespace(time=lambda: sum(waited))
    monkeypatch.setattr(module, "COMMIT_S", 3.5 * module.RETRY_S)
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=lambda: clock))
    assert asyncio.run(commits_of(committed, {"raw": known})) == given[-1]
    assert len(given) == asked


class StableReader:
    """Ends of the logs as a broker says them, the last stable ones in turn."""

    def __init__(self, *stable):
        self.stable = list(stable)

    async def beginning_offsets(self, partitions):
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions):
        return dict.fromkeys(partitions, 50)

    async def last_stable_offsets(self, partitions):
        assert {partition.topic for partition in partitions} == {"anomaly-results", KafkaSettings().changelog_topic}
        return dict.fromkeys(partitions, self.stable.pop(0) if len(self.stable) > 1 else self.stable[0])


def test_a_transaction_that_ends_in_our_topics_is_waited_for(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    logs = asyncio.run(Logs.of(StableReader(40, 40, 50), KafkaSettings(), [3]))
    assert logs.end[logs.results(3)] == 50


def test_one_that_stays_open_is_named(monkeypatch):
    """Results beyond it cannot be read: an owner that did not know them would repeat them."""
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    monkeypatch.setattr(module, "OPEN_S", 0.01)
    with pytest.raises(StateError, match=r"\[3\]: another program has an open .*--start-offset 40"):
        asyncio.run(Logs.of(StableReader(40), KafkaSettings(), [3]))

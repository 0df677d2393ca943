"""Offsets that do not fit together: what a new owner and a running one refuse, and what they take."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from app.errors import HistoryLost, StateError
from app.metrics import Metrics
from app.pipeline import Pipeline
from app.settings import Settings
from app.stream import crash
from app.stream.committer import write_metadata
from app.stream.compute import PartitionState
from app.stream.dead_letter_log import DeadLetterLog
from app.stream.job import Job
from app.stream.ledger import Ledger
from app.stream.origins import Origins
from app.stream.partition import Partition
from app.stream.takeover import WHOLE, Takeover
from tables.sources import SourcesTable

SETTINGS = Settings()
KAFKA = SETTINGS.kafka


def commit(offset, replay):
    return SimpleNamespace(offset=offset, metadata=json.dumps({"v": 1, "replay": replay}))


def starting(begin, end, committed, emitted=-1):
    takeover = Takeover(KAFKA, 3, SimpleNamespace(covered={}, covers=-1))
    if emitted >= 0:
        takeover.results([SimpleNamespace(offset=0, value=b'{"id":"raw-data:3:%d:0"}' % emitted)])
    return takeover.start(begin, end, committed)


def test_a_start_whose_records_are_there():
    assert starting(7, 9, None) == (7, 7, (-1, WHOLE), None)
    assert starting(7, 90, commit(50, 40), emitted=60) == (50, 40, (60, 0), None)


@pytest.mark.parametrize(
    ("begin", "end", "committed", "emitted", "said"),
    [
        (41, 90, commit(50, 40), -1, "rebuilt from offset 40, and the log starts at 41: 1 records were deleted"),
        (0, 49, commit(50, 40), -1, "ends at 49, but offset 49 was processed"),
        (0, 60, commit(50, 40), 60, "ends at 60, but offset 60 was processed"),
        (0, 90, None, 60, "has no committed offset"),  # the new topic has as many records as the old one had
        (70, 90, None, 60, "has no committed offset"),
    ],
)
def test_a_start_whose_records_are_gone_or_are_others(begin, end, committed, emitted, said):
    with pytest.raises(HistoryLost, match=r"raw-data\[3\]") as refused:
        starting(begin, end, committed, emitted)
    assert said in str(refused.value)


HISTORY = {"input": "1b4e28ba-2fa1", "changelog": "6ba7b810-9dad"}


@pytest.mark.parametrize(
    ("role", "said"), [("input", "offsets and state are of the old one"), ("changelog", "the state in it is gone")]
)
def test_a_topic_of_the_same_name_is_another_one(role, said):
    takeover = Takeover(KAFKA, 3, SimpleNamespace(covered={}, covers=-1), HISTORY)
    old = SimpleNamespace(offset=50, metadata=write_metadata({"replay": 40}, HISTORY | {role: "deadbeef-0000"}))
    with pytest.raises(HistoryLost, match=said):
        takeover.start(0, 90, old)


@pytest.mark.parametrize(("then", "now"), [(HISTORY, HISTORY), ({}, HISTORY), (HISTORY, {})])
def test_topics_whose_ids_are_the_same_or_not_known_are_taken(then, now):
    takeover = Takeover(KAFKA, 3, SimpleNamespace(covered={}, covers=-1), now)
    assert takeover.start(0, 90, SimpleNamespace(offset=50, metadata=write_metadata({"replay": 40}, then))).replay == 40


REKEYS = Settings(input={"rekey": True}).kafka
ORIGINS = Origins(0, "", 1000).at(0, 0)[1]


def starting_rekeyed(**said):
    takeover = Takeover(REKEYS, 3, SimpleNamespace(covered={}, covers=-1))
    return takeover.start(0, 90, SimpleNamespace(offset=50, metadata=json.dumps({"v": 1, "replay": 40, **said})))


def test_behind_the_hop_by_source_the_highest_origins_come_with_the_replay_point():
    assert starting_rekeyed(origins="CAE=") == (50, 40, (49, WHOLE), "CAE=")
    takeover = Takeover(REKEYS, 3, SimpleNamespace(covered={}, covers=-1))
    assert takeover.start(7, 90, None) == (7, 7, (-1, WHOLE), ORIGINS)
    assert takeover.start(7, 90, SimpleNamespace(offset=50, metadata="")) == (50, 50, (49, WHOLE), ORIGINS)


@pytest.mark.parametrize("said", [{}, {"origins": "CA=="}, {"origins": 7}, {"origins": None}])
def test_a_commit_without_them_or_with_others_is_refused(said):
    with pytest.raises(StateError, match=r"-by-source\[3\]: the commit of group"):
        starting_rekeyed(**said)


def test_a_group_that_committed_with_the_hop_cannot_go_on_without_it():
    takeover = Takeover(KAFKA, 3, SimpleNamespace(covered={}, covers=-1))
    with pytest.raises(StateError, match=r"raw-data\[3\]: the group has committed with input.rekey"):
        takeover.start(0, 90, SimpleNamespace(offset=50, metadata='{"v":1,"rekeys":true}'))


class Stopped(BaseException):
    """Instead of the process."""


def fed(fetches, monkeypatch, log_start=0):
    """Offsets that a partition, recovered up to 100, computes of these fetches; or the error it ends with."""
    computed, errors = [], []

    async def confirm():
        pass

    async def deliver_all(self):
        await asyncio.Event().wait()

    async def start_of_log(_):
        return log_start

    def stop(error):
        errors.append(error)
        raise Stopped

    monkeypatch.setattr(crash, "stop_process", stop)
    monkeypatch.setattr(Partition, "_deliver_all", deliver_all)
    monkeypatch.setattr(Partition, "_compute", lambda self, records, end: computed.append([r.offset for r in records]))

    async def feed():
        pipeline = Pipeline(SETTINGS.detection, (), 4, engine="python")
        job = Job(
            SETTINGS, pipeline, Metrics("python"), SourcesTable(pipeline), None,
            SimpleNamespace(confirm=confirm), DeadLetterLog("dead"), start_of_log, {KAFKA.input_topic: 4},
        )  # fmt: skip
        state = PartitionState(
            3, SETTINGS, pipeline, True, SimpleNamespace(covers=-1), Ledger(100, 100, 256, 1000), (99, WHOLE),
            time.monotonic,
        )  # fmt: skip
        partition = Partition(state, job)
        partition.start()
        partition.generation, partition.active = 5, True
        for one in fetches:
            offsets, end = one if isinstance(one, tuple) else (one, one[-1] + 1)
            records = [SimpleNamespace(offset=offset) for offset in offsets]
            await partition.take(SimpleNamespace(generation_id=5, records=records, end=end))
        for _ in range(20):
            await asyncio.sleep(0)
        partition.close()

    asyncio.run(feed())
    return errors[0] if errors else computed


def test_fetches_that_follow_each_other_are_one_batch(monkeypatch):
    assert fed([range(100, 150), range(150, 200)], monkeypatch) == [list(range(100, 200))]


def test_gaps_that_compaction_leaves_are_taken(monkeypatch):
    assert fed([[105, 107], [120]], monkeypatch) == [[105, 107, 120]]


@pytest.mark.parametrize("fetches", [[range(300, 310)], [range(100, 150), range(300, 310)]])
def test_records_deleted_before_or_between_two_fetches_are_missed(fetches, monkeypatch):
    error = fed(fetches, monkeypatch, log_start=300)
    expected = 100 if len(fetches) == 1 else 150
    assert isinstance(error, HistoryLost)
    assert f"expected offset {expected}, got 300, and the log starts at 300: {300 - expected} records" in str(error)


def test_marks_of_transactions_and_what_was_aborted_are_passed_over(monkeypatch):
    assert fed([([], 110), (range(110, 120), 125), ([], 130), [130]], monkeypatch) == [[*range(110, 120), 130]]
    assert fed([([], 110)], monkeypatch) == [[]]


@pytest.mark.parametrize("fetches", [[([], 300)], [(range(100, 150), 300)]])
def test_a_position_that_the_client_has_reset_is_no_mark(fetches, monkeypatch):
    error = fed(fetches, monkeypatch, log_start=300)
    assert isinstance(error, HistoryLost) and "got 300, and the log starts at 300" in str(error)


@pytest.mark.parametrize("fetches", [[range(10)], [range(100, 150), range(10)], [range(90, 110)]])
def test_a_log_that_goes_back_is_another_one(fetches, monkeypatch):
    error = fed(fetches, monkeypatch)
    assert isinstance(error, HistoryLost) and "deleted and made again, or truncated" in str(error)

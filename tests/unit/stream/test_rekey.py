"""The hop of input.rekey beside a broker that answers at once: what it writes, where it begins, what it refuses."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from aiokafka.structs import TopicPartition

from app.errors import HistoryLost, StateError, TopicError
from app.metrics import Metrics
from app.settings import load
from app.stream import takeover
from app.stream.dead_letter_log import DeadLetterLog
from app.stream.job import Job
from app.stream.rekey import RekeyPartitions

SETTINGS = load(environ={}, input={"rekey": True})
KAFKA = SETTINGS.kafka
IDS = {KAFKA.input_topic: "id-raw", KAFKA.by_source_topic: "id-by-source"}
OURS = {"v": 1, "rekeys": True, "input": "id-raw", "output": "id-by-source"}
IDLE = {0: (0, 100), 1: (0, 100), 2: (7, 100)}  # partition of raw-data -> begin, end


def log(number, topic=KAFKA.input_topic):
    return TopicPartition(topic, number)


def commit(offset, **metadata):
    return SimpleNamespace(offset=offset, metadata=json.dumps({**OURS, **metadata}))


class Reader:
    """Of the logs: begin and end of each partition of raw-data, and what the topic by source holds."""

    def __init__(self, raw=IDLE, written=0):
        self.raw, self.written = raw, written

    async def beginning_offsets(self, logs):
        return {one: self.raw[one.partition][0] for one in logs}

    async def end_offsets(self, logs):
        return {
            one: self.raw[one.partition][1] if one.topic == KAFKA.input_topic else self.written * one.partition
            for one in logs
        }


class Outbox:
    """Topic -> partition -> what was sent, acknowledged when it is let."""

    def __init__(self):
        self.sent, self.acks = {}, asyncio.Event()

    async def send(self, topic, number, records):
        found = records.records() if hasattr(records, "records") else list(records)
        self.sent.setdefault(topic, {}).setdefault(number, []).extend(found)
        return [None]

    async def acknowledged(self, sent):
        await self.acks.wait()
        return 1 if sent else None


def made(partitions=4):
    async def confirm():
        pass

    async def committed(partitions):
        commits.append({one.number: one.to_commit().position for one in partitions})
        return True

    async def log_start(log):
        return 0

    commits = []
    committer = SimpleNamespace(confirm=confirm, commit=committed)
    counts = {KAFKA.input_topic: 3, KAFKA.by_source_topic: partitions, KAFKA.dead_letters_topic: 2}
    dead_letter_log = DeadLetterLog("letters", lambda: 0.0)
    job = Job(SETTINGS, None, Metrics(), None, Outbox(), committer, dead_letter_log, log_start, counts, IDS)
    return job, RekeyPartitions(job), commits


def begun(commits, wanted=(0, 1, 2), raw=IDLE, written=1):
    """Position of each partition after a takeover."""

    async def run():
        _, rekeying, _ = made()

        async def committed(partitions):
            return {one: commits[one.partition] for one in partitions if one.partition in commits}

        await rekeying.take_over(Reader(raw, written), committed, list(wanted))
        positions = {number: (one.next, one.position) for number, one in rekeying.items()}
        await asyncio.sleep(0)
        rekeying.clear()
        return positions

    return asyncio.run(run())


def test_a_group_begins_with_all_there_is():
    assert begun({}, written=0) == {0: (0, 0), 1: (0, 0), 2: (7, 7)}


def test_a_successor_begins_at_the_committed_positions_and_with_all_of_partitions_that_were_added():
    raw = {0: (0, 100), 5: (3, 50)}
    assert begun({0: commit(60)}, wanted=[0, 5], raw=raw) == {0: (60, 60), 5: (3, 3)}


def test_positions_that_a_tool_has_set_are_taken():
    assert begun({0: SimpleNamespace(offset=60, metadata="")}, wanted=[0]) == {0: (60, 60)}


def test_more_partitions_than_origins_can_name_are_refused():
    with pytest.raises(TopicError, match="reads 256 partitions at most, and raw-data has 257 or more"):
        begun({}, wanted=[256], raw={256: (0, 0)})


def test_nothing_assigned_nothing_asked():
    assert begun(None, wanted=[]) == {}


@pytest.mark.parametrize(
    ("commits", "raw", "said"),
    [
        ({2: commit(6)}, IDLE, r"raw-data\[2\]: the next offset is 6, and the log starts at 7: 1 records were deleted"),
        ({2: commit(101)}, IDLE, r"raw-data\[2\] ends at 100, but offset 100 was processed"),
        ({2: commit(50, input="other")}, IDLE, r"raw-data\[2\]: topic raw-data was deleted and made again"),
        ({2: commit(50, output="other")}, IDLE, r"-by-source was deleted and made again .* was not scored is gone"),
        ({}, IDLE, "has no committed offsets, but anomaly-detection-group-by-source holds points"),
    ],
)
def test_what_would_be_lost_or_dropped_is_refused(commits, raw, said, monkeypatch):
    monkeypatch.setattr(takeover, "COMMIT_S", 0.0)
    with pytest.raises(HistoryLost, match=said):
        begun(commits, wanted=[2], raw=raw)


@pytest.mark.parametrize("metadata", ['{"v":1,"replay":40}', '{"v":2,"rekeys":true}', "7", "x"])
def test_commits_of_a_group_without_the_hop_are_refused(metadata):
    with pytest.raises(StateError, match=r"raw-data\[1\]: the group has committed without input.rekey"):
        begun({1: SimpleNamespace(offset=50, metadata=metadata)}, wanted=[1])


def test_a_batch_is_done_when_all_it_gave_is_acknowledged():
    async def run():
        job, rekeying, commits = made()
        await rekeying.take_over(Reader(written=0), lambda logs: asyncio.sleep(0, {}), [2])
        rekeying.resume(5)
        values = [b'{"source":"a","value":1}', b"oops", b'[{"source":"a","value":2},{"source":"b","value":3}]', None]
        records = [
            SimpleNamespace(offset=7 + i, value=value, key=None, headers=(), timestamp=1000 * i)
            for i, value in enumerate(values)
        ]
        await rekeying.take(SimpleNamespace(partition=2, records=records, end=13, generation_id=5))
        await rekeying.take(SimpleNamespace(partition=2, records=[], end=15, generation_id=5))
        for _ in range(20):
            await asyncio.sleep(0)
        partition = rekeying[2]
        assert (partition.next, partition.position) == (15, 7)
        handing = asyncio.ensure_future(rekeying.hand_over("revoked"))
        await asyncio.sleep(0)
        assert not handing.done() and not rekeying.takes(2) and commits == []
        job.outbox.acks.set()
        await handing
        assert commits == [{2: 15}] and partition.to_commit().metadata == {"rekeys": True}
        rekeying.clear()
        return job.outbox.sent, job.metrics

    sent, metrics = asyncio.run(run())
    by_source = sent[KAFKA.by_source_topic]
    origins = {(key, headers[0][1]) for records in by_source.values() for key, _, headers in records}
    assert origins == {(b"a", b"2:7:0:0"), (b"a", b"2:9:0:2000"), (b"b", b"2:9:1:2000")}
    [(_, value, headers)] = sent[KAFKA.dead_letters_topic][0]
    assert (value, dict(headers)["topic"], dict(headers)["partition"], dict(headers)["offset"]) == (
        b"oops", b"raw-data", b"2", b"8",
    )  # fmt: skip
    counted = metrics.total("records_consumed_total", "rekeyed_records_total", "skipped_total", "invalid_total")
    assert counted == {
        "records_consumed_total": 4, "rekeyed_records_total": 3, "skipped_total": 1, "invalid_total": 1,
    }  # fmt: skip

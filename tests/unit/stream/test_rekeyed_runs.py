"""Behind the hop of input.rekey: with duplicates in the log, results and state after a crash are those without one."""

import random
from itertools import islice
from types import SimpleNamespace

import pytest
from integration.load import records as load

from app.compiled.byte_columns import RecordColumns
from app.pipeline import Pipeline
from app.settings import load as load_settings
from app.state import snapshot
from app.stream.compute import PartitionState
from app.stream.ledger import Ledger
from app.stream.origins import Origins
from app.stream.output_watermark import NOTHING, WHOLE
from app.wire.by_source import Times, encoded
from app.wire.reader import Reader
from tables.sources import SourcesTable

SETTINGS = load_settings(
    environ={}, input={"rekey": True}, state={"snapshot_every": 20, "replay_records": 1000},
    detection={"detectors": {"residual": {}, "StandardAbsoluteDeviation": {}}},
)  # fmt: skip
PIPELINE = Pipeline.of(SETTINGS)
LOG = SETTINGS.kafka.by_source_topic


def written(seed: int) -> list[tuple]:
    """(key, value, headers) in a partition by source: of three partitions of raw-data, in parts, some of them twice."""
    draw, made = random.Random(seed), load(seed, sources=20)
    parts = []
    for partition in range(3):
        raw = [
            SimpleNamespace(offset=offset, key=None, value=value, headers=(), timestamp=1_700_000_000_000 + offset)
            for offset, (_, value) in enumerate(islice(made, 400))
        ]
        points = Reader(SETTINGS.input, "raw-data", partition, False).read(raw).points
        [of] = encoded(points, partition, Times.of(raw), 1).values()
        records, at, begun = of.records(), 0, []
        while at < len(records):
            end = at + draw.randrange(1, 60)
            begun.append(at)
            parts.append((partition, records[at:end]))
            at = end
            if draw.random() < 0.3:  # a crash: all from a position before it is written again
                at = draw.choice(begun[-3:])
    order = [partition for partition, _ in parts]
    draw.shuffle(order)
    queues = {number: [of for partition, of in parts if partition == number] for number in range(3)}
    return [record for number in order for record in queues[number].pop(0)]


class Owner:
    """Of the partition; ``results`` and ``changelog`` are what it has written."""

    def __init__(self, replay=0, origins="", emitted=NOTHING, changelog=()):
        sources = SourcesTable(PIPELINE).take_over()
        sources.load(RecordColumns.of((at, key, value) for at, (key, value) in enumerate(changelog)))
        ledger = Ledger(replay, emitted[0] + 1, SETTINGS.state.snapshot_every, SETTINGS.state.replay_records)
        of = sources, ledger, max(emitted, (sources.covers, WHOLE)), lambda: 0.0
        self.state = PartitionState(0, SETTINGS, PIPELINE, False, *of, Origins(replay, origins, 1000))
        self.results, self.changelog, self.duplicates = [], list(changelog), 0

    def read(self, log, first, end, draw):
        while first < end:
            upto = min(end, first + draw.choice([1, 7, 50, 400]))
            batch = [
                SimpleNamespace(offset=first + i, key=key, value=value, headers=headers, timestamp=0)
                for i, (key, value, headers) in enumerate(log[first:upto])
            ]
            output = self.state.compute_batch(batch)
            self.results += output.results.records()
            self.changelog += output.snapshots.pairs() + output.tombstones
            self.duplicates += output.counts.duplicates
            self.state.ledger.close(output.batch)
            first = upto
        return self

    def states(self):
        rows = self.state.sources.rows
        return {name: snapshot.dumps(rows, slot, 0) for name, slot in rows.slots.items()}


@pytest.mark.parametrize("seed", range(6))
def test_a_successor_goes_on_as_if_nothing_had_happened(seed):
    draw, log = random.Random(seed), written(seed)
    whole = Owner().read(log, 0, len(log), random.Random(0))
    assert whole.duplicates > 50
    cut = draw.randrange(len(log))
    owner = Owner().read(log, 0, cut, draw)
    begin = owner.state.begin()
    emitted = int(owner.results[-1][2][0][1]) if owner.results else -1
    successor = Owner(begin["replay"], begin["origins"], (emitted, WHOLE), owner.changelog)
    successor.read(log, begin["replay"], len(log), draw)
    assert owner.results + successor.results == whole.results
    assert successor.states() == whole.states()


def test_every_result_is_there_once_and_names_its_record():
    log = written(9)
    owner = Owner().read(log, 0, len(log), random.Random(1))
    offsets = [int(value) for _, _, [(name, value)] in owner.results if name == LOG]
    assert offsets == sorted(set(offsets)) and len(offsets) == len(owner.results)
    origins = [log[offset][2][0][1] for offset in offsets]
    assert origins == list(dict.fromkeys(headers[0][1] for _, _, headers in log)), "each where it came first"
    for (_, value, _), origin in zip(owner.results, origins):
        assert value.startswith(b'{"id":"raw-data:%b"' % origin.rpartition(b":")[0])

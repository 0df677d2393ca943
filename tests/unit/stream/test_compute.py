"""One batch of one partition, computed without an event loop: what goes in, and everything that comes out."""

import ast
import inspect
import json
from itertools import count

from aiokafka import ConsumerRecord

from app.pipeline import Pipeline
from app.settings import load
from app.stream import compute
from app.stream.compute import PartitionState
from app.stream.ledger import Ledger
from tables.sources import SourcesTable

SETTINGS = load(environ={}, state={"snapshot_every": 3})
PIPELINE = Pipeline.of(SETTINGS)


def state(watermark=(-1, 0)):
    ticks = count(0.0, 0.01)  # seconds; each look at the clock takes one
    sources, ledger = SourcesTable(PIPELINE).take_over(), Ledger(0, 0, 3, 1000)
    return PartitionState(5, SETTINGS, PIPELINE, False, sources, ledger, watermark, lambda: next(ticks))


def record(offset, value):
    return ConsumerRecord("raw-data", 5, offset, 10**12 + offset, 0, b"pump", value, 0, 1, 1, ())


def records(first, number):
    values = ({"source": "pump", "timestamp": 60 * i, "value": 1.0 + i % 7} for i in range(first, first + number))
    return [record(first + i, json.dumps(value).encode()) for i, value in enumerate(values)]


def test_a_batch_holds_results_dead_letters_and_the_snapshots_that_are_due():
    output = state().compute_batch([*records(0, 9), record(9, b"no JSON")])
    assert (output.batch.first, output.batch.end) == (0, 10)
    assert [json.loads(value)["id"] for _, value in output.results.pairs()] == [f"raw-data:5:{i}:0" for i in range(9)]
    assert [letter.offset for letter in output.dead_letters] == [9]
    assert len(output.snapshots) == 1
    assert output.produced_at.tolist() == [10**9 + i / 1000 for i in range(10)]
    assert (output.counts.records, output.counts.suppressed, sum(output.counts.invalid.values())) == (10, 0, 1)
    assert set(output.counts.stage_s) == {"decode", "score", "encode"} and min(output.counts.stage_s.values()) > 0.0


def test_tombstones_are_counted_and_passed():
    one = state(watermark=(1, 0))
    output = one.compute_batch([record(i, None) for i in range(3)])
    assert (output.batch.first, output.batch.end, one.ledger.next) == (0, 3, 3)
    assert (output.results.pairs(), output.dead_letters, output.counts.skipped) == ([], [], {"tombstone": 1})
    output = one.compute_batch([*records(3, 2), record(5, None)])
    assert len(output.results.pairs()) == 2 and output.counts.time_units == {"s"}


def test_what_an_earlier_owner_emitted_is_learned_and_not_emitted():
    output = state(watermark=(5, 0)).compute_batch(records(0, 9))
    assert [json.loads(value)["id"] for _, value in output.results.pairs()] == [f"raw-data:5:{i}:0" for i in (6, 7, 8)]
    assert output.counts.suppressed == 6 and len(output.produced_at) == 3


def test_the_same_records_give_the_same_bytes_however_they_are_divided():
    whole, parts = state(), state()
    expected = whole.compute_batch(records(0, 60)).results.pairs()
    found = [pair for first in range(0, 60, 20) for pair in parts.compute_batch(records(first, 20)).results.pairs()]
    assert found == expected


def test_a_batch_without_points_saves_what_is_dirty():
    owner = state()
    assert len(owner.compute_batch(records(0, 1)).snapshots) == 0
    output = owner.save(10)
    assert (output.batch.first, output.batch.end, len(output.snapshots), len(output.results)) == (1, 1, 1, 0)


def test_it_imports_no_event_loop_clock_kafka_or_metrics():
    nodes = ast.walk(ast.parse(inspect.getsource(compute)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    nodes = ast.walk(ast.parse(inspect.getsource(compute)))
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not names & {"asyncio", "time", "aiokafka", "faust", "app.metrics", "app.stream.failpoints"}

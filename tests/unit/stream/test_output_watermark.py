"""The last result in a fetch of anomaly-results, found by compiled code, is the last that JSON finds in its records."""

import json
import random
from types import SimpleNamespace

import pytest
from aiokafka.record.memory_records import MemoryRecords

from app.compiled.byte_columns import Column, Encoded, Header
from app.errors import StateError
from app.kafka.fetched import Fetched
from app.kafka.record_batch import framed
from app.stream.output_watermark import NOTHING, WHOLE, last_emitted

KAFKA = SimpleNamespace(input_topic="raw-data", output_topic="anomaly-results", rekeys=False)
REKEYS = SimpleNamespace(output_topic="anomaly-results", rekeys=True, log_topic="g-by-source")


def fetch(values):
    [batch] = framed(Encoded.of([(b"k", value) for value in values]), 1_000_000, 0)
    return bytes(batch._build())


def found(values):
    return last_emitted(KAFKA, 3, [Fetched.of(fetch(values), 0)])


def by_json(values):
    ids = [json.loads(value)["id"].split(":") for value in values]
    return max((int(offset), int(index)) for _, _, offset, index in ids)


def result(offset, index, more='"source":"p"'):
    return b'{"id":"raw-data:3:%d:%d",%b}' % (offset, index, more.encode())


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_highest_whatever_the_order(seed):
    draw = random.Random(seed)
    most = draw.choice([3, 10**6, 10**18 - 1, 2**63])
    values = [result(draw.randrange(most), draw.randrange(40_000)) for _ in range(draw.randrange(1, 300))]
    assert found(values) == by_json(values)


OURS = {
    "with nothing else": b'{"id":"raw-data:3:7:2"}',
    "with spaces": b'{ "id": "raw-data:3:7:2" , "source": "p"}',
    "with another first field": b'{"source":"p","id":"raw-data:3:7:2"}',
    "with an id that looks like an end": b'{"source":"{\\"id\\":\\"raw-data:3:9:9\\"","id":"raw-data:3:7:2"}',
    "with letters written otherwise": b'{"id":"raw\\u002ddata:3:7:2"}',
    "with leading zeros": b'{"id":"raw-data:3:007:02"}',
}


@pytest.mark.parametrize("how", OURS)
@pytest.mark.parametrize("before", [[], [result(6, 9)]], ids=["alone", "among others"])
def test_a_result_written_otherwise_is_read_as_json(how, before):
    assert found([*before, OURS[how], *before]) == by_json([OURS[how]]) == (7, 2)


FOREIGN = {
    "of another job": b'{"id":"other:3:7:0","source":"p"}',
    "of another partition": b'{"id":"raw-data:2:7:0","source":"p"}',
    "of a partition that begins like ours": b'{"id":"raw-data:33:7:0","source":"p"}',
    "of a topic that begins like ours": b'{"id":"raw-data:3:x:3:7:0","source":"p"}',
    "without index": b'{"id":"raw-data:3:7","source":"p"}',
    "with an empty offset": b'{"id":"raw-data:3::0","source":"p"}',
    "with an empty index": b'{"id":"raw-data:3:7:","source":"p"}',
    "with more than an index": b'{"id":"raw-data:3:7:0x","source":"p"}',
    "cut in its offset": b'{"id":"raw-data:3:12',
    "cut in its index": b'{"id":"raw-data:3:12:1',
    "cut before its end": b'{"id":"raw-data:3:',
    "without id": b'{"source":"p"}',
    "empty": b"",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_record_is_refused_where_it_stands(what):
    values = [result(6, 0), result(7, 0), FOREIGN[what], result(8, 0)]
    with pytest.raises(StateError, match=r"^anomaly-results\[3\]@2: "):
        found(values)


def test_a_damaged_fetch_is_refused():
    data = bytearray(fetch([result(6, 0)]))
    data[-9] ^= 1
    with pytest.raises(StateError, match=r"^anomaly-results\[3\]@0: the record batch is damaged: .*kafka.output"):
        last_emitted(KAFKA, 3, [Fetched.of(bytes(data), 0)])


def test_records_before_the_offset_asked_for_do_not_count():
    assert last_emitted(KAFKA, 3, [Fetched.of(fetch([result(9, 0), result(4, 1), result(5, 0)]), 1)]) == (5, 0)


def test_of_nothing_it_is_nothing():
    assert last_emitted(KAFKA, 3, []) == NOTHING


def with_headers(values, name="g-by-source"):
    """Such results, as a fetch and as aiokafka's records."""
    keys, results = Encoded.of([(b"k", b'{"id":"raw-data:1:9:0"}')] * len(values))[:2]
    [batch] = framed(Encoded(keys, results, Header(name, Column.of(values))), 1_000_000, 0)
    data = bytes(batch._build())
    return [Fetched.of(data, 0)], list(MemoryRecords(data).next_batch())


@pytest.mark.parametrize("seed", range(5))
def test_behind_the_hop_by_source_it_is_the_highest_in_the_headers(seed):
    draw = random.Random(seed)
    offsets = [draw.randrange(draw.choice([3, 10**6, 10**18])) for _ in range(draw.randrange(1, 300))]
    for records in with_headers([b"%d" % offset for offset in offsets]):
        assert last_emitted(REKEYS, 3, records) == (max(offsets), WHOLE)
    assert last_emitted(REKEYS, 3, []) == NOTHING


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"7x", b"7:0"])
def test_results_with_another_header_are_refused_there(value):
    for records in with_headers([b"5", value, b"6"]):
        with pytest.raises(StateError, match=r"^anomaly-results\[3\]@1: .*header g-by-source"):
            last_emitted(REKEYS, 3, records)


def test_results_of_another_group_and_those_without_a_header_are_refused_there():
    for name in ("f-by-source", "g-by-source2", "g"):
        for records in with_headers([b"5"], name):
            with pytest.raises(StateError, match=r"@0: .*header g-by-source"):
                last_emitted(REKEYS, 3, records)
    data = fetch([result(7, 0)])
    for records in ([Fetched.of(data, 0)], list(MemoryRecords(data).next_batch())):
        with pytest.raises(StateError, match=r"@0: .*header g-by-source"):
            last_emitted(REKEYS, 3, records)

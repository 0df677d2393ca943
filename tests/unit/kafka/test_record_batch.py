import random

import pytest
from aiokafka.record.memory_records import MemoryRecords

from app.compiled.byte_columns import Column, Encoded, Header
from app.kafka.record_batch import CODECS, framed


def parsed(batch, producer=(77, 3, 1200)):
    """(key, value, headers, offset, timestamp) by aiokafka's parser, and the batch's header."""
    batch._set_producer_state(*producer)
    memory = MemoryRecords(bytes(batch._build()))
    found = memory.next_batch()
    assert found.validate_crc() and not memory.has_next()
    return [(r.key, r.value, list(r.headers), r.offset, r.timestamp) for r in found], found


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("limit", [1, 300, 10_000, 900_000])
@pytest.mark.parametrize("name", ["", "o", "näme" * 20], ids=["no header", "short", "long"])
def test_aiokafka_reads_back_what_was_framed(limit, codec, name):
    draw = random.Random(limit)
    records = [
        (draw.randbytes(draw.randrange(1, 200)), draw.randbytes(draw.choice([0, 1, 127, 128, 9000])))
        for _ in range(300)
    ]
    encoded = Encoded.of(records)
    headers = [[]] * 300
    if name:
        values = [draw.randbytes(draw.choice([0, 1, 63, 64, 200])) for _ in range(300)]
        encoded = Encoded(encoded.keys, encoded.values, Header(name, Column.of(values)))
        headers = [[(name, value)] for value in values]
        assert encoded.records() == [(*record, of) for record, of in zip(records, headers)]
    batches = list(framed(encoded, limit, 1_700_000_000_123, codec))
    read = []
    for batch in batches:
        content, header = parsed(batch)
        assert len(content) == batch.record_count() and len(batch._build()) == batch.size()
        assert batch.record_count() == 1 or batch.size() <= limit + 61 + limit // 1000 + 40
        assert header.compression_type == CODECS[codec]
        assert [offset for _, _, _, offset, _ in content] == list(range(len(content)))
        assert (header.producer_id, header.is_control_batch, header.is_transactional) == (77, False, False)
        read += [record[:3] for record in content if record[-1] == 1_700_000_000_123]
    assert read == [(*record, of) for record, of in zip(records, headers)]


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "none"])
def test_results_are_packed_to_less_than_a_third(codec):
    result = b'{"id":"raw-data:0:%d:0","source":"pump-1","timestamp":1700000000.0,"value":%d.25,"status":"ok"}'
    encoded = Encoded.of([(b"pump-1", result % (i, i * 7 % 100)) for i in range(1000)])
    (plain,), (packed,) = framed(encoded, 900_000, 0), framed(encoded, 900_000, 0, codec)
    assert packed.size() < plain.size() / 3


def test_nothing_gives_no_batch():
    assert list(framed(Encoded.of([]), 1000, 0)) == []


def test_a_flipped_bit_is_noticed():
    (batch,) = framed(Encoded.of([(b"k", b"value")]), 1000, 0)
    damaged = batch._build()
    damaged[-3] ^= 1
    assert not MemoryRecords(bytes(damaged)).next_batch().validate_crc()

"""A fetch that is read as a whole gives the records that aiokafka's own parser gives."""

import asyncio
import random
import struct

import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from app.errors import StateError
from app.kafka import patches
from app.kafka.fetched import Fetched, whole

LOG = TopicPartition("sources-changelog", 0)


def batch(records, base, compression=0, attributes=0):
    """A record batch of (offset, key, value, headers), beginning at offset ``base``."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, 5, 1, 0, 10_000_000)
    for offset, key, value, headers in records:
        builder.append(offset - base, 1_700_000_000_000 - 77 * offset, key, value, headers)
    made = builder.build()
    struct.pack_into(">q", made, 0, base)
    struct.pack_into(">h", made, 21, struct.unpack_from(">h", made, 21)[0] | attributes)
    return checked(made)


def checked(made):
    struct.pack_into(">I", made, 17, calc_crc32c(bytes(made[21:])))
    return bytes(made)


def drawn(seed, batches=12):
    """Record batches as compaction leaves them: with holes; keys and values of all sizes, or none."""
    draw = random.Random(seed)
    made, offset = [], draw.randrange(10**12)
    for _ in range(batches):
        base, records = offset, []
        for _ in range(draw.randrange(1, 40)):
            key, value = (draw.choice([None, b"", draw.randbytes(draw.choice([1, 63, 64, 300, 9000]))]) for _ in "kv")
            headers = [("h", draw.randbytes(3)), ("none", None)] if draw.random() < 0.2 else []
            records.append((offset, key, value, headers))
            offset += draw.choice([1, 1, 1, 2, 70, 9000])
        made.append(batch(records, base))
    return made


def parsed(data, first):
    """By aiokafka: (offset, key, value)."""
    records = fetcher.PartitionRecords(LOG, MemoryRecords(data), [], first, None, None, True, 0)
    return [(record.offset, record.key, record.value) for record in records], records.next_fetch_offset


def read(data, first):
    found = Fetched.of(data, first)
    records = found.records()
    return [(at, records.key(i), records.value(i)) for i, at in enumerate(records.offsets.tolist())], found.end


@pytest.mark.parametrize("seed", range(20))
def test_the_records_are_those_of_aiokafkas_parser(seed):
    first_batch, *others = drawn(seed)
    data = b"".join([first_batch, *others])
    begin = struct.unpack_from(">q", data)[0]
    middle = random.Random(seed).randrange(begin, parsed(first_batch, begin)[1])
    for first in (begin, middle):  # a broker answers with the whole batch that the offset is in
        for end in (len(data), len(data) - 1, len(data) - 70):  # the broker cuts the last batch off
            assert read(data[:end], first) == parsed(data[:end], first) != ([], 0)
    assert Fetched.of(data, begin).count == len(read(data, begin)[0])


def test_control_batches_are_passed_over():
    one, other = (batch([(at, b"k", b"v", [])], at) for at in (7, 9))
    data = one + batch([(8, bytes(4), b"abort", [])], 8, attributes=0x30) + other
    assert read(data, 7) == parsed(data, 7) == ([(7, b"k", b"v"), (9, b"k", b"v")], 10)


@pytest.mark.parametrize("what", ["compressed", "of an older format"])
def test_what_is_not_read_whole_is_left_to_aiokafka(what):
    plain, other = batch([(0, b"k", b"v" * 1000, [])], 0), batch([(1, b"k", b"v" * 1000, [])], 1, compression=1)
    if what != "compressed":
        other = other[:16] + b"\1" + other[17:]
    assert Fetched.of(plain, 0) and Fetched.of(plain + other, 0) is None


def test_no_flipped_bit_passes():
    data = b"".join(drawn(3, batches=3))
    begin, draw = struct.unpack_from(">q", data)[0], random.Random(4)
    good, seen = read(data, begin)[0], 0
    for bit in draw.sample(range(8 * len(data)), 2000):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        found = Fetched.of(bytes(damaged), begin)
        try:
            records = found.records() if found else None
        except StateError:
            seen += 1
            continue
        # What the checksum does not cover is where a batch begins, how long it is, its format and its leader's epoch.
        assert records is None or len(records.offsets) < len(good) or bit // 8 in headers(data)
    assert seen > 1900


def headers(data):
    """Places of bytes that no checksum covers."""
    places, at = set(), 0
    while at < len(data):
        places |= set(range(at, at + 17))
        at += 12 + struct.unpack_from(">i", data, at + 8)[0]
    return places


def test_a_damaged_batch_is_named_by_its_offset():
    first, second = batch([(3, b"k", b"v", [])], 3), bytearray(batch([(4, b"k", b"v", [])], 4))
    second[-3] ^= 1
    with pytest.raises(StateError, match=r"^@4: the record batch is damaged"):
        Fetched.of(first + bytes(second), 3).records()


@pytest.mark.parametrize("size", [0, 3, 120, 2**40])
def test_lengths_under_a_right_checksum_that_lead_elsewhere_are_refused(size):
    made = bytearray(batch([(0, b"k", b"v" * 50, [])], 0))
    record = made[61:]
    made[61:] = varint(size) + record[1:]
    struct.pack_into(">i", made, 8, len(made) - 12)
    with pytest.raises(StateError, match=r"^@0: the record batch is damaged"):
        Fetched.of(checked(made), 0).records()


def varint(value):
    rest, made = value << 1, bytearray()
    while rest > 127:
        made.append(rest & 127 | 128)
        rest >>= 7
    return bytes(made) + bytes([rest])


@pytest.fixture
def taken_whole(monkeypatch):
    for owner, name in [(fetcher, "MemoryRecords"), (fetcher.PartitionRecords, "_unpack_records")]:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    patches.unpack_fetches(partly_read=(), whole_fetches=True)


def fetched(data, first, key_deserializer):
    """What such a consumer's getmany takes from a response, and the position after it."""

    async def taken():
        state = SubscriptionState()
        state.assign_from_user([LOG])
        assignment = state.subscription.assignment
        assignment.state_value(LOG).seek(first)
        kept = fetcher.MemoryRecords(data)
        records = fetcher.PartitionRecords(LOG, kept, [], first, key_deserializer, None, True, 0)
        result = fetcher.FetchResult(LOG, assignment=assignment, partition_records=records, backoff=0.0)
        found = result.getall(20_000)
        assert not result.has_more()
        return found, assignment.state_value(LOG).position

    return asyncio.run(taken())


def test_a_consumer_that_asks_for_it_gives_fetches_and_others_records(taken_whole):
    data = b"".join(drawn(5))
    begin = struct.unpack_from(">q", data)[0]
    [found], end = fetched(data, begin, whole)
    records, same_end = fetched(data, begin, None)
    assert isinstance(found, Fetched) and end == same_end
    assert [(record.offset, record.key, record.value) for record in records] == read(data, begin)[0]


def test_compressed_records_come_as_records(taken_whole):
    records, end = fetched(batch([(4, b"k", b"v" * 1000, [])], 4, compression=1), 4, whole)
    assert [(record.offset, record.key) for record in records] == [(4, b"k")] and end == 5

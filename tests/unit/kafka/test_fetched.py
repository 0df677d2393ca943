"""A fetch that is read as a whole gives the records that aiokafka's own parser gives."""

import asyncio
import base64
import random
import struct

import pytest
from aiokafka.codec import snappy_encode
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from app.errors import StateError
from app.kafka import patches
from app.kafka.fetched import Fetched, whole

LOG = TopicPartition("sources-changelog", 0)


CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
# Four records each, as Kafka 4.1 keeps them where the topic sets compression.type: framed as its Java clients do.
BY_JAVA = {
    "gzip": "000000000000028000000$E((>Hq-%0009300E27<!Ar^00E27<!A%{|NsC0|NsC0{{R30000001RskC000000094MU}Rum;3+80"
    "EzmW{s8%Y@FD*(=RkBioh$!hOm1O3o7MCRE7ARR6nj1iYj#61-PAO2GK`lcABLfo?!~{bO6ATHOU|7r0!N|bE0x`h|!vrIOCK%N+"
    "F=a4S0NugH1~J7L!xUqJrWn^U000JsE8q+P000",
    "snappy": "00000000000002T000000?DpP%K!oZ0009300E27<!Ar^00E27<!A%{|NsC0|NsC0{{R30000001cFmeK~PXx000000RR910RR91"
    "f{X%OfB^si01R+-ZE!6xXnP`aZ*_8GWg<Ev2@*geEFyGiZDn(GVQp|CIx#me4FN<fB6eYHb!8$tFns`k0RRF53<WR%F+xHB05O6>"
    "030!W0Ehtq1Oy2}05U>C001(ALI5l>eF6e#0(gJ{00ssLMgTKHMgRaaf<^!cGkpL",
    "lz4": "00000000000002N000000`^tQ7XSkQ0009300E27<!Ar^00E27<!A%{|NsC0|NsC0{{R30000001Oy^Y7+^qxfdBvi@(F+e0000C"
    "aCL2PEih<%B6Dwba${v8IwBGP^8z9)B6MkOWpi|4ZEzwwF*h&)0P+GXB6eYHb!8$tFns`k0RRF5LI52xLI58zLI4heF?|4t0RRL9"
    "LI52yLI58!LI4iJGJOI9XaabE0RRRDMgSc%MgSi(MgR;@B04jD0000000",
    "zstd": "000000000000021000000?pj;DgXok0009300E27<!Ar^00E27<!A%{|NsC0|NsC0{{R30000001SqvH{Qy{W0|0VG6dRDKIdhb0"
    "f=HjE!6=K!%+Bf(5(vWj#+?)?Q{I%4VHjT`lgvd38Dm^{RW;N2yhnYx0)qH)1ghQ`vM7rYmLI?R8XTNKxgt4%##{r~#up0!U=)~l"
    "VXy?_fyn?C!6-2ABH$I57d6Z=0RR9",
}


def batch(records, base, compression=0, attributes=0, producer=5):
    """A record batch of (offset, key, value, headers), beginning at offset ``base``."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, producer, 1, 0, 10_000_000)
    for offset, key, value, headers in records:
        builder.append(offset - base, 1_700_000_000_000 - 77 * offset, key, value, headers)
    made = builder.build()
    struct.pack_into(">q", made, 0, base)
    struct.pack_into(">h", made, 21, struct.unpack_from(">h", made, 21)[0] | attributes)
    return checked(made)


def checked(made):
    struct.pack_into(">I", made, 17, calc_crc32c(bytes(made[21:])))
    return bytes(made)


def drawn(seed, batches=12, codecs=(0,)):
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
        made.append(batch(records, base, draw.choice(codecs)))
    return made


def parsed(data, first, aborted=None):
    """By aiokafka: (offset, key, value); with a list of what was aborted as a reader of what is committed."""
    committed = int(aborted is not None)
    records = fetcher.PartitionRecords(LOG, MemoryRecords(data), aborted, first, None, None, True, committed)
    return [(record.offset, record.key, record.value) for record in records], records.next_fetch_offset


def read(data, first, aborted=()):
    found = Fetched.of(data, first, aborted)
    records = found.records()
    return [(at, records.key(i), records.value(i)) for i, at in enumerate(records.offsets.tolist())], found.end


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("codecs", [(0,), tuple(CODECS.values())], ids=["plain", "packed"])
def test_the_records_are_those_of_aiokafkas_parser(codecs, seed):
    first_batch, *others = drawn(seed, codecs=codecs)
    data = b"".join([first_batch, *others])
    begin = struct.unpack_from(">q", data)[0]
    middle = random.Random(seed).randrange(begin, parsed(first_batch, begin)[1])
    for first in (begin, middle):  # a broker answers with the whole batch that the offset is in
        for end in (len(data), len(data) - 1, len(data) - 70):  # the broker cuts the last batch off
            assert read(data[:end], first) == parsed(data[:end], first) != ([], 0)
    assert Fetched.of(data, begin).count == len(read(data, begin)[0])


@pytest.mark.parametrize("codecs", [(0,), tuple(CODECS.values())], ids=["plain", "packed"])
def test_batch_by_batch_it_gives_the_same_records(codecs):
    made = drawn(3, codecs=codecs)
    parts = list(Fetched.of(b"".join(made), 0).parts())
    assert len(parts) == len(made)
    for part, data in zip(parts, made):
        records = part.records()
        found = [(at, records.key(i), records.value(i)) for i, at in enumerate(records.offsets.tolist())]
        assert found == parsed(data, 0)[0]
        assert part.latest_ms == max(one.timestamp for one in MemoryRecords(data).next_batch())


def test_control_batches_are_passed_over():
    one, other = (batch([(at, b"k", b"v", [])], at) for at in (7, 9))
    data = one + batch([(8, bytes(4), b"abort", [])], 8, attributes=0x30) + other
    assert read(data, 7) == parsed(data, 7) == ([(7, b"k", b"v"), (9, b"k", b"v")], 10)


@pytest.mark.parametrize("codec", BY_JAVA)
def test_what_a_broker_has_packed_is_read(codec):
    data = base64.b85decode(BY_JAVA[codec])
    assert data[22] & 7 == CODECS[codec]
    points = [(i, b"pump-%d" % i, b'{"source":"pump-%d","timestamp":1700000000,"value":%d}' % (i, i)) for i in range(4)]
    assert read(data, 0) == parsed(data, 0) == (points, 4)


def test_snappy_without_frames_is_read():
    """As librdkafka writes it."""
    plain = bytearray(batch([(0, b"k", b"v" * 1000, [])], 0))
    plain[61:] = snappy_encode(bytes(plain[61:]), xerial_compatible=False)
    struct.pack_into(">i", plain, 8, len(plain) - 12)
    plain[22] |= CODECS["snappy"]
    assert read(checked(plain), 0) == ([(0, b"k", b"v" * 1000)], 1)


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "none"])
def test_what_cannot_be_unpacked_is_damaged(codec):
    made = bytearray(batch([(3, b"k", b"v" * 1000, [])], 3, CODECS[codec]))
    made[61:] = bytes(range(len(made) - 61))
    with pytest.raises(StateError, match=r"^@3: the record batch is damaged: it cannot be unpacked"):
        Fetched.of(checked(made), 3).records()


@pytest.mark.parametrize("what", ["of an older format", "by an unknown codec"])
def test_what_is_not_read_whole_is_left_to_aiokafka(what):
    plain, other = batch([(0, b"k", b"v" * 1000, [])], 0), bytearray(batch([(1, b"k", b"v" * 1000, [])], 1))
    if what == "of an older format":
        other[16] = 1
    else:
        other[22] |= 5
    assert Fetched.of(plain, 0) and Fetched.of(plain + checked(other), 0) is None


COMMIT, ABORT = struct.pack(">HH", 0, 1), struct.pack(">HH", 0, 0)


def transactions(seed, batches=60):
    """A log of transactions of some producers at once, beside records of none: (bytes, begin, what was aborted)."""
    draw = random.Random(seed)
    offset = begin = draw.randrange(10**6)
    made, aborted, open_ = [], [], {}
    for number in range(batches):
        producer = draw.randrange(4)
        if producer in open_ and (draw.random() < 0.4 or number > batches - 5):
            ends = draw.choice([COMMIT, ABORT])
            made.append(batch([(offset, ends, bytes(6), [])], offset, attributes=0x30, producer=producer))
            first = open_.pop(producer)
            aborted += [(producer, first)] if ends == ABORT else []
            offset += 1
            continue
        records = [(offset + i, b"k", b"%d" % draw.randrange(999), []) for i in range(draw.randrange(1, 9))]
        inside = draw.random() < 0.7
        if inside:
            open_.setdefault(producer, offset)
        codec = draw.choice([0, 4])
        made.append(batch(records, offset, codec, 0x10 if inside else 0, producer if inside or producer < 2 else -1))
        offset += len(records)
    return b"".join(made), begin, aborted


@pytest.mark.parametrize("seed", range(30))
def test_what_was_aborted_is_passed_over(seed):
    data, begin, aborted = transactions(seed)
    random.Random(seed).shuffle(aborted)
    batches = Fetched.of(data, begin).batches
    base, at = batches[random.Random(seed).randrange(40)][[2, 0]].tolist()
    for first, answer in ((begin, data), (base, data[at:]), (base + 1, data[at:])):
        assert read(answer, first, aborted) == parsed(answer, first, aborted)
        assert read(answer, first) == parsed(answer, first)
    assert Fetched.of(data, begin, aborted).count == len(parsed(data, begin, aborted)[0])
    assert len(parsed(data, begin, aborted)[0]) < len(parsed(data, begin)[0])


def test_an_emptied_mark_is_passed_over():
    """As compaction leaves it of the last offset of a producer. For aiokafka itself see test_patches.py."""
    emptied = bytearray(batch([], 8, attributes=0x30))
    struct.pack_into(">i", emptied, 23, 0)
    one, other = (batch([(at, b"k", b"v", [])], at, attributes=0x10) for at in (7, 9))
    data = one + checked(emptied) + other
    assert read(data, 7, [(5, 9)]) == ([(7, b"k", b"v")], 10)


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


def fetched(data, first, key_deserializer, aborted=()):
    """What such a consumer's getmany takes from a response, and the position after it."""

    async def taken():
        state = SubscriptionState()
        state.assign_from_user([LOG])
        assignment = state.subscription.assignment
        assignment.state_value(LOG).seek(first)
        kept = fetcher.MemoryRecords(data)
        records = fetcher.PartitionRecords(LOG, kept, aborted, first, key_deserializer, None, True, int(bool(aborted)))
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


def test_records_of_an_older_format_come_as_records(taken_whole):
    builder = LegacyRecordBatchBuilder(1, 0, 1000)
    builder.append(0, 1_700_000_000_000, b"k", b"v")
    records, end = fetched(bytes(builder.build()), 0, whole)
    assert [(record.offset, record.key) for record in records] == [(0, b"k")] and end == 1


def test_a_reader_of_what_is_committed_gets_no_more(taken_whole):
    data, begin, aborted = transactions(1)
    [found], end = fetched(data, begin, whole, aborted)
    records, same_end = fetched(data, begin, None, aborted)
    assert found.count == len(records) < Fetched.of(data, begin).count and end == same_end

"""Reading raw-data: every offset is answered, good points come through exactly, bad ones say why.

The reference is Python's json with a reading of the wire format written for these tests alone.
"""

import json
import math
import random
import re
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.pipeline.points import Points
from app.settings import InputSettings
from app.wire import framing, malformed
from app.wire.dead_letters import DeadLetter
from app.wire.reader import Decoded, Reader, Skipped

KEY = b"pump-7"
END = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
GOOD = [
    b'{"source": "pump-7", "timestamp": 1698401060.25, "value": 45.2}',
    b'{"source": "pump-7", "timestamp": "2023-10-27T09:37:40Z", "value": -0.5e-3}',
    b'{"source":"pump-7","timestamp":"2023-10-27T11:37:40.5+02:00","value":7}',
    b'{"source":"pump-7","value":45.2}',
    b'{"sourceId":"pump-7","timestamp":1698401060,"value":45.2,"unit":"bar","tags":[{"a":null}]}',
    b'{"entity_id":"pump-7","timestamp":null,"value":45.2,"metric":"pressure"}',
    b'{"source":"pump-7","values":{"temperature":45.2,"pressure":2.1,"flow":null}}',
    b'[{"source":"pump-7","timestamp":1698401060.0,"value":1.0},{"source":"pump-7","value":2.5}]',
    b' {"source":"pump-7" ,\n"value":1e150,"note":"\\u00e4\\n \xc3\xa4"} ',
    b'{"source":"pump-7","value":1,"metric":5,"timestamp":1698401060250}',
    b'{"source":"pump-7","value":1}\n{"source":"pump-7","value":2,"timestamp":1698401060250000}\n\n',
    b'{"source":"pump-7","value":1} {"source":"pump-7","value":2}',
    b'\xef\xbb\xbf{"source":"pump-7","timestamp":1698401060250000123,"value":1}',
    b'\x00\x00\x00\x00\x07 {"source":"pump-7","value":1}',
]


@dataclass
class Record:
    value: bytes | None
    offset: int = 1207
    key: bytes | None = KEY
    timestamp: int = 1698401000_000
    headers: tuple = field(default=())


def reader(keyed: bool = True, partition: int = 3, **input) -> Reader:
    return Reader(InputSettings(**input), "raw-data", partition, keyed)


def read(*values: bytes | None, keyed: bool = True, **input) -> tuple[Points, list[DeadLetter]]:
    return reader(keyed, **input).read([Record(value, offset) for offset, value in enumerate(values)])[:2]


def rows(points: Points) -> list[tuple]:
    """(offset, index, source, timestamp, own_time, {metric: value}, metric of its series or "") of each point."""
    assert len(points.values) == (points.start or [len(points)])[-1]
    metric = points.metric or [""] * len(points)
    heads = zip(points.offset, points.index, points.source, points.timestamp, points.own_time)
    cells = [list(zip(points.names(i), points.values[points.cells(i)], strict=True)) for i in range(len(points))]
    assert all(cell == sorted(cell) for cell in cells)
    return [(*head, dict(cell), name) for head, cell, name in zip(heads, cells, metric, strict=True)]


def reference(value: bytes) -> list[tuple] | None:
    """What the wire format says of a record whose every element is good; None when something is not."""

    def refuse(text):
        raise ValueError(text)

    try:
        value = re.sub(rb"^\x00(.{4}|.{8})(?=\s*[\[{])", b"", value, flags=re.DOTALL).removeprefix(framing.BOM)
        try:
            found = json.loads(value.decode(), parse_constant=refuse)
        except json.JSONDecodeError:
            found = json.loads(re.sub(r"}\s*{", "},{", f"[{value.decode()}]"), parse_constant=refuse)
        return [point(one, i) for i, one in enumerate(found if isinstance(found, list) else [found])] or None
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None


def point(one: dict, index: int) -> tuple:
    source = next(one[n] for n in ("source", "sourceId", "entity_id") if one.get(n) is not None) if one else None
    source = str(source) if type(source) is int else source
    if not isinstance(source, str) or source.encode() != KEY:
        raise ValueError(source)
    time = given = one.get("timestamp")
    if time is None:
        time = 1698401000.0
    elif isinstance(time, str):
        parsed = datetime.fromisoformat(time)
        time = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    elif isinstance(time, int | float):
        time /= next((per for per in (1e3, 1e6, 1e9) if 1e8 * per <= time < END * per), 1)
        time = round(time, 6) if time > 1e8 else time
    if isinstance(time, bool) or not 0 <= time < END:
        raise ValueError(time)
    metric = ""
    if one.get("values") is not None:
        cells = one["values"]
    else:
        metric = one["metric"] if one.get("metric") is not None else "value"
        metric = str(metric) if type(metric) is int else metric
        cells = {metric: one.get("value")}
        metric = "" if metric == "value" else metric
    cells = {name: value for name, value in cells.items() if value is not None}
    for name, value in cells.items():
        if isinstance(value, bool | str) or not abs(value) <= 1e150 or not isinstance(name, str) or not name:
            raise ValueError(value)
    if not cells:
        raise ValueError(one)
    cells = {name: float(value) for name, value in cells.items()}
    return index, source, float(time), given is not None, cells, metric


@pytest.mark.parametrize("value", GOOD)
def test_a_good_record_reads_as_the_wire_format_says(value):
    points, dead_letters = read(value)
    assert dead_letters == []
    assert [row[1:] for row in rows(points)] == reference(value)


def test_points_stand_in_the_order_of_the_partition():
    points, dead_letters = read(*GOOD)
    assert dead_letters == []
    assert [row[:2] for row in rows(points)] == sorted(row[:2] for row in rows(points))
    assert points.offset == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11, 11, 12, 13]


# Bytes, label, what the reason must say.
BAD: list[tuple[bytes | None, str, str]] = [
    (b"", "empty", "value must be a JSON object or an array of them, got no bytes"),
    (b"[]", "empty", "$ must hold at least one object, got an empty array"),
    (b" ", "invalid_json", "$ must be JSON"),
    (b"{", "invalid_json", "$ must be JSON"),
    (b"pump-7,45.2", "invalid_json", "$ must be JSON"),
    (GOOD[0] + b"}", "invalid_json", "trailing"),
    (GOOD[0][:-1], "invalid_json", "$ must be JSON"),
    (
        b"\x00\x00\x00\x00\x07\x0cpump-7\x00",
        "invalid_json",
        "begins like the prefix of a schema registry, with Avro or Pr",
    ),
    (b"\x00\x00\x00\x00\x07\x00\n\x06pump-7", "invalid_json", "with Avro or Protobuf behind it: use the JSON (Schema)"),
    (b"\x00\x00\x00\x00\x07{\xff", "invalid_json", "UTF-8, byte 1 is not; it begins like the prefix of a schema re"),
    (b"\x03\x05" + bytes(16) + b"x\x9c", "invalid_json", "begins like the prefix of AWS Glue's schema registry, comp"),
    (b"\x1f\x8b\x08" + bytes(9), "invalid_json", "begins like gzip: let Kafka compress"),
    (b"Obj\x01\x04\x14avro.codec", "invalid_json", "begins like an Avro file"),
    (GOOD[0].decode().encode("utf-16"), "invalid_json", "value must be UTF-8, byte 0 is not; it begins like UTF-16"),
    (GOOD[0].decode().encode("utf-16-le"), "invalid_json", "begins like UTF-16"),
    (GOOD[0] + b"," + GOOD[0] + b",", "invalid_json", "$ must be JSON"),
    (b'{"source":"pump-7","value":1,"note":"\xff"}', "invalid_json", "value must be UTF-8, byte 37 is not"),
    (b'{"source":"pump-7","value":1,"note":"\xed\xa0\x80"}', "invalid_json", "value must be UTF-8, byte 37 is not"),
    (b'{"source":"\\ud800","value":1}', "invalid_json", "$ must be JSON"),
    (b"5", "wrong_type", "$ must be an object, got 5"),
    (b'"pump-7"', "wrong_type", '$ must be an object, got "pump-7"'),
    (b"null", "wrong_type", "$ must be an object, got null"),
    (b'[[{"source":"pump-7","value":1}]]', "wrong_type", "$[0] must be an object, got an array of 1"),
    (b'{"source":"pump-7","value":NaN}', "not_finite", "raw-data[3]@0: $.value must be finite, got NaN"),
    (b'{"source":"pump-7","value":-Infinity}', "not_finite", "$.value must be finite, got -Infinity"),
    (b'{"source":"pump-7","value":1e999}', "not_finite", "$.value must be finite, got 1e999"),
    (b'{"source":"pump-7","value":' + b"1" * 9999 + b"}", "not_finite", "$.value must be finite, got 1111"),
    (b'{"source":"pump-7","value":1,"x":{"y":[NaN]}}', "not_finite", "$.x.y[0] must be finite, got NaN"),
    (b'{"source":"pump-7","values":{"a":1,"b":NaN}}', "not_finite", "$.values.b must be finite, got NaN"),
    (b'{"source":"pump-7","value":"45.2"}', "wrong_type", '$.value must be a number, got "45.2"'),
    (b'{"source":"pump-7","value":true}', "wrong_type", "$.value must be a number, got true"),
    (b'{"source":"pump-7","value":[1]}', "wrong_type", "$.value must be a number, got an array of 1"),
    (b'{"source":"pump-7","value":"' + b"x" * 9999 + b'"}', "wrong_type", '"xxx'),
    (b'{"source":"pump-7","values":[1]}', "wrong_type", "$.values must be an object of numbers, got an array"),
    (b'{"source":"pump-7","values":{"a":1,"b":"x"}}', "wrong_type", '$.values.b must be a number, got "x"'),
    (b'{"source":"pump-7","values":{"a":1},"value":1}', "wrong_type", "$ must have value or values, got both"),
    (b'{"source":"pump-7","value":1.1e150}', "out_of_range", "$.value must be within -1e150..1e150, got 1.1e+150"),
    (b'{"source":"pump-7","values":{"a":-1e151}}', "out_of_range", "$.values.a must be within"),
    (b'{"source":"pump-7"}', "no_value", "$.value or $.values must hold a number, got none"),
    (b'{"source":"pump-7","value":null}', "no_value", "$.value or $.values"),
    (b'{"source":"pump-7","values":{}}', "no_value", "$.value or $.values"),
    (b'{"source":"pump-7","values":null}', "no_value", "$.value or $.values"),
    (b'{"source":"pump-7","values":{"a":null}}', "no_value", "$.value or $.values"),
    (b'{"value":1}', "bad_source", "$.source or $.sourceId or $.entity_id must name the source, got nothing"),
    (b'{"source":"","value":1}', "bad_source", '$.source must be 1 to 256 bytes, got 0: ""'),
    (b'{"sourceId":"' + b"x" * 257 + b'","value":1}', "bad_source", "$.sourceId must be 1 to 256 bytes, got 257"),
    (b'{"source":7.0,"value":1}', "bad_source", "$.source must be text or a whole number, got 7.0"),
    (
        b'{"source":"pump-8","value":1}',
        "key_mismatch",
        '$.source must be the record\'s key, got "pump-8" under the key "pump-7"; key',
    ),
    (b'{"source":true,"value":1}', "bad_source", "$.source must be text or a whole number, got true"),
    (b'{"source":"pump-7","value":1,"metric":5.5}', "bad_metric", "$.metric must be text or a whole number, got 5.5"),
    (b'{"source":"pump-7","value":1,"metric":""}', "bad_metric", "a metric's name must be 1 to 128 bytes"),
    (b'{"source":"pump-7","values":{"' + b"x" * 129 + b'":1}}', "bad_metric", "must be 1 to 128 bytes"),
    (
        b'{"source":"pump-7","value":1,"timestamp":7258118400000000000}',
        "bad_timestamp",
        "00000; set input.timestamp_unit",
    ),
    (b'{"source":"pump-7","value":1,"timestamp":-1}', "bad_timestamp", "must be a time in 1970..2199, got -1"),
    (
        b'{"source":"pump-7","value":1,"timestamp":7258118400}',
        "bad_timestamp",
        "$.timestamp must be a time in 1970..2199, got 7258118400; set",
    ),
    (b'{"source":"pump-7","value":1,"timestamp":NaN}', "bad_timestamp", "epoch seconds or a time such as"),
    (b'{"source":"pump-7","value":1,"timestamp":true}', "bad_timestamp", "got true"),
    (b'{"source":"pump-7","value":1,"timestamp":"yesterday"}', "bad_timestamp", 'got "yesterday"'),
    (b'{"source":"pump-7","value":1,"timestamp":"2023-02-29T00:00:00Z"}', "bad_timestamp", "epoch seconds or"),
    (b'{"source":"pump-7","value":1,"timestamp":"1969-12-31T23:59:59Z"}', "bad_timestamp", "got 1969-12-31T23"),
    (b'{"source":"pump-7","value":1,"timestamp":"0001-01-01T00:00:00+14:00"}', "bad_timestamp", "1970..2199"),
    (b'{"source":"pump-7","values":{' + b",".join(b'"m%d":1' % i for i in range(33)) + b"}}", "too_many_metrics", "33"),
    (b'{"source":"pump-7","value":1,"x":' + b"[" * 2000 + b"]" * 2000 + b"}", "too_deep", "nested deeper than 128"),
    (b'{"source":"pump-7","value":1,"x":' + b'{"a":' * 200 + b"1" + b"}" * 201, "too_deep", "nested deeper than 128"),
    (b"[" * 1_000_000, "too_deep", "nested deeper than 128"),
]


@pytest.mark.parametrize(("value", "label", "said"), BAD, ids=lambda v: v[:40] if isinstance(v, bytes | str) else v)
def test_a_bad_record_is_a_dead_letter_that_says_why(value, label, said):
    points, (dead_letter,) = read(value)
    assert len(points) == 0
    assert said in dead_letter.reason
    assert dead_letter.reason.startswith("raw-data[3]@0: ")
    assert len(dead_letter.reason) < 400
    kept = value[1:-1] if "$[0]" in dead_letter.reason else value  # an element's dead letter has the element's bytes
    assert (dead_letter.label, dead_letter.key, dead_letter.value) == (label, KEY, kept)
    assert (dead_letter.offset, dead_letter.index) == (0, 0)


def test_every_label_occurs_and_no_other():
    assert {label for _, label, _ in BAD} | {"not_read"} == set(malformed.LABELS)  # not_read: many in one record, below


@pytest.mark.parametrize("bad", [value for value, _, _ in BAD if value and value[0] in b"{["])
def test_one_bad_element_does_not_spoil_the_others(bad):
    good = b'{"source":"pump-7","timestamp":1698401060.1,"value":0.1,"n":12345678901234567890}'
    points, dead_letters = read(b"[" + good + b"," + bad + b"," + good + b"]")
    assert dead_letters
    if dead_letters[0].label in ("invalid_json", "too_deep"):  # then where the element ends is not known
        assert (len(dead_letters), len(points)) == (1, 0)
    else:
        assert [dead_letter.index for dead_letter in dead_letters] == [1]
        assert "$[1]" in dead_letters[0].reason
        assert rows(points) == [(0, i, "pump-7", 1698401060.1, True, {"value": 0.1}, "") for i in (0, 2)]


def test_the_letters_of_one_record_are_few_and_small():
    """An array of 400,000 bad elements must not become 400,000 records of its size."""
    good, bad = b'{"source":"pump-7","value":1}', b'{"source":"pump-7","value":"x"}'
    value = b"[" + b",".join([bad, good] * 5000) + b"]"
    points, dead_letters = read(value)
    assert points.index == list(range(1, 199, 2)), "good ones between the bad ones are points"
    assert [dead_letter.index for dead_letter in dead_letters] == [*range(0, 199, 2), 199]
    assert [dead_letter.value for dead_letter in dead_letters] == [bad] * 100 + [value]
    assert dead_letters[-1].label == "not_read"
    assert dead_letters[-1].reason == (
        "raw-data[3]@0: $[199] and what follows, 9801 elements, was not read: 100 before it are bad"
    )
    points, dead_letters = read(b"[" + b",".join([good] * 5 + [bad] * 100) + b"]")
    assert len(dead_letters) == 100 and dead_letters[-1].index == 104, "nothing is left to be not read"


def test_a_record_gets_a_bounded_share_of_the_work(monkeypatch):
    """What is done for each element is done for few of them once they are bad."""
    decoded = []
    one = reader()
    decode = one._decode_one
    monkeypatch.setattr(one, "_decode_one", lambda raw: decoded.append(raw) or decode(raw))
    explained = []
    explain = malformed.explain
    monkeypatch.setattr(malformed, "explain", lambda *given: explained.append(given) or explain(*given))
    for bad in (b"0", b"NaN", b'{"source":"pump-7","value":NaN}'):
        decoded.clear(), explained.clear()
        elements = [bad] * (1_000_000 // (len(bad) + 1))
        points, dead_letters, *_ = one.read([Record(b"[" + b",".join(elements) + b"]", 0)])
        assert len(decoded) == len(explained) == 100 and len(dead_letters) == 101 and not len(points)


def test_elements_keep_the_bytes_they_were_sent_with():
    good = b'{"source":"pump-7","value":1,"x":"NaN, \\" -Infinity"}'
    bad = [b'{"source": "pump-7",  "value": NaN}', b"-Infinity"]
    points, dead_letters = read(b" [ " + b" ,\n".join([bad[0], good, bad[1], good]) + b" ] ")
    assert [dead_letter.value for dead_letter in dead_letters] == bad
    assert [dead_letter.label for dead_letter in dead_letters] == ["not_finite", "wrong_type"]
    assert points.index == [1, 3]


def test_a_point_that_the_pipeline_rejects_keeps_its_bytes_and_is_not_decoded_again(monkeypatch):
    values = [GOOD[0], GOOD[7], b'[{"source":"pump-7","value":NaN},' + GOOD[0] + b"]"]
    records = [Record(value, offset) for offset, value in enumerate(values)]
    one = reader()
    points, _, elements, _ = one.read(records)
    assert [row[:2] for row in rows(points)] == [(0, 0), (1, 0), (1, 1), (2, 1)]
    monkeypatch.delattr(Reader, "_decode")
    rejected = one.rejected(records, elements, points, [(i, "too_many_metrics", "no") for i in (0, 2, 3)])
    assert [(dead_letter.offset, dead_letter.index, dead_letter.reason) for dead_letter in rejected] == [
        (0, 0, "raw-data[3]@0: no"),
        (1, 1, "raw-data[3]@1: no"),
        (2, 1, "raw-data[3]@2: no"),
    ]
    assert [json.loads(dead_letter.value) for dead_letter in rejected] == [
        json.loads(value) for value in (GOOD[0], b'{"source":"pump-7","value":2.5}', GOOD[0])
    ]


def mutations(seed: int, count: int) -> list[bytes]:
    """Good records, damaged: bytes flipped, dropped, doubled, cut, spliced, tokens put for others."""
    rng = random.Random(seed)
    tokens = [
        b"NaN",
        b"1e999",
        b"null",
        b"true",
        b'"',
        b"{",
        b"]",
        b"\\u0000",
        b"\xff",
        b"",
        b"-",
        b"[[]]",
        b"1.5",
        b",",
    ]
    found = []
    while len(found) < count:
        value = bytearray(rng.choice(GOOD))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at, end = sorted(rng.randrange(len(value) + 1) for _ in range(2))
            kind = rng.randrange(6)
            if kind == 0 and at < len(value):
                value[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del value[at : at + rng.randrange(1, 4)]
            elif kind == 2:
                value[at:at] = rng.choice(tokens)
            elif kind == 3:
                value[at : at + rng.randrange(1, 6)] = rng.choice(tokens)
            elif kind == 4:
                value[at:end] = rng.choice(GOOD)[at:end]
            elif rng.random() < 0.3:
                del value[at:]
            value = value or bytearray(b"x")
        found.append(bytes(value))
    return found


CORPUS = list(dict.fromkeys(mutations(2026, 6000))) + [value for value, _, _ in BAD]


def test_every_offset_of_the_corpus_is_answered():
    """2,500 malformed records and more; the same answers one by one, all together, and in another process's words."""
    points, dead_letters = read(*CORPUS)
    answered = {row[0] for row in rows(points)} | {dead_letter.offset for dead_letter in dead_letters}
    assert answered == set(range(len(CORPUS)))
    assert len({dead_letter.offset for dead_letter in dead_letters}) >= 2500
    assert len(points) >= 200  # mutations that leave a record good
    assert {dead_letter.label for dead_letter in dead_letters} <= set(malformed.LABELS)
    apart = [reader().read([Record(value, offset)])[:2] for offset, value in enumerate(CORPUS)]
    assert [row for some, _ in apart for row in rows(some)] == rows(points)
    assert [dead_letter for _, some in apart for dead_letter in some] == dead_letters


def test_good_neighbours_of_the_corpus_are_untouched():
    good = GOOD[0]
    points, dead_letters = read(*(value for bad in CORPUS for value in (good, bad)))
    kept = [row for row in rows(points) if row[0] % 2 == 0]
    assert [row[0] for row in kept] == list(range(0, 2 * len(CORPUS), 2))
    assert {row[2:5] for row in kept} == {("pump-7", 1698401060.25, True)}
    assert all(row[5] == {"value": 45.2} for row in kept)
    assert all(dead_letter.offset % 2 for dead_letter in dead_letters)


def agrees(value: bytes, found: list[tuple]) -> bool:
    return [row[1:] for row in found] == reference(value)


def test_what_is_accepted_is_what_the_reference_reads():
    checked = 0
    for value in CORPUS:
        if value and not read(value)[1]:
            assert agrees(value, rows(read(value)[0])), value
            checked += 1
    assert checked >= 200


def test_the_reference_would_notice_a_changed_value():
    (row,) = rows(read(GOOD[0])[0])
    assert agrees(GOOD[0], [row])
    assert not agrees(GOOD[0], [(*row[:5], {"value": math.nextafter(45.2, 46)})])
    assert not agrees(GOOD[0], [(*row[:3], row[3] + 1e-6, *row[4:])])
    assert not agrees(GOOD[0], [(*row[:4], False, row[5])])
    assert not agrees(GOOD[0], [])


@pytest.mark.parametrize("unit", [None, "s", "ms", "ns"])
def test_at_once_is_as_record_by_record(unit):
    """The path of whole batches either leaves a batch to the other or gives the same."""
    ours = reader(timestamp_unit=unit)
    for value in GOOD + [value for value in CORPUS if value][:2000]:
        records = [Record(GOOD[0], 0), Record(value, 1)]
        at_once = ours._read_at_once(records[1:])
        assert at_once is None or (at_once, [], {}, []) == ours._read_each(records[1:]), value
        assert plain_elements(ours.read(records)) == plain_elements(ours._read_each(records)), value


def plain_elements(found: Decoded) -> Decoded:
    """With the elements as bytes: other types of them do not compare."""
    return found._replace(elements={at: list(map(bytes, elements)) for at, elements in found.elements.items()})


def test_plain_batches_are_read_at_once():
    """Else the law above holds of nothing."""
    for i in range(4):
        assert len(reader()._read_at_once([Record(GOOD[i], j) for j in range(5)])) == 5
    named = reader(source_field="device", value_fields=["temp"])
    assert len(named._read_at_once([Record(b'{"device":"pump-7","temp":1}')])) == 1


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
FIELDS = st.sampled_from(["source", "sourceId", "entity_id", "timestamp", "value", "values", "metric", "x"])
JSON: Any = st.recursive(
    SCALARS | st.just("pump-7"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(max_size=4), inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=400)
@given(st.lists(JSON, min_size=1, max_size=3), st.booleans())
@example([{"source": "pump-7", "value": 1.0}, [], [{}]], True)
def test_anything_that_json_can_say_gives_points_or_dead_letters(values, ascii_only):
    raw = [json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for value in values]
    points, dead_letters = read(*raw)
    answers = [row[:2] for row in rows(points)] + [(one.offset, one.index) for one in dead_letters]
    assert len(set(answers)) == len(answers)
    assert {offset for offset, _ in answers} == set(range(len(raw)))
    for offset, value in enumerate(raw):
        if offset not in {dead_letter.offset for dead_letter in dead_letters}:
            assert agrees(value, [row for row in rows(points) if row[0] == offset])


@given(
    st.floats(-1e150, 1e150),
    st.floats(0, 7_258_118_399, allow_subnormal=False),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
)
def test_a_good_point_comes_through_exactly(value, time, source):
    raw = json.dumps({"source": source, "timestamp": time, "value": value}).encode()
    points, dead_letters, *_ = reader().read([Record(raw, key=source.encode())])
    assert dead_letters == []
    ((_, _, *found),) = rows(points)
    assert found == [source, time, True, {"value": value}, ""]
    assert math.copysign(1, points.values[0]) == math.copysign(1, value)


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b"a"]), max_size=700).map(b"".join)
)
def test_depth_is_counted_as_one_would_by_hand(value):
    depth = deepest = 0
    quoted = escaped = False
    for byte in value.decode("latin-1"):
        if escaped and byte in '"\\':
            escaped = False
            continue
        escaped = byte == "\\"
        if byte == '"':
            quoted = not quoted
        elif not quoted:
            depth += (byte in "[{") - (byte in "]}")
            deepest = max(deepest, depth)
    many = value.count(b"[") + value.count(b"{") > malformed.MAX_DEPTH
    assert malformed.too_deep(value) == (deepest > malformed.MAX_DEPTH and many)


@given(
    st.lists(st.integers(0, 140).map(lambda n: b"[" * n + b"x" * 200 + b"]" * n) | st.binary(max_size=300), max_size=6)
)
def test_of_many_values_one_is_too_deep_if_it_is_alone(values):
    values = [value for value in values if value]
    long_enough = any(len(value) > 2 * malformed.MAX_DEPTH for value in values)
    assert malformed.any_too_deep(values) == (long_enough and any(map(malformed.too_deep, values)))


@pytest.mark.parametrize("depth", [malformed.MAX_DEPTH - 2, malformed.MAX_DEPTH + 2])
def test_the_stack_that_is_left_decides_nothing(depth):
    value = b'{"source":"pump-7","value":1,"x":' + b"[" * depth + b"]" * depth + b"}"

    def below(frames: int):
        return below(frames - 1) if frames else (read(value), read(b"[" + value + b"]"))

    assert below(sys.getrecursionlimit() // 2) == below(0)


def test_a_tall_wide_array_is_not_deep():
    one = b'{"source":"pump-7","value":1,"note":"' + b"[{" * 9 + b'"}'
    points, dead_letters = read(b"[" + b",".join([one] * 500) + b"]")
    assert (len(points), dead_letters) == (500, [])


def test_of_a_field_given_twice_the_last_counts():
    for value in (
        b'{"source":"a","source":"pump-7","value":1,"value":2}',
        b'[{"source":"pump-7","value":NaN,"value":2}, 5]',
    ):
        points, _ = read(value)
        assert points.values == [2.0] or b"NaN" in value
    assert read(b'{"source":"pump-7","values":{"a":1,"a":2}}')[0].values == [2.0]


def test_kafkas_time_is_taken_where_the_record_has_none():
    points = reader().read([Record(GOOD[3], timestamp=1698401000_123)]).points
    assert (points.timestamp, points.own_time) == ([1698401000.123], [False])
    for time in (-1, 7_258_118_400_000):
        (dead_letter,) = reader().read([Record(GOOD[3], timestamp=time)]).dead_letters
        assert dead_letter.label == "bad_timestamp"
        said = f"Kafka's timestamp (the record holds none) must be a time in 1970..2199, got {time} ms"
        assert said in dead_letter.reason


@pytest.mark.parametrize(("unit", "per_second"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_a_time_is_said_or_found_out(unit, per_second):
    number = b'{"source":"pump-7","timestamp":%d,"value":1}' % (169840106025 * per_second // 100)
    for said in (unit, None):
        points, dead_letters = read(number, number, GOOD[2], timestamp_unit=said)
        assert (points.timestamp, dead_letters) == ([1698401060.25, 1698401060.25, 1698399460.5], [])
        points, dead_letters = read(number, number, timestamp_unit=said)
        assert (points.timestamp, dead_letters) == ([1698401060.25] * 2, [])
    _, (dead_letter,) = read(number, timestamp_unit="s")
    assert f"conds: set input.timestamp_unit to {unit}" in dead_letter.reason


def test_a_time_is_read_the_same_whatever_stands_beside_it():
    """Records of each unit alone, and all of them in one batch: else a replay, with other batches, would differ."""
    at = [0, 7_258_118_399, 10**11, 7_258_118_399_999, 10**14, 7_258_118_399_999_999, 10**17, 7_258_118_399 * 10**9]
    values = [b'{"source":"pump-7","timestamp":%d,"value":1}' % time for time in at]
    together = read(*values)[0].timestamp
    assert together == [read(value)[0].timestamp[0] for value in values]
    assert together == pytest.approx([0, 7_258_118_399, 1e8, 7_258_118_400, 1e8, 7_258_118_400, 1e8, 7_258_118_399])
    for time in (-1, 7_258_118_400, 10**11 - 1, 7_258_118_400_000, 10**17 - 10**3, 7_258_118_400 * 10**9):
        _, (dead_letter,) = read(b'{"source":"pump-7","timestamp":%d,"value":1}' % time)
        assert dead_letter.label == "bad_timestamp"
        assert ("; set input.timestamp_unit" in dead_letter.reason) == (time > 0)


def test_the_units_that_were_found_out_are_known():
    one = reader()
    one.read([Record(GOOD[1])])
    assert one.units == set()
    one.read([Record(GOOD[0])])
    one.read([Record(b'{"source":"pump-7","timestamp":1698401060250,"value":1}')] * 2)
    one.read([Record(b'{"source":"pump-7","timestamp":1698401060250000,"value":1}'), Record(b"")])
    assert one.units == {"s", "ms", "us"}
    said = reader(timestamp_unit="s")
    said.read([Record(GOOD[0])])
    assert said.units == set()


def test_the_key_is_not_asked_where_there_is_one_partition():
    records = [Record(GOOD[0], key=key) for key in (None, b"other", b"\xff")]
    assert len(reader(keyed=False).read(records).points) == 3
    points, dead_letters, *_ = reader().read(records)
    assert len(points) == 0
    assert [dead_letter.reason.partition("the key ")[2].partition(";")[0] for dead_letter in dead_letters] == [
        "none",
        '"other"',
        '"\\\\xff"',
    ]


def test_numbers_that_are_names_are_their_text():
    for source in (b"12084", b"0", b"-5", b"123456789012345678901234567890"):
        for value in (b'{"source":%b,"value":1}', b'{"sourceId":%b,"value":1}', b'[{"entity_id":%b,"values":{"a":1}}]'):
            for key in (source, b'"' + source + b'"'):
                points, dead_letters, *_ = reader().read([Record(value % source, key=key)])
                assert (points.source, dead_letters) == ([source.decode()], [])
    points, _, *_ = reader().read(
        [Record(b'{"source":7,"value":1}', key=b"7"), Record(b'{"source":"8","value":1}', key=b"8")]
    )
    assert points.source == ["7", "8"]
    assert read(b'{"source":"pump-7","value":1,"metric":5}')[0].metric == ["5"]


KEYS = [
    ("s1", [b"s1", b'"s1"', b'{"id":"s1"}', b'{"schema":{"type":"struct"},"payload":{"id":"s1"}}']),
    ("s1", [b'\x00\x00\x00\x00\x01"s1"', b'\x00\x00\x00\x00\x01{"id":"s1"}']),
    ("12084", [b"12084", b'"12084"', b'{"id":12084}', (12084).to_bytes(8, "big"), (12084).to_bytes(4, "big")]),
    ("-5", [b"-5", b"\xff" * 3 + b"\xfb"]),
    ('"s1"', [b'"s1"', b'"\\"s1\\""']),
    ("\u00e4", [b"\xc3\xa4", b'"\\u00e4"']),
]
NO_KEYS = [None, b"", b"s2", b'"s2"', b'"s1', b'{"id":"s1","part":1}', b"[1]", b"\x00", b'"\xff"', b"1.0", b"{" * 9999]


@pytest.mark.parametrize(("source", "keys"), KEYS)
def test_a_key_is_seen_through(source, keys):
    value = json.dumps({"source": source, "value": 1}).encode()
    for many in (1, 3):
        for key in keys:
            points, dead_letters, *_ = reader().read([Record(value, key=key)] * many)
            assert (points.source, dead_letters) == ([source] * many, [])
        points, dead_letters, *_ = reader().read([Record(value, key=key) for key in NO_KEYS])
        assert len(points) == 0
        assert all(one.label == "key_mismatch" and "set input.rekey: true" in one.reason for one in dead_letters)


def test_tombstones_are_skipped():
    found = reader().read([Record(None, 4), Record(GOOD[0], 5), Record(None, 6)])
    assert (found.points.offset, found.dead_letters) == ([5], [])
    assert found.skipped == [Skipped(4, 0, "tombstone"), Skipped(6, 0, "tombstone")]
    assert reader().read([Record(None, 4)]).skipped == [Skipped(4, 0, "tombstone")]


FRAMES = [
    lambda raw: framing.BOM + raw,
    lambda raw: b"\x00\x00\x00\x00\x07" + raw,
    lambda raw: b"\x00\x00\x00\x00\x07" + framing.BOM + raw,
    lambda raw: b"\x00\x00\x00\x00\x00\x00\x00\x00\x07\n" + raw,
    lambda raw: b"\x03\x00" + bytes(range(16)) + raw,
]


@pytest.mark.parametrize("frame", FRAMES)
def test_what_stands_around_json_is_seen_through(frame):
    values = [value for value in GOOD if value[:1] in b"{[ "]
    assert rows(read(*map(frame, values))[0]) == rows(read(*values)[0])
    assert len(reader()._read_at_once([Record(frame(GOOD[0]), i) for i in range(3)])) == 3
    assert rows(read(frame(GOOD[0]), GOOD[0], frame(GOOD[1]))[0]) == rows(read(GOOD[0], GOOD[0], GOOD[1])[0])
    bad = frame(b'{"source":"pump-7","value":"x"}')
    (dead_letter,) = read(bad)[1]
    assert (dead_letter.value, dead_letter.label) == (bad, "wrong_type")


def test_objects_on_lines_are_elements():
    bad = b'{"source":"pump-7","value":NaN}'
    for between in (b"\n", b"\r\n", b"\n \n\n"):
        points, dead_letters = read(between.join([GOOD[0], bad, b"what", GOOD[1], GOOD[0]]) + between)
        assert (points.index, points.values) == ([0, 3, 4], [45.2, -0.5e-3, 45.2])
        assert [(one.index, one.label, one.value) for one in dead_letters] == [
            (1, "not_finite", bad),
            (2, "invalid_json", b"what"),
        ]
    for between in (b"", b" ", b"\n"):
        points, dead_letters = read(
            between.join([GOOD[0], GOOD[6], b'{"source":"pump-7","value":"\xc3\xa4}{"}', GOOD[8]])
        )
        assert (points.index, [one.index for one in dead_letters]) == ([0, 1, 3], [2])


def test_a_pretty_printed_object_is_one_object():
    value = json.dumps({"source": "pump-7", "values": {"a": 1, "b": {}}}, indent=1).encode()
    for raw in (value, value.replace(b": 1", b": NaN"), value[:-1]):
        (dead_letter,) = read(raw)[1]
        assert (dead_letter.value, dead_letter.index) == (raw, 0)


def test_other_names_are_read_as_the_settings_say():
    named = {"source_field": "device", "timestamp_field": "ts", "value_fields": ["temp", "rpm"]}
    points, dead_letters = read(
        b'{"device":"pump-7","ts":5,"temp":1.5,"rpm":900,"value":"x","timestamp":"y"}',
        b'{"device":"pump-7","rpm":901}',
        b'{"device":"pump-7","temp":null}',
        b'{"source":"pump-7","temp":1}',
        b'{"device":"pump-7","temp":"1"}',
        **named,
    )
    assert rows(points) == [
        (0, 0, "pump-7", 5.0, True, {"temp": 1.5, "rpm": 900.0}, ""),
        (1, 0, "pump-7", 1698401000.0, False, {"rpm": 901.0}, ""),
    ]
    reasons = [dead_letter.reason.partition(": ")[2] for dead_letter in dead_letters]
    assert reasons == [
        "$.temp or $.rpm must hold a number, got none",
        "$.device must name the source, got nothing",
        '$.temp must be a number, got "1"',
    ]
    points, dead_letters = read(b'{"device":"pump-7","values":{"b":1,"a":2}}', source_field="device")
    assert rows(points) == [(0, 0, "pump-7", 1698401000.0, False, {"a": 2.0, "b": 1.0}, "")]
    points, dead_letters = read(b'{"source":"pump-7","temp":1}', value_fields=["temp"])
    assert (points.metrics, points.start, points.values) == (["temp"], [0, 1], [1.0])


def test_selected_points_are_those_points():
    points, _ = read(*GOOD)
    keep = [0, 3, 6, 9]
    assert rows(points.select(keep)) == [rows(points)[i] for i in keep]
    plain, _ = read(*GOOD[:4])
    assert rows(plain.select([1, 2])) == rows(plain)[1:3]
    assert rows(plain.select([])) == []


LETTER = DeadLetter(7, 2, "raw-data[3]@7: no", "invalid_json", b"k", b"v", (("trace", b"1"), ("none", None)))


def test_a_dead_letter_carries_the_record_and_the_reason():
    assert LETTER.record("raw-data", 3) == (
        b"k",
        b"v",
        [
            ("reason", b"raw-data[3]@7: no"),
            ("topic", b"raw-data"),
            ("partition", b"3"),
            ("offset", b"7"),
            ("index", b"2"),
            ("trace", b"1"),
            ("none", None),
        ],
    )
    assert replace(LETTER, key=None, value=None).record("raw-data", 3)[:2] == (None, None)


def test_a_dead_letter_always_fits_into_a_record():
    """Of 1 MiB, which is a broker's default limit."""
    many = tuple((f"h{i}", bytes(1000)) for i in range(100))
    huge = DeadLetter(7, 0, "ä" * 5000 + "\ud800", "invalid_json", bytes(900_000), bytes(700_000), many)
    key, value, headers = huge.record("t" * 249, 3)
    assert (len(key), len(value)) == (64 * 1024, 512 * 1024)
    given = dict(headers)
    assert given["value-length"] == b"700000"
    assert given["key-length"] == b"900000"
    assert len(given["reason"]) <= 1024
    assert given["reason"].decode().startswith("äää")
    carried = [header for header in headers if header in many]
    assert carried == list(many[: len(carried)])
    assert given["headers-dropped"] == b"%d" % (100 - len(carried))
    assert 60_000 < sum(len(name) + len(text) for name, text in headers) <= 64 * 1024 + 64
    assert len(key) + len(value) + 64 * 1024 + 4096 < 1_000_000


def test_the_same_bytes_give_the_same_dead_letter():
    def dead_letters():
        return [dead_letter.record("raw-data", 3) for dead_letter in read(*CORPUS)[1]]

    assert dead_letters() == dead_letters()

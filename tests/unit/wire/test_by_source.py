"""Points through the topic by source: what is read there is what was read from the input topic."""

import json
from types import SimpleNamespace

import pytest
from integration.load import records as load
from unit.wire import test_formats

from app.compiled import byte_columns, murmur2
from app.compiled.byte_columns import Column
from app.compiled.murmur2 import partitions
from app.pipeline.points import Points, packed
from app.settings import load as load_settings
from app.wire import by_source
from app.wire.by_source import BySourceReader, Times, encoded
from app.wire.reader import Reader


def record(offset, value, key=None, headers=(), timestamp=1_700_000_000_123):
    return SimpleNamespace(offset=offset, value=value, key=key, headers=headers, timestamp=timestamp)


def read(raw, partition=3, **input):
    settings = load_settings(environ={}, input=input).input
    return Reader(settings, "raw-data", partition, False).read(raw).points, settings


def sent(points, raw, partition=3, count=4):
    """By partition, the records as they are read there."""
    return {
        number: [record(100 + i, value, key, headers) for i, (key, value, headers) in enumerate(of.records())]
        for number, of in encoded(points, partition, Times.of(raw), count).items()
    }


def told(points: Points, offsets, indices):
    """What there is to know of each point, by its id."""
    return {
        (offset, index): (points.source[i], points.metric[i] if points.metric else "", points.timestamp[i],
                          points.own_time[i], points.names(i), points.values[points.cells(i)],
                          (points.labels and points.labels[i]) or None)
        for i, (offset, index) in enumerate(zip(offsets, indices))
    }  # fmt: skip


def through(raw, partition=3, **input):
    """The points of raw records, and what is read of them behind the topic by source."""
    points, settings = read(raw, partition, **input)
    found = {}
    for number, records in sent(points, raw, partition).items():
        reader = BySourceReader(settings, "g-by-source", number, "raw-data")
        decoded = reader.read(records)
        assert decoded.dead_letters == [] and decoded.points.offset == [one.offset for one in records]
        assert reader.times(records).tolist() == [1_700_000_000_123] * len(records)
        assert {index >> 32 for index in decoded.points.index} == {partition}
        found |= told(decoded.points, decoded.points.named, [index & (2**32 - 1) for index in decoded.points.index])
    return told(points, points.offset, points.index), found


def test_every_kind_of_point_comes_through_as_it_was():
    made = load(7, sources=30)
    raw = [record(i, value, key) for i, (key, value) in zip(range(0, 9000, 3), made)]
    before, after = through(raw)
    assert after == before and len(before) > 2900
    kinds = {(bool(metric), own, len(values)) for _, metric, _, own, _, values, _ in before.values()}
    assert kinds >= {(False, True, 1), (False, False, 1), (True, True, 1), (False, True, 2)}


@pytest.mark.parametrize("fields", [["load"], ["load", "heat"]])
def test_other_names_are_of_no_account_behind_it(fields):
    value = b'[{"host":"a","at":1.5,"load":3},{"host":"b","load":4,"heat":5},{"host":"c","load":1e-300}]'
    before, after = through([record(5, value)], source_field="host", timestamp_field="at", value_fields=fields)
    assert after == before and len(before) == 3


SHAPES = {
    "telegraf": (test_formats.CPU, {"labels": ["tags.host", "fields.governor"]}),
    "prometheus": (test_formats.SAMPLE, {"labels": ["labels.*"]}),
    "metricbeat": (test_formats.BEAT, {"labels": ["host.ip"]}),
    "cloudevents": (test_formats.EVENT, {"labels": ["type"]}),
    "debezium": (test_formats.CHANGE, test_formats.COLUMNS),
}


@pytest.mark.parametrize("format", SHAPES)
def test_records_of_tools_with_labels_come_through(format):
    value, more = SHAPES[format]
    before, after = through([record(5, json.dumps(value).encode())], **{"format": format, **more})
    assert after == before and len(before) > 0
    assert ("labels" in more) == any(labels for *_, labels in before.values()) or format == "metricbeat"


def test_what_is_read_alone_and_what_is_read_among_others_is_the_same():
    """Points without labels beside such with labels, and of one metric under its name."""
    value = [{"s": "a", "v": 1, "room": "B"}, {"s": "b", "v": 2}]
    settings = {"source_field": "s", "value_fields": ["v"], "labels": ["room"]}
    before, after = through([record(5 + i, json.dumps(one).encode()) for i, one in enumerate(value)], **settings)
    assert after == before and [labels for *_, labels in before.values()] == [{"room": "B"}, None]


def test_a_plain_batch_and_a_mixed_one_give_the_same_points():
    plain = [record(i, b'{"source":"s%d","timestamp":%d,"value":%d}' % (i % 3, i, i)) for i in range(20)]
    before, after = through(plain)
    assert after == before
    mixed, found = through([*plain, record(20, b'{"source":"s1","timestamp":20,"values":{"a":1,"b":2}}')])
    assert found == mixed and before.items() <= mixed.items()


def test_records_are_json_with_an_origin_and_lie_where_kafkas_clients_put_them():
    raw = [record(58, b'[{"source":"pump-7","timestamp":"2023-10-27T09:37:40Z","value":90},{"source":"a","value":1}]')]
    points, _ = read(raw)
    found = {one.key: (number, one.value, one.headers) for number, [one] in sent(points, raw, count=7).items()}
    places = {key: partitions(Column.of([key]), 7)[0] for key in (b"pump-7", b"a")}
    value = b'{"source":"pump-7","timestamp":1698399460.0,"value":90.0}'
    assert found == {
        b"pump-7": (places[b"pump-7"], value, [("origin", b"3:58:0:1700000000123")]),
        b"a": (places[b"a"], b'{"source":"a","value":1.0}', [("origin", b"3:58:1:1700000000123")]),
    }


def test_no_points_no_records():
    assert encoded(Points(), 3, Times.of([]), 4) == {}


OURS = record(7, b'{"source":"a","timestamp":1.0,"value":1.0}', b"a", [("origin", b"3:58:0:17")])
FOREIGN = [
    (None, OURS.headers),
    (b"", OURS.headers),
    (b'{"source":"a"}', OURS.headers),
    (b'{"source":"","value":1}', OURS.headers),
    (b'{"source":"a","value":1e200}', OURS.headers),
    (b'{"source":"a","value":1,"timestamp":-1}', OURS.headers),
    (b'{"source":"a","values":{}}', OURS.headers),
    (b'{"source":"a","values":{"":1}}', OURS.headers),
    (b'{"source":"a","value":1,"values":{"a":1}}', OURS.headers),
    *((OURS.value, headers) for headers in [
        (), [("other", b"3:58:0:17")], [*OURS.headers, *OURS.headers], [("origin", None)], [("origin", b"")],
        [("origin", b"3:58:0")], [("origin", b"3:58:0:17:1")], [("origin", b"3:58:0:")], [("origin", b"3:-8:0:17")],
        [("origin", b"256:58:0:17")], [("origin", b"3:58:4294967296:17")], [("origin", b"3:%s:0:17" % (b"9" * 19))],
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "headers"), FOREIGN)
def test_what_others_write_there_is_a_dead_letter_that_names_the_topic(value, headers):
    foreign = record(8, value, b"k", headers)
    after = record(9, OURS.value, b"a", [("origin", b"3:59:0:18")])
    reader = BySourceReader(load_settings(environ={}).input, "g-by-source", 2, "raw-data")
    points, [letter], _, _ = reader.read([OURS, foreign, after])
    assert (points.offset, points.named) == ([7, 9], [58, 59])
    key, found, said = letter.record("raw-data", 5)
    assert (key, found) == (b"k", value)
    assert said[:5] == [
        ("reason", b"g-by-source[2]@8: was not written by the hop of input.rekey"),
        ("topic", b"g-by-source"), ("partition", b"2"), ("offset", b"8"), ("index", b"0"),
    ]  # fmt: skip


def test_a_point_that_is_not_scored_is_a_dead_letter_of_the_record_it_came_in():
    reader = BySourceReader(load_settings(environ={}).input, "g-by-source", 2, "raw-data")
    of = record(8, OURS.value, b"a", [("origin", b"3:58:4:17")])
    points, _, elements, _ = reader.read([OURS, of])
    [letter] = reader.rejected([OURS, of], elements, points, [(1, "too_many_sources", "is new")])
    assert (letter.offset, letter.index) == (8, packed(3, 4)), "where it was read"
    key, value, headers = letter.record("raw-data", 2)
    assert (key, value) == (b"a", OURS.value)
    assert dict(headers) == {
        "reason": b"raw-data[3]@58: is new", "topic": b"raw-data", "partition": b"3", "offset": b"58", "index": b"4",
    }  # fmt: skip


def test_it_works_without_a_compiler(monkeypatch):
    monkeypatch.setattr(byte_columns, "AVAILABLE", False)
    for module, name in (by_source, "_numbers"), (by_source, "_write"), (byte_columns, "_order"), (murmur2, "_place"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    raw = [record(i, value, key) for i, (key, value) in zip(range(50), load(7, sources=30))]
    before, after = through(raw)
    assert after == before

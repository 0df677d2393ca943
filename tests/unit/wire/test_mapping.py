"""Records of other shapes, read as the settings say; held to a reading by hand of the decoded JSON."""

import json
import math
from itertools import chain

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from unit.wire.test_reader import Record, rows

from app.pipeline import Pipeline
from app.settings import Detection, InputSettings
from app.state import snapshot
from app.wire import reader
from app.wire.mapping import MAX_LABEL_CHARS, MAX_LABELS
from app.wire.reader import Decoded, Reader
from app.wire.results import encode_columns, encode_episodes, encode_results

AT = 1698401000.0  # Kafka's time of each record


def read(*values, keyed=False, **input) -> Decoded:
    raw = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    return Reader(InputSettings(**input), "raw-data", 3, keyed).read([Record(v, i) for i, v in enumerate(raw)])


def told(found: Decoded) -> list[str]:
    return [letter.reason.partition(": ")[2] for letter in found.dead_letters]


def points(value, **input) -> list[tuple]:
    """(index, source, timestamp, {metric: value}, series) of the points of one record without mistakes."""
    found = read(value, **input)
    assert told(found) == [] and found.skipped == []
    return [(index, source, time, cells, series) for _, index, source, time, _, cells, series in rows(found.points)]


HOST = {"host": {"name": "web-1", "os": {"name": "linux"}}, "cpu": {"pct": 0.5, "idle.pct": 0.25}, "n": 7}


def test_a_path_leads_into_objects_and_a_name_with_dots_comes_first():
    assert points(HOST, source_field="host.name", value_fields=["cpu.pct"]) == [(0, "web-1", AT, {"cpu.pct": 0.5}, "")]
    assert points(HOST, source_field="host.os.name", value_fields=["cpu.idle.pct", "n"]) == [
        (0, "linux", AT, {"cpu.idle.pct": 0.25, "n": 7.0}, "")
    ]
    for flat in (
        {"host.name": "flat"},
        {"host.name": "flat", "host": {"name": "deep"}},
        {"host.name": "flat", "host": {}},
    ):
        assert points({**flat, "value": 1}, source_field="host.name") == [(0, "flat", AT, {"value": 1.0}, "")]
    for none in ({}, {"host": None}, {"host": {"name": None}}, {"host": {}}):
        (reason,) = told(read({**none, "value": 1}, source_field="host.name"))
        assert reason == "$.host.name must name the source, got nothing"
    (reason,) = told(read({"host": "web-1", "value": 1}, source_field="host.name"))
    assert reason == '$.host must be an object, got "web-1"'


def test_the_first_alternative_that_is_there_counts():
    for record, source in (({"a": {"b": 1}, "c": 2}, "1"), ({"a": {}, "c": 2}, "2"), ({"a": 5, "c": 2}, "2")):
        if record["a"] != 5:
            assert points({**record, "value": 1}, source_field="a.b|c")[0][1] == source
    assert points({"host": "x", "value": 1}, source_field="host.name|host")[0][1] == "x"
    assert points({"host": {"name": "y"}, "value": 1}, source_field="host.name|host")[0][1] == "y"


SERIES = {"name": "up", "labels": {"__name__": "up", "job": "node", "instance": "a:9100"}, "value": 1}


@pytest.mark.parametrize(
    ("template", "source"),
    [
        ("{labels.instance}/{name}", "a:9100/up"),
        ("{name}{labels.none|}", "up"),
        ("{labels.none|}/{name}", "/up"),
        ("{labels.none|}/{name|}", "up"),
        ("{name}/{labels.none|labels.job}", "up/node"),
        ("{name},{labels.*}", "up,instance=a:9100,job=node"),
        ("{name},{empty.*|}", "up"),
        ("x-{name}-y", "x-up-y"),
        ("{name}{value}", "up1"),
        ("{labels.none}/{name}", None),
        ("{empty.*}/{name}", None),
    ],
)
def test_a_source_is_made_of_several_fields(template, source):
    found = read({**SERIES, "empty": {}}, source_field=template, value_fields=["n"])
    assert told(found)[0].startswith("$.") and ("must name the source" in told(found)[0]) == (source is None)
    if source is not None:
        assert points({**SERIES, "empty": {}, "n": 3}, source_field=template, value_fields=["n"])[0][1] == source


def test_different_fields_never_make_the_same_source():
    given = [{"a": "1,b=2"}, {"a": "1", "b": "2"}, {"a": "1\\,b=2"}, {"a,b": "2"}, {"a": "=1"}, {"a=": "1"}, {"a": 1.5}]
    found = read(*({"tags": tags, "value": 1} for tags in given), source_field="{tags.*}")
    assert len(set(found.points.source)) == len(given)
    assert found.points.source[1] == "a=1,b=2"


def test_values_are_one_vector_or_apart():
    both = {"source_field": "host.name", "value_fields": ["cpu.pct", "n"]}
    assert points(HOST, **both) == [(0, "web-1", AT, {"cpu.pct": 0.5, "n": 7.0}, "")]
    assert points(HOST, **both, values_apart=True) == [
        (0, "web-1", AT, {"cpu.pct": 0.5}, "cpu.pct"),
        (1, "web-1", AT, {"n": 7.0}, "n"),
    ]
    usual = {"source": "a", "values": {"x": 1, "y": 2}}
    assert points(usual, values_apart=True) == [(0, "a", AT, {"x": 1.0}, "x"), (1, "a", AT, {"y": 2.0}, "y")]
    assert points({"source": "a", "value": 1}, values_apart=True) == [(0, "a", AT, {"value": 1.0}, "")]
    many = {"source": "a", "values": {f"m{i}": i for i in range(100)}}
    assert len(points(many, values_apart=True)) == 100, "input.max_metrics is of one point"


def test_stars_take_every_number():
    record = {"source": "a", "f": {"x": 1, "y": "text", "z": {"q": 2.5, "t": True, "l": [1], "e": None}}}
    assert points(record, value_fields=["f.*"]) == [(0, "a", AT, {"x": 1.0}, "")]
    assert points(record, value_fields=["f.**"]) == [(0, "a", AT, {"x": 1.0, "z.q": 2.5}, "")]
    assert points({**record, "f": {"y": "2"}}, value_fields=["f.*"], numbers_as_text=True)[0][3] == {"y": 2.0}
    for none in ({"y": "text"}, {}, None):
        found = read({**record, "f": none}, value_fields=["f.*"])
        assert told(found) == [] and [one.why for one in found.skipped] == ["no_number"]
    assert told(read({**record, "f": 5}, value_fields=["f.*"])) == ["$.f must be an object, got 5"]


def test_a_field_names_the_value():
    for record in ({"dev": "a", "kind": "temp", "v": 1}, {"dev": "a", "kind": 5, "v": 1}):
        found = points(record, source_field="dev", metric_field="kind", value_fields=["v"])
        assert found == [(0, "a", AT, {str(record["kind"]): 1.0}, str(record["kind"]))]
    assert points({"source": "a", "kind": "value", "value": 1}, metric_field="kind") == [
        (0, "a", AT, {"value": 1.0}, "")
    ]


READINGS = {
    "device": "pump-7",
    "at": 1698401060,
    "data": {"readings": [{"v": 1, "at": 1698401061}, {"v": 2}, {"v": "x"}, 7, {"v": 3, "device": "own"}]},
}
NAMED = {"points_field": "data.readings", "source_field": "device", "timestamp_field": "at", "value_fields": ["v"]}


def test_an_array_in_a_record_has_the_points_and_what_they_share_is_around_it():
    found = read(READINGS, **NAMED)
    assert [row[1:4] for row in rows(found.points)] == [
        (0, "pump-7", 1698401061.0),
        (1, "pump-7", 1698401060.0),
        (4, "own", 1698401060.0),
    ]
    assert [(letter.index, letter.value) for letter in found.dead_letters] == [(2, b'{"v": "x"}'), (3, b"7")]
    assert told(found) == [
        '$.data.readings[2].v must be a number, got "x"',
        "$.data.readings[3] must be an object, got 7",
    ]
    top = {**NAMED, "source_field": "$.device"}
    assert read(READINGS, **top).points.source == ["pump-7"] * 3
    assert points({**READINGS, "data": {"readings": {"v": 5}}}, **NAMED) == [
        (0, "pump-7", 1698401060.0, {"v": 5.0}, "")
    ]


def test_what_has_no_points_says_so():
    for none, reason in (
        ([], "$.data.readings must hold at least one point, got an empty array"),
        (None, "$.data.readings must hold points, got nothing"),
        (5, "$.data.readings must be an object, got 5"),
    ):
        assert told(read({**READINGS, "data": {"readings": none}}, **NAMED)) == [reason]
    assert points({"device": "a", "v": 1}, **{**NAMED, "points_field": "data.readings|"})[0][1] == "a"


def test_several_records_in_one_message_count_on():
    array = json.dumps([READINGS, 5, READINGS]).encode()
    lines = b"\n".join([json.dumps(READINGS).encode(), b"{}", json.dumps(READINGS).encode()])
    for message in (array, lines):
        found = read(message, **NAMED)
        assert found.points.index == [0, 1, 4, 6, 7, 10]
        assert [letter.index for letter in found.dead_letters] == [2, 3, 5, 8, 9]
        assert told(found)[3].startswith("$[2].data.readings[2].v")
        apart = read(message, **{**NAMED, "value_fields": ["v", "w"]}, values_apart=True)
        assert apart.points.index == [0, 1, 4, 6, 7, 10]


def test_a_rejected_point_has_the_bytes_of_its_element():
    one = Reader(InputSettings(**NAMED), "raw-data", 3, False)
    records = [Record(json.dumps(READINGS).encode(), 0), Record(b'{"data":{"readings":{"v":1}},"device":"a"}', 1)]
    found = one.read(records)
    rejected = one.rejected(records, found.elements, found.points, [(i, "too_many_metrics", "no") for i in (1, 2, 3)])
    assert [(letter.index, letter.value) for letter in rejected] == [
        (1, b'{"v": 2}'),
        (4, b'{"v": 3, "device": "own"}'),
        (0, records[1].value),
    ]


def test_many_bad_elements_of_a_record_have_few_letters():
    bad = {**READINGS, "data": {"readings": [{"v": "x"}, {"v": 1}] * 5000}}
    found = read(bad, **NAMED)
    assert len(found.points) == 99 and len(found.dead_letters) == reader.MAX_DEAD_LETTERS + 1
    assert told(found)[-1] == "what follows $.data.readings[198] was not read: 100 before it are bad"
    assert found.dead_letters[-1].label == "not_read" and len(found.dead_letters[-1].value) > 100_000
    whole = {**READINGS, "data": {"readings": [{"v": "x"}] * 100}}
    assert len(read(whole, **NAMED).dead_letters) == 100


def test_numbers_are_text_if_that_is_allowed():
    texts = {"source": "a", "timestamp": "1698401060250", "value": "45.2"}
    assert points(texts, numbers_as_text=True) == [(0, "a", 1698401060.25, {"value": 45.2}, "")]
    assert points({"source": "a", "values": {"x": "-1e3", "y": 2}}, numbers_as_text=True)[0][3] == {"x": -1000, "y": 2}
    (reason,) = told(read({"source": "a", "v": "45.2"}, value_fields=["v|w"]))
    assert reason == '$.v must be a number, got "45.2"; input.numbers_as_text: true allows it'
    for text, label in (("x", "wrong_type"), ("", "wrong_type"), ("+Inf", "not_finite"), ("-Infinity", "not_finite")):
        (letter,) = read({"source": "a", "value": text}, numbers_as_text=True).dead_letters
        assert letter.label == label
    (letter,) = read({"source": "a", "value": True}, numbers_as_text=True).dead_letters
    assert letter.label == "wrong_type"
    found = read({"source": "a", "value": "NaN"}, numbers_as_text=True)
    assert [one.why for one in found.skipped] == ["nan"] and told(found) == []
    assert points({"source": "a", "values": {"x": "nan", "y": 2}}, numbers_as_text=True)[0][3] == {"y": 2.0}


def test_a_bad_value_that_is_apart_spoils_no_other():
    found = read({"source": "a", "v": 1, "w": 1e200, "u": 3}, value_fields=["v", "w", "u"], values_apart=True)
    assert found.points.index == [0, 2] and [letter.index for letter in found.dead_letters] == [1]
    assert told(found) == ["$.w must be within -1e150..1e150, got 1e+200"]


def test_labels_are_repeated():
    tags = {"room": "B", "floor": 3, "open": True, "none": None, "list": [1], "long": "x" * 999}
    found = read({"source": "a", "value": 1, "tags": tags}, {"source": "a", "value": 1}, labels=["tags.room", "tags.*"])
    first, second = found.points.labels
    assert second is None
    assert first == {"tags.room": "B", "room": "B", "floor": 3, "open": True, "long": "x" * MAX_LABEL_CHARS}
    found = read({"source": "a", "value": 1, "tags": {f"t{i}": i for i in range(999)}}, labels=["tags.*"])
    assert len(found.points.labels[0]) == MAX_LABELS
    assert read(READINGS, **NAMED, labels=["device"]).points.labels[2] == {"device": "own"}


def test_labels_are_in_results_and_in_both_events_of_an_episode():
    values = [10 + math.sin(i) + (99 if 170 <= i < 175 else 0) for i in range(250)]
    record = [{"source": "a", "timestamp": 60 * i, "value": v, "tags": {"room": "B"}} for i, v in enumerate(values)]
    found = read(*record, labels=["tags.room"])
    pipeline = Pipeline(Detection(method="moving_average"))
    outcome = pipeline.run(pipeline.sources(), found.points)
    results = encode_results(found.points, outcome, "raw-data", 3)
    assert encode_columns(found.points, outcome, "raw-data", 3).pairs() == results
    events = [json.loads(value) for _, value in encode_episodes(found.points, outcome, "raw-data", 3)]
    assert {event["event"] for event in events} == {"opened", "changed", "closed"}
    for one in [*events, *(json.loads(value) for _, value in results)]:
        assert one["labels"] == {"tags.room": "B"}


@pytest.mark.parametrize("single", [True, False])
def test_results_of_named_values_are_written_in_columns_too(single):
    names = ["cpu.pct"] if single else ["cpu.pct", "n"]
    records = [{"source": "a", "timestamp": i, "cpu": {"pct": i % 7}, "n": 1} for i in range(100)]
    found = read(*records, value_fields=names)
    pipeline = Pipeline(Detection(method="moving_average"))
    outcome = pipeline.run(pipeline.sources(), found.points)
    expected = encode_results(found.points, outcome, "raw-data", 3)
    assert encode_columns(found.points, outcome, "raw-data", 3).pairs() == expected
    assert (json.loads(expected[0][1]).get("metric") == "cpu.pct") == single


def test_a_named_value_is_scored_alike_in_any_batch():
    """Once its sources are known, a batch finds their rows at once."""
    records = [{"source": f"s{i % 3}", "timestamp": i, "cpu": {"pct": i % 7}} for i in range(90)]
    found = read(*records, {"source": "s0", "cpu": {"idle": 1}}, value_fields=["cpu.pct", "cpu.idle"])
    scored = []
    for size in (1, 7, 91):
        pipeline = Pipeline(Detection(method="moving_average"))
        sources, results = pipeline.sources(), []
        for at in range(0, len(found.points), size):
            points = found.points.select(range(at, min(at + size, len(found.points))))
            results += encode_results(points, pipeline.run(sources, points), "raw-data", 3)
        scored.append((results, snapshot.dumps(sources, 0, 90)))
    assert scored[0] == scored[1] == scored[2]


def test_the_key_must_be_the_composed_source_where_there_are_several_partitions():
    (reason,) = told(read(SERIES, keyed=True, source_field="{labels.instance}/{name}"))
    assert 'must be the record\'s key, got "a:9100/up"' in reason and "set input.rekey: true" in reason


# --- against a reading by hand

LEAVES = st.none() | st.booleans() | st.integers(0, 9) | st.floats(0, 9) | st.sampled_from(["1", "x", "", "NaN", "b"])
KEYS = st.sampled_from(["a", "b", "a.b", "b.c", "c", "v", "t"])
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=10)
OBJECTS = st.dictionaries(KEYS, TREES, max_size=5)


def look(one, keys):
    """What a path leads to, the longest name first; None where it leads nowhere."""
    if not keys:
        return one
    names = [(".".join(keys[:end]), keys[end:]) for end in range(len(keys), 0, -1)]
    found = [look(one.get(name), rest) for name, rest in names] if isinstance(one, dict) else []
    return next((value for value in found if value is not None), None)


@settings(max_examples=300)
@given(OBJECTS, st.sampled_from(["a", "a.b", "a.b.c", "b.c", "c"]), st.sampled_from(["v", "a.v", "b.c.v", "b.c"]))
@example({"a": {"b": "s"}, "a.b": None, "v": 1}, "a.b", "v")
@example({"b": {"c": {"v": 2}}, "a": 1}, "a", "b.c.v")
@example({"b.c": 0}, "b.c", "b.c")
def test_types_read_what_a_walk_through_the_json_reads(record, source, value):
    assume(source != value)  # the settings refuse it
    found = read(record, source_field=source, value_fields=[value])
    name, number = look(record, source.split(".")), look(record, value.split("."))
    good = type(name) in (str, int) and name != "" and type(number) in (int, float)
    if len(found.points):
        assert good
        assert (found.points.source, found.points.values) == ([str(name)], [float(number)])
    elif good:
        # Refused for another reading of the path, which is of another type: msgspec looks at all of them.
        assert len(found.dead_letters) == 1 and found.dead_letters[0].label in ("wrong_type", "bad_source")
    assert len(found.points) + len(found.dead_letters) == 1


def plain(found: Decoded) -> tuple:
    """With the elements as bytes: other types of them do not compare."""
    return found.dead_letters, found.skipped, {at: list(map(bytes, some)) for at, some in found.elements.items()}


SHAPES = [
    {"source_field": "a.b", "value_fields": ["v"], "labels": ["a.*", "t"]},
    {"source_field": "{a}/{b.c|}", "value_fields": ["**"], "values_apart": True, "numbers_as_text": True},
    {"points_field": "a.b|b", "source_field": "{c|t}", "value_fields": ["v", "b.*"], "timestamp_field": "$.t"},
    {"source_field": "{a|}-{b.c|}/{c|}", "value_fields": ["v"]},
    {"points_field": "a|", "source_field": "{b.*|c}", "metric_field": "t", "value_fields": ["v|b.c"]},
]


@settings(max_examples=150)
@given(st.sampled_from(SHAPES), st.lists(OBJECTS | st.lists(OBJECTS, max_size=3), min_size=1, max_size=4))
def test_every_record_of_any_shape_is_answered_and_alike_in_any_batch(input, records):
    together = read(*records, **input)
    assert together.points.labels is None or len(together.points.labels) == len(together.points)
    answers = [
        *(row[:2] for row in rows(together.points)),
        *((one.offset, one.index) for one in chain(together.dead_letters, together.skipped)),
    ]
    assert len(set(answers)) == len(answers)
    assert {offset for offset, _ in answers} == set(range(len(records)))
    raw = [Record(json.dumps(record).encode(), i) for i, record in enumerate(records)]
    one_by_one = Reader(InputSettings(**input), "raw-data", 3, False)._read_each(raw)
    assert rows(one_by_one.points) == rows(together.points)
    assert plain(one_by_one) == plain(together)
    alone = [Reader(InputSettings(**input), "raw-data", 3, False).read([one]) for one in raw]
    assert [row for one in alone for row in rows(one.points)] == rows(together.points)
    assert [letter for one in alone for letter in one.dead_letters] == together.dead_letters
    assert [skipped for one in alone for skipped in one.skipped] == together.skipped

"""Points to records: what is written is read as the same point, whatever the settings say, or is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings.model import InputSettings
from app.wire.reader import Reader
from app.wire.writer import NewPoint, NewRecord, Writer

NOW_MS = 1_698_399_460_250
SHAPES = [
    {},
    {"source_field": "id", "timestamp_field": "ts", "value_fields": ["temp"]},
    {"source_field": "id", "value_fields": ["a", "b"]},
    {"points_field": "readings", "source_field": "{host.name}/{room}", "timestamp_field": "$.ts",
     "value_fields": ["cpu.pct|pct"], "numbers_as_text": True, "labels": ["room", "more.*"]},
    {"source_field": "host.name", "value_fields": ["system.**"]},
    {"values_apart": True, "timestamp_unit": "ms", "labels": ["room"]},
    {"metric_field": "name", "rekey": True},
    {"format": "telegraf"},
    {"format": "prometheus"},
    {"format": "cloudevents"},
    {"format": "debezium", "source_field": "name", "value_fields": ["value"]},
]  # fmt: skip
names = st.sampled_from(["value", "a", "b", "temp", "cpu.pct", "é", ""])
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.1, 1e150, 1e151])
points = st.builds(
    NewPoint,
    st.sampled_from(["pump-7", "web-1/B", "a/b/c", "/", "", "12084", 'Pumpe "ä"', "x" * 257, "a,b=c"]) | st.text(),
    value=st.none() | numbers,
    values=st.none() | st.dictionaries(names, numbers | st.none(), max_size=3),
    metric=st.none() | names,
    timestamp=st.none()
    | st.sampled_from([1698399460, 1698399460.25, 1698399460250.0, -1.0, 8e9, "2023-10-27T09:37:40Z", "soon"]),
    labels=st.none() | st.dictionaries(st.sampled_from(["room", "x"]), st.text() | st.booleans(), max_size=2),
)
WRITERS = [Writer(InputSettings(**shape), "raw-data") for shape in SHAPES]


@given(st.sampled_from(range(len(SHAPES))), st.lists(points, max_size=4))
def test_what_is_written_is_read_as_the_same_points(shape, given):
    made = WRITERS[shape].records(given, NOW_MS)
    assert len(made) == len(given)
    for point, record in zip(given, made):
        if not isinstance(record, NewRecord):
            assert str(record).startswith("$")
            continue
        assert record.key == point.source.encode()
        reader = Reader(InputSettings(**SHAPES[shape]), "raw-data", 0, keyed=True)
        found = reader.read([record])
        assert not found.dead_letters and not found.skipped
        assert found.points.source == [point.source]
        wanted = [point.value] if point.values is None else [v for v in point.values.values() if v is not None]
        assert sorted(found.points.values) == sorted(wanted)
        wanted = {None: NOW_MS / 1000, 1698399460250.0: 1698399460.25, "2023-10-27T09:37:40Z": 1698399460.0}
        assert found.points.timestamp == [wanted.get(point.timestamp, point.timestamp)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_of_these_shapes_can_be_written(shape):
    writer = Writer(InputSettings(**shape), "raw-data")
    assert writer.problem == ""
    source = "web-1/B" if "{host" in shape.get("source_field", "") else "web-1"
    name = (shape.get("value_fields") or ["value"])[0].partition("|")[0]
    point = NewPoint(source, values={name: 1.5}) if shape.get("value_fields") else NewPoint(source, 1.5)
    [record] = writer.records([point], NOW_MS)
    assert isinstance(record, NewRecord), record


def test_the_usual_record():
    point = NewPoint("pump-7", 45.2, timestamp="2023-10-27T09:37:40Z", metric="cpu")
    [record] = Writer(InputSettings(), "raw-data").records([point], NOW_MS)
    assert record.value == b'{"source":"pump-7","timestamp":"2023-10-27T09:37:40Z","value":45.2,"metric":"cpu"}'


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"format": "otlp-json"}, "input.format otlp-json says"),
        ({"format": "metricbeat"}, "input.format metricbeat says"),
        ({"source_field": "{name},{tags.*}"}, "input.source_field says"),
    ],
)
def test_a_shape_that_cannot_be_written_is_found_out_at_once(shape, said):
    assert said in Writer(InputSettings(**shape), "raw-data").problem


@pytest.mark.parametrize(
    ("point", "label", "said"),
    [
        (NewPoint("", 1.0), "bad_source", '$.source must be 1 to 256 bytes, got 0: ""'),
        (NewPoint("a", 1e200), "out_of_range", "$.value must be within -1e150..1e150, got 1e+200"),
        (NewPoint("a", values={"t": 1e200}), "out_of_range", "$.values.t must be within"),
        (NewPoint("a", values={}), "no_value", "$.value or $.values must hold a number, got none"),
        (NewPoint("a"), "no_value", "$ must have value or values, got none of them"),
        (NewPoint("a", 1.0, {"b": 1.0}), "no_value", "$ must have value or values, got both"),
        (NewPoint("a", None, {"b": 1.0}, "b"), "bad_metric", "$.metric names a value"),
        (NewPoint("a", 1.0, metric="m" * 129), "bad_metric", "1 to 128 bytes"),
        (NewPoint("a", 1.0, timestamp=-4.0), "bad_timestamp", "$.timestamp must be a time in 1970..2199, got -4"),
        (NewPoint("a", 1.0, timestamp="soon"), "bad_timestamp", 'got "soon"'),
        (NewPoint("a", 1.0, labels={"room": "B"}), "settings", "$.labels.room: must be one of input.labels (none)"),
        (NewPoint("\ud800", 1.0), "bad_source", "surrogate"),
    ],
)
def test_what_would_be_a_dead_letter_is_refused_and_spoils_no_other(point, label, said):
    good = NewPoint("b", 2.0)
    first, refused, last = Writer(InputSettings(), "raw-data").records([good, point, good], NOW_MS)
    assert isinstance(first, NewRecord) and isinstance(last, NewRecord)
    assert refused.label == label and said in str(refused)


def test_settings_that_part_a_point_refuse_it():
    [refused] = Writer(InputSettings(format="telegraf"), "t").records([NewPoint("a", values={"b": 1, "c": 2})], NOW_MS)
    assert "is 2 points with these settings of input" in str(refused)
    [refused] = Writer(InputSettings(source_field="{a}/{b}"), "t").records([NewPoint("a", 1.0)], NOW_MS)
    assert 'must look like {a}/{b} (input.source_field), got "a"' in str(refused)

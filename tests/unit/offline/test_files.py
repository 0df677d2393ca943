"""Files to points: what is read as what, and that nothing is lost without a word."""

import csv
import io
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigurationError
from app.offline.files import read
from app.offline.options import FileOptions
from app.settings import InputSettings


def batches(text, name="pump.csv", fields=None, **options):
    data = text if isinstance(text, bytes) else text.encode()
    batch_points = options.pop("batch_points", 4096)
    return list(read(io.BytesIO(data), name, "pump", fields, FileOptions(**options), batch_points))


def points(text, **options):
    """[(row, source, timestamp, {metric: value})] of all batches, of which none may be bad."""
    got = batches(text, **options)
    assert not [letter.reason for batch in got for letter in batch.bad]
    return [point for batch in got for point in rows(batch.points)]


def rows(p):
    return [(p.offset[i], p.source[i], p.timestamp[i], cells(p, i)) for i in range(len(p))]


def cells(p, i):
    if p.start is None:
        return {"value": p.values[i]}
    return dict(zip(p.metrics[p.start[i] : p.start[i + 1]], p.values[p.start[i] : p.start[i + 1]], strict=True))


def values(text, **options):
    return [value for _, _, _, value in points(text, **options)]


def bad(text, **options):
    return [letter.reason for batch in batches(text, **options) for letter in batch.bad]


# --- which column is what


def test_a_plain_file_needs_no_options():
    text = "timestamp,value\n2014-07-01 00:00:00,10844\n2014-07-01 00:30:00,8127\n"
    assert points(text) == [
        (0, "pump", 1404172800.0, {"value": 10844.0}),
        (1, "pump", 1404174600.0, {"value": 8127.0}),
    ]


@pytest.mark.parametrize(
    "name", ["timestamp", "Timestamp", "time", "ts", "datetime", "date", "@timestamp", "TIME_STAMP"]
)
def test_the_time_is_found_by_its_usual_names(name):
    assert points(f"value,{name}\n1,60\n") == [(0, "pump", 60.0, {"value": 1.0})]


@pytest.mark.parametrize("name", ["source", "sourceId", "source_id", "entity_id", "Entity ID"])
def test_the_source_is_found_by_its_usual_names(name):
    assert points(f"time,{name},value\n1,a,5\n2,b,6\n") == [
        (0, "a", 1.0, {"value": 5.0}),
        (1, "b", 2.0, {"value": 6.0}),
    ]


def test_columns_of_other_names_are_given():
    text = "when,who,x,y\n1,a,5,7\n"
    fields = InputSettings(timestamp_field="when", source_field="Who", value_fields=["y"])
    assert points(text, fields=fields) == [(0, "a", 1.0, {"y": 7.0})]


def test_several_columns_are_one_vector_sorted_by_metric():
    [batch] = [each for each in batches("ts,b,a\n1,2,3\n2,4,5\n") if len(each.points)]
    assert batch.points.metrics == ["a", "b", "a", "b"]
    assert batch.points.values == [3.0, 2.0, 5.0, 4.0]
    assert batch.points.start == [0, 2, 4]


def test_one_column_of_another_name_is_a_metric_of_that_name():
    assert values("ts,cpu\n1,2\n") == [{"cpu": 2.0}]


@pytest.mark.parametrize("name", ["label", "anomaly", "changepoint", "Label"])
def test_labels_are_never_values(name):
    assert values(f"ts,value,{name}\n1,2,1\n") == [{"value": 2.0}]


@pytest.mark.parametrize(
    ("cell", "label"),
    [*((no, "") for no in ("0", "0.0", "", "false", "normal")),
     *((yes, "anomaly") for yes in ("1", "1.0", "True", "anomaly")), ("spike", "spike")],
)  # fmt: skip
def test_labels_are_kept_beside_the_points(cell, label):
    [batch] = batches(f"ts,value,label\n1,2,{cell}\n")[:1]
    assert batch.labels == [label]


def test_without_a_time_column_the_row_is_the_time_and_not_an_own_one():
    text = "value\n5\n6\n"
    assert [(row, time) for row, _, time, _ in points(text)] == [(0, 0.0), (1, 1.0)]
    assert batches(text)[0].points.own_time == [False, False]
    assert batches("ts,value\n1,5\n")[0].points.own_time == [True]


def test_columns_of_text_are_left_out_and_named():
    text = "ts,place,value,unit\n1,web1,,C\n2,web1,5,C\n3,web1,6,C\n"
    got = batches(text)
    assert [point[3] for batch in got for point in rows(batch.points)] == [{"value": 5.0}, {"value": 6.0}]
    notes = [note for batch in got for note in batch.notes]
    assert len(notes) == 2 and "'place'" in notes[0] and "--source" in notes[0] and "'unit'" in notes[1]


def test_a_bad_cell_in_the_only_column_does_not_make_it_text():
    assert bad("ts,cpu\n1,ERR\n2,5\n") == ["pump.csv:2: column 'cpu' must be a number, got 'ERR'"]
    assert len(batches("ts,cpu\n1,ERR\n2,5\n")[0].points) == 1


def test_columns_without_a_name_are_no_values():
    assert values(",ts,value\n0,1,5\n1,2,6\n") == [{"value": 5.0}, {"value": 6.0}]  # pandas' index


def test_a_file_of_numbers_has_no_header():
    assert points("5\n6\n") == [(0, "pump", 0.0, {"value": 5.0}), (1, "pump", 1.0, {"value": 6.0})]
    assert points("2024-01-01,5\n2024-01-02,6\n")[1] == (1, "pump", 1704153600.0, {"value": 6.0})
    assert values("5,7\n6,8\n") == [{"column_1": 5.0, "column_2": 7.0}, {"column_1": 6.0, "column_2": 8.0}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "pump.csv: expected a CSV header, NDJSON records or Parquet, found nothing"),
        ("\n \n", "found nothing"),
        ("ts,label\n1,0\n", "expected a column of values, found ts, label"),
        ("ts,a,a\n1,2,3\n", "two columns are called 'a'"),
        ("ts," + "a" * 129 + "\n1,2\n", "at most 128 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(ConfigurationError, match=message):
        batches(text)


@pytest.mark.parametrize("field", ["timestamp_field", "source_field"])
def test_a_column_asked_for_must_be_there(field):
    with pytest.raises(
        ConfigurationError, match=r"pump.csv: no column 'when' \(input\.\w+ or --\w+\); found ts, value"
    ):
        batches("ts,value\n1,2\n", fields=InputSettings(**{field: "when"}))


# --- cells


@pytest.mark.parametrize("empty", ["", " ", "NA", "n/a", "NaN", "nan", "null", "None"])
def test_an_empty_cell_is_missing_not_zero(empty):
    got = batches(f"ts,a,b\n1,2,3\n2,{empty},4\n3,{empty},{empty}\n4,5,6\n")
    assert [point[3] for batch in got for point in rows(batch.points)] == [
        {"a": 2.0, "b": 3.0}, {"b": 4.0}, {"a": 5.0, "b": 6.0},
    ]  # fmt: skip
    assert sum(batch.empty for batch in got) == 1
    assert not any(batch.bad for batch in got)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,abc", "column 'value' must be a number, got 'abc'"),
        ("1,1_000", "column 'value' must be a number of at most 1e150 in size, got '1_000'"),
        ("1,inf", "at most 1e150 in size, got 'inf'"),
        ("1,-1e151", "at most 1e150 in size"),
        ("1,0x10", "must be a number"),
        ("1,", None),
        ("x,1", "column 'ts' must be an ISO 8601 time or a number, got 'x'"),
        (",1", "column 'ts' must be an ISO 8601 time or a number, got ''"),
        ("1698401060000,1", "column 'ts' must be a time in 1970..2199, got '1698401060000' (in milliseconds, perhaps)"),
        ("-5,1", "must be a time in 1970..2199"),
        ("1,2,3", "expected 2 cells as in the header, found 3"),
        ('1,"2', "expected CSV, found unexpected end of data"),
    ],
)
def test_a_cell_that_cannot_be_read_is_told_with_file_and_line(row, reason):
    got = bad(f"ts,value\n\n0,1\n{row}\n")
    assert [each.partition(": ")[0] for each in got] == ["pump.csv:4"] * bool(reason)
    assert reason is None or reason in got[0]


def test_a_bad_row_is_a_dead_letter_with_its_row_and_text():
    [letter] = [letter for batch in batches("ts,value\n0,1\n\n1,abc\n2,3\n") for letter in batch.bad]
    assert (letter.offset, letter.index, letter.label, letter.value) == (1, 0, "wrong_type", b"1,abc")


def test_a_row_with_one_bad_cell_is_bad_as_a_whole():
    got = batches("ts,a,b\n1,2,3\n2,5,x\n3,4,5\n")
    assert [point[0] for batch in got for point in rows(batch.points)] == [0, 2]


@pytest.mark.parametrize("source", ["", "x" * 257])
def test_a_source_has_1_to_256_bytes(source):
    assert "1 to 256 bytes" in bad(f"ts,source,value\n1,{source},5\n")[0]


def test_what_is_not_utf8_spoils_its_own_row_only():
    got = batches(b"ts,source,value\n1,a,5\n2,caf\xe9,6\n3,a,7\n")
    assert [point[0] for batch in got for point in rows(batch.points)] == [0, 2]
    assert ["UTF-8" in letter.reason for batch in got for letter in batch.bad] == [True]


def test_more_metrics_than_a_source_may_have_are_refused():
    fields = InputSettings(max_metrics=2)
    rows_that_fit = "2,,3,4\n" * 2000  # more than are looked at
    reasons = bad("ts,a,b,c\n" + rows_that_fit + "1,2,3,4\n", fields=fields)
    assert len(reasons) == 1 and "at most 2 metrics (input.max_metrics), found 3" in reasons[0]
    with pytest.raises(ConfigurationError, match=r"at most 2 metrics .*, found 3 columns .*--columns sources"):
        batches("ts,a,b,c\n1,2,3,4\n", fields=fields)


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("2014-07-01 00:30:00", 1404174600.0),
        ("2014-07-01T00:30:00Z", 1404174600.0),
        ("2014-07-01T02:30:00.250+02:00", 1404174600.25),
        ("20140701T003000", 1404174600.0),
        ("2014-07-01", 1404172800.0),
        ("1404174600", 1404174600.0),
        ("1.4041746e9", 1404174600.0),
    ],
)
def test_times_without_zone_are_utc(cell, seconds):
    assert points(f"ts,value\n{cell},1\n")[0][2] == seconds


def test_the_unit_and_format_of_times_are_given():
    ms = InputSettings(timestamp_unit="ms")
    assert points("ts,value\n1404174600250,1\n", fields=ms)[0][2] == 1404174600.25
    assert points("ts,value\n7/1/2014 0:30,1\n", time_format="%m/%d/%Y %H:%M")[0][2] == 1404174600.0
    assert "a time like %d" in bad("ts,value\n2014-07-01,1\n", time_format="%d.%m.%Y")[0]


# --- awkward files


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffts,value\n1,2\n3,4\n",
        "ts;value\n1;2\n3;4\n",
        "ts\tvalue\n1\t2\n3\t4\n",
        '"ts","value"\n"1","2"\n"3","4"\n',
        "ts,value\r\n1,2\r\n3,4\r\n",
        "ts,value\r1,2\r3,4\r",
        "ts,value\n1,2\n3,4",
        "\n\nts,value\n\n1,2\n\n3,4\n\n\n",
        " ts , value \n 1 , 2 \n 3 , 4 \n",
        "ts,value,\n1,2,\n3,4,\n",
        "ts,value,label\n1,2\n3,4\n",
        '"ts;a";value\n1;2\n3;4\n'.replace('"ts;a"', "ts"),
    ],
)
def test_spreadsheets_write_the_same_table_in_many_ways(text):
    assert [(row, time, value) for row, _, time, value in points(text)] == [
        (0, 1.0, {"value": 2.0}),
        (1, 3.0, {"value": 4.0}),
    ]


def test_a_delimiter_inside_quotes_does_not_count():
    assert values('ts;"a, b, c"\n1;2\n') == [{"a, b, c": 2.0}]


def test_rows_are_numbered_as_csv_dictreader_numbers_them():
    text = "ts,value\n\n0,1\n\n\n1,\n2,x\n3,5\n\n"
    expected = [i for i, row in enumerate(csv.DictReader(io.StringIO(text))) if row["value"] in ("1", "5")]
    assert [row for batch in batches(text) for row, *_ in rows(batch.points)] == expected


@given(
    st.lists(st.tuples(st.floats(-1e150, 1e150), st.none() | st.floats(-1e150, 1e150)), max_size=40),
    st.sampled_from([",", ";", "\t"]),
    st.integers(1, 7),
)
def test_what_was_written_is_read(table, delimiter, batch_points):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["time", "a", "b"])
    for i, (a, b) in enumerate(table):
        writer.writerow([datetime.fromtimestamp(i, UTC).isoformat(), repr(a), "" if b is None else repr(b)])
    got = points(out.getvalue(), batch_points=batch_points)
    expected = [{"a": a} if b is None else {"a": a, "b": b} for a, b in table]
    assert got == [(i, "pump", float(i), value) for i, value in enumerate(expected)]


@given(st.binary(max_size=400))
def test_any_bytes_give_points_or_reasons(data):
    try:
        got = batches(b"ts,source,value,x\n1,a,2,3\n" + data)
    except ConfigurationError:
        return
    for batch in got:
        assert len(batch.points.values) == (batch.points.start or [0])[-1]
        assert all(letter.reason.startswith("pump.csv:") for letter in batch.bad)


# --- NDJSON, batches, memory


def test_ndjson_is_read_as_raw_data_is():
    text = (
        '{"source": "a", "timestamp": 5, "value": 1}\n\n'
        '{"source": "a", "value": 2}\n'
        '{"entity_id": "b", "timestamp": "1970-01-01T00:00:07Z", "values": {"y": 1, "x": 2}}\n'
        '[{"source": "c", "timestamp": 8, "value": 3}, {"source": "c", "timestamp": 9, "value": 4}]\n'
    )
    got = batches(text, name="a.ndjson")
    assert [point for batch in got for point in rows(batch.points)] == [
        (0, "a", 5.0, {"value": 1.0}),
        (1, "a", 1.0, {"value": 2.0}),
        (2, "b", 7.0, {"x": 2.0, "y": 1.0}),
        (3, "c", 8.0, {"value": 3.0}),
        (3, "c", 9.0, {"value": 4.0}),
    ]
    assert [index for batch in got for index in batch.points.index] == [0, 0, 0, 0, 1]


def test_a_bad_line_of_ndjson_is_told_with_file_and_line():
    text = '\ufeff{"source": "a", "timestamp": 5, "value": 1}\n\n{"source": "a", "value": "x"}\n{\n'
    got = bad(text, name="a.ndjson")
    assert [each.partition(": ")[0] for each in got] == ["a.ndjson:3", "a.ndjson:4"]
    assert "$.value" in got[0]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_the_size_of_batches_does_not_matter(size):
    random.seed(3)
    text = "ts,source,a,b,t,label\n" + "".join(
        f"{i},{random.choice('xyz')},{random.choice(['', '1', 'q', '2.5'])},{random.choice(['', i])},text,{i % 2}\n"
        for i in range(100)
    )
    whole, parts = batches(text, batch_points=10**6), batches(text, batch_points=size)

    def flat(got):
        return (
            [point for batch in got for point in rows(batch.points)],
            [label for batch in got for label in batch.labels],
            [letter for batch in got for letter in batch.bad],
            sum(batch.empty for batch in got),
            [note for batch in got for note in batch.notes],
        )

    assert flat(whole) == flat(parts)
    assert all(len(batch.points) <= size for batch in parts)


class Pipe(io.RawIOBase):
    """Gives one piece a read, as a pipe does; counts what was taken."""

    def __init__(self, pieces):
        self.pieces, self.taken = iter(pieces), 0

    def read1(self, size):
        piece = next(self.pieces, b"")
        self.taken += len(piece)
        return piece


def test_what_a_pipe_has_brought_is_given_at_once():
    pipe = Pipe([b"ts,value\n1,2\n3,", b"4\n", b"5,6"])
    got = [len(batch.points) for batch in read(pipe, "-", "stdin")]
    assert [n for n in got if n] == [1, 1, 1]


@pytest.mark.parametrize(("head", "line"), [(b"ts,value\n", b"1,2\n"), (b"", b'{"source": "a", "value": 1}\n')])
def test_a_huge_file_is_read_in_pieces(head, line):
    pipe = Pipe([head + line * 1000] + [line * 1000] * 999)
    stream = read(pipe, "-", "stdin")
    assert sum(len(next(stream).points) for _ in range(5)) > 0
    assert pipe.taken < 10 * 1000 * len(line)


def test_a_quote_that_is_not_closed_is_told_from_where_it_stands():
    text = 'ts,value\n1,2\n3,"4\n' + "5,6\n" * 9
    assert bad(text) == [
        "pump.csv:3: expected CSV, found unexpected end of data; lost is all up to line 12: is a quote not closed?"
    ]


def test_a_line_without_end_is_refused():
    with pytest.raises(ConfigurationError, match="a line of more than 16 MiB"):
        list(read(Pipe(b"x" * (1 << 20) for _ in range(1000)), "noise", "noise"))

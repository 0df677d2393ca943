"""Tables as spreadsheets and other programs write them: each is read with the right times, sources and values, or
refused with the option that settles it."""

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import ConfigurationError
from app.offline import csv_columns, table_blocks
from app.offline.files import read
from app.offline.options import FileOptions


def batches(data, fields=None, name="pump.csv", **options):
    data = data if isinstance(data, bytes) else data.encode()
    return list(read(io.BytesIO(data), name, "pump", fields, FileOptions(**options)))


def rows(got):
    """[(source or source:metric, time, value or {metric: value})]"""
    return [
        (source, time, point["value"] if point.keys() == {"value"} else point)
        for batch in got
        for p in [batch.points]
        for i, (source, time) in enumerate(zip(p.series(), p.timestamp))
        for point in [dict(zip(["value"] if p.metric else p.names(i), p.values[p.cells(i)], strict=True))]
    ]


def points(data, **options):
    """The same of a file that has no bad rows."""
    got = batches(data, **options)
    assert [letter.reason for batch in got for letter in batch.bad] == []
    return rows(got)


def at(year, month, day, hour=0, minute=0, second=0, micro=0, zone=UTC):
    return datetime(year, month, day, hour, minute, second, micro, tzinfo=zone).timestamp()


def interpretation(data, **options):
    [text] = [batch.interpretation for batch in batches(data, **options) if batch.interpretation]
    return text


# --- files as programs write them

GRAFANA_LONG = (
    "sep=;\nSeries;Time;Value\n"
    "cpu web1;2023-01-31T13:05:00+00:00;1.5\ncpu web1;2023-01-31T13:06:00+00:00;null\n"
    "cpu web2;2023-01-31T13:05:00+00:00;3\ncpu web2;2023-01-31T13:06:00+00:00;4\n"
)
GERMAN_EXCEL = "Datum;Zeit;Druck\r\n31.01.2023;13:05:00;1,5\r\n31.01.2023;13:06:00;1.012,25\r\n"
T = at(2023, 1, 31, 13, 5)
ONE = [("pump", T, 1.5), ("pump", T + 60, 2.0)]
DRUCK = [("pump", T, {"Druck": 1.5}), ("pump", T + 60, {"Druck": 1012.25})]
FILES = {
    "german excel": (GERMAN_EXCEL, DRUCK),
    "german excel, one column of times": (
        "Datum/Zeit;Druck\n31.01.2023 13:05;1,5\n31.01.2023 13:06;1.012,25\n".replace("Datum/Zeit", "Zeitstempel"),
        DRUCK,
    ),
    "german excel, unicode text": (
        GERMAN_EXCEL.replace(";", "\t").encode("utf-16"), DRUCK),
    "german excel, with title, units and total": (
        "Messreihe 7;;\n;;\nDatum;Zeit;Druck\n;;[bar]\n31.01.2023;13:05:00;1,5\n31.01.2023;13:06:00;1.012,25\n", DRUCK),
    "us excel": ("Date,Time,Value\n1/31/2023,1:05:00 PM,1.5\n1/31/2023,1:06:00 PM,2\n", ONE),
    "us excel, one column": ('Time,Value\n1/31/2023 13:05,"1.5"\n1/31/2023 13:06,2\n', ONE),
    "us excel, thousands": (
        'Time,Value\n1/31/2023 13:05,"1,721,992.30"\n1/31/2023 13:06,"999"\n',
        [("pump", T, 1721992.3), ("pump", T + 60, 999.0)]),
    "german thousands": (
        "Zeit;Value\n31.01.2023 13:05;1.721.992,30\n31.01.2023 13:06;999,5\n",
        [("pump", T, 1721992.3), ("pump", T + 60, 999.5)]),
    "french thousands": (
        "date;value\n31/01/2023 13:05;1 721 992\n31/01/2023 13:06;1\u202f721,5\n",
        [("pump", T, 1721992.0), ("pump", T + 60, 1721.5)]),
    "swiss thousands": (
        "Zeit;Value\n31.01.2023 13:05;1'721'992.30\n31.01.2023 13:06;999.5\n",
        [("pump", T, 1721992.3), ("pump", T + 60, 999.5)]),
    "excel's days": (
        "Date,Value\n44957.545138888888889,1.5\n44957.5458333333,2\n", ONE),
    "YYYYMMDD": (
        "date,value\n20230101,5\n20230102,6\n", [("pump", at(2023, 1, 1), 5.0), ("pump", at(2023, 1, 2), 6.0)]),
    "YYYYMMDD and times": ("date,time,value\n20230131,13:05,1.5\n20230131,13:06,2\n", ONE),
    "YYYYMMDDhhmmss": ("ts,value\n20230131130500,1.5\n20230131130600,2\n", ONE),
    "RFC 2822": ('time,value\n"Tue, 31 Jan 2023 13:05:00 GMT",1.5\n"Tue, 31 Jan 2023 14:06:00 +0100",2\n', ONE),
    "GMT": ("time,value\n2023-01-31 13:05:00 GMT,1.5\n2023-01-31 13:06:00 GMT,2\n", ONE),
    "UTC": ("time,value\n2023-01-31 13:05:00 UTC,1.5\n2023-01-31 13:06:00.000 UTC,2\n", ONE),
    "names of months": ("time,value\n31-Jan-2023 13:05,1.5\n31-Jan-2023 13:06:00,2\n", ONE),
    "names of months first": ('time,value\n"Jan 31, 2023, 1:05 PM",1.5\n"Jan 31, 2023, 1:06:00 PM",2\n', ONE),
    "ctime": ("time,value\nTue Jan 31 13:05:00 2023,1.5\nTue Jan 31 13:06:00 UTC 2023,2\n", ONE),
    "epoch s": ("time,value\n1675170300,1.5\n1675170360,2\n", ONE),
    "epoch ms": ("time,value\n1675170300000,1.5\n1675170360000,2\n", ONE),
    "epoch us": ("time,value\n1675170300000000,1.5\n1675170360000000,2\n", ONE),
    "epoch ns": ("time,value\n1675170300000000000,1.5\n1675170360000000000,2\n", ONE),
    "pipes": ("time|value\n1675170300|1.5\n1675170360|2\n", ONE),
    "sep=": ("sep=,\ntime,value\n1675170300,1.5\n1675170360,2\n", ONE),
    "BOM": ("\ufefftime;value\n1675170300;1,5\n1675170360;2\n", ONE),
    "UTF-16 without BOM": ("time;value\n1675170300;1,5\n1675170360;2\n".encode("utf-16-le"), ONE),
    "gzip": (gzip.compress(b"time,value\n1675170300,1.5\n") + gzip.compress(b"1675170360,2\n"), ONE),
    "no header": ("31.01.2023 13:05;1,5\n31.01.2023 13:06;2\n", ONE),
    "comments": ("# a logger\n# time, value\n1675170300, 1.5\n1675170360, 2\n", ONE),
    "embedded newlines": ('time,note,value\n1675170300,"a\nb",1.5\n1675170360,"c ""d""\r\n",2\n', ONE),
    "trailing separators": ("time,value,\n1675170300,1.5,\n1675170360,2,\n", ONE),
    "separators the header lacks": ("time,value\n1675170300,1.5,\n1675170360,2,\n", ONE),
    "pandas": (",value\n2023-01-31 13:05:00,1.5\n2023-01-31 13:06:00,2.0\n", ONE),
    "pandas with zone": (",value\n2023-01-31 13:05:00+00:00,1.5\n2023-01-31 14:06:00+01:00,2.0\n", ONE),
    "pandas with index": (",time,value\n0,2023-01-31 13:05:00,1.5\n1,2023-01-31 13:06:00,2.0\n", ONE),
    "pandas.melt": (
        "time,variable,value\n1675170300,a,1\n1675170360,a,2\n1675170300,b,3\n",
        [("pump\0a", T, 1.0), ("pump\0a", T + 60, 2.0), ("pump\0b", T, 3.0)]),
    "grafana, joined": (
        '"Time","web1","web2"\n2023-01-31 13:05:00,1,2\n2023-01-31 13:06:00,,3\n',
        [("pump", T, {"web1": 1.0, "web2": 2.0}), ("pump", T + 60, {"web2": 3.0})]),
    "grafana, by series": (
        GRAFANA_LONG, [("cpu web1", T, 1.5), ("cpu web2", T, 3.0), ("cpu web2", T + 60, 4.0)]),
    "influxdb 1": (
        "name,tags,time,value\ncpu,host=a,1675170300000000000,1\ncpu,host=b,1675170300000000000,2\n",
        [("host=a", T, 1.0), ("host=b", T, 2.0)]),
    "influxdb 2": (
        "#group,false,false,true,true,false,false,true,true\n"
        "#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string\n"
        "#default,mean,,,,,,,\n"
        ",result,table,_start,_stop,_time,_value,_field,host\n"
        ",,0,2023-01-31T00:00:00Z,2023-02-01T00:00:00Z,2023-01-31T13:05:00Z,1.5,usage,web1\n"
        ",,1,2023-01-31T00:00:00Z,2023-02-01T00:00:00Z,2023-01-31T13:05:00Z,2.5,usage,web2\n",
        [("web1\0usage", T, 1.5), ("web2\0usage", T, 2.5)]),
    "prometheus": (
        "name,timestamp,value,instance,job\nup,1675170300.5,1,a:9100,node\nup,1675170300.5,0,b:9100,node\n",
        [("a:9100", T + 0.5, 1.0), ("b:9100", T + 0.5, 0.0)]),
    "victoriametrics": (
        "1675170300000,1.5,web1\n1675170300000,2,web2\n",
        [("web1", T, {"column_2": 1.5}), ("web2", T, {"column_2": 2.0})]),
    "no header, epoch times": ("1675170300,1.5\n1675170360,2\n", ONE),
    "a unit in the name of the time": ("timestamp_ms,value\n1675170300000,1.5\n1675170360000,2\n", ONE),
    "hours": (
        "Date,Hour,value\n2023-01-31,13,1.5\n2023-01-31,14,2\n", [("pump", T - 300, 1.5), ("pump", T + 3300, 2.0)]),
    "hhmm": ("date,time,value\n20230131,1305,1.5\n20230131,1306,2\n", ONE),
    "zones beside the time of the day": ("date,time,value\n2023-01-31,14:05:00+01:00,1.5\n2023-01-31,13:06Z,2\n", ONE),
    "24:00": (
        "Datum;Zeit;value\n30.01.2023;23:00;1\n30.01.2023;24:00;2\n",
        [("pump", at(2023, 1, 30, 23), 1.0), ("pump", at(2023, 1, 31), 2.0)]),
    "24:00 of ISO": (
        "time,value\n2023-01-30 23:00,1\n2023-01-30 24:00,2\n",
        [("pump", at(2023, 1, 30, 23), 1.0), ("pump", at(2023, 1, 31), 2.0)]),
    "a web server's log": ("time,value\n31/Jan/2023:13:05:00 +0000,1.5\n31/Jan/2023:13:06:00 +0000,2\n", ONE),
    "cloudwatch": (
        "Label,web1,web2\nMetric,CPU,CPU\n2023/01/31 13:05:00,1,2\n2023/01/31 13:06:00,1,2\n",
        [("pump", T, {"web1": 1.0, "web2": 2.0}), ("pump", T + 60, {"web1": 1.0, "web2": 2.0})]),
    "times of the day beside an epoch": ("time,unix,value\n13:05,1675170300,1.5\n13:06,1675170360,2\n", ONE),
    "go": ("time,value\n2023-01-31 13:05:00.000000000 +0000 UTC,1.5\n2023-01-31 15:06:00 +02:00,2\n", ONE),
    "no time": ("bytes,errors\n1675170300,1\n1675170360,2\n",
        [("pump", 0.0, {"bytes": 1675170300.0, "errors": 1.0}), ("pump", 1.0, {"bytes": 1675170360.0, "errors": 2.0})]),
    "tables one behind the other": (
        "#group,false,false\n,_time,_value\n,2023-01-31T13:05:00Z,1.5\n\n"
        "#group,false,false\n,_time,_value\n,2023-01-31T13:06:00Z,2\n", ONE),
    "numbers of devices": (
        "time,device_id,value\n1675170300,7,1\n1675170300,8,2\n1675170360,7,3\n1675170360,8,4\n",
        [("7", T, 1.0), ("8", T, 2.0), ("7", T + 60, 3.0), ("8", T + 60, 4.0)]),
    "series of another name": (
        "Anlage;Zeit;Value\nA;31.01.2023 13:05;1,5\nB;31.01.2023 13:05;2\nA;31.01.2023 13:06;3\nB;31.01.2023 13:06;4\n",
        [("A", T, 1.5), ("B", T, 2.0), ("A", T + 60, 3.0), ("B", T + 60, 4.0)]),
    "a state is no source": (
        "time,state,value\n1675170300,ok,1.5\n1675170360,bad,2\n", ONE),
    "two times that agree": (
        "timestamp,datetime,value\n1675170300,2023-01-31 13:05:00,1.5\n1675170360,2023-01-31 13:06:00,2\n", ONE),
    "a day beside a time": ("date,timestamp,value\n2023-01-31,1675170300,1.5\n2023-01-31,1675170360,2\n", ONE),
    "words for nothing": (
        "time,a,b\n1675170300,1,#NV\n1675170360,undefined,2\n1675170420,-,#N/A\n",
        [("pump", T, {"a": 1.0}), ("pump", T + 60, {"b": 2.0})]),
    "years of two digits": ("Datum;Zeit;Value\n31.01.23;13:05;1,5\n31.01.23;13:06;2\n", ONE),
    "units beside the name": ("Time [s];value\n1675170300;1,5\n1675170360;2\n", ONE),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_table_is_read_with_the_right_values(name):
    data, expected = FILES[name]
    assert points(data) == [(source.replace("\0", joined()), time, value) for source, time, value in expected]


def joined():
    from app.state.series import joined

    return joined("", "x")[:-1]


@pytest.mark.parametrize("name", FILES)
def test_rows_are_read_alike_at_once_and_one_by_one(name, monkeypatch):
    data, _ = FILES[name]
    whole = rows(batches(data))
    monkeypatch.setattr(table_blocks.BlockReader, "csv", refuse)
    assert rows(batches(data)) == whole


def refuse(*_):
    return None


@pytest.mark.parametrize(
    ("data", "options", "left_out"),
    [
        (",time,value\n0,1675170300,1\n1,1675170360,2\n", {}, ["column 1 "]),
        ("timestamp,time,value\n1675170300,12.5,1\n1675170360,13,2\n", {"time": ("timestamp",)}, ["'time'"]),
        ("time,value,label,changepoint\n1675170300,1,0,0\n", {}, ["'changepoint'"]),
        ("time,unit,value\n1675170300,bar,1\n", {}, ["'unit'"]),
        ("timestamp,datetime,value\n1675170300,2023-01-31 13:05:00,1.5\n", {}, ["'datetime'"]),
    ],
)
def test_no_column_is_left_out_without_a_word(data, options, left_out):
    [notes] = [batch.notes for batch in batches(data, **options) if batch.notes]
    assert len(notes) == len(left_out)
    assert all(f"{part} is left out" in note.replace("column 1 ", "column 1  ") for part, note in zip(left_out, notes))


# --- wide tables


def test_columns_can_be_sources():
    hosts = [f"web{i}" for i in range(40)]
    text = "\n".join([",".join(["time", *hosts]), ",".join(["1675170300", *map(str, range(40))]), "1675170360,5"])
    with pytest.raises(ConfigurationError, match=r"at most 32 metrics .* found 40 columns .*--columns sources"):
        batches(text)
    expected = [(host, T, float(i)) for i, host in enumerate(hosts)] + [("web0", T + 60, 5.0)]
    # They are sorted by name, as metrics are.
    assert sorted(points(text, columns="sources")) == sorted(expected)
    [p] = [batch.points for batch in batches(text.partition("\n1675170360")[0], columns="sources") if len(batch.points)]
    assert len(set(zip(p.offset, p.index))) == 40, "ids differ"


# --- what is in doubt

DOUBTFUL = {
    "days or months": (
        "time,value\n01/02/2023,1\n02/02/2023,2\n", "may be 2023-02-01 or 2023-01-02: --date-order",
        {"date_order": "day-first"}, [at(2023, 2, 1), at(2023, 2, 2)]),
    "months or days": (
        "time,value\n01-02-2023 10:00,1\n02-02-2023 10:00,2\n", "--date-order",
        {"date_order": "month-first"}, [at(2023, 1, 2, 10), at(2023, 2, 2, 10)]),
    "thousands or decimals": (
        "time;value\n1675170300;1,234\n1675170360;2,345\n", "'1,234' may be 1234 or 1.234: --decimal",
        {"decimal": "comma"}, [T, T + 60]),
    "thousands in a german file": (
        "Datum;Zeit;value\n31.01.2023;13:05;1.234\n31.01.2023;13:06;2.345\n", "'1.234' may be 1234 or 1.234: --decimal",
        {"decimal": "comma"}, [T, T + 60]),
    "point and comma": (
        "time;a;b\n1675170300;1,5;2.5\n1675170360;1,5;2.5\n", "--decimal point or --decimal comma",
        {"decimal": "comma"}, None),
    "excel's days or seconds": (
        "time,value\n44957.5,1\n44958.5,2\n", "--time-format excel or --time-unit s",
        {"time_format": "excel"}, [at(2023, 1, 31, 12), at(2023, 2, 1, 12)]),
    "years or seconds": (
        "time,value\n2021,1\n2022,2\n", "years or seconds: --time-format %Y",
        {"time_format": "%Y"}, [at(2021, 1, 1), at(2022, 1, 1)]),
    "two columns of times": (
        "begin,end,value\n2023-01-31 13:05,2023-01-31 14:05,1\n2023-01-31 13:06,2023-01-31 14:06,2\n",
        "'begin' and 'end' hold different times: --time NAME", {"time": ("begin",)}, [T, T + 60]),
    "names of series": (
        "time,plant,pump,value\n1675170300,A,x,1\n1675170300,A,y,2\n1675170300,B,x,3\n1675170300,B,y,4\n",
        "--source plant --source pump", {"source": ("plant", "pump")}, [T] * 4),
    "names of series beside the host": (
        "time,host,mode,value\n1675170300,a,x,1\n1675170300,a,y,2\n1675170300,b,x,3\n1675170300,b,y,4\n",
        "--source host --source mode says", {"source": ("host", "mode")}, [T] * 4),
    "numbers of series": (
        "time,pump no,value\n1675170300,1,1\n1675170300,2,2\n1675170360,1,3\n1675170360,2,4\n",
        "--source 'pump no'", {"source": ("pump no",)}, [T, T, T + 60, T + 60]),
    "times as names": ("host,2023-01-31,2023-02-01\na,1,2\nb,3,4\n", "below each other", {}, None),
    "a zone's short name": (
        "time,value\n2023-01-31 13:05 CET,1\n2023-01-31 13:06 CET,2\n", "which is no time in a form that is known",
        {}, None),
    "times of the day alone": ("Zeit;value\n13:05;1\n13:06;2\n", "no column holds dates", {}, None),
    "names that are no UTF-8": (
        "Datum;Zeit;Größe\n31.01.2023;13:05;1,5\n31.01.2023;13:06;2\n".encode("cp1252"), "--encoding cp1252",
        {"encoding": "cp1252"}, [T, T + 60]),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_in_doubt_is_refused_with_the_option_that_settles_it(name):
    data, message, options, times = DOUBTFUL[name]
    with pytest.raises(ConfigurationError) as refused:
        batches(data)
    assert message in str(refused.value)
    if times:
        assert [time for _, time, _ in points(data, **options)] == times


def test_a_later_row_settles_what_is_in_doubt():
    days = [datetime(2023, 1, 1) + timedelta(hours=i) for i in range(400)]
    lines = [f"{day.day}/{day.month}/2023 {day.hour}:00,1\n" for day in days]
    assert [time for _, time, _ in points("time,value\n" + "".join(lines))] == [
        day.replace(tzinfo=UTC).timestamp() for day in days
    ]
    text = "time;value\n" + "1675170300;1,234\n" * 30_000
    assert points(text + "1675170300;1,5\n")[0][2] == 1.234


def test_numbers_of_several_sources_are_named_by_what_was_joined():
    data = DOUBTFUL["names of series"][0]
    assert [source for source, *_ in points(data, source=("plant", "pump"))] == ["A/x", "A/y", "B/x", "B/y"]


# --- bad rows


def test_rows_that_do_not_fit_what_was_understood_are_told_with_place_and_value():
    lines = [
        "Datum;Wert",
        *(f"{day:02}.01.2023;1,5" for day in range(1, 31)),
        "31.01.2023;1.5",
        "32.01.2023;2",
        "Summe;9",
    ]
    got = batches("\n".join(lines), decimal="comma")
    assert [letter.reason for batch in got for letter in batch.bad] == [
        "pump.csv:32: column 'Wert' must be a number with a decimal comma, got '1.5'",
        "pump.csv:33: column 'Datum' must be a time as 31.12.2023 13:05, got '32.01.2023'",
        "pump.csv:34: column 'Datum' must be a time as 31.12.2023 13:05, got 'Summe'",
    ]
    assert len(rows(got)) == 30


@pytest.mark.parametrize("cell", ["1,72,992.30", "1,721,99", "1.721,992.3", "1 72", "12 %", "0x1F", "1,721_992"])
def test_numbers_grouped_wrongly_are_refused(cell):
    text = f'time,value\n1675170300,"1,721,992.30"\n1675170360,"{cell}"\n'
    [letter] = [letter for batch in batches(text, decimal="point") for letter in batch.bad]
    assert letter.reason.startswith("pump.csv:3: column 'value' must be a number") and repr(cell) in letter.reason


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"time,value\n1,2\n")[:-9], "its end is missing"),
        (b"\x1f\x8bnothing", "expected gzip"),
        (b"PAR1 and nothing else", "expected Parquet"),
        ("sep=;\n", "expected a CSV header"),
    ],
    ids=["cut gzip", "no gzip", "no Parquet", "no header"],
)
def test_damaged_files_are_refused(data, message):
    with pytest.raises(ConfigurationError, match=message):
        batches(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timezone": "Europe/Nowhere"}, "--timezone: expected a name"),
        ({"encoding": "x"}, "--encoding: expected a name"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigurationError, match=message):
        batches("time,value\n1,2\n", **options)


# --- local times


def test_local_times_follow_their_zone_through_both_changes_of_the_clock():
    berlin = ZoneInfo("Europe/Berlin")
    for begin in (datetime(2023, 3, 25, 22, tzinfo=UTC), datetime(2023, 10, 28, 22, tzinfo=UTC)):
        moments = [begin + timedelta(minutes=20 * i) for i in range(20)]
        text = "time,value\n" + "".join(f"{m.astimezone(berlin):%Y-%m-%d %H:%M},1\n" for m in moments)
        assert [time for _, time, _ in points(text, timezone="Europe/Berlin")] == [m.timestamp() for m in moments]


def test_times_that_a_zone_left_out_are_refused():
    text = "time,value\n2023-03-26 01:30,1\n2023-03-26 02:30,2\n"
    [letter] = [letter for batch in batches(text, timezone="Europe/Berlin") for letter in batch.bad]
    assert "Europe/Berlin" in letter.reason and "forward" in letter.reason


def test_a_zone_in_the_cell_goes_before_the_zone_of_the_file():
    assert points("time,value\n2023-01-31T13:05:00Z,1\n", timezone="Asia/Tokyo")[0][1] == T


# --- columns that turn out to be more than was seen at first


def test_a_column_that_was_left_out_and_names_series_after_all_is_told():
    text = "Anlage;time;value\n" + "".join(f"{plant};{i};{i % 7}\n" for plant in "AB" for i in range(30_000))
    with pytest.raises(
        ConfigurationError, match="column 'Anlage' changes from 'A' to 'B' the time goes back: --source"
    ):
        batches(text)
    assert {source for source, *_ in points(text, source=("Anlage",))} == {"A", "B"}
    state = "state;time;value\n" + "".join(f"{'off' if i > 20_000 else 'on'};{i};1\n" for i in range(30_000))
    assert len(points(state)) == 30_000


def test_blank_lines_beside_bad_rows_change_no_order():
    lines = [f"{1675170300 + i},{'ERR' if i % 300 == 299 else i}" + "\n" * (i % 3) for i in range(60_000)]
    got = batches("\n".join(["time,value", *lines]))
    assert [time for _, time, _ in rows(got)] == [1675170300.0 + i for i in range(60_000) if i % 300 != 299]
    assert sum(len(batch.bad) for batch in got) == 200


def test_one_bad_row_in_a_block_costs_only_itself(monkeypatch):
    lines = [f"{1675170300 + i},{'ERR' if i % 5000 == 4999 else i}" for i in range(30_000)]
    read_singly = []
    of_row = csv_columns.CsvColumns.row
    monkeypatch.setattr(csv_columns.CsvColumns, "row", lambda self, cells: read_singly.append(0) or of_row(self, cells))
    got = batches("\n".join(["time,value", *lines]))
    assert [letter.reason for batch in got for letter in batch.bad] == [
        f"pump.csv:{i + 2}: column 'value' must be a number, got 'ERR'" for i in range(4999, 30_000, 5000)
    ]
    assert [p.offset[i] for batch in got for p in [batch.points] for i in range(len(p))] == [
        i for i in range(30_000) if i % 5000 != 4999
    ]
    assert len(read_singly) < 10_000


# --- what is said


def test_what_was_understood_is_said():
    assert interpretation(GERMAN_EXCEL, timezone="Europe/Berlin") == (
        "time from Datum + Zeit (day first, Europe/Berlin where no zone is said), source is the name of the file, "
        "values Druck with a decimal comma"
    )
    assert interpretation(GRAFANA_LONG) == (
        "time from Time (ISO 8601, UTC where no zone is said), source from Series, values Value"
    )
    assert interpretation("value,label\n1,0\n") == (
        "time from the number of the row (no column of times was found), source is the name of the file, "
        "values value, labels label"
    )


# --- laws

SEPARATORS, TIMES = [",", ";", "\t", "|"], {
    "iso": lambda t: t.isoformat(sep=" "),
    "german": lambda t: t.strftime("%d.%m.%Y %H:%M:%S"),
    "us": lambda t: t.strftime("%m/%d/%Y %I:%M:%S %p"),
    "ms": lambda t: str(int(t.timestamp() * 1000)),
    "rfc": lambda t: t.strftime("%a, %d %b %Y %H:%M:%S GMT"),
    "digits": lambda t: t.strftime("%Y%m%d%H%M%S"),
}  # fmt: skip


def written(x, decimal, thousands):
    """A number with two decimals, grouped by another program: Python's format."""
    text = f"{x:,.2f}"
    return text.translate(str.maketrans({",": thousands, ".": decimal}))


@settings(max_examples=60)
@given(
    st.lists(st.none() | st.integers(-(10**9), 10**9).map(lambda n: n / 100), min_size=1, max_size=30),
    st.sampled_from(SEPARATORS),
    st.sampled_from(sorted(TIMES)),
    st.sampled_from([(".", ","), (",", "."), (",", " "), (".", ""), (",", "\u00a0"), (".", "'")]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_table_written_in_a_dialect_is_read_back(column, separator, times, numbers, end, encoding, packed, quoting):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(["time", "a", "b"])
    expected = []
    for i, x in enumerate(column):
        moment = datetime(2023, 1, 30, 20, tzinfo=UTC) + timedelta(hours=i)
        time = TIMES[times](moment.replace(tzinfo=None) if times == "iso" else moment)
        writer.writerow([time, "" if x is None else written(x, *numbers), written(i + 0.25, *numbers)])
        expected.append(("pump", moment.timestamp(), {"b": i + 0.25} if x is None else {"a": x, "b": i + 0.25}))
    data = out.getvalue().encode(encoding)
    assert points(gzip.compress(data) if packed else data) == expected


@settings(max_examples=30)
@given(
    st.lists(st.none() | st.floats(-1e150, 1e150), min_size=1, max_size=40),
    st.sampled_from(["s", "ms", "us", "ns"]),
    st.sampled_from([None, "UTC", "Europe/Berlin"]),
    st.booleans(),
)
def test_parquet_is_read_as_the_same_csv_is(column, unit, zone, named):
    moments = [datetime(2023, 1, 30, 20, tzinfo=UTC) + timedelta(hours=i) for i in range(len(column))]
    times = [moment if zone else moment.replace(tzinfo=None) for moment in moments]
    table = pa.table(
        {
            "time": pa.array(times, pa.timestamp(unit, zone)),
            "source": [f"s{i % 3}" if named else "s" for i in range(len(column))],
            "value": pa.array(column, pa.float64()),
            "nested": [[1]] * len(column),
        }
    )
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out)
    expected = [(f"s{i % 3}" if named else "s", t.timestamp(), x) for i, (t, x) in enumerate(zip(moments, column))]
    assert points(out.getvalue(), name="a.parquet") == [each for each in expected if each[2] is not None]


def test_parquet_with_rows_that_cannot_be_read_is_told_by_row():
    table = pa.table({"time": ["2023-01-31", "x", "2023-02-01"], "value": [1, 2, 3], "label": [False, False, True]})
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out)
    got = batches(out.getvalue(), name="a.parquet")
    reasons = [letter.reason for batch in got for letter in batch.bad]
    assert reasons == ["a.parquet: row 1: column 'time' must be an ISO 8601 time or a number, got 'x'"]
    assert [label for batch in got for label in batch.labels] == ["", "anomaly"]


CELLS = st.sampled_from(
    [
        "1",
        "2.5",
        "-3e5",
        "",
        "NA",
        "nan",
        "x",
        " 7 ",
        '"8"',
        '"a\nb"',
        '"',
        '9"',
        "1,5",
        "inf",
        "1e200",
        "é",
        "1_0",
        "+4",
        "-",
    ]
)
STAMPS = st.sampled_from(
    ["2023-01-31", "2023-01-31 13:05:00", "2023-01-31T13:05:00Z", "2023-01-31 13:05:00.25", "2023-01-31 13", "", "-1",
     "2023-01-31 13:05:00.1234567", "31.01.2023", "1675170300", "1675170300000", "2023-02-30", " 2023-01-31 "]
)  # fmt: skip


@settings(max_examples=300)
@example([("2023-01-31", "a", "1", "1", '9"'), ("2023-01-31", "a", "1", "1", '"')], "\n", "metrics")
@given(
    st.lists(st.tuples(STAMPS, st.sampled_from(["a", "b", "", " c", "x" * 257]), CELLS, CELLS, CELLS), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["metrics", "sources"]),
)
def test_blocks_give_what_rows_give(table, end, columns):
    text = end.join(["time,source,a,b,label", *map(",".join, table), ""])

    def flat(got):
        return (
            rows(got),
            [row for batch in got for row in zip(batch.points.offset, batch.points.index, batch.points.own_time)],
            [label for batch in got for label in batch.labels],
            [letter for batch in got for letter in batch.bad],
            sum(batch.empty for batch in got),
        )

    def of(text):
        try:
            return flat(batches(text, columns=columns))
        except ConfigurationError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        whole = of(text)
        patch.setattr(table_blocks.BlockReader, "csv", refuse)
        assert of(text) == whole

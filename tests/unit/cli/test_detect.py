"""``detect``: files give what the pipeline gives, and nothing is lost without a word."""

import gzip
import json
import random
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from sample_detectors import scripted_episodes

from app import detectors
from app.cli import main
from app.cli.detect import Detect
from app.cli.files import Outputs, inputs
from app.cli.summary import TOP, Summary
from app.offline.files import read
from app.pipeline import Pipeline
from app.settings import load
from app.wire.results import encode_results
from generators.file import bundled

CONFIG = "detection: {method: moving_average, window_points: 20}\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text(CONFIG)
    monkeypatch.setenv("ANOMALY_CONFIG", "quick.yaml")


def detect(*words, **options):
    return CliRunner().invoke(main, ["detect", *map(str, words)], **options)


def results(text):
    return [json.loads(line) for line in text.splitlines()]


def table(n=200, seed=4, sources="ab"):
    """A CSV with noise, spikes, empty and bad cells."""
    rng = random.Random(seed)
    lines = ["timestamp,source,value,label"]
    for i in range(n):
        value = repr(rng.gauss(10.0, 1.0) + (50.0 if i % 60 == 59 else 0.0))
        cell = {17: "", 31: "oops"}.get(i % 64, value)
        lines.append(f"{i},{rng.choice(sources)},{cell},{int(i % 60 == 59)}")
    return "\n".join(lines) + "\n"


def expected(data, name, config="quick.yaml"):
    """The same, from one call of the pipeline."""
    settings = load(config)
    pipeline = Pipeline(settings.detection, settings.sources, settings.input.max_metrics)
    found = []
    for batch in read(BytesIO(data), name, name, settings.input, batch_points=10**9):
        if len(batch.points):
            found += encode_results(batch.points, pipeline.run(pipeline.sources(), batch.points), name, 0)
    return [value.decode() for _, value in found]


def test_the_results_are_the_pipelines():
    Path("pump.csv").write_text(table())
    got = detect("pump.csv", "--output", "-")
    assert got.exit_code == 0, got.stderr
    assert got.stdout.splitlines() == expected(table().encode(), "pump")
    assert any(result["is_anomaly"] for result in results(got.stdout))


def test_the_default_settings_find_the_marathon_of_new_york(monkeypatch):
    monkeypatch.delenv("ANOMALY_CONFIG")
    got = detect(bundled()["nyc_taxi"], "--output", "taxi.ndjson")
    assert got.exit_code == 0 and got.stdout == ""
    assert len(Path("taxi.ndjson").read_text().splitlines()) == 10320
    assert "10,320 points of 1 source" in got.stderr and "2014-11-02 0" in got.stderr and "value 3" in got.stderr


@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_size_of_batches_does_not_matter(size, monkeypatch):
    Path("pump.csv").write_text(table())
    whole = detect("pump.csv").stdout
    monkeypatch.setattr("app.offline.files.BATCH_POINTS", size)
    monkeypatch.setattr("app.offline.files.read.__defaults__", (None, None, size))
    assert detect("pump.csv").stdout == whole


def test_csv_and_ndjson_of_the_same_points_give_the_same_results():
    Path("a.csv").write_text("timestamp,source,x,y\n" + "".join(f"{i},s,{i % 7},{i % 5}.5\n" for i in range(100)))
    lines = ({"source": "s", "timestamp": i, "values": {"x": i % 7, "y": i % 5 + 0.5}} for i in range(100))
    Path("b.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    a, b = detect("a.csv").stdout, detect("b.ndjson").stdout
    assert a.replace('"a:0:', '"b:0:') == b and len(a.splitlines()) == 100


def test_standard_input_is_read():
    Path("stdin.csv").write_text(table())
    got = detect("-", input=table().encode())
    assert got.exit_code == 0
    assert got.stdout == detect("stdin.csv").stdout


def test_ids_name_file_and_row():
    Path("a:b.c.csv").write_text("value\n" + "\n5\n\n\n6\nx\n7\n")
    assert [each["id"] for each in results(detect("a:b.c.csv").stdout)] == [
        "a_b.c:0:0:0", "a_b.c:0:1:0", "a_b.c:0:3:0",
    ]  # fmt: skip


def test_empty_cells_are_no_zeros_and_labels_no_values():
    text = "timestamp,value,label,anomaly,changepoint\n" + "".join(
        f"{i},{'' if i % 2 else 5},1,1,1\n" for i in range(9)
    )
    Path("pump.csv").write_text(text)
    got = detect("pump.csv")
    assert [each["value"] for each in results(got.stdout)] == [5.0] * 5
    assert "4 rows without a value" in got.stderr


def test_bad_rows_are_told_and_counted_and_cost_only_themselves():
    lines = table(300).splitlines()
    Path("pump.csv").write_text("\n".join([*lines[:100], "soon,a,5,0", *lines[100:]]) + "\n")
    got = detect("pump.csv")
    assert got.exit_code == 0
    interpretation, *told = [line for line in got.stderr.splitlines() if line.startswith("pump.csv:")]
    assert interpretation == (
        "pump.csv: time from timestamp (epoch seconds), source from source, values value, labels label"
    )
    assert told[0] == "pump.csv:33: column 'value' must be a number, got 'oops'"
    assert len(told) == 6 and any("'timestamp' must be an ISO 8601 time" in line for line in told)
    assert "6 rows unreadable, 5 rows without a value" in got.stderr
    scores = [(each["timestamp"], each["anomaly_score"]) for each in results(got.stdout)]
    Path("pump.csv").write_text("\n".join(lines) + "\n")
    assert scores == [(each["timestamp"], each["anomaly_score"]) for each in results(detect("pump.csv").stdout)]


def test_after_ten_bad_rows_only_their_number_is_told():
    Path("pump.csv").write_text("value\n1\n" + "x\n" * 1500)
    got = detect("pump.csv")
    told = [line for line in got.stderr.splitlines() if line.startswith("pump.csv:")]
    assert len(told) == 11 and "values value" in told[0]
    assert "... and 1,490 more such lines" in got.stderr
    assert "1,500 rows unreadable" in got.stderr


def test_points_the_pipeline_refuses_are_told_too(monkeypatch):
    monkeypatch.setenv("ANOMALY_INPUT__MAX_METRICS", "1")
    lines = ({"source": "s", "timestamp": i, "values": {"ab"[i]: 1}} for i in range(2))
    Path("pump.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    got = detect("pump.ndjson")
    assert len(results(got.stdout)) == 1
    assert "pump.ndjson: row 1: source 's' may have 1 metrics" in got.stderr and "1 row unreadable" in got.stderr


def test_metrics_that_come_alone_are_series_and_vectors_stay_vectors():
    said = [{"metric": "a", "value": 1}, {"values": {"a": 1}}, {"value": 1}, {"values": {"a": 1, "b": 2}}]
    lines = [{"source": "s", "timestamp": i, **one} for i, one in enumerate(said)]
    Path("pump.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    got = detect("pump.ndjson")
    found = results(got.stdout)
    assert [{name: one[name] for name in ("metric", "value", "values") if name in one} for one in found] == said
    assert "4 points of 1 source" in got.stderr
    Path("two.csv").write_text("timestamp,x,y\n1,5,7\n2,5,\n")
    assert [one["values"] for one in results(detect("two.csv").stdout)] == [{"x": 5.0, "y": 7.0}, {"x": 5.0}]


def test_options_name_the_columns():
    Path("a.csv").write_text("when;who;x;y\n01.02.2024 10:00;p;5;7\n")
    words = ["--time", "when", "--source", "who", "--value", "y", "--time-format", "%d.%m.%Y %H:%M"]
    [result] = results(detect("a.csv", *words).stdout)
    assert (result["source"], result["timestamp"], result["metric"], result["value"]) == ("p", 1706781600.0, "y", 7.0)


def test_settings_of_the_config_hold():
    Path("pump.csv").write_text(table())
    Path("other.yaml").write_text("detection: {method: zscore}\n")
    got = detect("pump.csv", "--config", "other.yaml").stdout
    assert got.splitlines() == expected(table().encode(), "pump", "other.yaml")
    assert {name for each in results(got) for name in each.get("detectors", ())} == {"zscore"}


# --- several files


def test_a_folder_is_mirrored_and_no_state_passes_from_file_to_file():
    for name in ("data/a.csv", "data/deep/a.csv", "data/deep/b.CSV"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(table())
    Path("data/README.md").write_text("not a series")
    got = detect("data", "--output", "results")
    assert got.exit_code == 0, got.stderr
    written = sorted(str(path) for path in Path("results").rglob("*") if path.is_file())
    assert written == ["results/a.ndjson", "results/deep/a.ndjson", "results/deep/b.ndjson"]
    assert Path(written[0]).read_bytes() == Path(written[1]).read_bytes() == detect("data/a.csv").stdout.encode()
    assert "data/deep/b.CSV" in got.stderr


@pytest.mark.parametrize("output", ["out/", "already"])
def test_files_go_to_a_folder_one_each(output):
    Path("already").mkdir()
    for name in ("a", "b"):
        Path(f"{name}.csv").write_text(table(50))
    assert detect("a.csv", "b.csv", "--output", output).exit_code == 0
    assert sorted(path.name for path in Path(output).iterdir()) == ["a.ndjson", "b.ndjson"]


def test_files_go_to_one_file_together():
    for name in ("a", "b"):
        Path(f"{name}.csv").write_text("value\n1\n2\n")
    assert detect("a.csv", "b.csv", "--output", "all.ndjson").exit_code == 0
    assert [each["id"] for each in results(Path("all.ndjson").read_text())] == [
        "a:0:0:0", "a:0:1:0", "b:0:0:0", "b:0:1:0",
    ]  # fmt: skip


def test_on_a_terminal_only_the_summary_is_shown(monkeypatch):
    Path("pump.csv").write_text(table())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    read = inputs(("pump.csv",))
    outputs = Outputs(None, ("pump.csv",), read)
    with outputs.one as one, outputs.open(read[0], one) as output:
        assert output is None


# --- refusals


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file or folder", 2),
        (["empty.csv"], "empty.csv: expected a CSV header, NDJSON records or Parquet, found nothing", 2),
        (["folder"], "folder: expected files that end in .csv, .tsv, .ndjson, .jsonl, .parquet, .csv.gz", 2),
        (["pump.csv", "other/pump.csv"], "the results of both would be called pump", 2),
        (["pump.csv", "--value", "x"], "pump.csv: no column 'x' (input.value_fields or --value); found value", 2),
        (["pump.csv", "--output", "pump.csv"], "--output pump.csv: pump.csv is an input", 2),
        (["pump.csv", "--output", "nowhere/x"], "nowhere/x: No such file or directory", 1),
        (["pump.csv", "--config", "bad.yaml"], "detection.threshold", 2),
        (["pump.csv", "--config", "unknown.yaml"], "no_such_detector", 2),
        (["bad.csv"], "no row could be read as a point", 1),
        ([], "Missing argument 'FILE...'", 2),
        (["pump.csv", "--time-unit", "h"], "'h' is not one of 's', 'ms'", 2),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(words, message, code):
    Path("folder").mkdir()
    Path("other").mkdir()
    for name in ("pump.csv", "other/pump.csv"):
        Path(name).write_text("value\n1\n")
    Path("empty.csv").write_text("")
    Path("bad.csv").write_text("value\nx\ny\n")
    Path("bad.yaml").write_text("detection: {threshold: 2}\n")
    Path("unknown.yaml").write_text("detection: {method: no_such_detector}\n")
    got = detect(*words)
    assert got.exit_code == code, got.output
    assert message in got.stderr and "Traceback" not in got.stderr
    assert got.stdout == ""
    assert Path("pump.csv").read_text() == "value\n1\n"


# --- the summary


def test_the_summary_agrees_with_the_results():
    Path("pump.csv").write_text(table(3000, sources="abc"))
    job = Detect({"quick": load("quick.yaml")}, {})
    out = BytesIO()
    [found] = job.file(inputs(("pump.csv",))[0], out)
    told = results(out.getvalue().decode())
    inside = [each for each in told if each["is_anomaly"]]
    peaks = {}
    for each in inside:
        peaks.setdefault(each["episode"], []).append(each)
    assert (found.points, found.sources, found.anomalous) == (len(told), 3, len(inside))
    assert found.episodes == len(peaks) > TOP
    best = sorted((max(each["alert_score"] for each in episode) for episode in peaks.values()), reverse=True)
    assert sorted((each.score for each in found.top), reverse=True) == best[:TOP]
    for shown in found.top:
        [episode] = [
            episode for episode in peaks.values()
            if any((each["source"], each["timestamp"]) == (shown.source, shown.timestamp) for each in episode)
        ]  # fmt: skip
        worst = max(episode, key=lambda each: each["alert_score"])
        assert shown.points == len(episode)
        assert (shown.value, shown.lower, shown.upper, shown.kind, shown.explanation) == (
            worst["value"], worst["expected_lower"], worst["expected_upper"], worst["kind"], worst["explanation"],
        )  # fmt: skip
        assert shown.reason == "recovered"


def test_summaries_add_up_and_keep_the_highest():
    job = Detect({"quick": load("quick.yaml")}, {})
    total, parts = Summary(), []
    for seed in range(4):
        Path(f"{seed}.csv").write_text(table(1000, seed=seed))
        parts += job.file(inputs((f"{seed}.csv",))[0], None)
        total += parts[-1]
    assert total.points == sum(part.points for part in parts)
    scores = sorted((each.score for part in parts for each in part.top), reverse=True)
    assert sorted((each.score for each in total.top), reverse=True) == scores[:TOP]
    assert next(total.lines()) == f"The {TOP} highest of {total.episodes:,} anomalies:"


def spiky(n, spikes, name="pump.csv", sources=("pump",)):
    """A CSV of sources that take turns, with some points far out."""
    rng = random.Random(3)
    rows = [f"{60 * i},{source},{rng.gauss(10, 1) + 90 * (i in spikes)}" for i in range(n) for source in sources]
    Path(name).write_text("\n".join(["timestamp,source,value", *rows]) + "\n")


def test_the_summary_says_how_each_episode_ended():
    spiky(80, {40, 41, 79})
    shown = [line for line in detect("pump.csv").stderr.splitlines() if "score" in line]
    assert [line.split("score")[1].split()[1:5] for line in shown] == [
        ["value", "2", "points", "recovered"],
        ["value", "1", "point", "open"],
    ]


def test_an_episode_of_a_source_that_is_forgotten_ends_by_silence():
    Path("quick.yaml").write_text(CONFIG + "state: {forget_after_records: 1000, replay_records: 1000}\n")
    spiky(40, {39}, "a.csv")
    spiky(2000, set(), "b.csv", ("fan",))
    again = Path("a.csv").read_text().partition("\n")[2]
    Path("a.csv").write_text(Path("a.csv").read_text() + Path("b.csv").read_text().partition("\n")[2] + again)
    *shown, _ = detect("a.csv").stderr.splitlines()
    found = [line.split("point  ")[1].split()[0] for line in shown if " pump " in line]
    assert found == ["silence", "open"]
    assert shown[-1].startswith("pump: 80 points, 60 of them not judged: "), "it began anew"


def test_sources_of_which_a_good_part_could_not_be_judged_are_named():
    Path("quick.yaml").write_text("detection: {detectors: {moving_average: {warmup: 120}}}\n")
    spiky(100, {60}, "none.csv", ("pump-7",))
    spiky(180, set(), "some.csv", ("pump-7", "pump-8"))
    spiky(1000, set(), "most.csv", ("pump-7",))
    first = "its detectors only learn from the first 120 points"
    _, named, counts = detect("none.csv").stderr.splitlines()
    assert named == f"pump-7: 100 points, none of them judged: {first}"
    assert counts.startswith("100 points of 1 source, 0 anomalies, 100 points not judged in ")
    _, *named, counts = detect("some.csv").stderr.splitlines()
    assert named == [f"{pump}: 180 points, the first 120 not judged: {first}" for pump in ("pump-7", "pump-8")]
    assert "240 points not judged" in counts
    *shown, counts = detect("most.csv").stderr.splitlines()
    assert "120 points not judged" in counts and not any("not judged" in line for line in shown)


def test_a_detector_of_episodes_judges_when_it_can_open_one(monkeypatch):
    """Others may score before."""
    monkeypatch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
    detectors.register(scripted_episodes)
    Path("quick.yaml").write_text(
        "detection: {detectors: {moving_average: {warmup: 5}, scripted_episodes: {warmup: 50}}}\n"
    )
    spiky(40, set())
    got = detect("pump.csv")
    assert sum(one["status"] == "ok" for one in results(got.stdout)) == 35 and "none of them judged" in got.stderr


def test_of_many_sources_with_too_few_points_only_some_are_named(monkeypatch):
    monkeypatch.delenv("ANOMALY_CONFIG")
    for file in ("a.csv", "b.csv"):
        spiky(30, set(), file, [f"{file}-{k}" for k in range(9)])
    shown = detect("a.csv", "b.csv").stderr.splitlines()
    assert sum("30 points, none of them judged" in line for line in shown) == TOP
    assert "and likewise 8 more series" in shown


# --- files of other programs


def test_a_folder_of_csv_gzip_and_parquet_is_read_with_the_options_given():
    import pyarrow.parquet

    Path("data").mkdir()
    german = "Datum;Zeit;value\n" + "".join(f"01.02.2023;{i // 60:02}:{i % 60:02};{i % 7},5\n" for i in range(100))
    Path("data/a.csv").write_bytes(german.encode("utf-16"))
    Path("data/b.csv.gz").write_bytes(gzip.compress(german.replace("01.02.", "02/01/").replace(";", "\t").encode()))
    table = pyarrow.table({"time": [datetime(2023, 2, 1, i // 60, i % 60) for i in range(100)],
                           "value": [i % 7 + 0.5 for i in range(100)]})  # fmt: skip
    pyarrow.parquet.write_table(table, "data/c.parquet")
    got = detect("data", "--output", "out", "--timezone", "Europe/Berlin", "--date-order", "month-first")
    assert got.exit_code == 0, got.output
    assert "data/a.csv: time from Datum + Zeit (month first, Europe/Berlin" not in got.stderr  # dots: the day is first
    assert "data/a.csv: time from Datum + Zeit (day first, Europe/Berlin where no zone is said)" in got.stderr
    assert "data/b.csv.gz: time from Datum + Zeit (month first, Europe/Berlin" in got.stderr
    found = {name: results(Path(f"out/{name}.ndjson").read_text()) for name in "abc"}
    for name, of in found.items():
        assert [each["timestamp"] for each in of] == [1675206000.0 + 60 * i for i in range(100)]
        assert [each["value"] for each in of] == [i % 7 + 0.5 for i in range(100)]
        assert of[0]["source"] == name and of[0]["id"] == f"{name}:0:0:0"


def test_generate_file_reads_with_the_same_options():
    Path("a.csv").write_text("time;web1;web2\n01/02/2023 01:00;1,5;2\n01/02/2023 02:00;1,5;2\n")
    words = ["generate", "file", "a.csv", "--output", "-"]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2 and "--date-order day-first" in refused.stderr
    got = CliRunner().invoke(
        main, [*words, "--date-order", "day-first", "--columns", "sources", "--timezone", "Asia/Tokyo"]
    )
    assert got.exit_code == 0, got.output
    assert [(each["source"], each["timestamp"], each["value"]) for each in results(got.stdout)] == [
        (source, 1675180800.0 + 3600 * hour, value)
        for hour in (0, 1)
        for source, value in (("web1", 1.5), ("web2", 2.0))
    ]

"""``evaluate``: the figures of what ``detect`` finds, in a table or as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli import main
from app.offline.evaluation import LabelledScores, evaluation_metrics, probation, runs
from generators.file import bundled


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)
    Path("quick.yaml").write_text("detection: {method: moving_average, window_points: 20}\n")
    Path("slow.yaml").write_text("detection: {method: zscore, window_points: 50, threshold: 0.9}\n")


def call(*words):
    return CliRunner().invoke(main, [*map(str, words)])


def spiky(name, rows=400, label="label"):
    rng = np.random.default_rng(len(name))
    lines = [f"timestamp,value,{label}"]
    for i in range(rows):
        odd = i % 90 in (40, 41, 42)
        lines.append(f"{i * 60},{rng.normal() + 9 * odd},{int(odd)}")
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("\n".join(lines) + "\n")


def from_results(name, config):
    """The figures of a file by way of the results that ``detect`` writes."""
    found = [json.loads(line) for line in call("detect", name, "--config", config, "--output", "-").stdout.splitlines()]
    label = [line.split(",")[2] == "1" for line in Path(name).read_text().splitlines()[1:]]
    return LabelledScores(
        np.array([each["timestamp"] for each in found]),
        np.array([each["anomaly_score"] for each in found]),
        np.array([each["alert_score"] for each in found]),
        np.array([each["is_anomaly"] for each in found]),
        np.array([each.get("episode") == each["id"] for each in found]),
        runs(np.array(label)),
        probation(len(found)),
    )


def test_the_figures_are_those_of_the_results_of_detect():
    for name in ("data/a.csv", "data/deep/b.csv"):
        spiky(name)
    got = call("evaluate", "data", "--config", "quick.yaml", "--config", "slow.yaml", "--json")
    assert got.exit_code == 0, got.output
    told = json.loads(got.stdout)
    assert list(told) == ["quick", "slow"]
    for configuration, found in told.items():
        every = {name: from_results(f"data/{name}", f"{configuration}.yaml") for name in ("a.csv", "deep/b.csv")}
        assert found["files"] == {name: vars(evaluation_metrics([each])) for name, each in every.items()}
        assert found["total"] == vars(evaluation_metrics(list(every.values())))
        assert found["total"]["hit"] > 0 and found["total"]["f1"] > 0.2
    assert told["quick"]["total"] != told["slow"]["total"]


def test_the_table_has_a_row_for_each_file_and_configuration_and_a_total():
    for name in ("data/a.csv", "data/deep/b.csv"):
        spiky(name)
    got = call("evaluate", "data", "--config", "quick.yaml", "--config", "slow.yaml")
    head, *rows = got.stdout.splitlines()
    assert head.split()[:4] == ["points", "windows", "hit", "delay"] and head.endswith("AP")
    assert [row.split()[:2] for row in rows[:-2]] == [
        [file, name] for file in ("a.csv", "deep/b.csv", "total") for name in ("quick", "slow")
    ]
    assert [row.split(":")[0] for row in rows[-2:]] == ["NAB quick", "NAB slow"]
    assert len({len(line) for line in [head, *rows[:-2]]}) == 1, "columns stand below each other"


def test_series_that_ship_are_labelled():
    folder = Path(bundled()["nyc_taxi"]).parent
    found = json.loads(call("evaluate", folder, "--json").stdout)["default"]
    assert found["total"]["windows"] == 13 and found["files"]["nyc_taxi.csv"]["windows"] == 5
    assert 0 <= found["total"]["nab"]["standard"] <= 100


@pytest.mark.parametrize("label", ["label", "anomaly", "is_anomaly", "Is Anomaly"])
def test_the_column_of_labels_is_found_by_its_usual_names(label):
    spiky("a.csv", label=label)
    found = json.loads(call("evaluate", "a.csv", "--config", "quick.yaml", "--json").stdout)
    assert found["quick"]["files"]["a.csv"]["windows"] == 3


def test_windows_of_time_label_a_file():
    Path("a.csv").write_text("timestamp,value\n" + "".join(f"{i * 60},{i % 3}\n" for i in range(200)))
    Path("windows.json").write_text(json.dumps({"a.csv": [["1970-01-01 01:00:00", "1970-01-01 02:00:00"]]}))
    found = json.loads(call("evaluate", "a.csv", "--labels", "windows.json", "--json").stdout)["default"]
    assert (found["total"]["windows"], found["total"]["labelled"]) == (1, 61)


def test_files_without_labels_are_left_out_and_told():
    spiky("data/a.csv")
    Path("data/b.csv").write_text("value\n1\n2\n")
    got = call("evaluate", "data", "--json")
    assert list(json.loads(got.stdout)["default"]["files"]) == ["a.csv"]
    assert "1 file without labels left out: data/b.csv" in got.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["b.csv"], "b.csv: expected a column or field label, anomaly or is_anomaly, or --labels"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["b.csv", "--labels", "none.json"], "none.json: No such file or directory"),
        (["b.csv", "--probation", "2"], "2.0 is not in the range"),
        (["b.csv", "--config", "bad.yaml"], "detection.threshold"),
    ],
)
def test_what_cannot_be_done_is_told(words, message):
    Path("b.csv").write_text("value\n1\n2\n")
    Path("bad.yaml").write_text("detection: {threshold: 2}\n")
    got = call("evaluate", *words)
    assert got.exit_code in (1, 2) and message in got.stderr and "Traceback" not in got.stderr


def test_more_configurations_than_one_have_no_results_to_write():
    spiky("a.csv")
    got = call("detect", "a.csv", "--config", "quick.yaml", "--config", "slow.yaml")
    assert got.exit_code == 2 and "evaluate" in got.stderr


def test_what_generate_writes_with_labels_is_evaluated():
    options = ["--sources", "2", "--points", "900", "--seed", "3", "--labels"]
    assert call("generate", "synthetic", *options, "--output", "made.ndjson").exit_code == 0
    labelled = sum('"label"' in line for line in Path("made.ndjson").read_text().splitlines())
    assert labelled > 10
    got = call("evaluate", "made.ndjson", "--config", "quick.yaml", "--probation", "0", "--json")
    assert got.exit_code == 0, got.output
    assert json.loads(got.stdout)["quick"]["total"]["labelled"] == labelled


@pytest.mark.parametrize(
    "odd", ['"label": "spike"', '"label": 1', '"anomaly": true', '"is_anomaly": true, "label": null', '"label": "true"']
)
def test_labels_of_ndjson_are_those_of_the_same_table(odd):
    spiky("a.csv")
    lines = []
    for row in Path("a.csv").read_text().splitlines()[1:]:
        at, value, label = row.split(",")
        said = odd if label == "1" else '"label": false' if int(at) % 7 else '"note": "label"'
        lines.append(f'{{"source": "a", "timestamp": {at}, "value": {value}, {said}}}\n')
    Path("a.ndjson").write_text("".join(lines))
    Path("b.ndjson").write_text("[" + ",".join(lines).replace("\n", "") + "]\n")
    found = [json.loads(call("evaluate", name, "--json").stdout)["default"]["total"] for name in
             ("a.csv", "a.ndjson", "b.ndjson")]  # fmt: skip
    assert found[0] == found[1] == found[2] and found[0]["windows"] > 2


def test_the_verdict_in_a_result_is_no_label():
    spiky("a.csv")
    call("detect", "a.csv", "--config", "quick.yaml", "--output", "a.ndjson")
    assert '"is_anomaly":true' in Path("a.ndjson").read_text()
    assert "a.ndjson: expected a column or field label" in call("evaluate", "a.ndjson").stderr

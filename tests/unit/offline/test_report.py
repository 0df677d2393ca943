"""The report's data are those of the series, and what is in its file is text, whatever it says."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli import main
from app.offline.evaluation import LabelledWindow, evaluation_metrics, mask
from app.offline.report.page import FULL, data, page
from app.offline.scored_series import ConfigResult, ReportedEpisode, ScoredSeries

HOSTILE = '</script><script>window.hit=1</script>"\'&<img src=x onerror="window.hit=1">{{data}}'


def scored(source="pump", points=200, seed=3, windows=((60, 70), (150, 151)), results=2):
    rng = np.random.default_rng(seed)
    values = {"x": np.round(rng.normal(1e9, 2.0, points), 3), "y": np.where(rng.random(points) < 0.3, np.nan, 5.0)}
    made = []
    for place in range(results):
        alert = np.round(rng.random(points), 6)
        inside = alert >= 0.8
        opened = inside & ~np.append(False, inside[:-1])
        lower = {name: column - 1 / 3 for name, column in values.items()}
        upper = {name: column + 1 / 3 for name, column in values.items()}
        score = alert if place == 0 else np.round(rng.random(points), 6)
        judged = np.arange(points) >= 10
        told = {int(i): ReportedEpisode(f"episode at {i}", "level", "recovered") for i in np.flatnonzero(opened)}
        repeat, lasts, adapted = (rng.random(points) < share for share in (0.05, 0.1, 0.02))
        columns = (score, alert, inside, opened, judged, repeat, np.zeros(points, bool), lasts, adapted)
        made.append(ConfigResult(*columns, 0.8, 0.8, 1, lower, upper, told))
    time = 1.7e9 + np.arange(points) * 60.0 + 0.25
    labelled = None if windows is None else [LabelledWindow(*each) for each in windows]
    return ScoredSeries(f"data/{source}.csv", source, time, values, labelled, 30, made)


def unpacked(html):
    text = re.search(r'<script type="text/plain" id="data">([^<]*)</script>', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(text, validate=True)))


# --- data


def test_every_point_is_there_as_it_was():
    one = scored()
    [shown] = data([one], ["a", "b"])["series"]
    assert (np.cumsum(shown["steps"]) / 1000.0).tolist() == one.time.tolist()
    assert shown["windows"] == [(60, 70), (150, 151)] and shown["first"] == 30
    for metric, (name, values) in zip(shown["metrics"], one.values.items()):
        assert metric["name"] == name
        np.testing.assert_equal(np.array(metric["values"], float), values)
    for result, found in zip(one.results, shown["results"]):
        assert (np.array(found["score"]) / FULL).tolist() == result.score.tolist()
        assert (np.array(found["alert"] or found["score"]) / FULL).tolist() == result.alert.tolist()
        assert found["ready"] == 10
        for name in ("repeat", "lasts", "adapted"):
            assert (
                mask(len(result.score), [LabelledWindow(*each) for each in found[name]]) == getattr(result, name)
            ).all()
        for (lower, upper), name in zip(found["bands"], one.values):
            np.testing.assert_allclose(np.array(lower, float), result.lower[name], atol=1e-3)
            np.testing.assert_allclose(np.array(upper, float), result.upper[name], atol=1e-3)
    assert shown["results"][0]["alert"] is None and shown["results"][1]["alert"] is not None


def test_points_in_maintenance_are_in_an_episode_that_goes_on_after_them_and_change_none():
    one = scored(results=1)
    result = one.results[0]
    result.opened[:], result.inside[:], result.repeat[:] = False, False, False
    result.opened[50], result.inside[50:60], result.inside[70:80], result.maintenance[60:70] = True, True, True, True
    result.maintenance[100:110] = True
    result.episodes[50] = ReportedEpisode("", "level", "recovered")
    [found] = data([one], ["a"])["series"][0]["results"]
    assert [tuple(each[:2]) for each in found["episodes"]] == [(50, 80)]
    assert [tuple(each) for each in found["repeat"]] == [(60, 70), (100, 110)]


def test_episodes_are_runs_of_points_inside_them():
    one = scored()
    for result, found in zip(one.results, data([one], ["a", "b"])["series"][0]["results"]):
        inside = np.zeros(len(result.inside), bool)
        for start, stop, *told in found["episodes"]:
            assert result.opened[start] and told == [f"episode at {start}", "level", "recovered"]
            inside[start:stop] = True
        assert (inside == result.inside).all() and len(found["episodes"]) == result.opened.sum() > 10


def test_an_episode_that_follows_another_at_once_is_another():
    one = scored(points=5, windows=None, results=1)
    one.results[0].inside[:] = [0, 1, 1, 1, 1]
    one.results[0].opened[:] = [0, 1, 0, 1, 0]
    one.results[0].episodes = {1: ReportedEpisode("a", "value", "silence"), 3: ReportedEpisode("b", "noise", "")}
    found = data([one], ["a"])["series"][0]["results"][0]["episodes"]
    assert found == [(1, 3, "a", "value", "silence"), (3, 5, "b", "noise", "")]


def test_the_figures_are_those_of_evaluate():
    parts = [scored(seed=1), scored("other", seed=2), scored("unlabelled", windows=None)]
    shown = data(parts, ["a", "b"])["configurations"]
    for place, found in enumerate(shown):
        assert found["figures"] == vars(evaluation_metrics([each.labelled_scores(place) for each in parts[:2]]))
    assert data(parts[2:], ["a", "b"])["configurations"][0]["figures"] is None


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e149])
def test_limits_are_told_apart_whatever_their_size(scale):
    one = scored(results=1)
    one.values = {"x": np.random.default_rng(1).normal(0.0, 1.0, 200) * scale}
    one.results[0].lower = {"x": one.values["x"] - 0.01 * scale}
    one.results[0].upper = {"x": one.values["x"] + 0.01 * scale}
    [[lower, upper]] = data([one], ["a"])["series"][0]["results"][0]["bands"]
    assert ((np.array(upper) - np.array(lower)) / scale == pytest.approx(0.02, abs=1e-3)) is True


def test_a_constant_series_and_one_without_a_band_have_data():
    one = scored(results=1)
    one.values = {"x": np.full(200, 7.0)}
    one.results[0].lower = one.results[0].upper = {"x": np.full(200, np.nan)}
    shown = data([one], ["a"])["series"][0]
    assert shown["metrics"][0]["values"] == [7] * 200 and shown["results"][0]["bands"] == [None]


# --- the file


def test_the_file_holds_the_data_and_asks_nobody():
    parts = [scored(), scored(HOSTILE)]
    html = page(parts, ["a", HOSTILE])
    assert unpacked(html) == json.loads(json.dumps(data(parts, ["a", HOSTILE])))
    assert not re.search(r"(?i)https?://(?!www\.w3\.org/2000/svg)|src=|@import|url\((?!#)", html)
    assert "window.hit" not in html and "{{" not in html.partition('id="data"')[0]


def test_the_policy_lets_the_script_and_the_style_run_and_nothing_else():
    html = page([scored()], ["a", "b"])
    script, style = (re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", html, re.S)[1]
                     for tag in ('script type="module"', "style"))  # fmt: skip
    for kind, text in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in html
    assert "default-src 'none'" in html
    assert "import " not in script and not re.search(r"^export ", script, re.M)


def test_the_same_tracks_give_the_same_bytes():
    assert page([scored()], ["a", "b"]) == page([scored()], ["a", "b"])


# --- the command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)
    rng = np.random.default_rng(1)
    lines = [f"{i * 60},{rng.normal() + 20 * (i % 90 == 80)},{int(i % 90 == 80)}" for i in range(400)]
    Path("pump.csv").write_text("\n".join(["timestamp,value,label", *lines]) + "\n")
    Path("quick.yaml").write_text("detection: {method: moving_average, window_points: 20}\n")
    Path("slow.yaml").write_text("detection: {method: zscore, window_points: 50, threshold: 0.9}\n")


def call(*words):
    return CliRunner().invoke(main, [*map(str, words)])


def test_detect_writes_a_report_and_no_results(here):
    got = call("detect", "pump.csv", "--config", "quick.yaml", "--report", "report.html")
    assert got.exit_code == 0 and got.stdout == "" and "400 points of 1 source" in got.stderr
    shown = unpacked(Path("report.html").read_text())
    assert [each["name"] for each in shown["configurations"]] == ["quick"]
    [one] = shown["series"]
    assert (one["file"], one["source"], one["windows"]) == (
        "pump.csv",
        "pump",
        [[80, 81], [170, 171], [260, 261], [350, 351]],
    )
    results = call("detect", "pump.csv", "--config", "quick.yaml", "--output", "-").stdout.splitlines()
    assert one["results"][0]["score"] == [round(json.loads(line)["anomaly_score"] * FULL) for line in results]


def test_results_are_written_beside_a_report_where_asked_for(here):
    assert call("detect", "pump.csv", "--report", "report.html", "--output", "out.ndjson").exit_code == 0
    assert Path("out.ndjson").read_text() == call("detect", "pump.csv").stdout


def test_several_configurations_are_side_by_side(here):
    got = call("detect", "pump.csv", "--config", "quick.yaml", "--config", "slow.yaml", "--report", "report.html")
    assert got.exit_code == 0, got.stderr
    assert [line for line in got.stderr.splitlines() if line.endswith(":")] == ["quick:", "slow:"]
    shown = unpacked(Path("report.html").read_text())
    assert [each["name"] for each in shown["configurations"]] == ["quick", "slow"]
    assert [result["threshold"] for result in shown["series"][0]["results"]] == [0.8, 0.9]
    told = json.loads(call("evaluate", "pump.csv", "--config", "quick.yaml", "--config", "slow.yaml", "--json").stdout)
    assert [each["figures"] for each in shown["configurations"]] == [told["quick"]["total"], told["slow"]["total"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pump.csv", "--labels", "w.json"], "--labels: needs --report, or the command evaluate"),
        (["pump.csv", "--config", "quick.yaml", "--config", "slow.yaml"], "--config: results are of one configuration"),
        (["pump.csv", "--report", "pump.csv"], "--report: pump.csv is an input"),
        (["pump.csv", "--report", "no/where.html"], "--report no/where.html: no such folder"),
        (["none.csv", "--report", "report.html"], "none.csv: no such file or folder"),
        (["pump.csv", "--report", "report.html", "--labels", "none.json"], "none.json: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_no_report(here, words, message):
    before = Path("pump.csv").read_text()
    got = call("detect", *words)
    assert got.exit_code in (1, 2) and message in got.stderr and "Traceback" not in got.stderr
    assert not Path("report.html").exists() and Path("pump.csv").read_text() == before


def test_more_points_than_a_browser_holds_are_refused(here, monkeypatch):
    monkeypatch.setattr("app.offline.report.page.MOST_POINTS", 399)
    got = call("detect", "pump.csv", "--report", "report.html")
    assert got.exit_code == 2 and "more than 399 results" in got.stderr and not Path("report.html").exists()

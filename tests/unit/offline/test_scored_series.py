"""Results kept by source: a series holds what the pipeline said, whatever the batches; and whose labels are whose."""

import json
from io import BytesIO

import numpy as np
import pytest

from app.errors import ConfigurationError
from app.offline.files import read
from app.offline.scored_series import Labels, Recorder
from app.pipeline import Pipeline
from app.pipeline.outcome import WARMING_UP
from app.settings import InputSettings, load

QUICK = "detection: {method: moving_average, window_points: 20}\n"
OTHER = "detection: {method: zscore, window_points: 30, threshold: 0.7}\nsources: [{match: b, threshold: 0.9}]\n"


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    made = []
    for text in (QUICK, OTHER):
        path = tmp_path_factory.mktemp("settings") / "it.yaml"
        path.write_text(text)
        made.append(Pipeline.of(load(path, environ={})))
    return made


def table(rows=300):
    """Two sources in turn; x always, y every third row; a spike at every 40th row, labelled."""
    rng = np.random.default_rng(5)
    lines = ["timestamp,source,x,y,label"]
    for i in range(rows):
        spike = i % 40 == 39
        y = repr(rng.normal()) if i % 3 == 0 else ""
        lines.append(f"{i * 60},{'ab'[i % 2]},{rng.normal() + 30 * spike},{y},{int(spike)}")
    return ("\n".join(lines) + "\n").encode()


def recorded(pipelines, data, batch_points=10**9, file="pump.csv", **options):
    recorder, states = Recorder(pipelines, **options), [each.sources() for each in pipelines]
    for batch in read(BytesIO(data), file, "pump", InputSettings(), batch_points=batch_points):
        recorder.add(batch, [each.run(state, batch.points) for each, state in zip(pipelines, states)])
    recorder.end(file)
    return recorder.series


def test_a_series_holds_what_the_pipeline_said_of_its_source(pipelines):
    all_series = recorded(pipelines, table(), bands=True)
    assert [(each.file, each.source) for each in all_series] == [("pump.csv", "a"), ("pump.csv", "b")]
    points = next(read(BytesIO(table()), "pump.csv", "pump", batch_points=10**9)).points
    assert all_series[1].results[0].opened.any() and all_series[1].results[0].episodes
    for place, pipeline in enumerate(pipelines):
        outcome = pipeline.run(pipeline.sources(), points)
        for series in all_series:
            at = [i for i, source in enumerate(points.source) if source == series.source]
            result = series.results[place]
            assert series.time.tolist() == [points.timestamp[i] for i in at]
            assert result.score.tolist() == outcome.score[at].tolist()
            assert result.alert.tolist() == outcome.alert[at].tolist()
            assert result.inside.tolist() == outcome.anomaly[at].tolist()
            assert result.opened.tolist() == outcome.opened[at].tolist()
            assert result.repeat.tolist() == outcome.repeat[at].tolist()
            assert result.maintenance.tolist() == (outcome.maintenance[at] >= 0).tolist()
            assert result.lasts.tolist() == outcome.lasts[at].tolist()
            assert result.adapted.tolist() == outcome.adapted[at].tolist()
            assert result.judged.tolist() == (outcome.status[at] != WARMING_UP).tolist()
            ended = set(outcome.episode_offset[outcome.closed].tolist())
            assert result.episodes == {
                k: (
                    outcome.explanation[i],
                    "value",
                    "recovered" if points.offset[i] in ended else "",
                )
                for k, i in enumerate(at)
                if outcome.opened[i]
            }
            for k, i in enumerate(at):
                cells = range(points.start[i], points.start[i + 1])
                assert {points.metrics[c]: points.values[c] for c in cells} == {
                    name: column[k] for name, column in series.values.items() if not np.isnan(column[k])
                }
                for column, found in ((outcome.lower, result.lower), (outcome.upper, result.upper)):
                    for c in cells:
                        np.testing.assert_equal(found[points.metrics[c]][k], column[c])


def test_an_override_has_its_own_threshold(pipelines):
    a, b = recorded(pipelines, table())
    assert [each.threshold for each in a.results] == [0.8, 0.7]
    assert [each.threshold for each in b.results] == [0.8, 0.9]


@pytest.mark.parametrize("size", [1, 7])
def test_the_size_of_batches_does_not_matter(pipelines, size):
    whole, parts = recorded(pipelines, table(), bands=True), recorded(pipelines, table(), size, bands=True)
    assert repr(whole) == repr(parts)
    np.testing.assert_equal([vars(each) for each in whole[0].results], [vars(each) for each in parts[0].results])


def test_labelled_runs_of_a_source_are_its_windows(pipelines):
    a, b = recorded(pipelines, table())
    assert a.windows == [], "the spikes fall on the other source"
    assert [(start, stop) for start, stop in b.windows] == [(19 + 20 * k, 20 + 20 * k) for k in range(7)]
    assert b.first == int(0.15 * 150)
    assert recorded(pipelines, table(), share=0.0)[0].first == 0


def test_without_labels_there_is_no_truth(pipelines):
    [series] = recorded(pipelines, b"value\n1\n2\n3\n")
    assert series.windows is None and series.values == {}


def test_points_that_one_pipeline_rejects_are_left_out_of_all(pipelines, tmp_path):
    path = tmp_path / "few.yaml"
    path.write_text(QUICK + "state: {max_sources: 1}\n")
    few = Pipeline.of(load(path, environ={}))
    all_series = recorded([pipelines[0], few], table())
    assert [each.source for each in all_series] == ["a"]
    assert all(len(result.score) == len(all_series[0].time) for result in all_series[0].results)


def test_more_than_can_be_held_is_refused(pipelines):
    with pytest.raises(ConfigurationError, match="more than 599 results"):
        recorded(pipelines, table(), most_points=599)
    recorded(pipelines, table(), most_points=600)


# --- windows of time


def labels(tmp_path, given):
    path = tmp_path / "windows.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given))
    return Labels(path)


def test_windows_of_time_come_before_a_column(pipelines, tmp_path):
    given = [["1970-01-01 00:10:00.000000", "1970-01-01T00:20:00"], [3600, "3720"]]
    windows = labels(tmp_path, {"data/pump.csv": given})
    a, b = recorded(pipelines, table(), labels=windows)
    assert a.windows == [(5, 11), (30, 32)] and b.windows == [(5, 10), (30, 31)]


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("/somewhere/nab/a/x.csv", [(1.0, 2.0)]),
        ("b/x.csv", [(3.0, 4.0)]),
        ("c/x.csv", None),
        ("y.csv", [(5.0, 6.0)]),
        ("anywhere/y.csv", [(5.0, 6.0)]),
        ("ay.csv", None),
        ("quiet.csv", []),
        ("standard input", None),
    ],
)
def test_an_entry_is_found_by_the_end_of_the_path(tmp_path, file, found):
    given = {"a/x.csv": [["1", "2"]], "b/x.csv": [["3", "4"]], "y.csv": [["5", "6"]], "z/quiet.csv": []}
    assert labels(tmp_path, given).of(file) == found


def test_an_entry_that_may_be_two_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"x.csv may be a/x.csv or b/x.csv: give the file with its folder"):
        labels(tmp_path, {"a/x.csv": [], "b/x.csv": []}).of("x.csv")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "expected JSON"),
        ([], "expected {file: [[start, end], ...]}, found list"),
        ({"x.csv": [["1", "2", "3"]]}, 'x.csv: expected [[start, end], ...], found ["1", "2", "3"]'),
        ({"x.csv": ["12"]}, 'x.csv: expected [[start, end], ...], found "12"'),
        ({"x.csv": "2014"}, 'x.csv: expected [[start, end], ...], found "2014"'),
        ({"x.csv": None}, "x.csv: expected [[start, end], ...], found null"),
        ({"x.csv": [["soon", "2"]]}, "an ISO 8601 time or a number, got 'soon'"),
        ({"x.csv": [["2", "1"]]}, 'x.csv: ["2", "1"] ends before it starts'),
    ],
)
def test_windows_that_are_none_are_refused(tmp_path, given, message):
    with pytest.raises(ConfigurationError) as error:
        labels(tmp_path, given)
    assert message in str(error.value) and "windows.json" in str(error.value)

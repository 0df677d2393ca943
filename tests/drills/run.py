"""The episodes that the detectors report for series: by the command that users have, or faster without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from support.data import ROOT

from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import load
from app.wire.results import encode_episodes
from tests.drills.judge import Episode, Tally, opened
from tests.drills.shapes import Case

INSIDE = b'"is_anomaly":true'


def by_detect(cases: Mapping[str, Case], config: Path | None) -> dict[str, list[Episode]]:
    """What ``faust-anomaly detect`` reports of all series in one file, by source.

    Each result names the row of its point, so that those outside of episodes need not be read.
    """
    sources, begins = list(cases), np.cumsum([0, *map(len, cases.values())])
    tally, results = Tally(), 0
    with tempfile.TemporaryDirectory(prefix="drills-") as folder:
        path = Path(folder) / "drills.ndjson"
        with path.open("w") as file:
            for source, case in cases.items():
                file.writelines(records(source, case))
        for line in _detected(path, config):
            results += 1
            if INSIDE in line:
                result = json.loads(line)
                row = int(result["id"].split(":")[2])
                which = int(np.searchsorted(begins, row, "right")) - 1
                tally.add(sources[which], row - int(begins[which]), result)
    if results != begins[-1]:
        raise SystemExit(f"expected a result for each of {begins[-1]:,} points, found {results:,}")
    return tally.episodes


def records(source: str, case: Case) -> Iterator[str]:
    """The points as lines of NDJSON, in the order in which they arrive."""
    for time, row in zip(case.time.tolist(), _rows(case)):
        begin = f'{{"source":"{source}","timestamp":{time!r},'
        [(metric, x), *others] = row
        if others:
            yield begin + '"values":{' + ",".join(f'"{name}":{x!r}' for name, x in row) + "}}\n"
        elif metric == "value":
            yield f'{begin}"value":{x!r}}}\n'
        else:
            yield f'{begin}"metric":"{metric}","value":{x!r}}}\n'


def _rows(case: Case) -> Iterator[list[tuple[str, float]]]:
    """Metrics and values of each point."""
    names = sorted(case.values)
    for row in zip(*(case.values[name].tolist() for name in names)):
        yield [(name, x) for name, x in zip(names, row) if x == x]  # NaN: the point does not have it


def _detected(path: Path, config: Path | None) -> Iterator[bytes]:
    """The results of ``detect``, without settings from the environment; its error ends the run."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    command = [sys.executable, "-m", "app", "detect", str(path), "--output", "-"]
    command += ["--config", str(config)] if config else []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        with process:
            yield from process.stdout
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{errors.read().decode()}")


def in_process(cases: Mapping[str, Case], config: Path | None) -> dict[str, list[Episode]]:
    """The same by ``Pipeline.run``: nothing is read or written but what opens an episode."""
    pipeline, found = Pipeline.of(load(config, environ={})), {}
    for source, case in cases.items():
        points = _points(source, case)
        outcome = pipeline.run(pipeline.sources(), points)
        inside = np.flatnonzero(outcome.anomaly)
        last = dict(zip(outcome.episode_offset[inside].tolist(), inside.tolist()))  # of each episode the last point
        events = (json.loads(event) for _, event in encode_episodes(points, outcome, "drills", 0))
        began = [opened(int(event["id"].split(":")[2]), event) for event in events if event["event"] == "opened"]
        for episode in began:
            episode.last = last[episode.opened]
        if began:
            found[source] = began
    return found


def _points(source: str, case: Case) -> Points:
    n, rows = len(case), list(_rows(case))
    points = Points(list(range(n)), [0] * n, [source] * n, case.time.tolist(), [True] * n)
    points.values = [x for row in rows for _, x in row]
    if list(case.values) != ["value"] and all(len(row) == 1 for row in rows):
        points.metric = [metric for [(metric, _)] in rows]
    elif list(case.values) != ["value"]:
        points.metrics = [metric for row in rows for metric, _ in row]
        points.start = np.cumsum([0, *map(len, rows)]).tolist()
    return points

"""Figures of one configuration: the program's own command over a folder, as a user runs it, then a scorer."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.data import ROOT

SHIPPED = ROOT / "generators" / "series"
SETS = {  # set -> what is shown of it: column of the table, and where it stands in the scorer's answer
    "NAB standard": ("nab", "standard", "{:.1f}"),
    "NAB low FP": ("nab", "reward_low_FP_rate", "{:.1f}"),
    "NAB low FN": ("nab", "reward_low_FN_rate", "{:.1f}"),
    "KPI delay-F1": ("kpi", "delay_f1", "{:.3f}"),
    "core-KPI AP": ("kpi_core", "ap", "{:.3f}"),
    "SKAB F1": ("skab", "f1", "{:.3f}"),
    "ECG delay-F1": ("ecg", "delay_f1", "{:.3f}"),
    "false alerts per 1000": ("fixed", "false_alerts_per_1000", "{:.2f}"),
    "NAB windows hit": ("fixed", "nab_windows_hit", "{}"),
}


def program(*words: str | Path, **options: Any) -> subprocess.CompletedProcess:
    """``faust-anomaly`` with these words, without settings from the environment; its error ends the run."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    command = [sys.executable, "-m", "app", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"faust-anomaly {' '.join(map(str, words))}:\n{done.stderr}")
    return done


def of_method(method: str, folder: Path) -> Path:
    """A file of settings: this method alone."""
    path = folder / f"{method}.yaml"
    path.write_text(json.dumps({"detection": {"method": method}}))  # JSON is YAML
    return path


def on_data(data: Path, config: Path | None = None) -> dict[str, Any]:
    """What the given scorer says of ``detect`` over ``data/dev``: {set: {figure: value}}."""
    with tempfile.TemporaryDirectory(prefix="evaluate-") as folder:
        results = Path(folder) / "results"
        settings = ["--config", config] if config else []
        program("detect", data / "dev", "--output", results, *settings)
        scorer = [sys.executable, str(data / "score_all.py"), str(data / "dev"), str(results), "--json"]
        done = subprocess.run(scorer, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(scorer)}:\n{done.stderr}")
    return json.loads(done.stdout)


def on_shipped(config: Path | None = None) -> dict[str, Any]:
    """What ``evaluate`` says of the series that ship: the figures of all of them together."""
    settings = ["--config", config] if config else []
    [found] = json.loads(program("evaluate", SHIPPED, "--json", *settings).stdout).values()
    return found["total"]


def shown(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The cells of a row: what the table has of a scorer's answer."""
    return [form.format(found[kind][name]) for kind, name, form in SETS.values()]

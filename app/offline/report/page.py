"""Scored series to one HTML file that holds all it needs: text, style, script and data.

The page is report.html with scripts and styles inside it, some of the web view's and those of this folder. A content
security policy in its head allows exactly that script and no request to a server. Names, which can contain anything,
are only in the data, which is text in base64; the script puts them into the page as text nodes.

The data are JSON, zipped: 100,000 points are one to two megabytes. Every point is there, so that the page can count and
zoom; it draws lowest and highest of each pixel.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import numpy as np

from app import __version__
from app.offline.evaluation import evaluation_metrics, runs
from app.offline.scored_series import ConfigResult, ScoredSeries

SCRIPTS = (
    ("app.web", "static/dom.js"), ("app.web", "static/axes.js"),
    ("app.offline.report", "counts.js"), ("app.offline.report", "plot.js"), ("app.offline.report", "report.js"),
)  # fmt: skip
STYLES = (("app.web", "static/base.css"), ("app.offline.report", "report.css"))
MOST_POINTS = 2_000_000  # of all configurations together: what a browser can hold, at about 20 bytes each
FULL = 1_000_000  # of a score of 1, in the data: scores have 6 decimals


def page(series: Sequence[ScoredSeries], configurations: Sequence[str]) -> str:
    """The report; ``configurations`` are the names of the series' results, in their order."""
    script, style = _script(), _joined(STYLES)
    policy = f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    zipped = gzip.compress(json.dumps(data(series, configurations), separators=(",", ":")).encode(), 6, mtime=0)
    parts = {"policy": policy, "style": style, "script": script, "data": base64.b64encode(zipped).decode()}
    template = files("app.offline.report").joinpath("report.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def data(series: Sequence[ScoredSeries], configurations: Sequence[str]) -> dict[str, Any]:
    """The data of the page, as JSON values."""
    labelled = [each for each in series if each.windows is not None]
    return {
        "version": __version__,
        "configurations": [
            {
                "name": name,
                "figures": asdict(evaluation_metrics([each.labelled_scores(place) for each in labelled]))
                if labelled
                else None,
            }
            for place, name in enumerate(configurations)
        ],
        "series": [_series(each) for each in series],
    }


def _series(series: ScoredSeries) -> dict[str, Any]:
    milliseconds = np.round(series.time * 1000.0).astype(np.int64)
    decimals = {metric: _decimals(values) for metric, values in series.values.items()}
    return {
        "file": series.file,
        "source": series.source,
        "metric": series.metric or None,
        "first": series.first,
        "windows": series.windows,
        "steps": np.diff(milliseconds, prepend=0).tolist(),  # ms; the first one since 1970
        "metrics": [{"name": metric, "values": _list(values)} for metric, values in series.values.items()],
        "results": [_result(each, decimals) for each in series.results],
    }


def _result(result: ConfigResult, decimals: dict[str, int | None]) -> dict[str, Any]:
    score, alert = (np.round(each * FULL).astype(np.int64).tolist() for each in (result.score, result.alert))
    judged = np.flatnonzero(result.judged)
    return {
        "threshold": result.threshold,
        "closeBelow": result.close_below,
        "closePoints": result.close_points,
        "ready": int(judged[0]) if len(judged) else len(score),  # points before this one were not judged
        "score": score,
        "alert": None if alert == score else alert,
        "repeat": runs(result.repeat | result.maintenance),  # points that change no episode
        "lasts": runs(result.lasts),
        "adapted": runs(result.adapted),
        "episodes": _episodes(result),
        "bands": [_band(each, result.upper[metric], decimals[metric]) for metric, each in result.lower.items()],
    }


def _band(lower: np.ndarray, upper: np.ndarray, decimals: int | None) -> list | None:
    """Both limits; None where there are none."""
    return None if np.isnan(lower).all() else [_list(_rounded(each, decimals)) for each in (lower, upper)]


def _episodes(result: ConfigResult) -> list[tuple]:
    """Of each episode: its first point, the point after its last, and its texts."""
    starts = np.flatnonzero(result.opened)
    stops = np.flatnonzero(np.append(~result.inside & ~result.maintenance | result.opened, True))
    ends = stops[np.searchsorted(stops, starts, side="right")]
    return [(start, end, *result.episodes[start]) for start, end in zip(starts.tolist(), ends.tolist())]


def _decimals(values: np.ndarray) -> int | None:
    """Decimals that are enough to draw this metric's bands; None: keep all."""
    known = values[~np.isnan(values)]
    width = float(np.subtract(*np.percentile(known, [75, 25]))) or float(known.max() - known.min())
    return 4 - math.floor(math.log10(width)) if 1e-6 < width < 1e12 else None


def _rounded(column: np.ndarray, decimals: int | None) -> np.ndarray:
    return column if decimals is None else np.round(column, decimals)


def _list(column: np.ndarray) -> list[float | int | None]:
    """Numbers in their shortest form: NaN as null, whole numbers without a fraction."""
    return [None if x != x else int(x) if x.is_integer() and abs(x) < 1e15 else x for x in column.tolist()]


def _joined(parts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(files(package).joinpath(name).read_text("utf-8") for package, name in parts)


def _script() -> str:
    """The modules as one: in order of what they import, and without the words that only files need."""
    return re.sub(r"^(export |import [^;]*;\n)", "", _joined(SCRIPTS), flags=re.M)


def _digest(text: str) -> str:
    """As a content security policy names an inline script or style; its whitespace counts too."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

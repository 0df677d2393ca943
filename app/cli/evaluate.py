"""``faust-anomaly evaluate``: how well what ``detect`` finds agrees with labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.common import configurations_option, many
from app.cli.detect import Detect, columns_options, labels_option
from app.cli.files import inputs
from app.errors import ConfigurationError

if TYPE_CHECKING:
    from app.offline.evaluation import EvaluationMetrics
    from app.offline.scored_series import ScoredSeries

HEADS = ("points", "windows", "hit", "delay", "alerts", "false/1000", "precision", "recall", "F1", "false rate",
         "best F1", "delay F1", "AP")  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@labels_option
@click.option(
    "--probation",
    "share",
    type=click.FloatRange(0.0, 1.0),
    default=0.15,
    show_default=True,
    help="First share of a series that does not count, at most 750 points.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
@columns_options
@configurations_option
def evaluate(
    files: tuple[str, ...],
    labels: str | None,
    share: float,
    as_json: bool,
    configurations: dict[str, Any],
    **names: Any,
) -> None:
    """Compare the anomalies found in labelled files with the labels; needs no Kafka.

    FILE may be a folder. Labels are the column or field label, anomaly or is_anomaly (0, false, empty or absent:
    normal), or --labels. A run of labelled points is a window.

    \b
    hit         windows with an alert (the first point of an episode) inside
    delay       points, and time, from a window's start to its first alert; mean of the hit ones
    false/1000  alerts outside windows, per 1000 points outside windows
    precision, recall, F1
                points inside episodes against points inside windows
    false rate  share of the points outside windows that are inside episodes
    best F1     F1 of points by anomaly_score at the best threshold, the same for all files
    delay F1    the best where a window is found as a whole in its first 8 points, or not at all
    AP          average precision of anomaly_score; in the total the mean of the files
    NAB         alert_score at the best threshold for all files: 100: all found at once, 0: no alerts
    """
    from app.offline.evaluation import evaluation_metrics
    from app.offline.scored_series import Labels, Recorder

    read, windows = inputs(files), Labels(labels) if labels else None
    job = Detect(configurations, names)
    job.recorder = recorder = Recorder(job.pipelines, windows, share=share)
    for each in read:
        job.file(each, None)
    job.line.clear()
    job.remarks.end()
    labelled = _labelled(recorder.series)
    found = {}
    for place, name in enumerate(configurations):
        scores = {file: [each.labelled_scores(place) for each in of] for file, of in labelled.items()}
        files_of = {file: evaluation_metrics(of) for file, of in scores.items()}
        every = [each for of in scores.values() for each in of]
        found[name] = EvaluationTotals(files_of, evaluation_metrics(every))
    if as_json:
        click.echo(json.dumps({name: asdict(each) for name, each in found.items()}, indent=1))
    else:
        for line in tables(found):
            click.echo(line)


@dataclass(frozen=True)
class EvaluationTotals:
    """The figures of one configuration."""

    files: dict[str, EvaluationMetrics]
    total: EvaluationMetrics


def _labelled(series: Sequence[ScoredSeries]) -> dict[str, list[ScoredSeries]]:
    """By file, named from the folder on that all of them lie in; of files without labels only a remark."""
    by_file: dict[str, list[ScoredSeries]] = {}
    without = {each.file for each in series if each.windows is None}
    for each in series:
        if each.file not in without:
            by_file.setdefault(each.file, []).append(each)
    if not by_file:
        files = ", ".join(sorted(without)) or "no points"
        raise ConfigurationError(f"{files}: expected a column or field label, anomaly or is_anomaly, or --labels")
    if without:
        click.echo(f"{many(len(without), 'file')} without labels left out: {', '.join(sorted(without))}", err=True)
    return {_short(file, by_file): of for file, of in by_file.items()}


def _short(file: str, files: dict[str, Any]) -> str:
    folders = [Path(each).parent.parts for each in files]
    shared = 0
    while all(len(each) > shared and each[shared] == folders[0][shared] for each in folders):
        shared += 1
    return str(Path(*Path(file).parts[shared:]))


def tables(found: dict[str, EvaluationTotals]) -> Iterator[str]:
    """Lines of text: a row for each file and configuration, totals at the end, then NAB's scores."""
    several = len(found) > 1
    rows = [["", *([""] if several else []), *HEADS]]
    for file in [*next(iter(found.values())).files, None]:
        for name, each in found.items():
            figures = each.total if file is None else each.files[file]
            rows.append([file or "total", *([name] if several else []), *_row(figures)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    texts = 2 if several else 1  # then come numbers
    for row in rows:
        padded = [str.ljust] * texts + [str.rjust] * len(HEADS)
        yield "  ".join(pad(cell, width) for pad, cell, width in zip(padded, row, widths)).rstrip()
    for name, each in found.items():
        if scores := each.total.nab:
            of = f" {name}" if several else ""
            yield f"NAB{of}: " + ", ".join(f"{profile} {score:.1f}" for profile, score in scores.items())


def _row(of: EvaluationMetrics) -> list[str]:
    return [
        f"{of.points:,}",
        str(of.windows),
        str(of.hit),
        "-"
        if of.delay_points is None or of.delay_s is None
        else f"{of.delay_points:.1f} ({duration_text(of.delay_s)})",
        str(of.alerts),
        "-" if of.false_alerts_per_1000 is None else f"{of.false_alerts_per_1000:.2f}",
        *(_number(each) for each in (of.precision, of.recall, of.f1)),
        "-" if of.false_alarm_rate is None else f"{100 * of.false_alarm_rate:.2f} %",
        *(_number(each) for each in (of.best_f1, of.delay_f1, of.average_precision)),
    ]


def _number(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def duration_text(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"

"""Results of files in memory, by series, together with their labels: the input of ``evaluate`` and of the report.

It is not used where results are only written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from app.detectors.kinds import KINDS
from app.errors import ConfigurationError
from app.offline.evaluation import PROBATION, LabelledScores, LabelledWindow, probation, runs, windows_between
from app.offline.files import RowBatch
from app.offline.times import parse_time
from app.pipeline.explain import JOINTLY
from app.pipeline.outcome import Outcome
from app.state.series import parted

if TYPE_CHECKING:
    from app.pipeline import Pipeline


class ReportedEpisode(NamedTuple):
    """What the report shows of an episode."""

    explanation: str  # of its first point; if there are several metrics, one of them stands before it
    kind: str
    reason: str  # why it ended; empty: it is still open


@dataclass
class ConfigResult:
    """The results of one configuration for the n points of a series."""

    score: np.ndarray  # f8[n] anomaly score
    alert: np.ndarray  # f8[n] alert score
    inside: np.ndarray  # bool[n] inside an episode
    opened: np.ndarray  # bool[n] the first point of an episode
    judged: np.ndarray  # bool[n] a detector that can open an episode was ready
    repeat: np.ndarray  # bool[n] the last point again, which neither opens nor ends an episode
    maintenance: np.ndarray  # bool[n] nor does one in a span of maintenance, which is never inside one
    lasts: np.ndarray  # bool[n] a detector says that an episode goes on
    adapted: np.ndarray  # bool[n] a detector says that what opened it has become normal
    threshold: float  # alert score at which an episode opens
    close_below: float  # anomaly score below which a point counts towards its end
    close_points: int  # so many of those in a row end it
    lower: dict[str, np.ndarray] = field(default_factory=dict)  # by metric, f8[n], NaN = no band; where bands are kept
    upper: dict[str, np.ndarray] = field(default_factory=dict)
    # By the point that opened it: what is known of each episode.
    episodes: dict[int, ReportedEpisode] = field(default_factory=dict)


@dataclass
class ScoredSeries:
    """The points of one series of one file, in order of arrival, with the results of each configuration."""

    file: str
    source: str
    time: np.ndarray  # f8[n] epoch seconds
    values: dict[str, np.ndarray]  # by metric, f8[n], NaN = not there; where bands are kept
    windows: list[LabelledWindow] | None  # None: this file has no labels
    first: int  # points before this one do not count
    results: list[ConfigResult]  # by configuration
    metric: str = ""  # of the series, where it is not its whole source

    def labelled_scores(self, place: int) -> LabelledScores:
        """The results of the configuration at this place, with the labels to compare them with."""
        found = self.results[place]
        return LabelledScores(
            self.time, found.score, found.alert, found.inside, found.opened, self.windows or [], self.first
        )


class Recorder:
    """Collects batches of one file after the other, with the outcome of each pipeline for it.

    ``bands``: keep values and bands too, for drawing; ``most_points``: more results than so many raise
    ConfigurationError, since all of them are held in memory; ``share``: of a series, that does not count.
    """

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        labels: Labels | None = None,
        bands: bool = False,
        most_points: int | None = None,
        share: float = PROBATION,
    ) -> None:
        self.series: list[ScoredSeries] = []
        self._pipelines, self._labels, self._bands, self._share = pipelines, labels, bands, share
        self._most, self._count = most_points, 0
        self._batches: list[tuple[RowBatch, Sequence[Outcome]]] = []

    def add(self, batch: RowBatch, outcomes: Sequence[Outcome]) -> None:
        """The next points of the current file. Points that any of the pipelines rejected are left out."""
        self._count += len(batch.points) * len(outcomes)
        if self._most is not None and self._count > self._most:
            raise ConfigurationError(
                f"more than {self._most:,} results, which are all held in memory: give fewer files or configurations"
            )
        if len(batch.points):
            self._batches.append((batch, outcomes))

    def end(self, file: str) -> None:
        """The current file, of this name, has ended."""
        batches, self._batches = self._batches, []
        if batches:
            self.series += _File(batches).series(file, self)

    def new_series(self, file: str, name: str, time: np.ndarray, label: np.ndarray | None) -> ScoredSeries:
        windows = None if label is None else runs(label)
        intervals = self._labels.of(file) if self._labels else None
        if intervals is not None:
            windows = windows_between(time, intervals)
        source, metric = parted(name)
        return ScoredSeries(file, source, time, {}, windows, probation(len(time), self._share), [], metric)

    def rule(self, place: int, name: str) -> dict[str, Any]:
        """When episodes of a series open and close."""
        pipeline = self._pipelines[place]
        return pipeline.profiles[pipeline.profile_of(name)].episode_rule

    @property
    def bands(self) -> bool:
        return self._bands


class _File:
    """The batches of one file as columns; series and metrics are numbered as they come."""

    def __init__(self, batches: Sequence[tuple[RowBatch, Sequence[Outcome]]]) -> None:
        points = [batch.points for batch, _ in batches]
        self.outcomes = [list(each) for each in zip(*(outcomes for _, outcomes in batches))]  # by configuration
        self.names: dict[str, int] = {}
        self.metrics: dict[str, int] = {}
        number = self.names.setdefault
        self.name = np.array([number(name, len(self.names)) for part in points for name in part.series()])
        self.time = np.array([each for part in points for each in part.timestamp], float)
        self.value = np.array([each for part in points for each in part.values], float)
        self.label = None
        if any(batch.labelled for batch, _ in batches):  # of NDJSON a batch without anomalies may have no labels
            normal = ([""] * len(batch.points) for batch, _ in batches)
            kinds = (batch.labels or none for (batch, _), none in zip(batches, normal))
            self.label = np.array([kind != "" for of_batch in kinds for kind in of_batch], bool)
        # The point and the metric of each cell.
        sizes = [np.diff(part.start) if part.start is not None else np.ones(len(part), int) for part in points]
        self.point = np.repeat(np.arange(len(self.time)), np.concatenate(sizes))
        known = self.metrics.setdefault
        names = (part.names(i) for part in points for i in range(len(part)))
        self.metric = np.array([known(name, len(self.metrics)) for of_point in names for name in of_point])
        self.rejected = np.zeros(len(self.time), bool)
        self.starts = np.cumsum([0, *(len(part) for part in points)])
        for parts in self.outcomes:
            for start, outcome in zip(self.starts, parts):
                self.rejected[[start + one.position for one in outcome.rejected]] = True

    def series(self, file: str, recorder: Recorder) -> Iterator[ScoredSeries]:
        columns = [self._columns(parts, recorder.bands) for parts in self.outcomes]
        for name, number in self.names.items():
            at = np.flatnonzero((self.name == number) & ~self.rejected)
            if not len(at):
                continue
            series = recorder.new_series(file, name, self.time[at], None if self.label is None else self.label[at])
            cells = self._cells(at) if recorder.bands else {}
            series.values = {metric: _by_point(self.value, *each) for metric, each in cells.items()}
            for place, found in enumerate(columns):
                episodes = {i: found.episodes[p] for i, p in enumerate(at.tolist()) if p in found.episodes}
                points: dict[str, Any] = {field: column[at] for field, column in found.of_points.items()}
                result = ConfigResult(**points, **recorder.rule(place, name), episodes=episodes)
                if recorder.bands:
                    result.lower = {metric: _by_point(found.lower, *each) for metric, each in cells.items()}
                    result.upper = {metric: _by_point(found.upper, *each) for metric, each in cells.items()}
                series.results.append(result)
            yield series

    def _columns(self, parts: Sequence[Outcome], bands: bool) -> _Columns:
        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        ends = {opener: reason for part in parts for opener, reason in part.ends().items()}
        episodes = {
            int(start) + i: ReportedEpisode(
                _by_metric(part.explanation.get(i, ""), part.attribution.get(i, {})),
                KINDS[part.kind[i]],
                ends.get((int(part.offset[i]), int(part.index[i])), ""),
            )
            for start, part in zip(self.starts, parts)
            for i in np.flatnonzero(part.opened).tolist()
        }
        none = np.zeros(0)
        return _Columns(
            {
                "score": column("score"),
                "alert": column("alert"),
                "inside": column("anomaly"),
                "opened": column("opened"),
                "judged": column("judged"),
                "repeat": column("repeat"),
                "maintenance": column("maintenance") >= 0,
                "lasts": column("lasts"),
                "adapted": column("adapted"),
            },
            column("lower") if bands else none,
            column("upper") if bands else none,
            episodes,
        )

    def _cells(self, at: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
        """By metric: the cells of these points, the places of their points in ``at``, and how many points there are."""
        place = np.full(len(self.time), -1)
        place[at] = np.arange(len(at))
        found = {}
        for name, number in sorted(self.metrics.items()):
            cells = np.flatnonzero((self.metric == number) & (place[self.point] >= 0))
            if len(cells):
                found[name] = cells, place[self.point[cells]], len(at)
        return found


def _by_metric(explanation: str, attribution: dict[str, float]) -> str:
    """The explanation; one about all metrics begins with the most anomalous metric."""
    if not explanation.startswith(JOINTLY):
        return explanation
    return f"{max(attribution, key=lambda metric: attribution[metric])}: {explanation}"


@dataclass
class _Columns:
    """A configuration's columns over a file: of points, named as ConfigResult's fields, and of cells."""

    of_points: dict[str, np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    episodes: dict[int, ReportedEpisode]


def _by_point(column: np.ndarray, cells: np.ndarray, places: np.ndarray, points: int) -> np.ndarray:
    """f8[points]: the cells of one metric at the places of their points; NaN where a point has none."""
    whole = np.full(points, np.nan)
    whole[places] = column[cells]
    return whole


class Labels:
    """Windows of time by file, as NAB writes them: ``{"folder/file.csv": [["2014-04-10 07:15", "2014-04-11 16:45"]]}``.

    Times are ISO 8601 or numbers of seconds; both ends are inside. An entry is a file's when the one path ends in the
    other: ``file.csv`` is every file of that name, and ``file.csv`` in the folder one stands in is the entry above.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        try:
            given = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise ConfigurationError(f"{path}: expected JSON, {error}") from None
        if not isinstance(given, dict):
            raise ConfigurationError(f"{path}: expected {{file: [[start, end], ...]}}, found {type(given).__name__}")
        self._intervals = {file: self._windows(file, windows) for file, windows in given.items()}

    def of(self, file: str) -> list[tuple[float, float]] | None:
        """Intervals of a file; None where the labels do not mention it."""
        entries = [name for name in self._intervals if _same_ending(Path(name).parts, Path(file).parts)]
        if len(entries) > 1:
            found = " or ".join(entries)
            raise ConfigurationError(f"{self.path}: {file} may be {found}: give the file with its folder")
        return self._intervals[entries[0]] if entries else None

    def _windows(self, file: str, given: object) -> list[tuple[float, float]]:
        windows = []
        for each in given if isinstance(given, list) else [given]:
            try:
                begin, end = (parse_time(str(time)) for time in (each if isinstance(each, list) else []))
            except ValueError as error:
                where = f"{self.path}: {file}: expected [[start, end], ...]"
                raise ConfigurationError(f"{where}, found {json.dumps(each)[:100]} ({error})") from None
            if end < begin:
                raise ConfigurationError(f"{self.path}: {file}: {json.dumps(each)} ends before it starts")
            windows.append((begin, end))
        return windows


def _same_ending(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the longer path ends in the shorter one."""
    size = min(len(one), len(other))
    return size > 0 and one[-size:] == other[-size:]

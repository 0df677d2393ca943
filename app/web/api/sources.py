"""Series, with their latest results and their last points."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from app.detectors import KERNELS
from app.scoring.profile import episode_rule
from app.settings import Settings
from app.state.series import joined, shown
from app.web.api.routes import READ, SOURCE, route
from app.web.api.services import Services
from app.web.problems import HttpProblem
from app.web.topics.records import ShownResult, SourceRow, row

Limit = Annotated[int, Meta(ge=0, le=1000, description="How many at most.")]
Source = Annotated[str, Meta(description="Name of a source.", examples=["pump-7"])]
Metric = Annotated[
    str, Meta(description="Name of a metric; without it, or empty, the series is the source.", examples=["", "cpu"])
]


class SourcesParameters(Struct):
    search: Annotated[str, Meta(description="A part of the names of source and metric, in any case.")] = ""
    sort: Annotated[
        Literal["score", "alert", "source", "recent"],
        Meta(
            description="`score`: the highest anomaly score first; `alert`: series in an episode first, then by alert "
            "score; `source`: by name; `recent`: the latest first."
        ),
    ] = "score"
    limit: Limit = 200


class SourceList(Struct):
    known: Annotated[int, Meta(description="Series that this process knows.")]
    matching: Annotated[int, Meta(description="Of these, how many match `search`.")]
    sources: list[SourceRow]


class SeriesParameters(Struct):
    source: Source
    metric: Metric = ""
    limit: Limit = 500


class SettingsEntry(Struct):
    place: Annotated[str, Meta(description="In the settings.", examples=["sources[0]"])]
    match: Annotated[str, Meta(description="Its pattern of sources.")]
    metric: Annotated[str | None, Meta(description="Its pattern of metrics.")]


class Rule(Struct):
    """When episodes open and close: see app/scoring/episodes.py."""

    threshold: float
    close_below: Annotated[float, Meta(description="Anomaly score below which a point counts towards the end.")]
    close_points: Annotated[int, Meta(description="So many of those in a row end it.")]
    by_metric: Annotated[bool, Meta(description="An entry of `sources` for this series alone has to name its metric.")]
    entry: Annotated[SettingsEntry | None, Meta(description="What in the settings is for such sources.")]


class Series(Struct):
    source: str
    metric: str
    threshold: Annotated[float, Meta(description="The alert score at which an episode of this series opens.")]
    rule: Rule
    sampled: Annotated[bool, Meta(description="Results came faster than a view can show: some are left out.")]
    points: Annotated[list[ShownResult], Meta(description="In order of arrival.")]


@route("GET", "/api/sources", READ, {200: SourceList})
async def sources(services: Services, asked: SourcesParameters) -> SourceList:
    """The latest result of each series.

    Of the series that this process has seen since it started.
    """
    matching, found = services.recent.sources(asked.search, asked.sort, asked.limit)
    return SourceList(len(services.recent), matching, [row(result) for result in found])


@route("GET", "/api/series", READ, {200: Series}, problems=(404,))
@route("GET", f"/api/series/{SOURCE}", READ, {200: Series}, problems=(404,))
async def series(services: Services, asked: SeriesParameters) -> Series:
    """The last points of one series, in order of arrival; without `metric` those of the source."""
    points = services.recent.series(name := joined(asked.source, asked.metric), asked.limit)
    if points is None:
        raise HttpProblem(404, f"no result of {shown(name)} since this view started")
    return Series(
        source=asked.source,
        metric=asked.metric,
        threshold=(its := rule(services.settings, asked.source, asked.metric)).threshold,
        rule=its,
        sampled=services.results.skipped > 0,
        points=points,
    )


def rule(settings: Settings, source: str, metric: str = "") -> Rule:
    """When episodes of this series open and close."""
    if settings.input.value_fields:  # results name a metric, and the series is the source
        metric = ""
    detection, entry = settings.detection, None
    for place, override in enumerate(settings.sources):
        if override.applies_to(source, metric):
            detection = detection.overridden(override)
            entry = SettingsEntry(f"sources[{place}]", override.match, override.metric)
            break
    methods = [member.method for member in detection.members().values()]
    opens_episodes = any(method in KERNELS and KERNELS[method].opens_episodes for method in methods)
    return Rule(**episode_rule(detection.threshold, opens_episodes), by_metric=metric != "", entry=entry)

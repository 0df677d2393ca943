"""Series, with their latest results and their last points."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from app.settings import Settings
from app.state.series import joined, shown
from app.web.api.routes import READ, SOURCE, route
from app.web.api.services import Services
from app.web.live.records import Row, ShownResult, row
from app.web.problems import Problem

Limit = Annotated[int, Meta(ge=0, le=1000, description="How many at most.")]
Source = Annotated[str, Meta(description="Name of a source.", examples=["pump-7"])]
Metric = Annotated[
    str, Meta(description="Name of a metric; without it, or empty, the series is the source.", examples=["", "cpu"])
]


class SourcesAsked(Struct):
    search: Annotated[str, Meta(description="A part of the names of source and metric, in any case.")] = ""
    sort: Annotated[
        Literal["score", "alert", "source", "recent"],
        Meta(
            description="`score`: the highest anomaly score first; `alert`: series in an episode first, then by alert "
            "score; `source`: by name; `recent`: the latest first."
        ),
    ] = "score"
    limit: Limit = 200


class Sources(Struct):
    known: Annotated[int, Meta(description="Series that this process knows.")]
    matching: Annotated[int, Meta(description="Of these, how many match `search`.")]
    sources: list[Row]


class SeriesAsked(Struct):
    source: Source
    metric: Metric = ""
    limit: Limit = 500


class Series(Struct):
    source: str
    metric: str
    threshold: Annotated[float, Meta(description="The alert score at which an episode of this series opens.")]
    sampled: Annotated[bool, Meta(description="Results came faster than a view can show: some are left out.")]
    points: Annotated[list[ShownResult], Meta(description="In order of arrival.")]


@route("GET", "/api/sources", READ, {200: Sources})
async def sources(services: Services, asked: SourcesAsked) -> Sources:
    """The latest result of each series.

    Of the series that this process has seen since it started.
    """
    matching, found = services.recent.sources(asked.search, asked.sort, asked.limit)
    return Sources(len(services.recent), matching, [row(result) for result in found])


@route("GET", "/api/series", READ, {200: Series}, problems=(404,))
@route("GET", f"/api/series/{SOURCE}", READ, {200: Series}, problems=(404,))
async def series(services: Services, asked: SeriesAsked) -> Series:
    """The last points of one series, in order of arrival; without `metric` those of the source."""
    points = services.recent.series(name := joined(asked.source, asked.metric), asked.limit)
    if points is None:
        raise Problem(404, f"no result of {shown(name)} since this view started")
    return Series(
        source=asked.source,
        metric=asked.metric,
        threshold=threshold(services.settings, asked.source, asked.metric),
        sampled=services.results.skipped > 0,
        points=points,
    )


def threshold(settings: Settings, source: str, metric: str = "") -> float:
    """The alert score at which an episode of this series opens."""
    if settings.input.value_fields:  # results name a metric, and the series is the source
        metric = ""
    for override in settings.sources:
        if override.applies_to(source, metric):
            return settings.detection.overridden(override).threshold
    return settings.detection.threshold

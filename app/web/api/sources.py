"""Series, with their latest results and their last points."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from app.settings import Settings
from app.state.series import joined, shown
from app.web.api.routes import READ, SOURCE, route
from app.web.api.services import Services
from app.web.live.records import row
from app.web.problems import Problem

Limit = Annotated[int, Meta(ge=0, le=1000)]


class SourcesAsked(Struct):
    search: str = ""
    sort: Literal["score", "alert", "source", "recent"] = "score"
    limit: Limit = 200


class SeriesAsked(Struct):
    source: str
    metric: str = ""
    limit: Limit = 500


@route("GET", "/api/sources", READ, {200: dict[str, Any]})
async def sources(services: Services, asked: SourcesAsked) -> dict[str, Any]:
    """The latest result of each series.

    `search` is a part of the names of source and metric; `sort` is `score` (the highest anomaly score first), `alert`
    (series in an episode first), `source` or `recent`.
    """
    matching, found = services.recent.sources(asked.search, asked.sort, asked.limit)
    return {"known": len(services.recent), "matching": matching, "sources": [row(result) for result in found]}


@route("GET", "/api/series", READ, {200: dict[str, Any]})
@route("GET", f"/api/series/{SOURCE}", READ, {200: dict[str, Any]})
async def series(services: Services, asked: SeriesAsked) -> dict[str, Any]:
    """The last points of one series, in order of arrival; without `metric` those of the source."""
    points = services.recent.series(name := joined(asked.source, asked.metric), asked.limit)
    if points is None:
        raise Problem(404, f"no result of {shown(name)} since this view started")
    return {
        "source": asked.source,
        "metric": asked.metric,
        "threshold": threshold(services.settings, asked.source, asked.metric),
        "sampled": services.results.skipped > 0,
        "points": points,
    }


def threshold(settings: Settings, source: str, metric: str = "") -> float:
    """The alert score at which an episode of this series opens."""
    if settings.input.value_fields:  # results name a metric, and the series is the source
        metric = ""
    for override in settings.sources:
        if override.applies_to(source, metric):
            return settings.detection.overridden(override).threshold
    return settings.detection.threshold

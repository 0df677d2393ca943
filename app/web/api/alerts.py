"""Alerts of other programs, which become episodes like all others."""

from __future__ import annotations

import math
import time
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct

from app.alerting.external import Report
from app.scoring.severity import severity
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.state.sources import VALUE
from app.web.api.routes import WRITE, route
from app.web.api.services import Services
from app.web.api.times import moment
from app.web.problems import HttpProblem
from app.web.security.access import CALLER
from app.web.security.clients import CLIENT
from app.wire.times import hint, seconds, unit_of

AHEAD_S = 300.0  # of the clock of who sends it

Source = Annotated[
    str, Meta(min_length=1, max_length=MAX_SOURCE_BYTES, description="Name of a source.", examples=["pump-7"])
]
Metric = Annotated[
    str, Meta(max_length=MAX_METRIC_BYTES, description="Name of a metric; `value`, or empty: that of the source.")
]
Type = Annotated[str, Meta(min_length=1, max_length=100, description="What kind of anomaly it is.", examples=["spike"])]
Score = Annotated[
    float, Meta(ge=0.0, le=1.0, description="Above 0.95 it is critical, above 0.9 high, above 0.8 medium, else low.")
]
Time = Annotated[
    float | str, Meta(description="Epoch seconds, or milli-, micro- or nanoseconds by its size; or ISO 8601.")
]


class Alert(Struct, kw_only=True, forbid_unknown_fields=True):
    """One report of another program."""

    source: Source
    value: float
    metric: Metric = VALUE
    timestamp: Time
    is_anomaly: Annotated[bool, Meta(description="false: the anomaly of this type is over.")]
    anomaly_score: Score
    anomaly_type: Type = "anomaly"


class Reported(Struct):
    """The episode that the report is of; null: none is open, and none was opened."""

    episode: str | None
    state: Literal["open", "closed"]
    severity: str | None


@route("POST", "/api/alert", WRITE, {200: Reported}, problems=(404, 422, 429, 503))
async def alert(services: Services, body: Alert, request: web.Request) -> Reported:
    """Report an anomaly that another program has found, or its end.

    Reports of one source, metric and type are one episode: it opens with the first anomalous one, changes when its
    severity rises or a minute has passed, and closes with the first normal one, or after an hour without any.
    Notifications follow `alerting.rules`. A report without a response may be sent again.
    """
    by = request[CALLER].name
    client = f"token {by}" if by else request[CLIENT].address
    if wait := services.point_rate.take(client, 1):
        raise HttpProblem(429, "too many (api.max_point_rate)", headers={"Retry-After": str(math.ceil(wait))})
    report = Report(
        body.source, "" if body.metric == VALUE else body.metric, body.anomaly_type, _time(body.timestamp), body.value,
        body.is_anomaly, body.anomaly_score, by,
    )  # fmt: skip
    if len(report.source.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
        raise HttpProblem.at("/source", f"expected at most {MAX_SOURCE_BYTES} bytes", 422)
    if len(report.metric.encode("utf-8", "replace")) > MAX_METRIC_BYTES:
        raise HttpProblem.at("/metric", f"expected at most {MAX_METRIC_BYTES} bytes", 422)
    if (known := await services.reports.take(report)) is None:
        return Reported(None, "closed", None)
    return Reported(known.episode, "closed" if known.closed else "open", severity(known.peak_score))


def _time(given: float | str) -> float:
    """Epoch seconds. Raises HttpProblem."""
    at: float | None = None
    what = repr(given)
    if isinstance(given, str):
        at = moment("/timestamp", given)
    elif unit := unit_of(given):
        at = seconds(given, unit)
    else:
        what = f"{given:g}{hint(given, None)}"
    if at is None or at > time.time() + AHEAD_S:
        raise HttpProblem.at("/timestamp", f"expected a time that is not later than now, got {what}", 422)
    return at

"""Silences: no notifications for a while, for episodes that match."""

from __future__ import annotations

import time
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from app.alerting.decision_checks import BadDecision, checked_text, ended, new_silence
from app.web.api.routes import ADMIN, READ, JsonResponse, route
from app.web.api.services import Services
from app.web.problems import HttpProblem
from app.web.writers.decision_writer import author_of
from app.wire import decisions


class ShownSilence(Struct):
    """Times are epoch seconds."""

    id: str
    matchers: list[str]  # as Alertmanager writes them; all have to match
    starts_at: float
    ends_at: float
    by: str
    comment: str


class SilenceList(Struct):
    """Those that hold, the first to end first."""

    silences: list[ShownSilence]


class NewSilence(Struct, kw_only=True, forbid_unknown_fields=True):
    """Matchers as Alertmanager's, `source=~"pump-.*"`: on source, metric, severity, kind, episode, labels of points.

    `duration_s` or `ends_at` says until when. `by`: who says so; with tokens it is the name of the token.
    """

    matchers: list[str]
    duration_s: float | None = None
    ends_at: float | None = None
    by: str | None = None
    comment: str = ""


class SilenceParameters(Struct):
    id: Annotated[str, Meta(description="Id of a silence.")]


@route("GET", "/api/silences", READ, {200: SilenceList}, problems=(404,))
async def silences(services: Services) -> SilenceList:
    """The silences that hold now."""
    now = time.time()
    found = [one for one in services.decider.mirror().silences() if one.ends_at > now]
    return SilenceList([_shown(one) for one in sorted(found, key=lambda one: (one.ends_at, one.id))])


@route("POST", "/api/silences", ADMIN, {201: ShownSilence}, problems=(404, 422, 503))
async def begin(services: Services, body: NewSilence, request: web.Request) -> JsonResponse:
    """Silence matching episodes for some time. The end of an episode that was notified before is still notified."""
    services.decider.check()
    now = time.time()
    if (body.duration_s is None) == (body.ends_at is None):
        raise HttpProblem.at("/duration_s", "give duration_s or ends_at", 422)
    ends_at = now + body.duration_s if body.duration_s is not None else body.ends_at
    try:
        by, comment = author_of(request, body.by), checked_text("comment", body.comment)
        one = new_silence(body.matchers, now, ends_at, by, comment)  # type: ignore[arg-type]
    except BadDecision as error:
        field = "duration_s" if error.field == "ends_at" and body.ends_at is None else error.field
        raise HttpProblem.at(f"/{field}", str(error), 422) from error
    await services.decider.write(one)
    return JsonResponse(201, _shown(one), {"Location": f"api/silences/{one.id}"})


@route("DELETE", "/api/silences/{id}", ADMIN, {200: ShownSilence}, problems=(404, 503))
async def end(services: Services, asked: SilenceParameters) -> ShownSilence:
    """End a silence now."""
    decider = services.decider
    decider.check()
    one = _find(services, asked.id)
    if one is None and await decider.mirror().catch_up():  # it may have begun elsewhere just now
        one = _find(services, asked.id)
    now = time.time()
    if one is None or one.ends_at <= now:
        raise HttpProblem(404, f"silence {asked.id[:80]!r}: {'it has ended' if one else 'there is none'}")
    await decider.write(over := ended(one, now))
    return _shown(over)


def _find(services: Services, name: str) -> decisions.Silence | None:
    return next((one for one in services.decider.mirror().silences() if one.id == name), None)


def _shown(one: decisions.Silence) -> ShownSilence:
    return ShownSilence(one.id, one.matchers, one.starts_at, one.ends_at, one.by, one.comment)

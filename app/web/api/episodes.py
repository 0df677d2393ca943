"""Episodes, their notifications, and the decisions on them."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct

from app.alerting.decision_checks import BadDecision, checked_episode, checked_text
from app.scoring.severity import NAMES as SEVERITIES
from app.state.series import MAX_METRIC_BYTES
from app.store.cursor import BadCursor
from app.web.api.routes import ADMIN, READ, SOURCE, route
from app.web.api.services import Services
from app.web.api.sources import Limit
from app.web.api.times import TIME, moment
from app.web.episodes import (
    ChannelNotification,
    Episode,
    EpisodeFilter,
    EpisodePage,
    ShownAcknowledgement,
    ShownFeedback,
)
from app.web.problems import HttpProblem
from app.web.topics.recent_results import Anomalous
from app.web.writers.decision_writer import DecisionWriter, author_of
from app.wire.decisions import Acknowledgement, Feedback

LONGEST = 256  # characters of a pattern, as of a name
Id = Annotated[str, Meta(max_length=300, description="Id of an episode.", examples=["raw-data:3:5658:0"])]
Source = Annotated[str, Meta(description="Name of a source.", examples=["pump-7"])]
Pattern = Annotated[
    str, Meta(max_length=LONGEST, description="Name of a source, or a pattern with * and ?.", examples=["pump-*"])
]
Metric = Annotated[
    str, Meta(max_length=MAX_METRIC_BYTES, description="Name of a metric; empty: series that are whole sources.")
]
Severities = Annotated[
    str,
    Meta(
        max_length=40,
        description="One or more of low, medium, high, critical, with commas.",
        examples=["high,critical"],
    ),
]
Kind = Annotated[str, Meta(max_length=32, description="Kind of the episode.", examples=["value", "silent"])]
Cursor = Annotated[
    str,
    Meta(
        max_length=600, pattern="^[A-Za-z0-9_=-]*$", description="`cursor` of the answer before: goes on behind that."
    ),
]
Since = Annotated[str, Meta(max_length=40, description=f"Opened at this time or later: {TIME}.")]
Until = Annotated[str, Meta(max_length=40, description=f"Opened before this time: {TIME}.")]
State = Annotated[Literal["open", "closed"], Meta(description="Whether it goes on.")]
By = Annotated[str, Meta(description="Who says so; where tokens are asked for, it is the name of the token.")]
Comment = Annotated[str, Meta(description="Why, for those who read it later: at most 1,000 characters.")]


class _Parameters(Struct, kw_only=True):
    metric: Metric | None = None
    since: Since | None = None
    until: Until | None = None
    severity: Severities = ""
    kind: Kind = ""
    state: State | None = None
    cursor: Cursor = ""


class EpisodesParameters(_Parameters, kw_only=True):
    """Parameters of a list of episodes."""

    source: Pattern = ""
    limit: Limit | None = None


class OfSource(_Parameters, kw_only=True):
    """Parameters of the path that has a source in it."""

    source: Source
    limit: Limit = 50


class EpisodeParameters(Struct):
    episode: Id


class AnomalousParameters(Struct):
    limit: Limit = 100


class EpisodeMessage(Struct, kw_only=True, omit_defaults=True):
    """One message to one channel of which the episode is a part. Times are epoch seconds."""

    id: str
    channel: str
    route: str = ""  # the rule that took it
    state: str  # queued, sent, failed, muted
    why: str  # opened, raised, repeated, closed
    created_at: float
    done_at: float | None = None
    attempts: int = 0
    answer: str = ""  # of the receiver, or why nothing was sent


class EpisodeMessages(Struct, omit_defaults=True):
    """``notifications`` of the history, oldest first; without a history only ``told``, the last one of each channel."""

    episode: str
    told: list[ChannelNotification]
    notifications: list[EpisodeMessage] = []
    note: str = ""


class NewAcknowledgement(Struct, forbid_unknown_fields=True):
    """Who takes care of it."""

    by: By | None = None
    comment: Comment = ""


class NewFeedback(NewAcknowledgement, kw_only=True):
    """What the episode was, for the history."""

    verdict: Literal["anomaly", "expected", "new_normal", "not_useful"]


@route("GET", "/api/anomalies", READ, {200: EpisodePage}, problems=(422,))
async def anomalies(services: Services, asked: EpisodesParameters) -> EpisodePage:
    """Episodes, the last opened first.

    They are of the history, with what was read since; where there is no history, of recent events alone. `from` and
    `note` say which. `cursor` is for the next page, also if episodes open meanwhile.
    """
    limit = asked.limit if asked.limit is not None else (50 if asked.source else 100)
    return await _page(services, asked, limit, exact=False)


@route("GET", f"/api/anomalies/{SOURCE}", READ, {200: EpisodePage}, problems=(422,))
async def anomalies_of_source(services: Services, asked: OfSource) -> EpisodePage:
    """Episodes of one source, the last opened first."""
    return await _page(services, asked, asked.limit, exact=True)


@route("GET", "/api/episodes/{episode}", READ, {200: Episode}, problems=(404,))
async def episode(services: Services, asked: EpisodeParameters) -> Episode:
    """One episode with votes, attribution, notifications and decisions."""
    return await _known(services, asked.episode)


@route("GET", "/api/episodes/{episode}/notifications", READ, {200: EpisodeMessages}, problems=(404,))
async def notifications(services: Services, asked: EpisodeParameters) -> EpisodeMessages:
    """The notifications of an episode, with answers, or reasons why none was sent."""
    one = await _known(services, asked.episode)
    stored = await services.episodes.messages(asked.episode)
    if stored is None:
        return EpisodeMessages(
            one.episode, one.told, note="there is no history now: only the last notification of each channel is known"
        )
    found = [
        EpisodeMessage(
            id=each.id, channel=each.channel, route=each.route, state=each.state, why=each.why,
            created_at=each.created_at, done_at=each.done_at, attempts=each.attempts, answer=each.answer,
        )
        for each in stored
    ]  # fmt: skip
    return EpisodeMessages(one.episode, one.told, found)


@route("POST", "/api/episodes/{episode}/acknowledgement", ADMIN, {200: ShownAcknowledgement}, problems=(404, 422, 503))
async def acknowledge(
    services: Services, asked: EpisodeParameters, body: NewAcknowledgement, request: web.Request
) -> ShownAcknowledgement:
    """Acknowledge an episode: its notification is not repeated; its end is still notified."""
    decider = await _to_decide(services, asked.episode)
    by, comment = _said(request, body)
    await decider.write(one := Acknowledgement(asked.episode, by, time.time(), comment))
    return ShownAcknowledgement(one.by, one.at, one.comment)


@route("POST", "/api/episodes/{episode}/feedback", ADMIN, {200: ShownFeedback}, problems=(404, 422, 503))
async def feedback(
    services: Services, asked: EpisodeParameters, body: NewFeedback, request: web.Request
) -> ShownFeedback:
    """Say what an episode was, for the history.

    `anomaly`: it was one. `expected`: it was unusual, and known before. `new_normal`: it will stay so. `not_useful`:
    nobody needed to hear of it.
    """
    decider = await _to_decide(services, asked.episode)
    by, comment = _said(request, body)
    await decider.write(one := Feedback(asked.episode, body.verdict, by, time.time(), comment))
    return ShownFeedback(one.by, one.at, one.comment, one.verdict)


@route("GET", "/anomalies", READ, {200: list[Anomalous]})
async def anomalous(services: Services, asked: AnomalousParameters) -> list[Anomalous]:
    """The last anomalous points of all sources that this process has read, the newest first.

    `mean` is what was expected, `std_dev` the usual error of that.
    """
    return services.recent.anomalous(asked.limit)


async def _page(services: Services, asked: EpisodesParameters | OfSource, limit: int, exact: bool) -> EpisodePage:
    severity = tuple(asked.severity.split(",")) if asked.severity else ()
    if unknown := [name for name in severity if name not in SEVERITIES]:
        expected = f"expected {', '.join(SEVERITIES)}, with commas between"
        raise HttpProblem.at("?severity", f"{expected}, got {unknown[0][:80]!r}", 422)
    wanted = EpisodeFilter(
        limit=limit,
        since=moment("?since", asked.since),
        until=moment("?until", asked.until),
        severity=severity,
        source=asked.source or None,
        exact=exact,
        metric=asked.metric,
        kind=asked.kind or None,
        state=asked.state,
        cursor=asked.cursor,
    )
    try:
        return await services.episodes.page(wanted)
    except BadCursor as error:
        raise HttpProblem.at("?cursor", str(error), 422) from error


async def _known(services: Services, name: str) -> Episode:
    if (one := await services.episodes.one(name)) is None:
        unknown = "" if services.episodes.complete else ", and there is no history that can be asked now"
        raise HttpProblem(404, f"no episode {name!r}{unknown}")
    return one


async def _to_decide(services: Services, name: str) -> DecisionWriter:
    """What is to be decided of this episode goes there. Raises HttpProblem.

    An episode that this process does not know is taken only while the history, which knows all, cannot be asked.
    """
    services.decider.check()
    try:
        checked_episode(name)
    except BadDecision as error:
        raise HttpProblem(404, f"no episode {name!r}: {error}") from error
    if await services.episodes.one(name) is None and services.episodes.complete:
        raise HttpProblem(404, f"no episode {name!r}")
    return services.decider


def _said(request: web.Request, body: NewAcknowledgement) -> tuple[str, str]:
    """Who, and why."""
    try:
        return author_of(request, body.by), checked_text("comment", body.comment)
    except BadDecision as error:
        raise HttpProblem.at(f"/{error.field}", str(error), 422) from error

"""Points that other programs send, and their results."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from app.errors import Busy, InvalidPoint, TopicError, Unreadable
from app.web.api.routes import JSON, NDJSON, READ, WRITE, Answer, raw_body, route
from app.web.api.services import Services
from app.web.kept.awaited import Expected
from app.web.kept_results import Missing
from app.web.live.records import ShownResult
from app.web.point_writer import Outcome, Unwritten, Written
from app.web.problems import Problem, ProblemDetails, Wrong
from app.web.security.access import CALLER
from app.web.security.clients import CLIENT
from app.wire import malformed
from app.wire.schema import Name, Names, Scalar
from app.wire.writer import FIELDS, NewPoint, NewRecord

TURN = 500  # points after which others have a turn: this is the event loop that scores
RETRY = {"Retry-After": "1"}
MAYBE = "it may have been written: sent again, it may be there twice"
REFUSED = (413, 422, 429, 501, 503)
PROCESSED = "Data received and processed"
Wait = Annotated[float, Meta(ge=0, le=30, description="seconds to wait for the result; 0: do not wait")]
Time = Annotated[
    float | str | None,
    Meta(description="ISO 8601, or a number since 1970, in s, ms, us or ns by its size; none: when it comes"),
]


class SentPoint(Struct, forbid_unknown_fields=True):
    """A point: a source, and `value` or `values`.

    `sourceId` may be called `source`. `metric` names `value`, which is then a series of its own. `values` is one vector
    of several metrics. `labels` are those of `input.labels`.
    """

    sourceId: Annotated[Name | None, Meta(examples=["pump-7"])] = None
    source: Name | None = None
    value: Annotated[float | None, Meta(examples=[45.2])] = None
    values: dict[str, float | None] | None = None
    metric: Name | None = None
    timestamp: Time = None
    labels: dict[str, Scalar] | None = None


class Scored(Struct, omit_defaults=True):
    """Kafka holds the point. With its result, if that came in time."""

    dataPointId: str
    anomalyScore: float | UnsetType = UNSET
    isAnomaly: bool | UnsetType = UNSET
    severity: str | UnsetType = UNSET


class PointAnswer(Struct, omit_defaults=True):
    """What became of one of several points: as `Scored`, or an error: then it is not written, or not for certain."""

    dataPointId: str | UnsetType = UNSET
    anomalyScore: float | UnsetType = UNSET
    isAnomaly: bool | UnsetType = UNSET
    severity: str | UnsetType = UNSET
    error: ProblemDetails | UnsetType = UNSET


class Pending(Struct):
    """The point is not scored yet."""

    dataPointId: str
    status: str = "pending"


class DataAsked(Struct):
    wait: Wait = 1.0


class Detected(Struct, forbid_unknown_fields=True):
    """A value of the source that the query names."""

    value: Annotated[float, Meta(examples=[45.2])]
    timestamp: Time = None


class DetectAsked(Struct):
    source: Annotated[str, Meta(min_length=1, description="Name of the source.", examples=["pump-7"])] = "default"


class Status(Struct):
    status: str = PROCESSED


class ResultAsked(Struct):
    id: Annotated[str, Meta(description="topic:partition:offset:index", examples=["raw-data:3:5658:0"])]


class _Result(Struct):
    id: str
    anomaly_score: float
    is_anomaly: bool
    severity: str


_decode_result = msgspec.json.Decoder(_Result).decode
_decode_point = msgspec.json.Decoder(SentPoint).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_complaints = partial(malformed.complaints, Names())


@route(
    "POST", "/data", WRITE, {200: Scored | list[PointAnswer], 202: Scored},
    consumes=(JSON, NDJSON), body=SentPoint | list[SentPoint], problems=REFUSED,
)  # fmt: skip
async def data(services: Services, asked: DataAsked, request: web.Request) -> Answer:
    """Score a point, or many.

    A point is written to the topic of the input. When Kafka holds it, and its result has come within `wait`, the answer
    has both; without the result it is 202, and `Location` says where the result will be. Many points, as an array or as
    NDJSON, are answered with 200 and an answer for each in its order: the good ones are kept, whatever the others are.
    """
    raw = await raw_body(request, (JSON, NDJSON))
    several, elements = _elements(raw, request.content_type == NDJSON)
    _check_limits(services, request, len(elements))
    read: list[NewPoint | Problem] = []
    for i, element in enumerate(elements):
        read.append(_read(element, f"/{i}" if several else ""))
        if i % TURN == TURN - 1:
            await asyncio.sleep(0)
    points = [point for point in read if isinstance(point, NewPoint)]
    outcomes, results = await _written(services, points, asked.wait)
    each = iter(outcomes)
    answers: list[Scored | Problem] = []
    for i, one in enumerate(read):
        if isinstance(one, Problem):
            answers.append(one)
        else:
            answers.append(_answered(next(each), results, f"/{i}" if several else "", elements[i]))
    if several:
        return Answer(200, [_one_of_many(answer) for answer in answers])
    [answer] = answers
    if isinstance(answer, Problem):
        raise answer
    if answer.anomalyScore is not UNSET:
        return Answer(200, answer)
    return Answer(202, answer, {"Location": f"{request[CLIENT].prefix}/api/results/{answer.dataPointId}"})


@route("POST", "/detect", WRITE, {200: Status}, problems=REFUSED)
async def detect(services: Services, asked: DetectAsked, body: Detected, request: web.Request) -> Status:
    """Write one value of a source; it is answered when Kafka holds it. `/data` can say what came of it."""
    _check_limits(services, request, 1)
    [outcome], _ = await _written(services, [NewPoint(asked.source, body.value, timestamp=body.timestamp)], 0.0)
    answer = _answered(outcome, {}, "", b"")
    if isinstance(answer, Problem):
        raise answer
    return Status()


@route("GET", "/api/results/{id}", (READ, WRITE), {200: ShownResult, 202: Pending}, problems=(404, 410, 503))
async def result(services: Services, asked: ResultAsked) -> web.Response | Answer:
    """The result of the point with this id, as it is in Kafka.

    202: it is not scored yet. 404: there is no such point, or it has no result. 410: Kafka does not keep it any more.
    """
    try:
        found = await services.kept.result(asked.id)
    except Unreadable as error:
        raise Problem(503, str(error), headers=RETRY) from error
    if isinstance(found, bytes):
        return web.Response(body=found, content_type=JSON, headers={"Cache-Control": "no-store"})
    return _missing(asked.id, found)


def _missing(id: str, found: Missing) -> Answer:
    if found.state == "pending":
        return Answer(202, Pending(id), RETRY)
    if found.state == "bad_id":
        raise Problem.at("id", found.why)
    raise Problem(410 if found.state == "gone" else 404, found.why)


# --- what is sent


def _check_limits(services: Services, request: web.Request, points: int) -> None:
    """Raises Problem: 403, 413, 429, 501."""
    api = services.settings.api
    if not api.writes:
        raise Problem(403, "off: api.writes is false")
    if services.points.problem:
        raise Problem(501, services.points.problem)
    if points > api.max_points:
        raise Problem(413, f"the body: expected at most {api.max_points} points (api.max_points), got {points}")
    if wait := services.point_rate.take(_client(request), points):
        said = f"{api.max_point_rate:g} points/s (api.max_point_rate) are allowed for each client"
        raise Problem(429, said, headers={"Retry-After": str(math.ceil(wait))})


def _client(request: web.Request) -> str:
    """A token's name, or an address."""
    caller = request[CALLER]
    return f"token {caller.name}" if caller.name else request[CLIENT].address


def _elements(raw: bytes, lines: bool) -> tuple[bool, Sequence[bytes]]:
    """Whether there may be several points, and the JSON of each."""
    if lines:
        return True, [line for line in map(bytes.strip, raw.split(b"\n")) if line]
    if raw.lstrip(b" \t\r\n")[:1] != b"[":
        return False, [raw]
    try:
        return True, _split(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Problem.at("", f"the body is no JSON: {error}") from error


def _read(raw: bytes, at: str) -> NewPoint | Problem:
    """``at``: where it is in the body."""
    raw = bytes(raw)
    try:
        if malformed.too_deep(raw):
            return _refused(Wrong(at, str(malformed.nested())), 400)
        sent = _decode_point(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _not_read(raw, at, error)
    if (sent.sourceId is None) == (sent.source is None):
        return _refused(Wrong(f"{at}/sourceId", "expected the name of the source, once"))
    source = str(sent.source if sent.sourceId is None else sent.sourceId)
    metric = None if sent.metric is None else str(sent.metric)
    return NewPoint(source, sent.value, sent.values, metric, sent.timestamp, sent.labels)


def _not_read(raw: bytes, at: str, error: Exception) -> Problem:
    if unknown := re.search(r"unknown field `(.*)`", str(error)):
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(SentPoint))
        return _refused(Wrong(f"{at}/{_escaped(unknown[1])}", f"unknown field; known: {known}"))
    invalid = malformed.explain(raw, _complaints, str(error), "$")
    return _refused(_wrong(invalid, at, raw), 400 if invalid.label == "invalid_json" else 422)


def _wrong(invalid: InvalidPoint, at: str, raw: bytes) -> Wrong:
    """The reason, with the place in the body instead of that in the record."""
    text = str(invalid)
    head, got, tail = text.partition(", got ")
    detail = head.replace("$.", "").removeprefix("$").removeprefix(":").strip() + got + tail
    field = FIELDS.get(invalid.label, "")
    if field == "source":
        field = "sourceId" if b'"sourceId"' in raw else "source"
    elif inner := re.match(r"\$\.(values|labels)\.(.+?)(?: must|:)", text):
        field = f"{inner[1]}/{_escaped(inner[2])}"
    elif not field and (first := re.match(r"\$\.([a-zA-Z]+) must", text)):
        field = first[1] if first[1] in SentPoint.__struct_fields__ else ""
    return Wrong(f"{at}/{field}" if field else at, detail)


def _escaped(name: str) -> str:
    """As a part of a pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _refused(wrong: Wrong, status: int = 422) -> Problem:
    return Problem(status, f"{wrong.at}: {wrong.detail}" if wrong.at else wrong.detail, [wrong])


# --- what came of it


async def _written(
    services: Services, points: Sequence[NewPoint], wait_s: float
) -> tuple[list[Outcome], dict[str, bytes]]:
    """What became of each, and the results that came in time, by id. Raises Problem: 503."""
    made: list[NewRecord | InvalidPoint] = []
    for first in range(0, len(points), TURN):
        made += services.points.records(points[first : first + TURN])
        await asyncio.sleep(0)
    good = {point.source for point, one in zip(points, made) if isinstance(one, NewRecord)}
    try:
        async with AsyncExitStack() as stack:
            expected, of = await _expecting(services, good, stack) if wait_s and good else (None, {})
            outcomes = await services.points.write(made)
            ids = {
                one.id: of[point.source]
                for point, one in zip(points, outcomes)
                if isinstance(one, Written) and point.source in of
            }
            return outcomes, await expected.wait(ids, wait_s) if expected and ids else {}
    except (TopicError, Busy) as error:
        raise Problem(503, f"nothing was written: {error}", headers=RETRY) from error


async def _expecting(
    services: Services, sources: Iterable[str], stack: AsyncExitStack
) -> tuple[Expected | None, dict[str, int]]:
    """Partitions of their results, by source, which are read from here on; none when they cannot be."""
    partitions = await services.points.partitions(sources)
    try:
        of = {source: await services.kept.partition_of(source, number) for source, number in partitions.items()}
        return await stack.enter_async_context(services.kept.expecting(set(of.values()))), of
    except Unreadable:
        return None, {}


def _answered(outcome: Outcome, results: dict[str, bytes], at: str, raw: bytes) -> Scored | Problem:
    if isinstance(outcome, Written):
        if (found := results.get(outcome.id)) is None:
            return Scored(outcome.id)
        result = _decode_result(found)
        return Scored(outcome.id, result.anomaly_score, result.is_anomaly, result.severity)
    if isinstance(outcome, Unwritten):
        said = f"{outcome.reason}; {MAYBE}" if outcome.maybe else f"{outcome.reason}; it was not written"
        return Problem(503, said, headers=RETRY)
    return _refused(_wrong(outcome, at, bytes(raw)))


def _one_of_many(answer: Scored | Problem) -> PointAnswer:
    if isinstance(answer, Problem):
        return PointAnswer(error=answer.details())
    return PointAnswer(answer.dataPointId, answer.anomalyScore, answer.isAnomaly, answer.severity)

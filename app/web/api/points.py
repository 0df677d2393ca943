"""Points from other programs, and their results."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from app.compiled.numeric import MAX_VALUE
from app.errors import Busy, InvalidPoint, TopicError, Unreadable
from app.state.series import MAX_METRIC_BYTES, MAX_SOURCE_BYTES
from app.web.api.routes import INSTEAD, JSON, NDJSON, READ, WRITE, JsonResponse, pointer, raw_body, route
from app.web.api.services import Services
from app.web.problems import HttpProblem, ProblemDetails, RequestError
from app.web.security.access import CALLER
from app.web.security.clients import CLIENT
from app.web.stored_results.queries import MissingResult
from app.web.stored_results.waiter import ExpectedResults
from app.web.topics.records import ShownResult
from app.web.writers.point_writer import Outcome, Unwritten, Written
from app.wire import malformed
from app.wire.schema import Names, Scalar
from app.wire.times import END_OF_TIME, SMALLEST
from app.wire.writer import FIELDS, NewPoint, NewRecord

TURN = 500  # points after which others have a turn: this is the event loop that scores
RETRY = {"Retry-After": "1"}
MAYBE = "it may have been written: if sent again, it may be there twice"
BY_SETTINGS = ("settings", "too_many_metrics", "too_large")  # of points that other settings would allow
REFUSED = (409, 413, 422, 429, 501, 503)
PROCESSED = "Data received and processed"
Wait = Annotated[float, Meta(ge=0, le=30, description="seconds to wait for the result; 0: do not wait")]


# What the schema says of values; what is wrong with them is said by app/wire, in its words.
def _text(most_bytes: int) -> dict[str, Any]:
    """So many bytes are a quarter as many characters of any kind."""
    return {"type": "string", "pattern": rf"^([\x00-\x7f]{{1,{most_bytes}}}|[\s\S]{{1,{most_bytes // 4}}})$"}


SOURCE_TEXT = _text(MAX_SOURCE_BYTES)
NAME = {"anyOf": [SOURCE_TEXT, {"type": "integer"}]}
METRIC = {"anyOf": [_text(MAX_METRIC_BYTES), {"type": "integer"}, {"type": "null"}]}
NUMBER = {"minimum": -MAX_VALUE, "maximum": MAX_VALUE}
DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?"
TIME = {
    "anyOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": END_OF_TIME},
        *(
            {"type": "number", "minimum": SMALLEST * per_second, "exclusiveMaximum": END_OF_TIME * per_second}
            for per_second in (1e3, 1e6, 1e9)
        ),
        {"type": "string", "pattern": f"^(197[1-9]|19[89][0-9]|20[0-9]{{2}}|21[0-8][0-9])-{DAY}[T ]{CLOCK}$"},
        {"type": "null"},
    ]
}
# Which fields go together.
ONE_OF = {
    "oneOf": [{"required": [name, value]} for name in ("sourceId", "source") for value in ("value", "values")],
    "not": {"required": ["metric", "values"]},
}
SourceName = Annotated[
    str | int | UnsetType,
    Meta(description="Name of the source, 1 to 256 bytes.", examples=["pump-7"], extra_json_schema={INSTEAD: NAME}),
]
Number = Annotated[float, Meta(extra_json_schema=NUMBER)]
Time = Annotated[
    float | str | None,
    Meta(
        description="ISO 8601, or a number since 1970, in s, ms, us or ns by its size; none: when it comes.",
        examples=["2023-10-27T09:37:40Z"],
        extra_json_schema={INSTEAD: TIME},
    ),
]


class SentPoint(Struct, forbid_unknown_fields=True):
    """A point: a source, and `value` or `values`."""

    sourceId: SourceName = UNSET
    source: Annotated[
        str | int | UnsetType, Meta(description="The same as `sourceId`.", extra_json_schema={INSTEAD: NAME})
    ] = UNSET
    value: Annotated[float | UnsetType, Meta(examples=[45.2], extra_json_schema={"type": "number"} | NUMBER)] = UNSET
    values: Annotated[
        dict[str, Number] | UnsetType,
        Meta(
            description="Several metrics of the source at one time, as one vector: at most `input.max_metrics`.",
            extra_json_schema={"minProperties": 1, "propertyNames": _text(MAX_METRIC_BYTES)},
        ),
    ] = UNSET
    metric: Annotated[
        str | int | None,
        Meta(
            description="Names `value`, which is then a series of its own.",
            extra_json_schema={INSTEAD: METRIC},
        ),
    ] = None
    timestamp: Time = None
    labels: Annotated[dict[str, Scalar] | None, Meta(description="Some of those that `input.labels` names.")] = None


POINT = {"$ref": "#/components/schemas/SentPoint"}
# An element that is no point is answered with an error, and the others are kept: of many, all is taken.
SENT = {"anyOf": [{"allOf": [POINT, ONE_OF]}, {"type": "array", "items": {"anyOf": [POINT, {}]}}]}
SentPoints = Annotated[SentPoint | list[SentPoint], Meta(extra_json_schema={INSTEAD: SENT})]


class Scored(Struct, omit_defaults=True):
    """Kafka holds the point. With its result, if that came in time."""

    dataPointId: str
    anomalyScore: float | UnsetType = UNSET
    isAnomaly: bool | UnsetType = UNSET
    severity: str | UnsetType = UNSET


class PointOutcome(Struct, omit_defaults=True):
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


class DataParameters(Struct):
    wait: Wait = 1.0


class Detected(Struct, forbid_unknown_fields=True):
    """A value of the source that the query names."""

    value: Annotated[float, Meta(examples=[45.2], extra_json_schema=NUMBER)]
    timestamp: Time = None


class DetectParameters(Struct):
    source: Annotated[
        str,
        Meta(min_length=1, description="Name of the source.", examples=["pump-7"], extra_json_schema=SOURCE_TEXT),
    ] = "default"


class Accepted(Struct):
    status: str = PROCESSED


class ResultParameters(Struct):
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
    "POST", "/data", WRITE, {200: Scored | list[PointOutcome], 202: Scored},
    consumes=(JSON, NDJSON), body=SentPoints, problems=REFUSED,
)  # fmt: skip
async def data(services: Services, asked: DataParameters, request: web.Request) -> JsonResponse:
    """Score a point, or many.

    A point is written to the topic of the input. When Kafka holds it, and its result has come within `wait`, the answer
    has both; without the result it is 202, and `Location` says where the result will be. Many points, as an array or as
    NDJSON, are answered with 200 and an answer for each in its order: valid points are written even if others are not.
    """
    raw = await raw_body(request, (JSON, NDJSON))
    several, elements = _elements(raw, request.content_type == NDJSON)
    _check_limits(services, request, len(elements))
    read: list[NewPoint | HttpProblem] = []
    for i, element in enumerate(elements):
        read.append(_read(element, f"/{i}" if several else ""))
        if i % TURN == TURN - 1:
            await asyncio.sleep(0)
    points = [point for point in read if isinstance(point, NewPoint)]
    outcomes, results = await _written(services, points, asked.wait)
    each = iter(outcomes)
    answers: list[Scored | HttpProblem] = []
    for i, one in enumerate(read):
        if isinstance(one, HttpProblem):
            answers.append(one)
        else:
            answers.append(_answered(next(each), results, f"/{i}" if several else "", elements[i]))
    if several:
        return JsonResponse(200, [_one_of_many(answer) for answer in answers])
    [answer] = answers
    if isinstance(answer, HttpProblem):
        raise answer
    if answer.anomalyScore is not UNSET:
        return JsonResponse(200, answer)
    return JsonResponse(202, answer, {"Location": f"{request[CLIENT].prefix}/api/results/{answer.dataPointId}"})


@route("POST", "/detect", WRITE, {200: Accepted}, problems=REFUSED)
async def detect(services: Services, asked: DetectParameters, body: Detected, request: web.Request) -> Accepted:
    """Write one value of a source; it is answered when Kafka holds it. `/data` can say what came of it."""
    _check_limits(services, request, 1)
    [outcome], _ = await _written(services, [NewPoint(asked.source, body.value, timestamp=body.timestamp)], 0.0)
    answer = _answered(outcome, {}, "", b"")
    if isinstance(answer, HttpProblem):
        raise answer
    return Accepted()


@route("GET", "/api/results/{id}", (READ, WRITE), {200: ShownResult, 202: Pending}, problems=(404, 410, 503))
async def result(services: Services, asked: ResultParameters) -> web.Response | JsonResponse:
    """The result of the point with this id, as it is in Kafka.

    202: it is not scored yet. 404: there is no such point, or it has no result. 410: Kafka does not keep it any more.
    """
    try:
        found = await services.stored_results.result(asked.id)
    except Unreadable as error:
        raise HttpProblem(503, str(error), headers=RETRY) from error
    if isinstance(found, bytes):
        return web.Response(body=found, content_type=JSON, headers={"Cache-Control": "no-store"})
    return _missing(asked.id, found)


def _missing(id: str, found: MissingResult) -> JsonResponse:
    if found.state == "pending":
        return JsonResponse(202, Pending(id), RETRY)
    if found.state == "bad_id":
        raise HttpProblem.at("id", found.why, 404)
    raise HttpProblem(410 if found.state == "gone" else 404, found.why)


# --- what is sent


def _check_limits(services: Services, request: web.Request, points: int) -> None:
    """Raises HttpProblem: 403, 413, 429, 501."""
    api = services.settings.api
    if not api.writes:
        raise HttpProblem(403, "off: api.writes is false")
    if services.points.problem:
        raise HttpProblem(501, services.points.problem)
    if points > api.max_points:
        raise HttpProblem(413, f"the body: expected at most {api.max_points} points (api.max_points), got {points}")
    if wait := services.point_rate.take(_client(request), points):
        said = f"{api.max_point_rate:g} points/s (api.max_point_rate) are allowed for each client"
        raise HttpProblem(429, said, headers={"Retry-After": str(math.ceil(wait))})


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
        raise HttpProblem.at("", f"the body is no JSON: {error}") from error


def _read(raw: bytes, at: str) -> NewPoint | HttpProblem:
    """``at``: where it is in the body."""
    raw = bytes(raw)
    try:
        if malformed.too_deep(raw):
            return _refused(RequestError(at, str(malformed.nested())), 400)
        sent = _decode_point(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _not_read(raw, at, error)
    if (sent.sourceId is UNSET) == (sent.source is UNSET):
        return _refused(RequestError(f"{at}/sourceId", "expected the name of the source, once"))
    source = str(sent.source if sent.sourceId is UNSET else sent.sourceId)
    metric = None if sent.metric is None else str(sent.metric)
    value, values = sent.value, sent.values
    return NewPoint(
        source, None if value is UNSET else value, None if values is UNSET else values, metric, sent.timestamp,
        sent.labels,
    )  # fmt: skip


def _not_read(raw: bytes, at: str, error: Exception) -> HttpProblem:
    if unknown := re.search(r"unknown field `(.*)`", str(error)):
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(SentPoint))
        return _refused(RequestError(f"{at}/{_escaped(unknown[1])}", f"unknown field; known: {known}"))
    invalid = malformed.explain(raw, _complaints, str(error), "$")
    if placed := re.fullmatch(r"\$: (.*) - at (.*)", str(invalid)):  # by msgspec: null, where there is none
        return _refused(RequestError(at + pointer(placed[2]), placed[1].replace("`", "")))
    return _refused(_wrong(invalid, at, raw), 400 if invalid.label == "invalid_json" else 422)


def _wrong(invalid: InvalidPoint, at: str, raw: bytes) -> RequestError:
    """The reason, with the place in the body instead of that in the record."""
    text = str(invalid)
    head, got, tail = text.partition(", got ")
    detail = head.replace("$.", "").removeprefix("$").removeprefix(":").strip() + got + tail
    field = FIELDS.get(invalid.label, "")
    if inner := re.match(r"\$\.(values|labels)\.(.+?)(?: must|:)", text):
        field = f"{inner[1]}/{_escaped(inner[2])}"
    elif not field and (first := re.match(r"\$\.([a-zA-Z]+) must", text)):
        field = first[1] if first[1] in SentPoint.__struct_fields__ else ""
    if field == "source" and b'"sourceId"' in raw:
        field = "sourceId"
    return RequestError(f"{at}/{field}" if field else at, detail)


def _escaped(name: str) -> str:
    """As a part of a pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _refused(wrong: RequestError, status: int = 422) -> HttpProblem:
    return HttpProblem(status, f"{wrong.at}: {wrong.detail}" if wrong.at else wrong.detail, [wrong])


# --- what came of it


async def _written(
    services: Services, points: Sequence[NewPoint], wait_s: float
) -> tuple[list[Outcome], dict[str, bytes]]:
    """What became of each, and the results that came in time, by id. Raises HttpProblem: 503."""
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
        raise HttpProblem(503, f"nothing was written: {error}", headers=RETRY) from error


async def _expecting(
    services: Services, sources: Iterable[str], stack: AsyncExitStack
) -> tuple[ExpectedResults | None, dict[str, int]]:
    """Partitions of their results, by source, which are read from here on; none when they cannot be."""
    partitions = await services.points.partitions(sources)
    try:
        of = {
            source: await services.stored_results.partition_of(source, number) for source, number in partitions.items()
        }
        return await stack.enter_async_context(services.stored_results.expecting(set(of.values()))), of
    except Unreadable:
        return None, {}


def _answered(outcome: Outcome, results: dict[str, bytes], at: str, raw: bytes) -> Scored | HttpProblem:
    if isinstance(outcome, Written):
        if (found := results.get(outcome.id)) is None:
            return Scored(outcome.id)
        result = _decode_result(found)
        return Scored(outcome.id, result.anomaly_score, result.is_anomaly, result.severity)
    if isinstance(outcome, Unwritten):
        said = f"{outcome.reason}; {MAYBE}" if outcome.maybe else f"{outcome.reason}; it was not written"
        return HttpProblem(503, said, headers=RETRY)
    return _refused(_wrong(outcome, at, bytes(raw)), 409 if outcome.label in BY_SETTINGS else 422)


def _one_of_many(answer: Scored | HttpProblem) -> PointOutcome:
    if isinstance(answer, HttpProblem):
        return PointOutcome(error=answer.details())
    return PointOutcome(answer.dataPointId, answer.anomalyScore, answer.isAnomaly, answer.severity)

"""Results of a source between two times, out of Kafka."""

from __future__ import annotations

import time
from typing import Annotated

from msgspec import Meta, Raw, Struct

from app.errors import Busy, Unreadable
from app.state.series import joined
from app.web.api.routes import READ, SOURCE, JsonResponse, route
from app.web.api.services import Services
from app.web.api.times import TIME, moment
from app.web.problems import HttpProblem
from app.web.stored_results.queries import LATE_S, LIMIT, MOST_LIMIT
from app.web.topics.records import ShownResult

HOUR = 3600.0
RETRY = {"Retry-After": "2"}


class ResultsParameters(Struct, rename={"begin": "from", "end": "to"}, kw_only=True):
    """Parameters of the results of a source."""

    source: Annotated[str, Meta(description="Name of a source.", examples=["pump-7"])]
    metric: Annotated[
        str | None,
        Meta(description="Results of this metric, or of vectors with it; empty: of the whole source; without it: all."),
    ] = None
    begin: Annotated[
        str | None, Meta(max_length=64, description=f"First event time: {TIME}. Without it: an hour before `to`.")
    ] = None
    end: Annotated[
        str | None, Meta(max_length=64, description=f"Event time that is too late: {TIME}. Without it: now.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=MOST_LIMIT, description="Results of a page.")] = LIMIT
    most: Annotated[
        int | None,
        Meta(
            ge=4,
            le=MOST_LIMIT,
            description="Thinned for a chart: of each `most / 4` of the time the first, last, lowest and highest, and "
            "all that are inside episodes.",
        ),
    ] = None
    late: Annotated[
        float,
        Meta(
            ge=0.0,
            le=31_536_000.0,
            description="No point is older by more seconds than the newest of its source before it: where that is not "
            "so, some can be missed. The more, the more is read.",
        ),
    ] = LATE_S
    cursor: Annotated[
        str | None, Meta(max_length=400, description="`cursor` of the page before, with all else the same.")
    ] = None


class ResultsPage(Struct):
    results: Annotated[list[ShownResult], Meta(description="As they are in Kafka, the oldest first.")]
    seen: Annotated[int, Meta(description="How many there were, before they were thinned.")]
    complete: Annotated[bool, Meta(description="With the pages before, these are all.")]
    cursor: Annotated[str | None, Meta(description="For the next page; none when complete.")]
    records: Annotated[int, Meta(description="Results of any source that were looked through for this page.")]


@route("GET", "/api/results", READ, {200: ResultsPage}, problems=(422, 503))
@route("GET", f"/api/sources/{SOURCE}/results", READ, {200: ResultsPage}, problems=(422, 503))
async def results(services: Services, asked: ResultsParameters) -> JsonResponse:
    """The results of a source between two times.

    They are read out of Kafka: of any source, also from before a start, all that it keeps. A page ends after 2 s, or
    2,000,000 results of any source, and `cursor` goes on. One page is read at a time: 503 with Retry-After when too
    many wait.
    """
    end = moment("?to", asked.end)
    end = time.time() if end is None else end
    begin = moment("?from", asked.begin)
    begin = max(end - HOUR, 0.0) if begin is None else begin
    if not begin < end:
        raise HttpProblem.at("?from", f"expected a time before `to`, got {asked.begin!r}", 422)
    try:
        page = await services.stored_results.series(
            asked.source, asked.metric, begin, end,
            limit=asked.limit, cursor=asked.cursor, most=asked.most, late_s=asked.late,
            partitions=_seen_in(services, asked),
        )  # fmt: skip
    except ValueError as error:
        raise HttpProblem.at("?cursor" if asked.cursor else "?from", str(error), 422) from error
    except (Busy, Unreadable) as error:
        raise HttpProblem(503, str(error), headers=RETRY) from error
    found = {"results": [Raw(one) for one in page.results], "seen": page.seen, "complete": page.complete}
    return JsonResponse(200, found | {"cursor": page.cursor, "records": page.records})


def _seen_in(services: Services, asked: ResultsParameters) -> list[int]:
    """The partition in which this view has seen the source, if it has."""
    if services.settings.kafka.rekeys:
        return []
    seen = services.recent.series(joined(asked.source, asked.metric or ""), 1)
    ids = [one.id.split(":") for one in seen or ()]
    return [int(id[1]) for id in ids if len(id) == 4 and id[1].isdigit() and len(id[1]) < 7]

"""Times in parameters of requests."""

import math
from datetime import UTC, datetime

from app.web.problems import HttpProblem
from app.wire.times import END_OF_TIME

TIME = "epoch seconds, or ISO 8601, in UTC if there is no zone"


def moment(place: str, given: str | None) -> float | None:
    """Epoch seconds. Raises HttpProblem."""
    if given is None:
        return None
    try:
        at = float(given)
    except ValueError:
        try:
            when = datetime.fromisoformat(given)
            at = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            at = math.nan
    if not 0.0 <= at < END_OF_TIME:
        raise HttpProblem.at(place, f"expected epoch seconds or ISO 8601, from 1970 to 2199, got {given!r}", 422)
    return at

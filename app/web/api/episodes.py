"""Episodes: which there are, and what is decided on them."""

from typing import Any

from msgspec import Struct

from app.web.api.routes import READ, SOURCE, route
from app.web.api.services import Services
from app.web.api.sources import Limit


class EpisodesAsked(Struct):
    source: str | None = None
    metric: str | None = None
    limit: Limit | None = None


@route("GET", "/api/anomalies", READ, {200: dict[str, Any]})
@route("GET", f"/api/anomalies/{SOURCE}", READ, {200: dict[str, Any]})
async def anomalies(services: Services, asked: EpisodesAsked) -> dict[str, Any]:
    """The newest episodes, of one source or of all."""
    limit = asked.limit if asked.limit is not None else (50 if asked.source else 100)
    return {"anomalies": services.recent.anomalies(limit, asked.source, asked.metric)}

"""The API, the web view, probes and metrics. Does not use Faust; reads topics like any other consumer.
``server`` has the routes, ``view`` puts the parts together; docs/architecture.md says what is in each folder."""

from app.web.status.probes import Health
from app.web.view import View

__all__ = ["Health", "View"]

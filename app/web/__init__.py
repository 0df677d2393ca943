"""The web view: a page, its API, probes and metrics. Does not use Faust; reads topics as any consumer does.
``server`` has the routes, ``view`` puts the parts together."""

from app.web.probes import Health
from app.web.view import View

__all__ = ["Health", "View"]

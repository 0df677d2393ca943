"""The web view: a page, its API, probes and metrics. Knows no Faust; reads topics as any reader does."""

from app.web.probes import Health
from app.web.view import View

__all__ = ["Health", "View"]

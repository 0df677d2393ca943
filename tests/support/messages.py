"""Notifications as tests of channels send them: of the pump of docs/records.md, and of many others."""

from typing import Any

import msgspec

from app.alerting.channels.api import Context
from app.alerting.outgoing import Outgoing
from app.wire.episodes import Event
from app.wire.notifications import News, Notification

PUMP = Event(
    event="opened", episode="raw-data:3:5658:0", kind="value", severity="critical", source="pump-7",
    metric="temperature", labels={"room": "B", "rack": 7}, timestamp=1698399460.0, opened_at=1698399460.0, points=1,
    peak_score=1.0, offset=5658, index=0, value=90.4406, expected=50.02186, expected_lower=40.20308,
    expected_upper=59.5982, direction="above",
    explanation="90.44 is 40.42 above the expected 50.02; the usual error is 3.029", figure=40.41874, usual=3.02875,
    detectors={"prediction_interval": 1.0, "residual": 0.82997, "novelty": 0.99998}, attribution={"value": 0.83478},
)  # fmt: skip
END = Event(
    event="closed", episode="raw-data:3:5658:0", kind="value", severity="critical", source="pump-7",
    metric="temperature", labels={"room": "B", "rack": 7}, timestamp=1698399660.0, opened_at=1698399460.0, points=5,
    peak_score=1.0, offset=5663, index=0, reason="recovered", value=55.1049, expected=50.02186,
    expected_lower=39.40371, expected_upper=60.72364,
)  # fmt: skip
VIEW = "https://alerts.example/view"


def event(of: Event = PUMP, **changes: Any) -> Event:
    return msgspec.structs.replace(of, **changes)


def told(*news: News, **changes: Any) -> Notification:
    """A notification of these news, else of the pump's episode that opened."""
    given: dict[str, Any] = {"id": "n-1", "state": "queued", "channel": "hook", "route": "rules[0]"}
    return Notification(**given | {"created_at": 1698399461.5, "news": list(news) or [News(PUMP, "opened")]} | changes)


def ended() -> Notification:
    return told(News(END, "closed", began=PUMP), id="n-2", created_at=1698399661.0)


def burst(opened: int = 1874, closed: int = 60) -> Notification:
    """A digest: one in 150 critical, the others high, over 40 s; and episodes that ended."""
    news = []
    for i in range(opened):
        severity = "critical" if i % 150 == 0 else "high"
        at = PUMP.opened_at + 40.0 * i / max(1, opened - 1)
        one = event(source=f"pump-{i}", severity=severity, opened_at=at, timestamp=at, episode=f"raw-data:0:{i}:0")
        news.append(News(one, "opened"))
    news.sort(key=lambda one: one.event.severity != "critical")
    ends = [News(event(END, source=f"valve-{i}"), "closed") for i in range(closed)]
    return told(*news, *ends, id="n-3")


def context(*allowed: str, **more: Any) -> Context:
    outgoing = more.pop("outgoing", None) or Outgoing(allowed)
    return Context(**{"session": outgoing.session, "check": outgoing.check, "view_url": VIEW} | more)

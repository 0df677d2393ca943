"""anomalies to people: each episode to the channels that the rules name, through the topic of notifications.

What is told, to whom and when is decided in app/alerting; this hop runs it beside the scoring of a worker. It is a
consumer group of its own, so that a rebalance of the workers does not hold it up, and ``faust-anomaly alerter`` is the
same without scoring.
"""

from typing import Any

from mode import Service


class AlerterService(Service):
    """Starts and stops the alerter with the application."""

    def __init__(self, alerter: Any, **options: Any) -> None:
        self._alerter = alerter
        super().__init__(**options)

    async def on_start(self) -> None:
        await self._alerter.start()

    async def on_stop(self) -> None:
        await self._alerter.stop()


def attach(app: Any, alerter: Any) -> None:
    """Declare the hop on the application."""
    app.before_joining.append(AlerterService(alerter, beacon=app.beacon))

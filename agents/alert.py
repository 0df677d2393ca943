"""From the topic of anomalies to people: notifications of each episode through the channels that the rules name.

app/alerting decides what is sent to whom and when; this agent runs it in a worker. It is a separate consumer group, so
a rebalance of the workers does not delay it. ``faust-anomaly alerter`` does the same without scoring.
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

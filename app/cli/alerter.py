"""``faust-anomaly alerter``: notifies people of episodes without scoring, beside workers."""

import asyncio
import logging
import signal
from typing import Any

import click

from app.cli.common import settings_option


@click.command()
@settings_option
@click.option("--loglevel", "-l", default="info", show_default=True, type=click.Choice(["info", "warning", "error"]))
def alerter(settings: Any, loglevel: str) -> None:
    """Notify people of episodes by alerting.rules, until stopped.

    Several alerters share the partitions of the topic of anomalies, also with those inside workers.
    """
    from app.alerting.alerter import Alerter
    from app.metrics import Metrics

    logging.basicConfig(level=loglevel.upper(), format="[%(asctime)s] %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    metrics = Metrics.of(settings)
    asyncio.run(_run(settings, metrics, Alerter(settings, metrics)))


async def _run(settings: Any, metrics: Any, alerter: Any) -> None:
    from app.kafka import patches
    from app.kafka.client import client_options
    from app.kafka.topics import require_for_alerter
    from app.web import View
    from app.web.status.probes import Health

    def health() -> Health:
        running = alerter.state == "running"
        details = {"alerter": alerter.summary()}
        return Health(True, running, details | ({"history": history.status()} if history else {}))

    patches.apply_to_clients()
    patches.wait_between_tries()
    await require_for_alerter(settings.kafka)
    history = None
    if settings.storage.enabled:
        from app.store.history import ALONE, History

        history = History(settings, metrics, share=ALONE)
    view = View(settings, metrics, health, client_options(settings.kafka), lambda: history, alerter.channels)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        await view.start()
        if history:
            await history.start()
        await alerter.start()
        await stopped.wait()
    finally:
        await alerter.stop()
        if history:
            await history.stop()
        await view.stop()

"""``faust-anomaly alerts test``: sends a test message through a channel."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from app.cli.common import settings_option

if TYPE_CHECKING:
    from app.alerting.channels.api import Answer
    from app.settings import Settings


@click.command("test")
@click.argument("channel")
@settings_option
def trial(settings: Settings, channel: str) -> None:
    """Send a marked test message through CHANNEL, and print the answer.

    CHANNEL is a name in alerting.channels, or log. Exit code 1: it was not accepted. One attempt; needs no Kafka.
    """
    from app.alerting.channels.api import MessageRejected, Retry  # not at the top: --help does without

    began = time.monotonic()
    try:
        answer = asyncio.run(_send(settings, channel))
    except (Retry, MessageRejected) as error:
        after = getattr(error, "after_s", None)
        later = "; an alerter gives it up" if isinstance(error, MessageRejected) else "; an alerter tries it again"
        later += f" after {after:g} s, as it asks" if after is not None else ""
        click.echo(f"{channel}: not accepted: {error}{later}", err=True)
        sys.exit(1)
    click.echo(f"{channel}: accepted in {time.monotonic() - began:.2g} s: {answer.said}")
    if answer.reference:
        click.echo(f"reference: {answer.reference}")


async def _send(settings: Settings, name: str) -> Answer:
    from app.alerting import channels
    from app.alerting.outgoing import Outgoing
    from app.errors import ConfigurationError
    from app.settings.sources import unknown
    from app.wire.notifications import Notification

    alerting = settings.alerting
    outgoing = Outgoing(alerting.allowed_addresses)
    context = channels.Context(
        session=outgoing.session,
        check=outgoing.check,
        view_url=alerting.view_url or "",
        log_file=alerting.anomaly_log_file,
    )
    made = channels.make(settings, context)
    if name not in made:
        raise ConfigurationError(f"alerting.channels.{name}: {unknown(name, made).replace('setting', 'channel')}")
    text = f"Sent by hand on {socket.gethostname()}, with faust-anomaly alerts test {name}."
    try:
        return await made[name].send(
            Notification(
                id=f"test-{uuid4()}", state="queued", channel=name, about="test", text=text, created_at=time.time()
            )
        )
    finally:
        for one in made.values():
            await one.close()

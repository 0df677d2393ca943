"""``faust-anomaly alerts``: who is told of anomalies. A command is one module of this folder: alerts_route.py."""

import click

from app.cli.table import TableGroup

COMMANDS = {
    "test": ("app.cli.alerts_trial:trial", "Send a test message by a channel."),
    "route": ("app.cli.alerts_route:route", "Say which rules take an episode, and why."),
}


@click.group(cls=TableGroup, table=COMMANDS)
def alerts() -> None:
    """Who is told of anomalies."""

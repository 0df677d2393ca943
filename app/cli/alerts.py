"""``faust-anomaly alerts``: who is told of anomalies. A command is one module of this folder: alerts_route.py."""

import click

from app.cli.table import TableGroup

COMMANDS = {
    "test": ("app.cli.alerts_trial:trial", "Send a test message by a channel."),
    "route": ("app.cli.alerts_route:route", "Say which rules take an episode, and why."),
    "history": ("app.cli.alerts_history:history", "List episodes, who was told of them and what they answered."),
    "ack": ("app.cli.alerts_decide:ack", "Take care of an episode: it is not repeated any more."),
    "silence": ("app.cli.alerts_decide:silence", "Tell nobody of what matches, for some time."),
    "feedback": ("app.cli.alerts_decide:feedback", "Say what an episode was."),
}


@click.group(cls=TableGroup, table=COMMANDS)
def alerts() -> None:
    """Who is told of anomalies."""

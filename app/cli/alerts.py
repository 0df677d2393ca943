"""``faust-anomaly alerts``: who is notified of anomalies. Each command is one module, as alerts_route.py."""

import click

from app.cli.table import TableGroup

COMMANDS = {
    "test": ("app.cli.alerts_trial:trial", "Send a test message through a channel."),
    "route": ("app.cli.alerts_route:route", "Show which rules take an episode, and why."),
    "history": ("app.cli.alerts_history:history", "List episodes, their notifications and the decisions on them."),
    "ack": ("app.cli.alerts_decide:ack", "Acknowledge an episode: its notification is not repeated."),
    "silence": ("app.cli.alerts_decide:silence", "Silence matching episodes for some time."),
    "feedback": ("app.cli.alerts_decide:feedback", "Give feedback: what an episode was."),
}


@click.group(cls=TableGroup, table=COMMANDS)
def alerts() -> None:
    """Show and decide who is notified of anomalies."""

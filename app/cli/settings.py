"""``faust-anomaly settings``: every setting, its value, and where that came from."""

from __future__ import annotations

from typing import Any

import click

from app.cli.common import settings_option


@click.command()
@settings_option
def settings(settings: Any) -> None:
    """Print every setting: value, where it came from, unit, range."""
    from app.alerting.routes import Routes  # not at the top: --help does without
    from app.settings import as_text, describe

    for warning in Routes.of(settings.alerting, settings._given).warnings():
        click.echo(f"warning: {warning}", err=True)
    head = ("setting", "value", "from", "unit", "range", "what it is")
    rows = [head, *(row._replace(value=as_text(row.value)) for row in describe(settings))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    for row in rows:
        click.echo("  ".join([cell.ljust(width) for cell, width in zip(row, widths)] + [row[-1]]))

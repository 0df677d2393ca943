"""``faust-anomaly alerts route``: which rules take an episode, which channels they notify, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from app.cli.common import settings_option
from app.cli.parameters import TimeType

if TYPE_CHECKING:
    from app.settings import Settings

EXPECTED = """one JSON object with source, metric, severity, kind and labels, or labels as source=pump-7"""


@click.command()
@click.argument("episode", nargs=-1, required=True, metavar="EPISODE...")
@click.option(
    "--at", type=TimeType(), default="now", show_default=True, help="Time of the notification, for time intervals."
)
@settings_option
def route(settings: Settings, episode: tuple[str, ...], at: float) -> None:
    """Show which rules take an episode, which channels they notify, and why.

    EPISODE is one JSON object, as an event in the topic of anomalies:

        '{"source": "pump-7", "severity": "critical", "labels": {"room": "b"}}'

    or labels: source=pump-7 severity=critical room=b

    The first matching rule takes it, and rules after it if it says continue. A rule with severity: all
    takes every matching episode.
    """
    from app.alerting.routes import Routes  # not at the top: --help does without

    labels = labels_of(episode)
    routes = Routes.of(settings.alerting, settings._given)
    for warning in routes.warnings():
        click.echo(f"warning: {warning}", err=True)
    rows: list[tuple[str, ...]] = []
    notified: list[str] = []
    for each, taken, why in routes.explain(labels):
        muted = each.muted(at) if taken else ""
        if taken and not muted:
            notified += each.channels
        why += f"; muted now: {muted}" if muted else ""
        rows.append((each.name, "yes" if taken else "no", ", ".join(each.channels), why))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if notified:
        click.echo(f"notified: {', '.join(dict.fromkeys(notified))}")
    else:
        taking = any(taken == "yes" for _, taken, *_ in rows)
        click.echo(f"nobody is notified: {'it is muted' if taking else 'no rule takes it'}")


def labels_of(words: tuple[str, ...]) -> dict[str, str]:
    """Labels as rules see them (``Event.named``). Raises UsageError."""
    from app.scoring.severity import NAMES

    labels = _of_object(words[0]) if len(words) == 1 and words[0].lstrip().startswith("{") else _of_pairs(words)
    if labels.get("severity", NAMES[0]) not in NAMES:
        raise click.UsageError(f"severity: must be one of {', '.join(NAMES)}, got {labels['severity']!r}")
    return labels


def _of_object(text: str) -> dict[str, str]:
    import msgspec

    from app.settings.sources import near
    from app.wire import episodes

    try:
        given = msgspec.json.decode(text.encode(errors="replace"), type=dict[str, Any])
        labels = msgspec.convert(given.get("labels", {}), dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise click.UsageError(f"must be {EXPECTED}, got {text!r}: {error}") from error
    known = episodes.Event.__struct_fields__
    for name in given:
        if name not in known:
            raise click.UsageError(f"{name}: no such field of an episode{near(name, known)}; further labels: in labels")
    own = {name: given[name] for name in (*episodes.LABELS, "episode") if name in given}
    return {name: episodes.text(value) for name, value in {**labels, **own}.items()}


def _of_pairs(words: tuple[str, ...]) -> dict[str, str]:
    from app.alerting.matchers import parse_one
    from app.errors import ConfigurationError

    labels = {}
    for word in words:
        try:
            one = parse_one(word.encode(errors="replace").decode())  # arguments need not be UTF-8
        except ConfigurationError as error:
            raise click.UsageError(f"must be {EXPECTED}, got {word!r}: {error}") from error
        if one.operator != "=":
            raise click.UsageError(f"must be {EXPECTED}, got {word!r}")
        labels[one.name] = one.value
    return labels

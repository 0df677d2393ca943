"""``faust-anomaly alerts history``: episodes, their notifications and decisions, from the database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from app.cli.common import plain, settings_option
from app.cli.parameters import AgoType

if TYPE_CHECKING:
    from app.settings import Settings
    from app.store.queries import StoredDecision, StoredEpisode, StoredNotification

SEVERITIES = ("low", "medium", "high", "critical")  # a test compares them with app.metrics
COLUMNS = ("opened", "lasted", "severity", "kind", "series", "episode", "notified", "decisions")
WIDEST = 40  # characters of a column
INDENT = "    "


@click.command()
@click.argument("episode", required=False)
@click.option("--since", type=AgoType(), help="Opened at this time or later, as 2h, 7d or 2026-11-29T08:00Z.")
@click.option("--until", type=AgoType(), help="Opened before this time.")
@click.option("--source", default="", help="Name of the source, or a pattern with * and ?.")
@click.option("--severity", multiple=True, type=click.Choice(SEVERITIES), help="Repeat it for several.")
@click.option("--kind", default="", help="Kind of the episode, as value or pair.")
@click.option("--state", type=click.Choice(["open", "closed"]), help="Open or closed.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Most episodes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with everything.")
@settings_option
def history(
    settings: Settings,
    episode: str | None,
    since: float | None,
    until: float | None,
    source: str,
    severity: tuple[str, ...],
    kind: str,
    state: Any,
    limit: int,
    as_json: bool,
) -> None:
    """List episodes, newest first, with their notifications and decisions; with EPISODE, everything about that one.

    Reads the database of the history (storage.url). Needs no Kafka.
    """
    filters = {"since": since, "until": until, "source": source, "severity": severity, "kind": kind, "state": state}
    found, more, sent, decided = asyncio.run(_queried(settings, episode, limit, filters))
    if episode and not found:
        click.echo(f"episode {plain(episode)}: not in the history", err=True)
        click.get_current_context().exit(1)
    if as_json:
        for one in found:
            click.echo(_object(one, sent.get(one.id, []), decided.get(one.id, [])))
    elif episode:
        click.echo("\n".join(_page(found[0], sent.get(episode, []), decided.get(episode, []))))
    elif found:
        rows = [_row(one, sent.get(one.id, []), decided.get(one.id, [])) for one in found]
        widths = [min(max(map(len, column)), WIDEST) for column in zip(COLUMNS, *rows)]
        for row in (COLUMNS, *rows):
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    else:
        click.echo("no episodes", err=True)
    if more:
        click.echo(f"these are the newest {limit}: more with --limit, or before these with --until", err=True)


async def _queried(
    settings: Settings, episode: str | None, limit: int, filters: dict[str, Any]
) -> tuple[list[StoredEpisode], bool, dict[str, list[StoredNotification]], dict[str, list[StoredDecision]]]:
    from app.store.database import Database  # not at the top: --help does without
    from app.store.queries import Queries

    database = Database.of(settings, reads_only=True)
    queries = Queries(database)
    try:
        await database.open()
        if episode:
            one = await queries.episode(episode)
            found, more = [one] if one else [], False
        else:
            page = await queries.episodes(limit, **filters)
            found, more = page.episodes, bool(page.cursor)
        sent: dict[str, list[StoredNotification]] = {}
        decided: dict[str, list[StoredDecision]] = {}
        for begin in range(0, len(found), 500):
            names = [one.id for one in found[begin : begin + 500]]
            for message in await queries.notifications(*names):
                sent.setdefault(message.episode, []).append(message)
            for decision in await queries.decisions(*names):
                decided.setdefault(decision.episode or "", []).append(decision)
        return found, more, sent, decided
    finally:
        await database.close()


def _object(one: StoredEpisode, sent: list[StoredNotification], decided: list[StoredDecision]) -> str:
    import msgspec

    every = msgspec.to_builtins(one)
    every |= {"notifications": msgspec.to_builtins(sent), "decisions": msgspec.to_builtins(decided)}
    return json.dumps(every)  # ASCII: nothing in it moves a cursor


def _row(one: StoredEpisode, sent: list[StoredNotification], decided: list[StoredDecision]) -> tuple[str, ...]:
    return (
        _time(one.opened_at),
        _lasted(one),
        plain(one.severity),
        plain(one.kind),
        plain(_series(one)),
        plain(one.id),
        ", ".join(_channels(sent)) or "nobody",
        ", ".join(f"{plain(each.by)}: {each.verdict or each.decision}" for each in decided),
    )


def _channels(sent: Iterable[StoredNotification]) -> list[str]:
    """Each channel once, with the state of its last notification unless that is sent."""
    last = {each.channel: each for each in sent}
    return [plain(name) + ("" if each.state == "sent" else f" ({each.state})") for name, each in last.items()]


def _page(one: StoredEpisode, sent: list[StoredNotification], decided: list[StoredDecision]) -> list[str]:
    lines = [
        f"{plain(one.id)}: {plain(one.severity)}, {plain(one.kind)}, {plain(_series(one))}",
        f"{INDENT}opened {_time(one.opened_at)}"
        + (f", closed {_time(one.ended_at)} after {_lasted(one)}: {plain(one.reason)}" if one.ended_at else ", open"),
        f"{INDENT}points {one.points}, peak score {one.peak_score:g}",
    ]
    if one.value is not None:
        lines.append(
            f"{INDENT}value {one.value:g}" + (f", expected {one.expected:g}" if one.expected is not None else "")
        )
    if one.sentence:
        lines.append(f"{INDENT}{plain(one.sentence)}")
    if one.labels:
        lines.append(f"{INDENT}labels " + plain(", ".join(f"{name}={value}" for name, value in one.labels.items())))
    lines.append("notified:" if sent else "notified: nobody")
    for each in sent:
        attempts = f" after {each.attempts} attempts" if each.attempts > 1 else ""
        answer = f": {plain(each.answer)}" if each.answer else ""
        at = _time(each.done_at or each.created_at)
        lines.append(f"{INDENT}{at}  {plain(each.channel)}  {each.why}  {each.state}{attempts}{answer}")
    lines.append("decisions:" if decided else "decisions: none")
    for decision in decided:
        comment = f": {plain(decision.comment)}" if decision.comment else ""
        what = decision.verdict or decision.decision
        lines.append(f"{INDENT}{_time(decision.at)}  {plain(decision.by)}  {what}{comment}")
    return lines


def _series(one: StoredEpisode) -> str:
    return f"{one.source} {one.metric}" if one.metric else one.source


def _lasted(one: StoredEpisode) -> str:
    if one.ended_at is None:
        return "open"
    seconds = max(one.ended_at - one.opened_at, 0.0)
    for limit, size, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400.0:.0f} d"


def _time(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # an event time of other data
        return str(at)

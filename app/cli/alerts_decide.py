"""``faust-anomaly alerts ack``, ``silence`` and ``feedback``: write decisions of people for all alerters."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from app.cli.common import plain, settings_option
from app.cli.parameters import DurationType

if TYPE_CHECKING:
    from app.settings import Settings

VERDICTS = ("anomaly", "expected", "new_normal", "not_useful")  # a test compares them with app.wire.decisions


class EpisodeType(click.ParamType):
    """The id of an episode: that of the result that opened it."""

    name = "episode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from app.alerting.decision_checks import BadDecision, checked_episode

        try:
            return checked_episode(value)
        except BadDecision as error:
            self.fail(str(error), param, ctx)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _of_somebody(command: Callable) -> Callable:
    """Adds ``--by`` and ``--comment``."""
    command = click.option("--comment", default="", callback=_short, help="Why, for later readers.")(command)
    return click.option(
        "--by", default=_user, callback=_short, show_default="the login name", help="Who decides."
    )(command)  # fmt: skip


def _short(ctx: click.Context, param: click.Parameter, text: str) -> str:
    from app.alerting.decision_checks import BadDecision, checked_text

    try:
        return checked_text(str(param.name), text, required=param.name == "by")
    except BadDecision as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command()
@click.argument("episode", type=EpisodeType())
@_of_somebody
@settings_option
def ack(settings: Settings, episode: str, by: str, comment: str) -> None:
    """Acknowledge EPISODE: its notification is not repeated; its end is still notified.

    EPISODE is its id, as messages and `faust-anomaly alerts history` show it.
    """
    from app.wire.decisions import Acknowledgement

    _write(settings, Acknowledgement(episode, by, time.time(), comment))
    click.echo(f"acknowledged {episode} by {plain(by)}{_because(comment)}")


@click.command()
@click.argument("episode", type=EpisodeType())
@click.argument("verdict", type=click.Choice(VERDICTS))
@_of_somebody
@settings_option
def feedback(settings: Settings, episode: str, verdict: Any, by: str, comment: str) -> None:
    """Give feedback for the history: what EPISODE was.

    \b
    anomaly     it was an anomaly
    expected    it was unusual, but expected
    new_normal  it is normal from now on
    not_useful  nobody needed the notification
    """
    from app.wire.decisions import Feedback

    _write(settings, Feedback(episode, verdict, by, time.time(), comment))
    click.echo(f"feedback on {episode} by {plain(by)}: {verdict}{_because(comment)}")


@click.command()
@click.argument("matcher", nargs=-1)
@click.option("--for", "for_s", type=DurationType(), help="How long, as 30m, 2h or 1d12h.")
@click.option("--end", metavar="ID", help="End this silence now.")
@click.option("--list", "lists", is_flag=True, help="List the silences in force.")
@_of_somebody
@settings_option
def silence(
    settings: Settings,
    matcher: tuple[str, ...],
    for_s: float | None,
    end: str | None,
    lists: bool,
    by: str,
    comment: str,
) -> None:
    r"""Silence matching episodes for some time: no notifications.

    A MATCHER is written as in Alertmanager, with = != =~ !~ on source, metric, severity, kind, episode or a label
    of the points; all have to match:

        faust-anomaly alerts silence 'source=~"pump-.*"' severity=low --for 2h --comment "new seals"

    The end of an episode that was notified before is still notified.
    """
    if bool(matcher) + bool(end) + lists != 1:
        raise click.UsageError("give matchers and --for, or --end ID, or --list")
    if lists:
        _list(settings)
    elif end:
        _end(settings, end)
    else:
        if for_s is None:
            raise click.UsageError("give --for, how long, as 2h")
        _begin(settings, matcher, for_s, by, comment)


def _begin(settings: Settings, matcher: tuple[str, ...], for_s: float, by: str, comment: str) -> None:
    from app.alerting.decision_checks import BadDecision, new_silence

    now = time.time()
    try:
        one = new_silence(matcher, now, now + for_s, by, comment)
    except BadDecision as error:
        raise click.UsageError(str(error)) from error
    _write(settings, one)
    matchers = "{" + ",".join(one.matchers) + "}"
    click.echo(f"silence {one.id} until {_time(one.ends_at)} by {plain(by)}: {plain(matchers)}{_because(comment)}")


def _end(settings: Settings, name: str) -> None:
    from app.alerting.decision_checks import ended

    now = time.time()
    one = _silences(settings).get(name)
    if one is None or one.ends_at <= now:
        click.echo(f"silence {plain(name)}: {'it has ended' if one else 'there is none'}", err=True)
        click.get_current_context().exit(1)
    _write(settings, ended(one, now))
    click.echo(f"ended silence {one.id}: {plain(', '.join(one.matchers))}")


def _list(settings: Settings) -> None:
    now = time.time()
    found = sorted((one.ends_at, one.id, one) for one in _silences(settings).values() if one.ends_at > now)
    for _, _, one in found:
        click.echo(
            f"{plain(one.id)}  until {_time(one.ends_at)}  {plain(', '.join(one.matchers))}  "
            f"by {plain(one.by)}{_because(one.comment)}"
        )
    if not found:
        click.echo("no silence is in force", err=True)


def _write(settings: Settings, decision: Any) -> None:
    from app.kafka import patches
    from app.kafka.decisions import write  # not at the top: --help does without

    patches.apply_to_clients()
    asyncio.run(write(settings.kafka, decision))


def _silences(settings: Settings) -> dict[str, Any]:
    from app.kafka import patches
    from app.kafka.decisions import silences

    patches.apply_to_clients()
    return asyncio.run(silences(settings.kafka))


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _because(comment: str) -> str:
    return f" ({plain(comment)})" if comment else ""

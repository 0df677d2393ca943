"""``faust-anomaly check``: checks everything that a worker or an alerter needs, without joining a group.

The checks are those of the program at its start: topics and permissions (app/kafka/topics.py), channels, tokens,
certificates, and the database of the history. Nothing is changed or sent.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from app.cli.common import many, settings_option

if TYPE_CHECKING:
    from app.settings import Settings

WORKER, ALERTER = "worker", "alerter"
OK, DOUBT, LATER, WRONG = "ok", "doubt", "missing", "wrong"
RETRY_S = 1.0


class Line(NamedTuple):
    """One checked item. ``verdict`` LATER: waiting may help; DOUBT: the program can start."""

    verdict: str
    said: str


Look = Callable[["Settings", str], Awaitable[list[Line]]]


@click.command()
@settings_option
@click.option("--wait", "wait_s", type=click.FloatRange(0.0), default=0.0, metavar="SECONDS",
              help="Wait at most so long for brokers, topics and the database.  [default: 0]")  # fmt: skip
@click.option("--for", "program", type=click.Choice([WORKER, ALERTER]), default=WORKER, show_default=True,
              help="The program that is to be started.")  # fmt: skip
def check(settings: Settings, wait_s: float, program: str) -> None:
    """Check everything that a worker or alerter needs, before it is started.

    Settings, certificates, tokens, alert channels, brokers, topics, permissions and the database of the history are
    checked; no group is joined, nothing is created, changed or sent. A line for each says ok, or what is wrong and what
    to do. Exit code 0: it can start; 2: something is wrong, and waiting does not help; 1: brokers, topics or the
    database are not there, after waiting for them.
    """
    from app.kafka import patches  # not at the top: --help does without

    patches.apply_to_clients()
    lines = asyncio.run(_all(settings, program, time.monotonic() + wait_s))
    verdicts = [line.verdict for line in lines]
    found = [f"{count} {verdict}" for verdict in (WRONG, LATER) if (count := verdicts.count(verdict))]
    if found:
        click.echo(
            f"faust-anomaly: this {program} cannot start: {', '.join(found)} of {len(lines)} looked at", err=True
        )
        sys.exit(2 if WRONG in verdicts else 1)


async def _all(settings: Settings, program: str, until: float) -> list[Line]:
    """Every line, each printed as soon as it is final."""
    lines = [Line(OK, f"settings: {_given(settings)}")]
    _print(lines)
    for look in (of_detection, of_files, of_channels, of_history, of_kafka):
        found = await look(settings, program)
        waits = False
        while _may_come(found) and not any(line.verdict == WRONG for line in lines) and time.monotonic() < until:
            if not waits:
                waits = True
                which = "; ".join(line.said for line in found if line.verdict == LATER)
                click.echo(f"waiting up to {until - time.monotonic():.0f} s: {which}", err=True)
            await _pause(min(RETRY_S, max(0.0, until - time.monotonic())))
            found = await look(settings, program)
        _print(found)
        lines += found
    return lines


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _may_come(lines: list[Line]) -> bool:
    verdicts = {line.verdict for line in lines}
    return LATER in verdicts and WRONG not in verdicts


def _print(lines: list[Line]) -> None:
    for line in lines:
        click.echo(f"{line.verdict:7} {line.said}")
    sys.stdout.flush()


def _given(settings: Settings) -> str:
    from app.settings import describe

    rows = describe(settings)
    given = [row for row in rows if row.origin != "default"]
    return f"{many(len(given), 'value')} given, {len(rows) - len(given)} by default"


async def of_detection(settings: Settings, program: str) -> list[Line]:
    if program == ALERTER:
        return []
    return [Line(OK, f"detection: {', '.join(settings.detection.members())}")]


async def of_files(settings: Settings, program: str) -> list[Line]:
    """Tokens and certificates, and whether the address of the server is allowed."""
    from app.web.security import exposure
    from app.web.security.guard import certificate_of, tokens_of

    api, dashboard = settings.api, settings.dashboard
    what = "view and API" if dashboard.enabled else "probes and metrics"
    host = f"[{dashboard.host}]" if ":" in dashboard.host else dashboard.host
    lines = list(_tried(lambda: exposure.check(settings), f"{what} on {host}:{dashboard.port}"))
    if api.tokens_file:
        lines += _tried(lambda: tokens_of(api), f"tokens: {api.tokens_file}")
    if api.tls_certificate_file:
        lines += _tried(lambda: certificate_of(api), f"certificate: {api.tls_certificate_file}")
    return lines


def _tried(made: Callable[[], object], ok: str) -> Iterator[Line]:
    from app.errors import ConfigurationError

    try:
        made()
    except ConfigurationError as error:
        yield from (Line(WRONG, line) for line in str(error).splitlines())
    else:
        yield Line(OK, ok)


async def of_channels(settings: Settings, program: str) -> list[Line]:
    """Rules and channels as an alerter makes them; whether their hosts are known and allowed. Nothing is sent."""
    from app.alerting import channels
    from app.alerting.outgoing import Forbidden, Outgoing
    from app.alerting.routes import Routes
    from app.errors import ConfigurationError

    alerting = settings.alerting
    if program == WORKER and not alerting.enabled:
        return []
    outgoing = Outgoing(alerting.allowed_addresses)
    context = channels.Context(outgoing.session, outgoing.check, log_file=alerting.anomaly_log_file)
    try:
        routes = Routes.of(alerting, settings._given)
        lines = [Line(DOUBT, f"alerting: {warning}") for warning in routes.warnings()]
    except ConfigurationError as error:
        lines = [Line(WRONG, line) for line in str(error).splitlines()]
    try:
        made = channels.make(settings, context)
    except ConfigurationError as error:
        return [*lines, *(Line(WRONG, line) for line in str(error).splitlines())]
    for name, channel in made.items():
        try:
            hosts = list(dict.fromkeys(channel.hosts()))
            for host, port in hosts:
                await outgoing.check(host, port)
        except (ConfigurationError, Forbidden) as error:
            lines.append(Line(WRONG, f"channel {name}: {error}"))
        except OSError as error:
            lines.append(Line(DOUBT, f"channel {name}: {host} is not found now: {error.strerror or error}"))
        else:
            places = ", ".join(f"{host}:{port}" for host, port in hosts)
            lines.append(Line(OK, f"channel {name}{places and f': {places}'}"))
        finally:
            await channel.close()
    return lines


async def of_history(settings: Settings, program: str) -> list[Line]:
    """The database: it answers, belongs to this group, has a known version, and tables can be created."""
    if not settings.storage.enabled or (program == WORKER and not settings.alerting.enabled):
        return []
    from app.errors import ConfigurationError, StoreError
    from app.store.database import Database

    default = settings.storage.url is None
    database: Database | None = None
    try:
        database = Database.of(settings, reads_only=True)
        database.check_folder(create=default)
        return [Line(OK, f"history: {database.shown}: {await database.look()}")]
    except ConfigurationError as error:
        if default:
            said = f"{error}: there will be no history; name a database there, or set storage.enabled to false"
            return [Line(DOUBT, said)]
        return [Line(WRONG, str(error))]
    except StoreError as error:
        return [Line(LATER, f"{error} (storage.url)")]
    finally:
        if database:
            await database.close()


async def of_kafka(settings: Settings, program: str) -> list[Line]:
    """Brokers, topics and permissions, as the program asks for them at its start."""
    from app.errors import ConfigurationError, NoBroker, TopicError
    from app.kafka import permissions, topics
    from app.kafka.admin import where

    kafka = settings.kafka
    try:
        if program == WORKER:
            from app.pipeline import Pipeline

            needed = permissions.of_worker(settings)
            found = await topics.inspect(settings, Pipeline.of(settings).max_snapshot_bytes(), needed, False)
        else:
            needed = permissions.of_alerter(kafka)
            found = await topics.inspect_for_alerter(kafka, patient=False)
    except NoBroker as error:
        return [Line(LATER, str(error))]
    except (ConfigurationError, TopicError) as error:
        return [Line(WRONG, str(error))]
    lines = [Line(OK, f"brokers: {where(kafka)}, {kafka.security_protocol}")]
    absent = {f"topic {name} is missing" for name in found.absent}
    for problem in found.problems:
        lines.append(Line(LATER if problem.partition(":")[0] in absent else WRONG, problem))
    for name, topic in found.topics.items():
        if not any(problem.startswith((f"topic {name}:", f"topic {name} ")) for problem in found.problems):
            lines.append(Line(OK, f"topic {name}: {many(topic.partitions, 'partition')}"))
    if not any(" may not " in problem for problem in found.problems):
        lines.append(Line(OK, f"permissions: {many(len(needed), 'right')} on topics and groups"))
    if program == WORKER:
        lines += [Line(DOUBT, warning) for warning in topics.doubts(kafka, found.topics)]
    return lines

"""``faust-anomaly token``: tokens for the view and the API."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from app.cli.common import plain

ROLES = ("read", "write", "admin")  # a test compares them with app.web.security.roles
DAY_S = 86_400.0


def _path(ctx: click.Context, param: click.Parameter, given: str | None) -> Path:
    if given is not None:
        return Path(given)
    from app.settings import load  # not at the top: --help does without

    found = load(ctx.params.get("config")).api.tokens_file
    if found is None:
        raise click.UsageError("give --file PATH, or set api.tokens_file", ctx)
    return Path(found)


def file_options(command: Callable) -> Callable:
    """Adds ``--file PATH`` and ``--config PATH``, and passes ``path``."""
    command = click.option(
        "--file", "path", metavar="PATH", callback=_path, help="File of tokens.  [default: api.tokens_file]"
    )(command)  # fmt: skip
    return click.option(
        "--config",
        metavar="PATH",
        is_eager=True,
        expose_value=True,
        help="YAML file of settings, for api.tokens_file.  [default: $ANOMALY_CONFIG]",
    )(command)


def _name(ctx: click.Context, param: click.Parameter, given: str) -> str:
    from app.web.security.tokens import NAME

    if not NAME.fullmatch(given):
        raise click.BadParameter(f"expected 1 to 64 of a-z A-Z 0-9 . _ @ -, got {given!r}", ctx, param)
    return given


@click.group()
def token() -> None:
    """Make, list or revoke the tokens of the view and the API.

    The file keeps a hash of each. Workers reread it within seconds.
    """


@token.command()
@click.argument("name", callback=_name)
@click.option(
    "--role", "roles", type=click.Choice(ROLES), multiple=True, required=True,
    help="read: look at everything. write: send points and alerts. admin: both, and acknowledge, silence, feedback. "
    "Repeat it for several.",
)  # fmt: skip
@click.option("--days", type=click.FloatRange(0.0, 36_500.0, min_open=True), help="Valid for so long.  [default: ever]")
@file_options
def create(name: str, roles: tuple[str, ...], days: float | None, path: Path, config: Any) -> None:
    """Print a new token, once, and append its hash to the file."""
    from app.web.security import tokens

    made = tokens.new_token()
    expires = None if days is None else float(int(time.time() + days * DAY_S))
    tokens.add(path, tokens.StoredToken(name, frozenset(roles), tokens.digest(made), expires))
    click.echo(made)
    until = "" if expires is None else f", until {tokens.iso(expires)}"
    click.echo(f"{name}: {', '.join(r for r in ROLES if r in roles)}{until}; it is not shown again", err=True)


@token.command("list")
@file_options
def list_(path: Path, config: Any) -> None:
    """Print name, roles and expiry of each."""
    from app.web.security import tokens

    now = time.time()
    for entry in tokens.entries(path):
        until = "" if entry.expires is None else f"  until {tokens.iso(entry.expires)}"
        over = "  expired" if entry.expires is not None and entry.expires <= now else ""
        click.echo(f"{entry.name}  {','.join(role for role in ROLES if role in entry.roles)}{until}{over}")


@token.command()
@click.argument("name")
@file_options
def revoke(name: str, path: Path, config: Any) -> None:
    """Take the token NAME out of the file: it is refused within seconds."""
    from app.web.security import tokens

    if not tokens.remove(path, name):
        known = ", ".join(entry.name for entry in tokens.entries(path)) or "none"
        click.echo(f"{plain(str(path))}: no token {plain(name)}; there are: {known}", err=True)
        click.get_current_context().exit(1)
    click.echo(f"revoked {name}", err=True)

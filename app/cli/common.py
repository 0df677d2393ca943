"""What several commands share: the settings they are given, and lines for the user on stderr."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

REMARKS_SHOWN = 10


def settings_option(command: Callable) -> Callable:
    """Adds ``--config PATH`` and passes the loaded ``Settings`` as the argument ``settings``.

    Without the option the file is ``$ANOMALY_CONFIG``, if that is set. Environment variables beat the file.
    ConfigurationError, which ends the command with exit code 2, says what is wrong and where.
    """
    return click.option(
        "--config",
        "settings",
        metavar="PATH",
        callback=_load,
        help="YAML file of settings.  [default: $ANOMALY_CONFIG]",
    )(command)


def configurations_option(command: Callable) -> Callable:
    """Adds ``--config PATH``, which can be repeated, and passes ``configurations``: name -> ``Settings``.

    The name is the file's without its ending; the whole path where two would be called the same.
    """
    return click.option(
        "--config",
        "configurations",
        metavar="PATH",
        multiple=True,
        callback=_load_all,
        help="YAML file of settings; repeat it to compare several.  [default: $ANOMALY_CONFIG]",
    )(command)


def _load_all(ctx: click.Context, param: click.Parameter, paths: tuple[str, ...]) -> dict[str, Any]:
    from app.settings import load
    from app.settings.sources import FILE_VARIABLE

    if not paths:
        return {Path(os.environ.get(FILE_VARIABLE) or "default").stem: load()}
    stems = [Path(path).stem for path in paths]
    names = [stem if stems.count(stem) == 1 else path for stem, path in zip(stems, paths)]
    return {name: load(path) for name, path in zip(names, paths)}


def _load(ctx: click.Context, param: click.Parameter, path: str | None) -> Any:
    from app.settings import load  # not at the top: --help does without

    return load(path)


def many(count: int, what: str) -> str:
    """1 point, 2,000 points, 3 anomalies."""
    several = what[:-1] + "ies" if what.endswith("y") else what + "s"
    return f"{count:,} {what if count == 1 else several}"


def plain(text: str) -> str:
    """Text of data for a terminal: what would move its cursor or colour it is shown instead.

    >>> print(plain("pump-7\\x1b[2J"))
    pump-7\\x1b[2J
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


class StatusLine:
    """A line on stderr that changes in place; none where stderr is not a terminal."""

    EVERY_S = 0.2

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self._next = self.begin + self.EVERY_S if sys.stderr.isatty() else float("inf")
        self._shown = False

    def show(self, text: Callable[[], str], now: bool = False) -> None:
        """``text`` is asked for only when it is time to show it."""
        if time.monotonic() >= self._next or (now and self._next < float("inf")):
            sys.stderr.write(f"\r\x1b[K{text()}")
            sys.stderr.flush()
            self._next = time.monotonic() + self.EVERY_S
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = False


class Remarks:
    """Remarks on the data, a line each; after the first few only their number."""

    def __init__(self, line: StatusLine) -> None:
        self.line, self.count = line, 0

    def say(self, text: str) -> None:
        self.count += 1
        if self.count <= REMARKS_SHOWN:
            self.line.clear()
            click.echo(text, err=True)

    def end(self) -> None:
        if self.count > REMARKS_SHOWN:
            click.echo(f"... and {self.count - REMARKS_SHOWN:,} more such lines", err=True)

"""What several commands share: the settings they are given."""

from collections.abc import Callable
from typing import Any

import click


def settings_option(command: Callable) -> Callable:
    """Adds ``--config PATH`` and passes the loaded ``Settings`` as the argument ``settings``.

    Without the option the file is ``$ANOMALY_CONFIG``, if that is set. Environment variables beat the file.
    ConfigurationError, which ends the command with exit code 2, names what is wrong and where it stands.
    """
    return click.option(
        "--config",
        "settings",
        metavar="PATH",
        callback=_load,
        help="YAML file of settings.  [default: $ANOMALY_CONFIG]",
    )(command)


def _load(ctx: click.Context, param: click.Parameter, path: str | None) -> Any:
    from app.settings import load  # not at the top: --help does without

    return load(path)

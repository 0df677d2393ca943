"""Where this program listens, read without all other settings: `faust-anomaly probe` must start fast."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import ConfigurationError
from app.settings import sources
from app.settings.messages import describe_error
from app.settings.sources import GivenSettings
from app.settings.web import ApiSettings, DashboardSettings


class Listening(BaseModel):
    """The sections that say it."""

    model_config = ConfigDict(frozen=True)
    dashboard: DashboardSettings = DashboardSettings()
    api: ApiSettings = ApiSettings()


SECTIONS = {name: field.annotation for name, field in Listening.model_fields.items()}


def listening(config: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Listening:
    """The sections ``dashboard`` and ``api``, as ``load`` gives them. Other sections are not checked.

    Raises
    ------
    ConfigurationError
        With one line for each problem of these sections.
    """
    environ = os.environ if environ is None else environ
    path = config or environ.get(sources.FILE_VARIABLE)
    given = sources.from_file(path) if path else GivenSettings()
    sources.from_environment(given, environ, SECTIONS, {})
    found = Listening()
    try:
        found = Listening(**{name: given.values[name] for name in SECTIONS if given.values.get(name) is not None})
    except ValidationError as error:
        for entry in error.errors(include_url=False):
            given.problem(*describe_error(Listening, entry))
    if problems := [str(one) for one in given.problems if one.name.partition(".")[0] in SECTIONS]:
        raise ConfigurationError("\n".join(dict.fromkeys(problems)))
    return found

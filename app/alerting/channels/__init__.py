"""Every channel there is, found by its file's name: a module with ``Options`` and ``Channel`` (api.py)."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING

from pydantic import SecretStr, ValidationError

from app.alerting.channels.api import BaseChannel, Context
from app.errors import ConfigurationError
from app.settings.sources import PREFIX, Keys, Problem, spell, unknown
from app.settings.words import in_words

if TYPE_CHECKING:
    from app.settings import Settings

COMMON = ("type", "messages_per_minute")  # settings of every channel: app/settings/model.py


def names() -> list[str]:
    """Types of channels."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "api")


def find(kind: str) -> ModuleType:
    """The module of a type. Raises ConfigurationError naming those there are."""
    if kind not in names():
        raise ConfigurationError(unknown(kind, names()).replace("setting", "type of channel"))
    return importlib.import_module(f"{__name__}.{kind}")


def make(settings: Settings, context: Context) -> dict[str, BaseChannel]:
    """The channels of the settings, and ``log``, which is always there; by name.

    Raises ConfigurationError with a line for each problem.
    """
    given = settings._given
    problems: list[Problem] = []
    made: dict[str, BaseChannel] = {}
    for name, one in {"log": None, **settings.alerting.channels}.items():
        at: Keys = ("alerting", "channels", name)
        try:
            module = find(one.type or name if one else name)
        except ConfigurationError as error:
            keys = (*at, "type") if one and one.type else at
            problems.append(Problem(spell(keys), given.origin(keys), str(error)))
            continue
        values = {k: v for k, v in (one.model_extra or {}).items() if k not in COMMON} if one else {}
        before = len(problems)
        for key, field in module.Options.model_fields.items():
            where = given.origin((*at, key))
            if SecretStr in _types(field.annotation) and key in values and not _secretly(where):
                variable = f"{PREFIX}{'__'.join(map(str, (*at, key)))}".upper()
                what = f"is a secret: give it by the variable {variable}, or in a file named by {key}_file"
                problems.append(Problem(spell((*at, key)), where, what))
        try:
            options = module.Options.model_validate(values)
        except ValidationError as error:
            for entry in error.errors(include_url=False):
                keys, what = in_words(module.Options, entry)
                problems.append(Problem(spell((*at, *keys)), given.origin((*at, *keys)), what))
        if len(problems) > before:
            continue
        try:
            made[name] = module.Channel(name, options, context)
        except ConfigurationError as error:
            problems.append(Problem(spell(at), given.origin(at), str(error)))
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))
    return made


def _types(annotation: object) -> tuple[object, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))


def _secretly(origin: str) -> bool:
    """Not from the YAML file, which is often in a repository."""
    return origin.startswith(PREFIX) or origin in ("", "command line")

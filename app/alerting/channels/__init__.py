"""All channels, found by their files' names: modules with ``Options`` and ``Channel`` (api.py)."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.alerting.channels.api import BaseChannel, Context
from app.errors import ConfigurationError
from app.settings.messages import SECRET, describe_error
from app.settings.sources import DELIMITER, PREFIX, GivenSettings, Keys, SettingProblem, kind, spell, unknown

if TYPE_CHECKING:
    from app.settings import Settings


def names() -> list[str]:
    """The types of channels."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "api")


def find(name: str) -> ModuleType:
    """The module of a type. Raises ConfigurationError that lists all types."""
    if name not in names():
        raise ConfigurationError(unknown(name, names()).replace("setting", "type of channel"))
    return importlib.import_module(f"{__name__}.{name}")


def make(settings: Settings, context: Context) -> dict[str, BaseChannel]:
    """The channels of the settings by name, and ``log``, which always exists.

    Raises ConfigurationError with a line for each problem.
    """
    given = settings._given
    problems: list[SettingProblem] = []
    made: dict[str, BaseChannel] = {}
    for name, one in {"log": None, **settings.alerting.channels}.items():
        at: Keys = ("alerting", "channels", name)
        try:
            module = find(one.type or name if one else name)
        except ConfigurationError as error:
            untyped = f"its type is missing, and no type has its name; known: {', '.join(names())}"
            keys, what = ((*at, "type"), str(error)) if one and one.type else (at, untyped)
            problems.append(SettingProblem(spell(keys), given.origin(keys), what))
            continue
        values = one.options if one else {}
        wrong = [*_secrets(module, values, at, given), *_options(module, values, at, given)]
        if not wrong:
            try:
                made[name] = module.Channel(name, module.Options.model_validate(values), context)
            except ConfigurationError as error:
                wrong = [SettingProblem(spell(at), given.origin(at), str(error))]
        problems += wrong
    if problems:
        raise ConfigurationError("\n".join(map(str, problems)))
    return made


def _secrets(module: ModuleType, values: Mapping[str, Any], at: Keys, given: GivenSettings) -> Iterator[SettingProblem]:
    """What is wrong with where secrets come from: not from the YAML file, which is often in a repository."""
    for key in secrets(module):
        where = given.origin((*at, key))
        if key in values and f"{key}_file" in values:
            yield SettingProblem(spell((*at, key)), where, f"is given twice, also by {key}_file; keep one")
        elif key in values and ":" in where and not where.startswith(PREFIX):  # a line of the file
            variable = f"{PREFIX}{DELIMITER.join(map(str, (*at, key)))}".upper()
            # No shell sets a variable with other characters, and DELIMITER would be another level.
            usable = re.fullmatch(r"[A-Z0-9_]+", variable) and DELIMITER not in str(at[-1])
            by = f"by the variable {variable}, or " if usable else ""
            yield SettingProblem(spell((*at, key)), where, f"is a secret: give it {by}in a file named by {key}_file")


def secrets(module: ModuleType) -> list[str]:
    """Options of a type that are secrets; each has a further option <name>_file."""
    fields = module.Options.model_fields.items()
    return [name for name, field in fields if "SecretStr" in str(field.annotation)]


def _options(module: ModuleType, values: Mapping[str, Any], at: Keys, given: GivenSettings) -> Iterator[SettingProblem]:
    try:
        module.Options.model_validate(values)
    except ValidationError as error:
        for entry in error.errors(include_url=False):
            if not entry["loc"]:  # a rule about several options
                yield SettingProblem(spell(at), given.origin(at), entry["msg"].removeprefix("Value error, "))
                continue
            keys, what = describe_error(module.Options, entry)
            if "://" in str(entry["input"]):  # addresses have secrets in them
                what = what.replace(kind(entry["input"]), SECRET)
            yield SettingProblem(spell((*at, *keys)), given.origin((*at, *keys)), what)

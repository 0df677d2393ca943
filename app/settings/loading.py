"""Reads and checks all settings, and lists them with where each value came from.

``load`` reads a YAML file, then environment variables, which win, and returns one frozen ``Settings``.
All problems are reported at once, each naming the setting, where its value was given (file:line or
variable), what is allowed and what was found. No other module reads a configuration.

    ANOMALY_CONFIG=anomaly.yaml
    ANOMALY_KAFKA__BOOTSTRAP_SERVERS=a:9092,b:9092
    ANOMALY_DETECTION__DETECTORS__MOVING_AVERAGE__WEIGHT=2
    ANOMALY_SOURCES='[{match: "pump-*", threshold: 0.9}]'
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr

from app.errors import ConfigurationError
from app.settings import checks, sources
from app.settings.alerting import ChannelSettings
from app.settings.messages import SECRET, allowed, unit
from app.settings.model import AUTO, SECTIONS, DetectorSettings, Settings, SourceOverride
from app.settings.sources import GivenSettings, Keys, spell, unknown

OTHER_NAMES = {"anomaly_detection": "detection"}


def load(config: str | Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read and check all settings.

    Parameters
    ----------
    config
        YAML file; else the one that $ANOMALY_CONFIG names, else none.
    environ
        Variables; else the process's own. They beat the file.
    overrides
        Sections, kafka={"group_id": "blue"}: they beat both.

    Raises
    ------
    ConfigurationError
        With one line for each problem.
    """
    environ = os.environ if environ is None else environ
    path = config or environ.get(sources.FILE_VARIABLE)
    given = sources.from_file(path) if path else GivenSettings()
    _one_name(given)
    _begin_with_auto(given, environ)
    sources.from_environment(given, environ, SECTIONS, OTHER_NAMES)
    for section, values in overrides.items():
        for name, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            given.put((section, name) if name else (section,), value, "command line")
    return check(given)


def check(given: GivenSettings) -> Settings:
    """Settings of what was given. Raises ConfigurationError with one line for each problem."""
    sections: dict[str, Any] = {}
    for name, value in given.values.items():
        if name not in SECTIONS:
            given.problem((name,), unknown(name, [*SECTIONS, *OTHER_NAMES]))
        elif value is not None:  # "kafka:" with nothing under it says nothing
            sections[name] = value
    trial = checks.trial(sections, given)
    if trial is not None:
        for rule in checks.RULES:
            rule(trial)
    if given.problems or trial is None:
        lines = list(dict.fromkeys(map(str, given.problems)))
        head = f"{len(lines)} settings are wrong:\n" if len(lines) > 1 else ""
        raise ConfigurationError(head + "\n".join(lines))
    trial.settings._given = given
    return trial.settings


def _one_name(given: GivenSettings) -> None:
    """Sections under their own names; a section under both is a problem."""
    for other, name in OTHER_NAMES.items():
        if other not in given.values:
            continue
        if name in given.values:
            where = given.origin((name,))
            given.problem((other,), f"is another name of {name}, which is given too ({where}); keep one")
        given.values.setdefault(name, given.values.pop(other))
        moved = {(name, *keys[1:]): where for keys, where in given.origins.items() if keys[0] == other}
        given.origins = {keys: where for keys, where in given.origins.items() if keys[0] != other} | moved


def _begin_with_auto(given: GivenSettings, environ: Mapping[str, str]) -> None:
    """A variable for one detector changes it in method auto, where that would run without the variable."""
    names = [name for name in environ if name.startswith(sources.PREFIX)]
    if any("DETECTION__DETECTORS__" in name for name in names) and not any("DETECTION__METHOD" in n for n in names):
        detection = given.values.get("detection") or given.values.setdefault("detection", {})
        if isinstance(detection, dict) and not detection.get("detectors") and detection.get("method") in (None, "auto"):
            detection |= {"method": "auto", "detectors": {name: {} for name in AUTO}}


# --- what the settings are


class SettingRow(NamedTuple):
    """One setting, for a table."""

    name: str
    value: Any  # "******" for a secret
    origin: str  # file:line, variable, "command line" or "default"
    unit: str
    range: str
    description: str


def describe(settings: Settings) -> list[SettingRow]:
    """Every setting, in the order of the models; of an override only what it says."""
    return list(_rows(settings, settings._given, ()))


def as_text(value: Any) -> str:
    """A value as it would be given in a variable."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return ",".join(map(str, value)) or "none"
    return str(value)


def _rows(model: BaseModel, given: GivenSettings, at: Keys) -> Iterator[SettingRow]:
    for name, field in type(model).model_fields.items():
        value, keys = getattr(model, name), (*at, field.alias or name)
        if isinstance(model, SourceOverride) and name not in model.model_fields_set:
            continue
        if isinstance(model, DetectorSettings) and model.method != "ensemble" and name in ("ensemble", "members"):
            continue
        if isinstance(value, BaseModel):
            yield from _rows(value, given, keys)
        elif value and isinstance(value, dict):
            for member, inner in value.items():
                yield from _rows(inner, given, (*keys, member))
        elif value and isinstance(value, list) and isinstance(value[0], BaseModel):
            for i, inner in enumerate(value):
                yield from _rows(inner, given, (*keys, i))
        else:
            shown = SECRET if isinstance(value, SecretStr) else value
            yield _row(keys, shown, given, unit(field), allowed(field), field.description or "")
    for name, value in (model.model_extra or {}).items():
        keys = (*at, name)
        if isinstance(model, ChannelSettings):
            what = f"option of {model.type or at[-1]}"
            shown = SECRET if _may_be_secret(name, value, given.origin(keys)) else value
            yield _row(keys, shown, given, "", "", what)
        else:
            yield _row(keys, value, given, "", "", f"parameter of {getattr(model, 'method', '')}")


def _may_be_secret(name: str, option: Any, origin: str) -> bool:
    """For an option of a channel: secrets come from variables, and an address may contain one."""
    named = not name.endswith("_file") and re.search("secret|password|token|key|header|url|auth", name)
    return bool(named) or origin.startswith(sources.PREFIX) or "://" in str(option)


def _row(keys: Keys, value: Any, given: GivenSettings, *words: str) -> SettingRow:
    origin = given.origin(keys) if given.has(keys) else ""
    return SettingRow(spell(keys), value, origin or "default", *words)

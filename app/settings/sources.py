"""Reads settings from a YAML file and from variables, and remembers where each value was given.

The sources of pydantic-settings report neither the line of a value nor a misspelt variable,
so both are read here: PyYAML's nodes carry line numbers, and each variable is walked along the models.
A value is known by its path, ("kafka", "group_id"); its origin is "anomaly.yaml:4", a variable's name, or for a value
that stands in a file of its own, as secrets do, the variable and the file: "ANOMALY_KAFKA__SASL_PASSWORD_FILE=/run/pw".
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, SecretStr

from app.errors import ConfigurationError

PREFIX, DELIMITER = "ANOMALY_", "__"
FILE_VARIABLE = "ANOMALY_CONFIG"
FROM_FILE = "_file"  # behind the name of a setting: the variable names a file with the value
MAX_VALUE_BYTES = 1 << 20  # bytes of such a file

Keys = tuple[str | int, ...]


class SettingProblem(NamedTuple):
    """What is wrong with one setting; ``where`` is its origin, "" where it was not given."""

    name: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.name} ({self.where}): {self.what}" if self.where else f"{self.name}: {self.what}"


@dataclass
class GivenSettings:
    """Settings as given: nested values, the origin of each (containers too), and the problems found so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Keys, str] = field(default_factory=dict)
    problems: list[SettingProblem] = field(default_factory=list)

    def origin(self, keys: Keys) -> str:
        """Where the value, else the nearest container around it, was given."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.origins:
                return self.origins[keys[:length]]
        return ""

    def has(self, keys: Keys) -> bool:
        """Whether this value itself was given, and not only a container around it."""
        values: Any = self.values
        for key in keys:
            known = range(len(values)) if isinstance(values, list) else values
            if not isinstance(known, Mapping | range) or key not in known:
                return False
            values = values[key]
        return True

    def problem(self, keys: Keys, what: str) -> None:
        """``what`` is written as "must be this, got that". A value from a file of its own may be a secret: the
        message does not show it."""
        where = self.origin(keys)
        if is_value_file(where):
            what = what.partition(", got ")[0]
        self.problems.append(SettingProblem(spell(keys), where, what))

    def put(self, keys: Keys, value: Any, origin: str) -> None:
        """Set one value in place of what an earlier source gave there."""
        target: Any = self.values
        for key in keys[:-1]:
            if not isinstance(target.get(key), dict):
                target[key] = {}
            target = target[key]
        target[keys[-1]] = value
        self.origins = {known: where for known, where in self.origins.items() if known[: len(keys)] != keys}
        self.origins[keys] = origin


def is_value_file(origin: str) -> bool:
    """Whether a value with this origin is the content of a file."""
    return origin.startswith(PREFIX) and "=" in origin


def spell(keys: Keys) -> str:
    """kafka.bootstrap_servers[1]"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


# --- YAML


def _without_base_60(known: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(f"(?!.*:)(?:{known.pattern})", known.flags)


class Loader(yaml.SafeLoader):
    """yaml.safe_load's loader, which builds plain data only, and reads 1e-3 as the number it looks like.

    What has colons is text, as in YAML 1.2: 22:00 is a time and 1:7 are days of a month, not numbers to base 60.
    """


Loader.yaml_implicit_resolvers = {
    first: [(tag, _without_base_60(known) if tag.endswith((":int", ":float")) else known) for tag, known in those]
    for first, those in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def parse(text: str, name: str = "") -> GivenSettings:
    """Values and lines of a YAML text. Raises ConfigurationError naming the line."""
    given = GivenSettings()
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        if root is None:
            return given
        for keys, node in _nodes(root, (), ()):
            line = node.start_mark.line + 1
            if keys in given.origins:
                first = given.origins[keys].rpartition(":")[2]
                what = f"is given twice, first on line {first}; keep one"
                given.problems.append(SettingProblem(spell(keys), f"{name}:{line}", what))
            given.origins[keys] = f"{name}:{line}"
        values = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigurationError(f"{at}: not plain YAML: {error.problem or error.context}") from error
    # Odd characters, impossible dates, deep nesting.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name}: not plain YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{name}:1: expected sections (kafka:, detection:, ...), found {kind(values)}")
    given.values = values
    return given


def _nodes(node: yaml.Node, keys: Keys, above: tuple[yaml.Node, ...]) -> Iterator[tuple[Keys, yaml.Node]]:
    if node in above:
        raise yaml.MarkedYAMLError(problem="an alias to what surrounds it", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="names of settings must be words", problem_mark=key.start_mark)
            yield (*keys, key.value), key
            yield from _nodes(value, (*keys, key.value), (*above, node))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*keys, i), value
            yield from _nodes(value, (*keys, i), (*above, node))


def from_file(path: str | Path) -> GivenSettings:
    """A YAML file. Raises ConfigurationError when it cannot be read at all."""
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: expected a readable settings file (YAML): {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: expected UTF-8, byte {error.start} is not") from error
    return parse(text, str(path))


# --- variables


def from_environment(
    given: GivenSettings, environ: Mapping[str, str], models: Mapping[str, Any], also: Mapping[str, str]
) -> None:
    """Put every ANOMALY_SECTION__FIELD into ``given``. An empty variable counts as not given.

    ANOMALY_SECTION__FIELD_FILE names a file that holds the value, unless field_file is a setting itself.

    Parameters
    ----------
    models
        SettingsSection name -> its type: what a text means depends on the type it is read for.
    also
        Other names of sections -> their own.
    """
    seen: dict[Keys, str] = {}
    for variable in sorted(environ, key=lambda name: (name.count(DELIMITER), name)):
        text = environ[variable]
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE or text == "":
            continue
        words = variable[len(PREFIX) :].lower().split(DELIMITER)
        by_file = _names_a_file(given.values, words, models, also)
        if by_file:
            words[-1] = words[-1].removesuffix(FROM_FILE)
        words[0] = also.get(words[0], words[0])
        if words[0] in models:
            keys, kind_of = _walk(given.values, words, models[words[0]])
            if (first := seen.setdefault(keys, variable)) != variable:
                given.problem(keys, f"is given twice, as {first} and {variable}; keep one")
            if by_file:
                _put_content(given, keys, kind_of, variable, Path(text))
            else:
                given.put(keys, _value(text, kind_of), variable)
        elif len(words) > 1:
            given.problems.append(SettingProblem(variable, "environment", unknown(words[0], models)))
        # Kubernetes makes variables such as ANOMALY_DASHBOARD_PORT=tcp://... for a service of that name.
        elif (near := _one_underscore(words[0], models)) and "://" not in text:
            given.problems.append(SettingProblem(variable, "environment", f"did you mean {near}?"))


def _names_a_file(values: Any, words: list[str], models: Mapping[str, Any], also: Mapping[str, str]) -> str:
    """The end of a variable's name that says so; "" where it belongs to the name of a setting, channel or detector."""
    if not words[-1].endswith(FROM_FILE):
        return ""
    if len(words) > 1:
        section = also.get(words[0], words[0])
        _, around = _walk(values, [section, *words[1:-1]], models.get(section))
        # Of a channel's options its type knows which are secrets, and has an option with this end for each.
        own = words[-1] in _fields(around) or typing.get_origin(around) is dict or hasattr(around, "FURTHER")
        own = own and words[-1].removesuffix(FROM_FILE) not in _fields(around)
    else:
        base = words[0].removesuffix(FROM_FILE)
        own = also.get(base, base) not in models
    return "" if own else FROM_FILE.upper()


def _put_content(given: GivenSettings, keys: Keys, annotation: Any, variable: str, path: Path) -> None:
    """The value in a file, without its last line end."""
    origin = f"{variable}={path}"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_VALUE_BYTES + 1)
        if len(content) > MAX_VALUE_BYTES:
            raise ValueError(f"has more than {MAX_VALUE_BYTES} bytes")
        text = content.decode("utf-8")
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise ValueError("is empty")
    except OSError as error:
        what = f"expected a readable file with the value: {error.strerror}"
    except UnicodeDecodeError as error:
        what = f"expected UTF-8 in the file, byte {error.start} is not"
    except ValueError as error:
        what = f"expected a file with the value, and it {error}"
    else:
        given.put(keys, _value(text, annotation), origin)
        return
    if annotation is None:
        given.put(keys, None, origin)  # so that an unknown setting is called that, too
    given.problems.append(SettingProblem(spell(keys), origin, what))


def _walk(values: Any, words: list[str], annotation: Any) -> tuple[Keys, Any]:
    """The path a variable's words name, and the type there (None when unknown)."""
    keys: list[str] = [words[0]]
    for word in words[1:]:
        values = values.get(keys[-1]) if isinstance(values, Mapping) else None
        if fields := _fields(annotation):
            # A detector's parameters are not fields: their type is read off the text.
            annotation = fields[word].annotation if word in fields else getattr(annotation, "FURTHER", None)
        elif typing.get_origin(annotation) is dict:
            # Variables are upper case, names of detectors need not be: StandardAbsoluteDeviation.
            known = values if isinstance(values, Mapping) else {}
            word = next((name for name in known if str(name).lower() == word), word)
            annotation = typing.get_args(annotation)[1]
        else:
            annotation = None
        keys.append(word)
    return tuple(keys), annotation


def _fields(annotation: Any) -> dict[str, Any]:
    return annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, BaseModel) else {}


def _value(text: str, annotation: Any) -> Any:
    if (
        typing.get_origin(annotation) is list
        and _is_text(typing.get_args(annotation)[0])
        and not text.lstrip().startswith("[")
    ):
        return [part.strip() for part in text.split(",") if part.strip()]
    if annotation is not None and _is_text(annotation):
        return text
    try:
        return Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError):
        return text  # then it has the wrong type, and the check that follows reports what was expected


def _is_text(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Annotated:
        return _is_text(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Literal):
        return any(isinstance(option, str) or _is_text(option) for option in typing.get_args(annotation))
    return annotation in (str, SecretStr)


def _one_underscore(word: str, models: Mapping[str, Any]) -> str:
    for section, annotation in models.items():
        fields = _fields(annotation)
        for name in fields:
            if word == f"{section}_{name}":
                return f"{PREFIX}{section}{DELIMITER}{name}".upper()
            if word == f"{section}_{name}{FROM_FILE}" and f"{name}{FROM_FILE}" not in fields:
                return f"{PREFIX}{section}{DELIMITER}{name}{FROM_FILE}".upper()
    return ""


# --- words


def unknown(name: str, known: Any) -> str:
    """The message for an unknown setting: which are known, and which was probably meant."""
    names = sorted(map(str, known))
    return "no such setting" + (near(name, names) or f"; known: {', '.join(names) or 'none'}")


def near(name: Any, known: Iterable[str]) -> str:
    """A question for the end of a message; "" where no known name is similar."""
    found = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def kind(value: Any) -> str:
    """A value in words for a message, cut when long."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."

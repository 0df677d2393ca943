"""The keyword parameters of a generator as options of its command."""

import inspect
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from app.parameters import Parameter
from generators.api import Time


class TimeType(click.ParamType):
    """Epoch seconds; written as ISO 8601, as a number, or as "now"."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        if value == "now":
            return time.time()
        from app.offline.times import parse_time  # not at the top: --help does without

        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(f"expected now, {error}", param, ctx)


class DurationType(click.ParamType):
    """Seconds; written as Prometheus writes them: 90s, 2h, 1d12h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        seconds = parse_duration(value)
        if not seconds:
            self.fail(f"expected a duration as 90s, 30m, 2h, 1d12h or 1w, got {value!r}", param, ctx)
        return seconds


class AgoType(TimeType):
    """Epoch seconds; written as a time, or as a duration: 2h is two hours ago."""

    name = "time or duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and (ago := parse_duration(value)):
            return time.time() - ago
        return super().convert(value, param, ctx)


def parse_duration(text: str) -> float:
    """Seconds of 90s, 2h, 1d12h; 0 for what is none.

    >>> parse_duration("1d12h") / 3600, parse_duration("2"), parse_duration("h")
    (36.0, 0.0, 0.0)
    """
    if not re.fullmatch(r"([0-9]{1,6}[wdhms])+", text):
        return 0.0
    units = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9]+)([wdhms])", text))


class RateType(click.ParamType):
    """Records per second; written as 1000, 1000/s, 60/min or 60/h."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        number, _, unit = str(value).partition("/")
        try:
            rate = float(number) / {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}[unit.strip()]
        except (KeyError, ValueError):
            rate = 0.0
        if not 0.0 < rate <= 1e9:
            self.fail(f"expected records above 0 per s, min or h, as in 1000/s, got {value!r}", param, ctx)
        return rate


def parameters_of(function: Callable) -> list[click.Parameter]:
    """One for each parameter; those that may be given by position are arguments, the others options.

    Annotations are ``Annotated[type, Parameter(...)]``; types: str, int, float, bool, Literal, a tuple of
    one of these (may be given again), and these or None.
    """
    hints = get_type_hints(function, include_extras=True)
    return [_parameter(each, *get_args(hints[each.name])) for each in inspect.signature(function).parameters.values()]


def _parameter(parameter: inspect.Parameter, annotation: Any, option: Parameter) -> click.Parameter:
    types = [each for each in get_args(annotation) if each not in (NoneType, ...)]
    many = get_origin(annotation) is tuple
    if parameter.kind is not parameter.KEYWORD_ONLY:
        metavar = parameter.name.removesuffix("s").upper() + ("..." if many else "")
        return click.Argument([parameter.name], nargs=-1 if many else 1, required=True, metavar=metavar)
    plain = types[0] if types and get_origin(annotation) is not Literal else annotation
    name = "--" + parameter.name.replace("_", "-")
    default, help_line = parameter.default, option.help[0].upper() + option.help[1:] + "."
    if plain is bool:
        return click.Option([name], is_flag=True, default=default, help=help_line)
    shown = default not in (None, ())
    if shown and isinstance(option, Time):
        shown, moment = False, datetime.fromtimestamp(default, UTC).isoformat().replace("+00:00", "Z")
        help_line += f"  [default: {moment}; now with --speed or --rate]"
    return click.Option(
        [name], type=_type(plain, option), multiple=many, default=default, show_default=shown, help=help_line
    )


def _type(plain: Any, option: Parameter) -> click.ParamType:
    if isinstance(option, Time):
        return TimeType()
    if get_origin(plain) is Literal:
        return click.Choice(get_args(plain))
    if plain not in (int, float):
        return click.STRING
    low = option.above if option.at_least is None else option.at_least
    if low is None and option.at_most is None:
        return click.INT if plain is int else click.FLOAT
    kind: Any = click.IntRange if plain is int else click.FloatRange
    return kind(low, option.at_most, min_open=option.above is not None)

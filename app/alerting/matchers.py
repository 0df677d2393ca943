r"""Matchers of labels, as Alertmanager writes and means them: ``source=~"pump-.*"``, ``severity!=low``.

A label that is missing counts as empty. ``=~`` and ``!~`` take a regular expression that has to match the whole value.
It is one of RE2, by the package google-re2. RE2 has the syntax of Go, so that a pattern means here what it means in
Alertmanager; and it takes time in proportion to the text, so that no pattern can hold up an alerter. Python's re does
neither: ``\pL`` is an error there, ``$`` also matches before a line feed, and ``(a*)*b`` takes forever to fail.

Names that Alertmanager knows from 0.27 on are taken, too: ``host.name=web-1``, ``"host name"=web-1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.errors import ConfigurationError

SPACE = " \t\n\f\r"  # as Go's \s
CLASSIC = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_begin = re.compile(
    rf"""[{SPACE}]*(?:({CLASSIC})|"((?:[^"\\]|\\["\\])+)"|([^{SPACE}{{}}!=~,\\"'`]+))[{SPACE}]*(=~|=|!=|!~)"""
)
EXPECTED = 'a matcher, as source=~"pump-.*"; operators = != =~ !~'


class Matcher(NamedTuple):
    """One condition on one label."""

    name: str
    operator: str  # = != =~ !~
    value: str
    pattern: Any = None  # of =~ and !~: what re2 has compiled

    def matches(self, value: str) -> bool:
        """Whether a label with this value is as wanted; "" for one that is missing."""
        found = value == self.value if self.pattern is None else self.pattern.search(value) is not None
        return found == (self.operator[0] == "=")

    def __str__(self) -> str:
        name = self.name if re.fullmatch(CLASSIC, self.name) else f'"{_escaped(self.name)}"'
        return f'{name}{self.operator}"{_escaped(self.value)}"'


@dataclass(frozen=True)
class Matchers:
    """Conditions that all have to hold; none of them: everything matches.

    >>> some = Matchers.of(['source=~"pump-.*"', "{severity!=low, room!~cellar|attic}"])
    >>> some.matches({"source": "pump-7", "severity": "high"}), some.matches({"source": "mill", "severity": "high"})
    (True, False)
    >>> str(some)
    '{source=~"pump-.*",severity!="low",room!~"cellar|attic"}'
    """

    each: tuple[Matcher, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str]) -> Matchers:
        """Of texts with one matcher or several, with commas between them, maybe in braces.

        Raises ConfigurationError saying what was expected.
        """
        given = [texts] if isinstance(texts, str) else texts
        return cls(tuple(one for text in given for one in parse(text)))

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(one.matches(labels.get(one.name, "")) for one in self.each)

    def __str__(self) -> str:
        return "{" + ",".join(map(str, self.each)) + "}"


def parse(text: str) -> list[Matcher]:
    """The matchers of one text. Raises ConfigurationError."""
    return [parse_one(part) for part in _parts(text.removeprefix("{").removesuffix("}"))]


def parse_one(text: str) -> Matcher:
    """One matcher. Raises ConfigurationError."""
    begin = _begin.match(text)
    if not begin:
        raise ConfigurationError(f"must be {EXPECTED}, got {text!r}")
    classic, quoted, further, operator = begin.groups()
    name = classic or further or re.sub(r"\\(.)", r"\1", quoted)
    value = _value(text[begin.end() :].strip(SPACE), text, strict=not classic)
    if operator in ("=", "!="):
        return Matcher(name, operator, value)
    return Matcher(name, operator, value, _compiled(value))


def _compiled(pattern: str) -> Any:
    import re2  # here: 20 ms, for those who have regular expressions

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(f"^(?:{pattern})$", options=options)
    except re2.error as error:
        [reason] = error.args
        what = reason.decode() if isinstance(reason, bytes) else reason
        raise ConfigurationError(f"must be a regular expression of RE2, got {pattern!r}: {what}") from error
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"must be text that can be UTF-8, got {pattern!r}") from error


def _parts(text: str) -> Iterator[str]:
    """What stands between the commas outside of quotes; nothing after a comma at the end."""
    part, quoted, escaped = "", False, False
    for sign in text:
        if sign == "," and not quoted:
            yield part
            part = ""
            continue
        if sign == '"':
            quoted, escaped = quoted ^ (not escaped), False
        elif sign == "\\":
            escaped = not escaped
        elif sign != ",":
            escaped = False
        part += sign
    if part.strip():
        yield part


def _value(raw: str, text: str, strict: bool) -> str:
    r"""A value without its quotes and escapes: \" \n \\. Any other backslash stands for itself.

    ``strict``: others are refused, as they would mean something else to an Alertmanager that knows such names.
    """
    quoted = raw.startswith('"')
    inner = raw[1:] if quoted else raw
    value, at = "", 0
    while at < len(inner):
        sign, after = inner[at], inner[at + 1 : at + 2]
        if sign == '"':
            if quoted and not after:
                return value
            raise ConfigurationError(f'must have \\" for a quote inside its value, got {text!r}')
        if sign != "\\" or not after:
            value += sign
            at += 1
            continue
        if strict and after not in 'n"\\':
            raise ConfigurationError(f"must have \\\\ for a backslash, got {text!r}")
        value += {"n": "\n", '"': '"', "\\": "\\"}.get(after, sign + after)
        at += 2
    if quoted:
        raise ConfigurationError(f"must have two quotes around its value, or none, got {text!r}")
    return value


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

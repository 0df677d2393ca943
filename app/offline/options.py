"""Options for reading files, where their cells do not show it."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from app.errors import ConfigurationError
from app.settings import InputSettings

DateOrder = Literal["day-first", "month-first"]
Decimal = Literal["point", "comma"]
Columns = Literal["metrics", "sources"]
EXCEL = "excel"


@dataclass(frozen=True)
class FileOptions:
    """Options of the commands that read files; None or nothing: found out from the file."""

    time: tuple[str, ...] = ()  # columns; of two the first is the date and the second the time of the day
    source: tuple[str, ...] = ()  # columns; several together name a source
    time_format: str | None = None  # strptime's, or EXCEL: days since 1899-12-30
    timezone: str | None = None  # of times that say none; none: UTC
    date_order: DateOrder | None = None
    decimal: Decimal | None = None
    columns: Columns = "metrics"  # what several columns of values are
    encoding: str | None = None  # of text that is neither UTF-8 nor UTF-16

    def __post_init__(self) -> None:
        """ConfigurationError where there is no such encoding."""
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError:
            raise ConfigurationError(f"--encoding: expected a name like cp1252, got {self.encoding!r}") from None

    @classmethod
    def split(cls, settings: InputSettings, given: Mapping[str, Any]) -> tuple[InputSettings, FileOptions]:
        """Options of a command that were given: those that are settings, which then replace these, and the others."""
        own = {each.name for each in fields(cls)}
        given = {name: value for name, value in given.items() if value}
        instead = {
            name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if name not in own
        }
        return settings.model_copy(update=instead), cls(**{name: given[name] for name in own & given.keys()})


class Ambiguous(ConfigurationError):
    """A file can be read in two ways; more of its rows, or an option, can decide it."""

"""The files that ``detect`` reads, and those it writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from app.errors import ConfigurationError

# Read from a folder; a file that is given itself may have any name.
ENDINGS = (".csv", ".tsv", ".ndjson", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".ndjson.gz", ".jsonl.gz")


class Input(NamedTuple):
    path: Path | None  # None: standard input
    name: str  # in messages
    relative: str  # without ending; with the folders below the one given

    @property
    def source(self) -> str:
        """The source of a file without a column of sources; also the first part of its results' ids."""
        return self.relative.rpartition("/")[2].replace(":", "_") or "_"

    def open(self) -> AbstractContextManager[BinaryIO]:
        return nullcontext(sys.stdin.buffer) if self.path is None else self.path.open("rb")

    def size(self) -> int:
        """Bytes; 0 where the size is not known before the end."""
        return self.path.stat().st_size if self.path else 0


def inputs(files: tuple[str, ...]) -> list[Input]:
    """The files to read, folders searched. ConfigurationError: one is missing, or two have results of the same name."""
    found: dict[str, Input] = {}
    for each in _found(files):
        if each.relative in found:
            raise ConfigurationError(
                f"{found[each.relative].name}, {each.name}: the results of both would be called {each.relative}: "
                "give the folder both lie in, or one at a time"
            )
        found[each.relative] = each
    return list(found.values())


def _found(files: tuple[str, ...]) -> Iterator[Input]:
    for file in files:
        path = Path(file)
        if file == "-":
            yield Input(None, "standard input", "stdin")
        elif path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.name.lower().endswith(ENDINGS) and each.is_file())
            if not inside:
                raise ConfigurationError(f"{file}: expected files that end in {', '.join(ENDINGS)}, found none")
            for each in inside:
                yield Input(each, str(each), _without_ending(each.relative_to(path)).as_posix())
        elif path.exists():
            yield Input(path, file, _without_ending(path).name)
        else:
            raise ConfigurationError(f"{file}: no such file or folder")


def _without_ending(path: Path) -> Path:
    """pump.csv.gz is pump, as pump.csv is."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).with_suffix("")


def refuse_input_as_output(path: Path, read: list[Input], option: str) -> None:
    """ConfigurationError if the output would overwrite an input."""
    if path.resolve() in {each.path.resolve() for each in read if each.path}:
        raise ConfigurationError(f"{option}: {path} is an input: choose another path")


class Outputs:
    """Where results go: all to one file, or each input's to its own in a folder, or nowhere.

    ``to`` is a path or - or None: standard output unless that is a terminal. It is a folder where it is one
    already, ends in a slash, or a folder is read. ``quiet``: None is nowhere in any case.
    """

    def __init__(self, to: str | None, files: tuple[str, ...], read: list[Input], quiet: bool = False) -> None:
        self.to = "-" if to is None and not quiet and not sys.stdout.isatty() else to
        is_folder = self.to not in (None, "-") and any(
            [str(self.to).endswith(("/", os.sep)), *(Path(each).is_dir() for each in (str(self.to), *files))]
        )
        self.folder = Path(str(self.to)) if is_folder else None
        self.one: AbstractContextManager[BinaryIO | None] = nullcontext()
        for path in [self.path(each) for each in read] if self.folder else [Path(self.to or "-")]:
            refuse_input_as_output(path, read, f"--output {to}")
        if self.to is not None and not self.folder:
            self.one = click.open_file(self.to, "wb")  # type: ignore[assignment]

    def path(self, each: Input) -> Path:
        return (self.folder or Path()) / f"{each.relative}.ndjson"

    def open(self, each: Input, one: BinaryIO | None) -> AbstractContextManager[BinaryIO | None]:
        """For the results of one input; ``one`` is what ``self.one`` gave."""
        if self.folder is None:
            return nullcontext(one)
        path = self.path(each)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")

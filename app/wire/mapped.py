"""Points of records of other shapes: the elements that ``mapping`` finds, checked, with an index for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from app.errors import InvalidPoint
from app.pipeline.points import Points
from app.wire import malformed
from app.wire.checked import Checks, Record, append
from app.wire.mapping import Element, Mapping, place


class MappedReader:
    """Reads records as a mapping says. Every element has the next index, or each of its values if these are apart.

    Attributes
    ----------
    pieces
        The bytes of the element at each index, of the record that was read last.
    bad, skipped
        (index, why) of elements of that record.
    """

    def __init__(self, mapping: Mapping, checks: Checks) -> None:
        self.mapping, self._checks = mapping, checks
        self._split = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self.pieces: list[Any] = []
        self.bad: list[tuple[int, InvalidPoint | str]] = []
        self.skipped: list[tuple[int, str]] = []

    def decode(self, value: bytes) -> Any:
        """A record, or the raw records of an array. Raises msgspec.DecodeError."""
        return self._split(value) if value.lstrip()[:1] == b"[" else self.mapping.decode(value)

    def add(self, points: Points, found: Any, record: Record, most_bad: int) -> str:
        """Append the points of what was decoded, or of the raw records in it; stop when so many are bad.

        The answer is the place of the last element that was read, if others follow, or "".
        """
        self.pieces, self.bad, self.skipped = [], [], []
        elements: Iterable[Element]
        if isinstance(found, list | tuple) or not isinstance(found, msgspec.Struct | dict):
            elements = self._elements(found)
        else:
            elements = self.mapping.elements(found, record.value or b"", "$")
        at = "$", -1
        for element in elements:
            if len(self.bad) >= most_bad:
                return place(*at)
            self._add(points, element, record)
            at = element[3], element[4]
        return ""

    def _elements(self, found: Sequence[Any]) -> Iterator[Element]:
        for i, raw in enumerate(found):
            try:
                one = self.mapping.decode(raw)
            except msgspec.DecodeError as error:
                why = malformed.explain(bytes(raw), self.mapping.complaints, str(error), f"$[{i}]")
                yield None, None, raw, "$", i, why
            else:
                yield from self.mapping.elements(one, raw, f"$[{i}]")

    def _add(self, points: Points, element: Element, record: Record) -> None:
        """Append the points of an element, or take note why there are none."""
        one, around, raw, path, i, why = element
        mapping, checks, pieces = self.mapping, self._checks, self.pieces
        try:
            if why is None:
                source, metric, labels = mapping.described(one, around)
                given = mapping.time(one, around)
                cells = mapping.cells(one, around)
                if len(cells) != 1 or cells[0][1] != cells[0][1]:
                    known = [cell for cell in cells if cell[1] == cell[1]]
                    why = None if known else "nan" if cells else "no_number" if mapping.wild else None
                    cells = known
            if why is None:
                if i >= 0:
                    path = place(path, i)
                source = checks.source(source, path, mapping.source_names, record)
                time = checks.timestamp(given, path, mapping.time_names, record)
                if mapping.apart and cells:
                    self._add_apart(points, raw, record, (source, time, given is not None), cells, labels, path)
                    return
                if metric is not None and len(cells) == 1:
                    cells = [(metric, cells[0][1])]
                checks.cells(cells, path, mapping.value_names)
                append(points, record, len(pieces), source, time, given is not None, cells, metric, labels)
        except InvalidPoint as invalid:
            why = invalid
        except (msgspec.ValidationError, OverflowError) as error:
            why = mapping.explained(raw, str(error), place(path, i))
        if why is not None:
            if isinstance(why, str):
                self.skipped.append((len(pieces), why))
            else:
                self.bad.append((len(pieces), why))
        pieces.append(raw)

    def _add_apart(
        self,
        points: Points,
        raw: Any,
        record: Record,
        of: tuple[str, float, bool],
        cells: list[tuple[str, float]],
        labels: dict[str, Any] | None,
        path: str,
    ) -> None:
        """Append a point for each value. ``of``: source, time, whether the time is the record's own."""
        pieces = self.pieces
        for cell in cells:
            try:
                self._checks.cells([cell], path, self.mapping.value_names)
                append(points, record, len(pieces), *of, [cell], cell[0], labels)
            except InvalidPoint as invalid:
                self.bad.append((len(pieces), invalid))
            pieces.append(raw)

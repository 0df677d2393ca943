"""Numbers as people and spreadsheets write them: ``1721992.3``, ``1,721,992.30``, ``1.721.992,30``, ``1 721 992``.

Which character stands before the decimals is one decision for a whole file, made from a sample of it. ``1,234`` alone
is ambiguous: it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.compiled.numeric import MAX_VALUE, MAX_VALUE_TEXT
from app.errors import InvalidPoint
from app.offline.options import Ambiguous, Decimal

# Words for "no value": also of Grafana (undefined) and of Excel's English and German formulas.
MISSING = frozenset(("", "na", "n/a", "nan", "null", "<null>", "nil", "none", "undefined", "-", "--", "#n/a", "#nv"))
SPACES = " \u00a0\u2009\u202f'\u2019"  # between thousands, besides the character that is not the decimals'
GROUPED = {
    other: re.compile(rf"[+-]?\d{{1,3}}([{re.escape(other)}{SPACES}])\d{{3}}(?:\1\d{{3}})*(?:{re.escape(own)}\d*)?")
    for own, other in ((".", ","), (",", "."))
}
PLAIN = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?")
ONE_GROUP = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # may be thousands, may be three decimals
TO_PLAIN = {",": str.maketrans("", "", "," + SPACES), ".": str.maketrans(",", ".", "." + SPACES)}


def is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def is_number(cell: str) -> bool:
    """A number in any of these forms, or a cell that says there is none."""
    try:
        float(cell)
    except ValueError:
        return is_missing(cell) or _is_like_a_number(_plain(cell))
    return True


class NumberFormat:
    """How the numbers of one file are written: ``decimal`` is "." or ","."""

    def __init__(self, decimal: str = ".") -> None:
        self.decimal = decimal
        self._other = "." if decimal == "," else ","

    def read(self, metric: str, cell: str) -> float | None:
        """None where the cell says that there is no value; InvalidPoint where it is no number."""
        try:
            x = float(cell) if self.decimal == "." else self._float(cell)
        except ValueError:
            if is_missing(cell):
                return None
            plain = _plain(cell)
            if GROUPED[self._other].fullmatch(plain):
                x = float(plain.translate(TO_PLAIN[self._other]))
            elif plain != cell.strip() and _is_like_a_number(plain):
                return self.read(metric, plain)
            else:
                expected = "a number" if self.decimal == "." else "a number with a decimal comma"
                raise InvalidPoint("wrong_type", f"column {metric!r} must be {expected}, got {cell!r}") from None
        if -MAX_VALUE <= x <= MAX_VALUE and "_" not in cell:  # float() takes 1_000
            return x
        if x != x:
            return None
        expected = f"a number of at most {MAX_VALUE_TEXT} in size"
        raise InvalidPoint("out_of_range", f"column {metric!r} must be {expected}, got {cell!r}")

    @staticmethod
    def _float(cell: str) -> float:
        if "." in cell:
            raise ValueError
        return float(cell.replace(",", ".", 1))


def format_of(name: str, cells: Iterable[str], wanted: Decimal | None, continental: bool) -> NumberFormat:
    """The format of a file's numbers, from some of them.

    ``continental``: what else the file shows (``;`` between cells, ``31.12.2023``) suggests a decimal comma, so that
    ``1.234`` is as doubtful as ``1,234`` is without. Raises Ambiguous.
    """
    if wanted:
        return NumberFormat("," if wanted == "comma" else ".")
    found: dict[str, str] = {}  # decimal character -> a cell that shows it
    doubtful: dict[str, str] = {}  # character -> a cell with it that may be either
    for cell in cells:
        if "," in cell or "." in cell:
            plain = _plain(cell)
            if not _is_like_a_number(plain):
                continue
            plain = plain.translate(TO_PLAIN_SPACES)
            commas, points = plain.count(","), plain.count(".")
            if commas and points:
                found.setdefault("," if plain.rfind(",") > plain.rfind(".") else ".", cell)
            elif commas > 1 or points > 1:
                found.setdefault("." if commas else ",", cell)
            elif ONE_GROUP.fullmatch(plain):
                doubtful.setdefault("," if commas else ".", cell)
            else:
                found.setdefault("," if commas else ".", cell)
    if len(found) > 1:
        what = (
            f"numbers with a decimal point ({found['.'].strip()!r}) and with a decimal comma ({found[','].strip()!r})"
        )
        raise Ambiguous(f"{name}: found {what}: --decimal point or --decimal comma says which is right")
    if not found and ("," in doubtful or ("." in doubtful and continental)):
        character = "," if "," in doubtful else "."
        cell = doubtful[character].strip()
        both = f"{cell.replace(character, '')} or {cell.replace(character, '.')}"
        raise Ambiguous(f"{name}: {cell!r} may be {both}: --decimal point or --decimal comma says which it is")
    return NumberFormat(next(iter(found), "."))


TO_PLAIN_SPACES = str.maketrans("", "", SPACES)


def _is_like_a_number(plain: str) -> bool:
    return any(shape.fullmatch(plain) for shape in (PLAIN, *GROUPED.values()))


def _plain(cell: str) -> str:
    """With an ASCII sign and no space around it."""
    return cell.strip().replace("\u2212", "-")

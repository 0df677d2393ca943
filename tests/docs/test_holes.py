"""Every failure that docs/holes.md lists has a fix and a test, by names that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "holes.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| failure ")
]


def missing(row):
    """What a row names and is not there."""
    failure, fix, where, test = row
    found = [] if failure and fix else ["words"]
    if not (ROOT / where.strip("`")).is_file():
        found.append(where)
    path, _, name = test.strip("`").partition("::")
    if not (ROOT / path).is_file() or name not in names_in(ROOT / path):
        found.append(test)
    return found


def names_in(path):
    return {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", row[0])[:60])
def test_a_failure_names_its_fix_and_its_test(row):
    assert missing(row) == []


def test_what_is_not_there_is_noticed():
    assert len(ROWS) >= 19 and len({row[0] for row in ROWS}) == len(ROWS)
    failure, fix, _, test = ROWS[0]
    assert missing([failure, fix, "`app/no.py`", test]) == ["`app/no.py`"]
    assert missing([failure, fix, ROWS[0][2], test.replace("::test_", "::test_no_")])

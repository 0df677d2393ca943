"""The documents, and the blocks in them that programs write: what stands between <!-- name --> and <!-- /name -->."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGE_OF = {
    name: ROOT / "docs" / page
    for page, names in {
        "settings.md": ["settings", "parameters"],
        "alerts.md": [
            "rules",
            "silent",
            "channels",
            "alert_opened",
            "alert_closed",
            "alert_digest",
            "alert_line",
            "alert_body",
            "alert_alert",
            "alert_chat",
            "alert_mail",
        ],
        "operations.md": ["metrics", "rights", "acls", "sizing", "sizing_checks"],
        "guarantees.md": ["chaos", "rolling", "static", "alerters", "posts"],
        "benchmarks.md": ["bench", "codecs", "mapped", "alerts", "answers"],
        "detection.md": ["detection", "drills"],
    }.items()
    for name in names
}


def block(name: str, text: str | None = None) -> str:
    """The block of this name in its page, or in this text."""
    text = PAGE_OF[name].read_text("utf-8") if text is None else text
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.S)
    assert found, f"{PAGE_OF[name]} needs the lines <!-- {name} --> and <!-- /{name} -->"
    return found[1].strip()


def write(name: str, content: str, page: Path | None = None) -> None:
    """Replace the block of this name in its page, or in this one.

    Raises
    ------
    ValueError
        The page does not contain exactly one block of this name.
    """
    page, first, last = page or PAGE_OF[name], f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begin, rest = page.read_text("utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end) or first in after or last in after:
        raise ValueError(f"{page}: expected one {first} ... {last}, add it where the block belongs")
    page.write_text(f"{before}{first}\n{content.strip()}\n{last}{after}", "utf-8")


def rows(table: str) -> list[dict[str, str]]:
    """The rows of the first Markdown table in this text, by the heads of their columns."""
    lines = iter(table.splitlines())
    head = next(line for line in lines if line.startswith("|"))
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(dict(zip(_cells(head), _cells(line))))
    return found[1:]  # without the line below the head


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]

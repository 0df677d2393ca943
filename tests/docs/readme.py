"""The README's tables that are made from the program: ``python -m tests.docs.readme`` renews them."""

import re
from pathlib import Path

from app import metrics
from app.cli.settings import shown
from app.settings import describe, load

README = Path(__file__).parents[2] / "README.md"


def settings_table() -> str:
    """Every setting with its default, without those of the default detectors."""
    rows = ["| setting | default | unit | range | what it is |", "|---|---|---|---|---|"]
    for row in describe(load(environ={})):
        if not row.name.startswith("detection.detectors."):
            allowed = row.range.replace("|", "\\|")
            rows.append(f"| `{row.name}` | {shown(row.value)} | {row.unit} | {allowed} | {row.description} |")
    return "\n".join(rows)


TABLES = {"settings": settings_table, "metrics": metrics.table}


def block(text: str, name: str) -> str:
    """What stands between the markers of this name."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.S)
    assert found, f"README.md needs the lines <!-- {name} --> and <!-- /{name} -->"
    return found[1].strip()


def renewed(text: str) -> str:
    for name, table in TABLES.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        after = rest.partition(f"<!-- /{name} -->")[2]
        text = f"{before}<!-- {name} -->\n{table()}\n<!-- /{name} -->{after}"
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text("utf-8")), "utf-8")

"""README.md holds the table of metrics between its markers, as the registry has it.

To renew it: python -c "from app import metrics; print(metrics.table())"
"""

import re
from pathlib import Path

from app import metrics

README = Path(__file__).parents[2] / "README.md"


def between_markers(text: str) -> str:
    found = re.search(r"<!-- metrics -->\n(.*?)\n<!-- /metrics -->", text, re.S)
    assert found, "README.md needs the lines <!-- metrics --> and <!-- /metrics -->"
    return found[1].strip()


def test_the_readme_lists_every_metric_as_it_is():
    assert between_markers(README.read_text(encoding="utf-8")) == metrics.table()

"""Where the development data and its scorers are, on machines that have them: they may not ship."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("EVALUATION_DATA") or ROOT.parent / "shared" / "data")
SCORE_ALL, SCORE_NAB = DATA / "score_all.py", DATA / "score_nab.py"

needs_data = pytest.mark.skipif(not SCORE_ALL.exists(), reason=f"needs the data of {DATA} (EVALUATION_DATA)")

"""Compiled code reads and writes inside its arrays, whatever is in the records.

numba checks no bounds unless told to when it is imported: a kernel that walks outside reads what happens to lie there,
or ends the process, and its successor, and the next. So the fuzz is a program of its own: bounds.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_mutated_records_and_awkward_numbers_stay_inside(tmp_path):
    cache = str(tmp_path)  # code compiled with checks must not be found by those who want none
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environ = {**os.environ, "FAUST_ANOMALY_CACHE": cache, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": path}
    command = [sys.executable, str(Path(__file__).with_name("bounds.py"))]
    done = subprocess.run(
        command, env={**environ, "NUMBA_BOUNDSCHECK": "1"}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["records"] > 8_000 and found["points"] > 5_000 and found["letters"] > 1_000
    assert found["outside"].startswith("IndexError") and found["forged"].startswith("IndexError"), "negative controls"

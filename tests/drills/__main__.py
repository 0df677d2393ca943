"""Drills: made series with a made fault, or with none, and what an operator would call right.

    python -m tests.drills                                   every kind, 10 series of each: a minute
    python -m tests.drills --in-process                      the same in a quarter of the time
    python -m tests.drills --only level_shift --verbose      one kind, and why each of its series failed
    python -m tests.drills --config my.yaml --seed 2         other settings, other series
    python -m tests.drills --write-docs                      its table in docs/detection.md

``series.py`` makes the series, ``judge.py`` judges the episodes that ``faust-anomaly detect`` reports for them. No
detector may be fitted to them: try another seed.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


if __name__ == "__main__":
    from tests.drills.command import main

    main()

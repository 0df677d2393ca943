"""The figures of detection on public data sets: ``faust-anomaly detect`` over all files, and a scorer that is not ours.

    python -m tests.evaluate                                    the default settings: a quarter of a minute
    python -m tests.evaluate --config my.yaml                   others
    python -m tests.evaluate --method zscore --write-docs       a detector alone too; its row in docs/detection.md
    python -m tests.evaluate --every-method --write-docs        each detector alone too: half an hour

Data and scorers are looked for in ../shared/data (or --data, or $EVALUATION_DATA): most may not ship. Where there are
none, the series that ship with the program are scored by ``faust-anomaly evaluate``.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


if __name__ == "__main__":
    from tests.evaluate.command import main

    main()

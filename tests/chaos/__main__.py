"""``make chaos``: a campaign of faults, counted beforehand, against real workers and a real broker.

    python -m tests.chaos --kills 200 --failpoints 180 --zombies 60 --members 100 --brokers 20 --records 5000000

Ends with status 0 when nothing was lost, wrong or repeated (but by a worker beyond its session) and every planned
fault happened; a failed run keeps its directory: settings, logs of the workers, and the broker's data. Everything
listens on 127.0.0.1 and is gone at the end. ``--write-docs`` writes the tables into docs/guarantees.md.
"""

import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


if __name__ == "__main__":
    from chaos.command import main

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing started is left behind
    main()

"""How many sources one worker holds and recovers, and whether its memory stays flat.

    python -m tests.limits                                   a million sources: some minutes, 6 GB of memory and disk
    python -m tests.limits --only soak --soak-minutes 30     half an hour of load

Prints figures beside what is promised; ends with status 1 when one is missed. Everything listens on 127.0.0.1 and
is gone at the end.
"""

import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


if __name__ == "__main__":
    from tests.limits.command import main

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing started is left behind
    main()

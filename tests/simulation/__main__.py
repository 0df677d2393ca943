"""The commit protocol under thousands of simulated schedules: no broker, no clock, nothing listens.

    python -m tests.simulation --schedules 10000

The program's own code, from a fetched batch to the accepted commit, runs in simulated processes against a simulated
broker (worker.py says what is real). Hypothesis draws what happens: records, sizes of fetches, how long each request
and each acknowledgement takes, crashes between any two steps of an event loop, SIGTERM, processes that stand still
beyond their session and go on, lost connections, rebalances, compaction and retention at any time. Two schedules in
seven are with the hop of ``input.rekey``.

Ends with status 0 when every promise held in all of them. Else it prints a schedule, made small, and the line of
Python that plays it again. ``--seed`` repeats a search; without it each search is another one.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


if __name__ == "__main__":
    from simulation.command import main

    main()

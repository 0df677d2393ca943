"""Workers with one rule of the commit protocol broken: what the checker must flag (controls.py).

RECKLESS=replay_from_the_acked_position python reckless.py worker --config FILE
"""

import os
import sys
from pathlib import Path
from typing import Any


def replay_from_the_acked_position() -> None:
    """Commit as if every answered point were inside a snapshot."""
    from app.stream.ledger import Ledger

    Ledger.replay_point = Ledger.position


def snapshots_before_results() -> None:
    """Save a batch's state before its results are acknowledged."""
    from app.stream.compute import EMPTY
    from app.stream.partition import Partition

    deliver_all = Partition._deliver_all

    async def deliver_all_saved(self: Partition) -> None:
        get = self._outgoing.get

        async def get_saved():
            batch = await get()
            await self._settle_snapshots(batch.output)
            batch.output.snapshots = EMPTY
            return batch

        self._outgoing.get = get_saved
        await deliver_all(self)

    Partition._deliver_all = deliver_all_saved


def plain_source_keys() -> None:
    """Save a source under the same key whoever owns it, as a table does; nobody then needs tombstones."""
    from tables import sources

    take_over = sources.ChangelogSources.__init__

    def take_over_plainly(self: sources.ChangelogSources, rows: Any) -> None:
        take_over(self, rows)
        self._ownership = bytes(sources.TAG)

    sources.ChangelogSources.__init__ = take_over_plainly
    sources.ChangelogSources.tombstones = lambda self, slots: []


def duplicates_kept() -> None:
    """Score what the hop of input.rekey has written twice as often."""
    from app.stream.origins import Origins

    Origins.fresh = lambda self, points: points


FAULTS = {
    fault.__name__: fault
    for fault in (replay_from_the_acked_position, snapshots_before_results, plain_source_keys, duplicates_kept)
}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from app.cli import main

    FAULTS[os.environ["RECKLESS"]]()
    main()

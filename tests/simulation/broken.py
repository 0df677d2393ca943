"""Workers with one rule of the commit protocol broken: what the referee must flag.

Each is a context in which the program's own code is wrong in one place.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from chaos import reckless
from simulation.worker import Fetched

import app.stream.takeover
from app.stream.committer import REKEYS, CommitPoint
from app.stream.compute import PartitionState
from app.stream.ledger import Ledger
from app.stream.origins import Origins
from app.stream.partition import Partition
from app.stream.rekey import RekeyPartition
from app.stream.takeover import Takeover
from tables.sources import ChangelogSources


def replay_from_the_acked_position() -> AbstractContextManager[Any]:
    """Commit as if every answered point were inside a snapshot."""
    return patch.object(Ledger, "replay_point", Ledger.position)


def position_of_what_is_computed() -> AbstractContextManager[Any]:
    """Commit what is computed, acknowledged or not."""
    return patch.object(Ledger, "position", property(lambda self: self.next))


def snapshots_in_flight_do_not_hold() -> AbstractContextManager[Any]:
    """Move the replay point past a snapshot that is not acknowledged."""
    take = Ledger.take

    def careless(self: Ledger, batch: Any, slots: Any) -> None:
        take(self, batch, slots)
        batch.hold = batch.end

    return patch.object(Ledger, "take", careless)


@contextmanager
def snapshots_before_results() -> Iterator[None]:
    """Save a batch's state before its results are acknowledged."""
    with patch.object(Partition, "_deliver_all", Partition._deliver_all):
        reckless.snapshots_before_results()
        yield


@contextmanager
def results_before_dead_letters() -> Iterator[None]:
    """Send the results first, though they are the watermark: a point is done with all it gives."""
    beside, send = Partition._send_to_other, Partition._send
    held: list[tuple[str, list[Any]]] = []

    async def hold(self: Partition, topic: str, records: list[Any]) -> list[Any]:
        if records:
            held.append((topic, records))
        return []

    async def send_and_let_go(self: Partition, topic: str, records: Any, halfway: str) -> list[Any]:
        sent = await send(self, topic, records, halfway)
        while held and topic == self._job.settings.kafka.output_topic:
            await self._outbox.acknowledged(sent)
            await self._outbox.acknowledged(await beside(self, *held.pop(0)))
        return sent

    with patch.object(Partition, "_send_to_other", hold), patch.object(Partition, "_send", send_and_let_go):
        yield


@contextmanager
def plain_source_keys() -> Iterator[None]:
    """Key a changelog record by its source alone, so that the cleaner keeps whatever came last."""
    own = {name: getattr(ChangelogSources, name) for name in ("__init__", "tombstones")}
    with patch.multiple(ChangelogSources, **own):
        reckless.plain_source_keys()
        yield


def no_watermark() -> AbstractContextManager[Any]:
    """Emit whatever is replayed."""
    start = Takeover.start
    return patch.object(Takeover, "start", lambda *given: start(*given)._replace(watermark=(-1, 0)))


def watermark_without_index() -> AbstractContextManager[Any]:
    """Take an array for emitted when its first element is."""
    start = Takeover.start

    def whole(*given: Any) -> Any:
        found = start(*given)
        return found._replace(watermark=(found.watermark[0], app.stream.takeover.WHOLE))

    return patch.object(Takeover, "start", whole)


def learns_what_a_snapshot_holds() -> AbstractContextManager[Any]:
    """Take every replayed point into the state, those that the snapshot holds too."""
    return patch.object(PartitionState, "_not_yet_learned", lambda self, points, counts: points)


def forgets_at_dead_letters() -> AbstractContextManager[Any]:
    """Found here: a replayed batch of nothing but dead letters ended the skipping of points that a snapshot holds."""
    not_yet_learned = PartitionState._not_yet_learned

    def forgetful(self: PartitionState, points: Any, counts: Any) -> Any:
        if not len(points):
            self.sources.covered.clear()
        return not_yet_learned(self, points, counts)

    return patch.object(PartitionState, "_not_yet_learned", forgetful)


def keeps_partitions_it_lost() -> AbstractContextManager[Any]:
    """Go on with the state in memory although another worker owned the partition in between."""
    return patch.object(app.stream.takeover, "_unchanged", lambda *_: True)


def takes_what_an_earlier_ownership_fetched() -> AbstractContextManager[Any]:
    """Score records fetched before the rebalance, though others may lie between them and the replay point."""

    def careless(self: Partition, fetches: list[Any]) -> list[Any]:
        records = [record for fetched in fetches for record in fetched.records if record.offset >= self.ledger.next]
        return [Fetched(self.number, records, records[-1].offset + 1, -1)] if self.active and records else []

    return patch.object(Partition, "_current", careless)


def sees_only_the_first_gap() -> AbstractContextManager[Any]:
    """Found here too: lost records were looked for before the first fetch of a batch, not between the others."""
    gaps = Partition._gaps
    return patch.object(Partition, "_gaps", lambda self, fetches: gaps(self, fetches[:1]))


def trusts_what_has_a_tombstone() -> AbstractContextManager[Any]:
    """Found here: a zombie's late snapshot, loaded though its key has a tombstone, was taken for saved."""
    return patch.object(ChangelogSources, "unsaved", [])


def duplicates_kept() -> AbstractContextManager[Any]:
    """Score what the hop of input.rekey wrote a second time."""
    return patch.object(Origins, "fresh", lambda self, points: points)


def origins_of_now() -> AbstractContextManager[Any]:
    """Commit the highest origins seen, not those below the replay point: what is read again looks like duplicates."""
    at = Origins.at
    return patch.object(Origins, "at", lambda self, replay, next_: (replay, at(self, next_, next_)[1]))


def position_of_what_is_read() -> AbstractContextManager[Any]:
    """Commit in the hop what is read, acknowledged by source or not."""
    return patch.object(RekeyPartition, "to_commit", lambda self: CommitPoint(self.next, {REKEYS: True}))


BROKEN = (
    replay_from_the_acked_position,
    position_of_what_is_computed,
    snapshots_in_flight_do_not_hold,
    snapshots_before_results,
    results_before_dead_letters,
    plain_source_keys,
    no_watermark,
    watermark_without_index,
    learns_what_a_snapshot_holds,
    forgets_at_dead_letters,
    keeps_partitions_it_lost,
    takes_what_an_earlier_ownership_fetched,
    sees_only_the_first_gap,
    trusts_what_has_a_tombstone,
    duplicates_kept,
    origins_of_now,
    position_of_what_is_read,
)

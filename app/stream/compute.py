"""The state of one partition, and the computation of its batches: records in, everything to be sent out.

Plain Python: no asyncio, no Kafka, no metrics; the clock is a parameter. After each call state, open batches and
snapshots belong to the same offset. app/stream/partition.py calls it and sends its output.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from app.compiled.byte_columns import Column, Encoded, Header
from app.pipeline import Pipeline
from app.pipeline.outcome import Outcome
from app.pipeline.points import Points
from app.settings import Settings
from app.stream.batch_counts import BatchCounts
from app.stream.ledger import Ledger, OpenBatch
from app.stream.origins import Origins
from app.stream.output_watermark import Position
from app.stream.state_table import PartitionSources
from app.wire.by_source import BySourceReader
from app.wire.dead_letters import DeadLetter
from app.wire.reader import Reader, Record
from app.wire.results import encode_columns, encode_episodes
from app.wire.shapes import Shape

EMPTY = Encoded.of([])
# Limits of the snapshots of one batch. Common sources stay far below: 4,000 are 6 MB and .1 s. A source of 32 metrics
# with tree detectors takes .2 s; a hundred of them due at once would delay the partition by 20 s.
SNAPSHOT_BYTES, SNAPSHOT_S = 16 << 20, 0.25
WALKED = 1000  # sources checked for silence with each batch, and four more for each of its points


@dataclass
class BatchOutput:
    """Everything that one batch sends."""

    batch: OpenBatch
    dead_letters: list[DeadLetter] = field(default_factory=list)
    episodes: list[tuple[bytes, bytes]] = field(default_factory=list)
    results: Encoded = EMPTY
    produced_at: npt.NDArray[np.float64] | None = None  # Kafka timestamps of the answered records, epoch seconds
    snapshots: Encoded = EMPTY
    tombstones: list[tuple[bytes, None]] = field(default_factory=list)
    forgotten: int = 0  # sources
    counts: BatchCounts = field(default_factory=BatchCounts)


class PartitionState:
    """Sources and ledger of one partition of the topic that is scored.

    Parameters
    ----------
    number
        Of the partition.
    keyed
        A record's key must be its source: see app/wire/reader.py.
    watermark
        Everything up to it was emitted by earlier owners of the partition.
    clock
        Seconds; limits the time that snapshots take.
    origins
        Finds duplicates, with ``input.rekey``; None without.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        pipeline: Pipeline,
        keyed: bool,
        sources: PartitionSources,
        ledger: Ledger,
        watermark: Position,
        clock: Callable[[], float],
        origins: Origins | None = None,
    ) -> None:
        self.number = number
        self.sources = sources
        self.ledger = ledger
        self.replay_committed = ledger.next  # where a successor would begin to read
        self._topic, self._log = settings.kafka.input_topic, settings.kafka.log_topic
        self._shape = Shape.of(settings.output)
        self._forget_after = settings.state.forget_after_records
        self._pipeline = pipeline
        self._origins = origins
        self._reader: Reader | BySourceReader = (
            Reader(settings.input, self._topic, number, keyed)
            if origins is None
            else BySourceReader(settings.input, self._log, number, self._topic)
        )
        self._covers = sources.covers
        self._watermark = watermark
        self._postponed: list[int] = []  # slots that were due for a snapshot when the limit was reached
        self._clock = clock

    def compute_batch(self, records: Sequence[Record], end: int = 0) -> BatchOutput:
        """Score the records, which follow all earlier ones; take the snapshots that are due.

        ``end``: offset up to which the log was read, where that is beyond the last record.
        """
        began = self._clock()
        if self._origins is not None:
            self._origins.note(self.ledger.next)
        output = self._open(records[0].offset, max(records[-1].offset + 1, end))
        output.counts.records = len(records)
        points, dead_letters, elements, skipped = self._reader.read(records)
        output.counts.skipped.update(one.why for one in skipped if one.offset > self._watermark[0])
        output.counts.time_units = self._reader.units
        if self._origins is not None:
            read, points = len(points), self._origins.fresh(points)
            output.counts.duplicates = read - len(points)
        decoded = self._clock()
        points = self._not_yet_learned(points, output.counts)
        outcome = self._pipeline.run(self.sources.rows, points)
        if outcome.rejected:
            dead_letters += self._reader.rejected(records, elements, points, outcome.rejected)
        scored = self._clock()
        touched = self.ledger.learned(*_changed(outcome))
        self._save(output, self.ledger.due(touched))
        self._forget(output, self.silent(WALKED + 4 * len(points)))
        self._encode(output, records, points, outcome, dead_letters)
        output.counts.stage_s = {
            "decode": decoded - began,
            "score": scored - decoded,
            "encode": self._clock() - scored,
        }
        return output

    def pass_over(self, end: int) -> BatchOutput:
        """A batch without points: up to ``end`` the log has none."""
        return self._open(self.ledger.next, end)

    def begin(self) -> dict[str, Any]:
        """What a successor would begin with now: the replay point, and the highest origins below it."""
        if self._origins is None:
            return {"replay": self.ledger.replay_point}
        replay, origins = self._origins.at(self.ledger.replay_point, self.ledger.next)
        return {"replay": replay, "origins": origins}

    def save(self, limit: int) -> BatchOutput:
        """A batch without points: snapshots of the oldest dirty sources."""
        output = self._open(self.ledger.next, self.ledger.next)
        self._save(output, self.ledger.oldest(limit))
        return output

    def silent(self, number: int = WALKED) -> list[int]:
        """Slots, among the next ``number``, of sources that no successor needs."""
        below = self._needless_below
        return self.sources.silent(below, number) if below > 0 else []

    def forget(self, slots: list[int]) -> BatchOutput:
        """A batch without points: tombstones of those of these sources that are still silent."""
        output = self._open(self.ledger.next, self.ledger.next)
        self._forget(output, slots)
        return output

    def _open(self, first: int, end: int) -> BatchOutput:
        return BatchOutput(self.ledger.open(first, end))

    def _not_yet_learned(self, points: Points, counts: BatchCounts) -> Points:
        """Leave out points that a recovered snapshot contains; once replay is over there are none."""
        if not len(points):
            return points  # dead letters alone do not show how far replay is
        covered = self.sources.covered
        if points.offset[0] > self._covers:
            covered.clear()  # replay is over
            return points
        keep = [i for i, (s, o) in enumerate(zip(points.series(), points.offset)) if o > covered.get(s, -1)]
        counts.replayed = len(keep)
        return points if len(keep) == len(points) else points.select(keep)

    def _encode(
        self,
        output: BatchOutput,
        records: Sequence[Record],
        points: Points,
        outcome: Outcome,
        dead_letters: list[DeadLetter],
    ) -> None:
        """Fill in the output beyond the watermark; an earlier owner emitted the rest."""
        start = 0
        watermark = self._watermark
        written_at = self._reader.times(records)
        if records[0].offset <= watermark[0]:
            written_at = written_at[[record.offset > watermark[0] for record in records]]
            start = bisect_right(range(len(points)), watermark, key=lambda i: (points.offset[i], points.index[i]))
            dead_letters = [one for one in dead_letters if (one.offset, one.index) > watermark]
            output.counts.suppressed = start
        output.dead_letters = dead_letters
        output.results = encode_columns(points, outcome, self._topic, self.number, start, self._shape)
        if points.named is not None and len(output.results):
            answered = outcome.offset[start:][outcome.slot[start:] >= 0].tolist()
            places = Column.of([b"%d" % offset for offset in answered])
            output.results = Encoded(output.results.keys, output.results.values, Header(self._log, places))
        output.episodes = encode_episodes(points, outcome, self._topic, self.number, start, self._shape)
        output.produced_at = written_at / 1000.0
        output.counts.count(points, outcome, dead_letters, start)

    def _save(self, output: BatchOutput, due: list[int]) -> None:
        """Take snapshots of these slots at the end of the batch: at least one, and as many as the limits allow.

        The others are first in the next batch; until then they hold the replay point.
        """
        if self._postponed:
            due = list(dict.fromkeys([*filter(self.ledger.dirty, self._postponed), *due]))
        until = self._clock() + SNAPSHOT_S
        taken: list[tuple[bytes, bytes]] = []
        size = 0
        for record in self.sources.snapshots(due, output.batch.end - 1):
            taken.append(record)
            size += len(record[1])
            if size >= SNAPSHOT_BYTES or self._clock() >= until:
                break
        slots, self._postponed = due[: len(taken)], due[len(taken) :]
        self.ledger.take(output.batch, slots)
        if slots:
            output.snapshots = Encoded.of(taken)
            output.tombstones = self.sources.tombstones(slots)

    @property
    def _needless_below(self) -> int:
        """No successor needs a source whose last point is below this offset: see app/state/expiry.py."""
        return self.replay_committed - 2 * self._forget_after

    def _forget(self, output: BatchOutput, slots: list[int]) -> None:
        """Drop these sources; their tombstones are sent after everything that was sent for them before."""
        if slots := [slot for slot in slots if not self.ledger.dirty(slot)]:
            before = len(self.sources.rows)
            output.tombstones += self.sources.forget(slots, self._needless_below)
            output.forgotten = before - len(self.sources.rows)


def _changed(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Slot and offset of every change of state, in offset order: points learned, episodes that expired."""
    learned = outcome.slot >= 0
    slots, offsets = outcome.slot[learned], outcome.offset[learned]
    if outcome.expired:
        slots = np.append(slots, [one.slot for one in outcome.expired])
        offsets = np.append(offsets, outcome.offset[[one.position for one in outcome.expired]])
        order = np.argsort(offsets, kind="stable")
        slots, offsets = slots[order], offsets[order]
    return slots, offsets

"""Counts of one computed batch, for the metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from app.metrics import Metrics
from app.pipeline.outcome import Outcome
from app.pipeline.points import Points
from app.scoring.severity import severity
from app.wire.dead_letters import DeadLetter


@dataclass
class BatchCounts:
    """Points that an earlier owner emitted are counted as suppressed only; dead letters and skipped records that it
    reported are not counted.
    """

    records: int = 0
    duplicates: int | None = None  # points that were in the topic by source before; None: they come from the input
    replayed: int = 0  # points learned again, among those that some snapshot may hold
    suppressed: int = 0  # points
    invalid: Counter[str] = field(default_factory=Counter)  # reason -> dead letters
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> records and elements
    time_units: set[str] = field(default_factory=set)  # found so far in the partition's timestamps: app/wire/times.py
    votes: list[dict[str, int]] = field(default_factory=list)  # of each profile: detector -> points it voted on
    anomalous: int = 0
    opened: Counter[str] = field(default_factory=Counter)  # severity -> episodes
    drifts: int = 0
    newest: float | None = None  # event time
    stage_s: dict[str, float] = field(default_factory=dict)

    def count(self, points: Points, outcome: Outcome, dead_letters: Sequence[DeadLetter], start: int) -> None:
        """Take in what is emitted: these dead letters, and the points from position ``start`` on."""
        self.invalid.update(one.label for one in dead_letters)
        if not len(outcome):
            return
        votes = outcome.votes[start:] == outcome.votes[start:]  # nan: left out
        for number, profile in enumerate(outcome.profiles):
            of = votes if len(outcome.profiles) == 1 else votes[outcome.profile[start:] == number]
            if len(of):
                self.votes.append(dict(zip(profile.detectors, of.sum(axis=0).tolist())))
        self.anomalous = int(np.count_nonzero(outcome.anomaly[start:]))
        if self.anomalous:
            self.opened.update(map(severity, outcome.alert[start:][outcome.opened[start:]].tolist()))
        self.drifts = int(np.count_nonzero(outcome.drift[start:]))
        self.newest = max(points.timestamp)

    def add_to(self, metrics: Metrics, now: float) -> None:
        """``now``: epoch seconds."""
        if self.duplicates is None:
            metrics.records_consumed.inc(self.records)
        else:
            metrics.rekeyed_duplicates.inc(self.duplicates)
        metrics.batch_size.observe(self.records)
        for metric, count in (
            (metrics.replayed_points, self.replayed),
            (metrics.results_suppressed, self.suppressed),
            (metrics.anomalous_points, self.anomalous),
            (metrics.drifts, self.drifts),
        ):
            if count:  # of most batches nothing
                metric.inc(count)
        if self.invalid:
            metrics.invalid(self.invalid)
        if self.skipped:
            metrics.skipped(self.skipped)
        for votes in self.votes:
            metrics.scored(votes)
        if self.opened:
            metrics.opened(self.opened)
        if self.newest is not None:
            metrics.event_time_lag.set(now - self.newest)
        for stage, seconds in self.stage_s.items():
            metrics.stage_duration[stage].observe(seconds)

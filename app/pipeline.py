"""The points of one partition in, what was found in them out; nothing else enters.

The same points give the same Outcome and the same state however they are split into batches and
whichever engine runs: no clock, no randomness, no environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from app.records import Points
    from app.sources import Sources

WARMING_UP, OK, DEGRADED = 0, 1, 2
STATUS = ("warming_up", "ok", "degraded")  # Outcome.status is an index into it


class Rejected(NamedTuple):
    """A point that was read but cannot be scored: a dead letter. It changed no state."""

    position: int  # in the batch
    label: str  # of the fixed set: too_many_metrics
    reason: str


@dataclass(slots=True)
class Outcome:
    """What was found in n points: numpy columns, one row a point, in the points' order.

    Rows of rejected points mean nothing. "Cell" columns have one row for each value, flat, parallel
    to ``Points.values``. Scores are in 0..1, rounded to 6 decimals.
    """

    profiles: Sequence[Any]  # Profile: .detectors (names, in the order of votes' columns), .config_hash
    profile: np.ndarray  # i8[n] index into profiles
    slot: np.ndarray  # i8[n] the source's row; -1 where rejected
    score: np.ndarray  # f8[n] anomaly score
    alert: np.ndarray  # f8[n] alert score
    anomaly: np.ndarray  # bool[n] inside an episode
    status: np.ndarray  # u1[n] index into STATUS
    direction: np.ndarray  # i1[n] -1 below, 1 above, 0 not known
    votes: np.ndarray  # f8[n, D] score by detector, the highest of the metrics; NaN = left out or no such column
    opened: np.ndarray  # bool[n] an episode starts with this point
    closed: np.ndarray  # bool[n] an episode ended just before this point (which is not an anomaly)
    episode_offset: np.ndarray  # i8[n] of the point that opened the episode, where anomaly or closed; else -1
    episode_index: np.ndarray  # i8[n] likewise
    opened_at: np.ndarray  # f8[n] timestamp of the opener, where anomaly or closed
    peak: np.ndarray  # f8[n] highest anomaly score of the episode so far, where anomaly or closed
    length: np.ndarray  # i8[n] points of the episode so far, where anomaly or closed
    expected: np.ndarray  # f8[cells], NaN = not known (warming up, or no detector with a band)
    lower: np.ndarray  # f8[cells]
    upper: np.ndarray  # f8[cells]
    cell_score: np.ndarray  # f8[cells] anomaly score of each metric
    explanation: dict[int, str]  # position -> sentence, where anomaly
    attribution: dict[int, dict[str, float]]  # position -> {metric: score}, where anomaly
    rejected: list[Rejected]

    def __len__(self) -> int:
        return len(self.slot)


class Pipeline:
    """Every profile of the settings (the default one and each override), compiled once, for all partitions.

    ``detection``: settings of the default profile; ``overrides``: settings by pattern of source, the
    first match wins; ``max_metrics``: distinct metrics a source may have; ``engine``: "numba" (the
    default where it can be imported) or "python", which gives the same bits more slowly.
    """

    def __init__(
        self,
        detection: Any,
        overrides: Sequence[Any] = (),
        max_metrics: int = 32,
        engine: Literal["numba", "python"] | None = None,
    ) -> None:
        raise NotImplementedError

    def compile(self) -> None:
        """Compile every profile (seconds, or tenths from the cache). Call it before joining the group."""
        raise NotImplementedError

    def sources(self) -> Sources:
        """No sources yet: the state of one partition."""
        raise NotImplementedError

    def run(self, sources: Sources, points: Points) -> Outcome:
        """Score every point by what was known before it, then learn it; ``sources`` advances."""
        raise NotImplementedError

    def max_snapshot_bytes(self) -> int:
        """The largest snapshot any source can have: 256 bytes of name, max_metrics metrics, any profile."""
        raise NotImplementedError

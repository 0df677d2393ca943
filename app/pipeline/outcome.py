"""The outcome of a batch of points, and the columns that the passes over it fill in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from app.compiled import rows
from app.scoring.episodes import REASONS
from app.scoring.profile import Profile
from app.state.expiry import ExpiredEpisode

WARMING_UP, OK, DEGRADED = 0, 1, 2
SILENCE = REASONS[-1]  # of the end of an expired episode
STATUS = ("warming_up", "ok", "degraded")  # Outcome.status is an index into it


class Rejected(NamedTuple):
    """A point that was read but cannot be scored: a dead letter. It changed no state."""

    position: int  # in the batch
    label: str  # of the fixed set: too_many_metrics, too_many_sources
    reason: str


class Figure(NamedTuple):
    """The figure that a sentence is about: docs/records.md says for each kind what it is."""

    about: float
    usual: float  # what it is compared with


class Computed(NamedTuple):
    """What the passes over n points, of D detectors, give beside the columns of POINT and CELL that they fill in."""

    votes: np.ndarray  # f8[n, D], as in Outcome
    shares: np.ndarray  # f8[n, D], as in Outcome
    raw: np.ndarray  # f8[cells, ..] raw score by detector; behind them, which of its reasons a detector gave
    bands: np.ndarray  # f8[cells, ..] expected, lower and upper of each detector that has a band


@dataclass(slots=True)
class Outcome:
    """The outcome of n points: numpy columns, one row for each point, in the points' order.

    Rows of rejected points have no meaning. "Cell" columns have one row for each value, flat, parallel
    to ``Points.values``. Scores are in 0..1, rounded to 6 decimals.
    """

    profiles: Sequence[Profile]  # .detectors (names, in the order of votes' columns), .config_hash
    profile: np.ndarray  # i8[n] index into profiles
    offset: np.ndarray  # i8[n] as in Points, and so are index, timestamp (f8[n]) and value
    named: np.ndarray  # i8[n] offset in the point's id
    index: np.ndarray  # i8[n]
    timestamp: np.ndarray  # f8[n]
    slot: np.ndarray  # i8[n] the source's row; -1 where rejected
    score: np.ndarray  # f8[n] anomaly score
    alert: np.ndarray  # f8[n] alert score
    anomaly: np.ndarray  # bool[n] inside an episode
    status: np.ndarray  # u1[n] index into STATUS
    direction: np.ndarray  # i1[n] -1 below, 1 above, 0 not known
    votes: np.ndarray  # f8[n, D] score by detector, the highest of the metrics; NaN = left out or no such column
    shares: np.ndarray  # f8[n, D] of each vote in the score, their sum is 1; NaN = none; only where anomaly and the
    # score is theirs: not where it is that of the detector that alerts
    maintenance: np.ndarray  # i8[n] place in the spans of its profile: not learned, no alert; -1: in none
    drift: np.ndarray  # bool[n] the source's scores have drifted, with this one
    opened: np.ndarray  # bool[n] an episode starts with this point
    changed: np.ndarray  # bool[n] the episode goes on, and there is an event that says so
    closed: np.ndarray  # bool[n] an episode ended just before this point (which is not an anomaly)
    kind: np.ndarray  # i1[n] index into KINDS of app/detectors/kinds.py, where anomaly or closed; else -1
    reason: np.ndarray  # u1[n] index into REASONS of app/scoring/episodes.py: why it ended, where closed; else 0
    episode_offset: np.ndarray  # i8[n] of the point that opened the episode, where anomaly or closed; else -1
    episode_index: np.ndarray  # i8[n] likewise
    opened_at: np.ndarray  # f8[n] timestamp of the opener, where anomaly or closed
    peak: np.ndarray  # f8[n] highest alert score of the episode so far, where anomaly or closed
    length: np.ndarray  # i8[n] points of the episode so far, where anomaly or closed
    repeat: np.ndarray  # bool[n] the last point once more: scored, not learned
    lasts: np.ndarray  # bool[n] a detector reports that the cause of the open episode continues
    adapted: np.ndarray  # bool[n] a detector reports that this cause has become normal
    value: np.ndarray  # f8[cells]
    expected: np.ndarray  # f8[cells], NaN = not known (warming up, or no detector with a band)
    lower: np.ndarray  # f8[cells]
    upper: np.ndarray  # f8[cells]
    cell_score: np.ndarray  # f8[cells] anomaly score of each metric
    explanation: dict[int, str]  # position -> sentence, where anomaly
    figure: dict[int, Figure]  # position -> what the sentence is about, where anomaly and the detector says it
    attribution: dict[int, dict[str, float]]  # position -> {metric: score}, where anomaly
    rejected: list[Rejected]
    expired: list[ExpiredEpisode] = field(default_factory=list)  # by position

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def judged(self) -> np.ndarray:
        """bool[n]: a detector that can open an episode has seen enough points to vote."""
        found = np.zeros(len(self), bool)
        for number, profile in enumerate(self.profiles):
            at = np.flatnonzero(self.profile == number)
            found[at] = ~np.isnan(self.votes[at][:, profile.deciding]).all(axis=1)
        return found

    def ends(self) -> dict[tuple[int, int], str]:
        """Why episodes ended, by offset and index of the points that opened them."""
        at = np.flatnonzero(self.closed & (self.slot >= 0))
        openers = zip(self.episode_offset[at].tolist(), self.episode_index[at].tolist())
        ends = {opener: REASONS[reason] for opener, reason in zip(openers, self.reason[at].tolist())}
        return ends | {one.opener: SILENCE for one in self.expired}


def joined(parts: Sequence[Outcome]) -> Outcome:
    """The outcomes of consecutive batches, as that of one batch."""
    points = [0, *accumulate(map(len, parts))]
    found: dict[str, Any] = {"profiles": parts[0].profiles}
    for name in (one.name for one in fields(Outcome) if one.name != "profiles"):
        columns = [getattr(part, name) for part in parts]
        if isinstance(columns[0], np.ndarray):
            found[name] = np.concatenate(columns)
        elif isinstance(columns[0], dict):
            found[name] = {i + first: v for first, column in zip(points, columns) for i, v in column.items()}
        else:
            found[name] = [
                one._replace(position=one.position + first) for first, column in zip(points, columns) for one in column
            ]
    return Outcome(**found)


POINT = rows.dtype(
    [
        ("slot", "i8"),
        ("time", "f8"),
        ("arrived", "f8"),
        ("offset", "i8"),
        ("named", "i8"),  # the offset in its id
        ("index", "i8"),
        ("first", "i8"),  # its cells
        ("last", "i8"),
        ("score", "f8"),
        ("alert", "f8"),
        ("opened_at", "f8"),
        ("peak", "f8"),
        ("episode_offset", "i8"),
        ("episode_index", "i8"),
        ("length", "i8"),
        ("top", "i8"),  # the cell with the highest score
        ("lead", "i8"),  # the detector that voted most for it; -1: none voted; -2: it is the range; -3: a pair parts
        ("joint", "i8"),  # the cell for all its metrics jointly; -1: none
        ("maintenance", "i8"),  # the span that it is in; -1: none
        ("one", "i8"),  # where two metrics are apart that went together: their cells
        ("other", "i8"),
        ("apart", "f8"),  # the surprise, where that begins
        ("figure", "f8"),  # mean size of the last errors, and the usual one
        ("usual", "f8"),
        ("on_line", "f8"),  # the value less, or more, that mean size
        ("own", "?"),
        ("repeat", "?"),
        ("parted", "?"),
        ("lasts", "?"),  # a detector reports that the cause of the open episode continues
        ("recovered", "?"),
        ("adapted", "?"),  # a detector reports that it has become normal
        ("anomaly", "?"),
        ("drift", "?"),
        ("opened", "?"),
        ("changed", "?"),
        ("closed", "?"),
        ("status", "u1"),
        ("direction", "i1"),
        ("kind", "i1"),
        ("reason", "u1"),
    ]
)
CELL = rows.dtype(
    [
        ("row", "i8"),
        ("x", "f8"),
        ("count", "i8"),  # values in the window before it
        ("middle", "f8"),  # their median
        ("score", "f8"),
        ("expected", "f8"),
        ("lower", "f8"),
        ("upper", "f8"),
        ("pair", "i8"),  # the row of what it has to do with other metrics; only where its point has a joint cell
        ("reset", "?"),  # its detectors are reset before this value
        ("reported", "?"),  # a detector of episodes reports it
    ]
)

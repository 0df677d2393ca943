"""Results and episodes to bytes: the wire format of anomaly-results and anomalies.

Whole columns are made first, then one msgspec struct for each point (map over columns: no bytecode for each
point); names and types of the detectors' scores are fixed once per profile.

Other programs rely on field names and their order; tests/unit/wire/test_results.py checks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import compress, repeat
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from app.compiled.byte_columns import Column, Encoded
from app.compiled.jit import AVAILABLE
from app.detectors.kinds import KINDS
from app.pipeline import outcome as outcomes
from app.pipeline.outcome import Outcome
from app.pipeline.points import INDEX_BITS, INDEX_MASK, Points
from app.scoring import severity
from app.scoring.episodes import REASONS
from app.state.expiry import ExpiredEpisode
from app.state.series import joined, to_bytes
from app.state.sources import VALUE
from app.wire import result_json
from app.wire.shapes import PLAIN, Shape, iso

STATUS = np.array(outcomes.STATUS, object)
SEVERITY = np.array(severity.NAMES, object)
DIRECTION = np.array([UNSET, "above", "below"], object)  # by 0, 1, -1
KIND = np.array([*KINDS, UNSET], object)  # by -1: none
REASON = np.array(REASONS, object)
DRIFT = np.array([UNSET, True], object)

Numbers = float | dict[str, float] | UnsetType
Time = float | Annotated[str, Meta(extra_json_schema={"format": "date-time"})]  # epoch s, UTC; text: output.timestamps


class Result(msgspec.Struct, gc=False):
    """One value of anomaly-results. UNSET: does not apply, and is left out."""

    id: str  # topic:partition:offset:index
    source: str
    timestamp: Time
    metric: str | UnsetType  # name that the point gives its value, unless it is "value"
    labels: dict[str, Any] | UnsetType  # fields of the record, as input.labels says
    value: float | UnsetType
    values: dict[str, float] | UnsetType  # by metric, of a vector
    expected: Numbers
    expected_lower: Numbers
    expected_upper: Numbers
    anomaly_score: float  # 0..1
    alert_score: float  # 0..1
    is_anomaly: bool
    episode: str | UnsetType  # id of the result that opened it
    kind: str | UnsetType  # of the episode: one of KINDS
    severity: str
    status: str
    direction: str | UnsetType
    maintenance: str | UnsetType  # name of the span it lies in: not learned, no alert
    drift: bool | UnsetType  # the source's scores have drifted, with this one
    detectors: dict[str, float] | UnsetType  # scores
    weights: dict[str, float] | UnsetType  # share of each vote in the score, or in that of its ensemble
    attribution: dict[str, float] | UnsetType
    explanation: str | UnsetType
    figure: float | UnsetType  # that the explanation is about: docs/records.md says what it is for each kind
    usual: float | UnsetType  # what it is compared with
    config_hash: str


class Standing(msgspec.Struct, gc=False):
    """What an event says of an open episode, behind the fields of the result of the point at which it happened."""

    opened_at: Time
    points: int  # of the episode so far, and so the next one
    peak_score: float
    offset: int  # place of the point in the log, and so the next one; orders the events of a series
    index: int


class Closed(msgspec.Struct, gc=False):
    """The closing event of an episode, in the topic of anomalies."""

    event: str
    episode: str
    kind: str
    source: str
    timestamp: Time  # of the first point after the episode; without one, of its last point
    metric: str | UnsetType  # of the series, unless that is a whole source
    labels: dict[str, Any] | UnsetType  # of the point at which it ended
    points: int
    peak_score: float
    opened_at: Time
    reason: str  # why it ended: one of REASONS
    severity: str  # of its peak
    value: float | UnsetType  # of the first point after it, and so up to expected_upper; without one, left out
    values: dict[str, float] | UnsetType
    expected: Numbers
    expected_lower: Numbers
    expected_upper: Numbers
    offset: int  # place in the log at which it ended
    index: int  # NO_POINT: before all points at this offset


NO_POINT = -1

_encode = msgspec.json.Encoder().encode


class _Ids:
    """Ids of points, topic:partition:offset:index, as ``Points`` says what they are made of."""

    def __init__(self, topic: str, partition: int, points: Points) -> None:
        self._packed = points.named is not None
        self.prefix = f"{topic}:" if self._packed else f"{topic}:{partition}:"  # of all

    def of(self, offsets: list[int], indices: list[int]) -> list[str]:
        prefix = self.prefix
        if self._packed:
            return [f"{prefix}{i >> INDEX_BITS}:{offset}:{i & INDEX_MASK}" for offset, i in zip(offsets, indices)]
        return [f"{prefix}{offset}:{index}" for offset, index in zip(offsets, indices)]

    def places(self, offsets: list[int], indices: list[int]) -> tuple[list[int], list[int]]:
        """Where points are in the log that is scored: behind the hop each is a record of its own."""
        return offsets, [0] * len(indices) if self._packed else indices

    def columns(self, offsets: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(partitions, none where the prefix has it; offsets; indices)."""
        if self._packed:
            return indices >> INDEX_BITS, offsets, indices & INDEX_MASK
        return indices[:0], offsets, indices


def encode_results(
    points: Points, outcome: Outcome, topic: str, partition: int, start: int = 0, shape: Shape = PLAIN
) -> list[tuple[bytes, bytes]]:
    """Key and value of the result of every point from position ``start`` on that was not rejected."""
    results = _results(points, outcome, _Ids(topic, partition, points), range(start, len(points)), shape)
    keys = list(map(str.encode, points.source[start:] if start else points.source))
    encoded = list(zip(keys, map(_encode, results)))
    return encoded if not outcome.rejected else list(compress(encoded, (outcome.slot[start:] >= 0).tolist()))


FEW = 64  # points: below it arrays take longer than they save


def encode_columns(
    points: Points, outcome: Outcome, topic: str, partition: int, start: int = 0, shape: Shape = PLAIN
) -> Encoded:
    """The same bytes as ``encode_results``, in columns, most of them written by compiled code."""
    metric = points.metric
    if points.start is not None and points.single and len(points.values) == len(points):
        metric = points.metrics  # of each point one
    elif points.start is not None:
        return Encoded.of(encode_results(points, outcome, topic, partition, start, shape))
    if shape != PLAIN:
        return Encoded.of(encode_results(points, outcome, topic, partition, start, shape))
    if not AVAILABLE or len(outcome.profiles) > 1 or len(points) - start < FEW:
        return Encoded.of(encode_results(points, outcome, topic, partition, start))
    at = np.flatnonzero(outcome.slot[start:] >= 0) + start
    positions = at.tolist() if outcome.rejected else range(start, len(points))
    keys = Column.of(list(map(str.encode, _pick(points.source, positions))))
    width = len(outcome.profiles[0].detectors)
    floats = [outcome.timestamp, outcome.value, outcome.expected, outcome.lower, outcome.upper]
    votes, score = outcome.votes[at, :width], outcome.score[at]
    alert = outcome.alert[at]
    other = np.where(score == alert, np.nan, alert)
    numbers = np.column_stack([*(column[at] for column in floats), score, other, votes])
    simple = ~outcome.anomaly[at] & ~outcome.drift[at] & (outcome.maintenance[at] < 0) & ~result_json.needs_escape(keys)
    status, voted = outcome.status[at], ~np.isnan(votes).all(axis=1)
    scored = simple & (status == outcomes.OK) & voted
    unscored = simple & (status == outcomes.WARMING_UP) & (score == 0.0) & (alert == 0.0)
    unscored &= ~voted & np.isnan(outcome.expected[at])
    ids = _Ids(topic, partition, points)
    others = [_encode(result) for result in _results(points, outcome, ids, at[~(scored | unscored)].tolist())]
    values = result_json.common(
        ids.prefix,
        keys,
        *ids.columns(outcome.named[at], outcome.index[at]),
        scored * result_json.SCORED + unscored * result_json.UNSCORED,
        numbers[scored],
        numbers[unscored, :2],
        _fields(metric, points.labels, positions),
        severity.severities(outcome.alert[at]),
        outcome.direction[at].astype(np.int64),
        _words(tuple(outcome.profiles[0].detectors), outcome.profiles[0].config_hash),
        Column.of(others),
    )
    return Encoded(keys, values)


def _fields(metric: list[str] | None, labels: list[dict[str, Any] | None] | None, positions: Sequence[int]) -> Column:
    """The fields metric and labels of each point; an empty column when no point has one."""
    names: Iterable[bytes] = repeat(b"")
    if metric is not None:
        of = {name: b"" if name in ("", VALUE) else b',"metric":' + _encode(name) for name in set(metric)}
        names = [of[name] for name in _pick(metric, positions)]
    if labels is None:
        return Column.of([] if metric is None else list(names))
    found = [b"" if some is None else b',"labels":' + _encode(some) for some in _pick(labels, positions)]
    return Column.of([name + some for name, some in zip(names, found)])


def _labels(points: Points, at: Sequence[int]) -> Iterable[Any]:
    return repeat(UNSET) if points.labels is None else [some or UNSET for some in _pick(points.labels, at)]


@lru_cache(maxsize=256)
def _words(detectors: tuple[str, ...], config_hash: str) -> result_json.Words:
    return result_json.Words.of(severity.NAMES, detectors, config_hash)


def encode_episodes(
    points: Points, outcome: Outcome, topic: str, partition: int, start: int = 0, shape: Shape = PLAIN
) -> list[tuple[bytes, bytes]]:
    """Key and value of every event of an episode at a point from position ``start`` on. The key is the series.

    {"event": "opened" or "changed", all of the point's result, and ``Standing``} | {"event": "closed", "episode", ...}
    """
    some = (outcome.opened | outcome.changed | outcome.closed)[start:]
    at = (np.flatnonzero(some & (outcome.slot[start:] >= 0)) + start).tolist() if np.count_nonzero(some) else []
    expired = [one for one in outcome.expired if one.position >= start]
    if not at and not expired:
        return []
    ids = _Ids(topic, partition, points)
    closed = [i for i in at if outcome.closed[i]]
    still_open = [i for i in at if not outcome.closed[i]]
    events = dict(zip(still_open, _standing(points, outcome, ids, still_open, shape)))
    events.update(zip(closed, map(_encode, map(shape.applied, _ended(points, outcome, ids, closed)))))
    series = points.series()
    found = [(i, (to_bytes(series[i]), events[i])) for i in at]
    if expired:
        found = sorted([*_expired(expired, points.single, ids, shape), *found], key=lambda one: one[0])
    return [event for _, event in found]


def _expired(
    expired: Sequence[ExpiredEpisode], single: bool, ids: _Ids, shape: Shape
) -> Iterable[tuple[int, tuple[bytes, bytes]]]:
    for one in expired:
        [episode] = ids.of(*([number] for number in one.opener))
        metric = one.metric or (one.only if single else "")
        series = one.source, one.timestamp, metric or UNSET, UNSET
        of = KINDS[one.kind], *series, one.length, one.peak, one.opened_at, outcomes.SILENCE
        no_point = UNSET, UNSET, UNSET, UNSET, UNSET
        closed = Closed("closed", episode, *of, severity.severity(one.peak), *no_point, one.ended, NO_POINT)
        yield one.position, (to_bytes(joined(one.source, one.metric)), _encode(shape.applied(closed)))


def _standing(points: Points, outcome: Outcome, ids: _Ids, at: list[int], shape: Shape) -> Iterable[bytes]:
    """Events of episodes that are open after these points."""
    opened_at = outcome.opened_at[at].tolist()
    standing = map(
        Standing,
        map(iso, opened_at) if shape.iso else opened_at,
        outcome.length[at].tolist(),
        outcome.peak[at].tolist(),
        *ids.places(_pick(points.offset, at), _pick(points.index, at)),
    )
    for i, result, of_episode in zip(at, _results(points, outcome, ids, at, shape), standing):
        begins = b'{"event":"opened",' if outcome.opened[i] else b'{"event":"changed",'
        yield begins + _encode(result)[1:-1] + b"," + _encode(of_episode)[1:]


def _ended(points: Points, outcome: Outcome, ids: _Ids, at: list[int]) -> Iterable[Closed]:
    if not at:
        return ()
    metric, *cells = _cells(points, outcome, at)
    return map(
        Closed,
        repeat("closed"),
        ids.of(outcome.episode_offset[at].tolist(), outcome.episode_index[at].tolist()),
        KIND[outcome.kind[at]].tolist(),
        _pick(points.source, at),
        _pick(points.timestamp, at),
        metric,
        _labels(points, at),
        outcome.length[at].tolist(),
        outcome.peak[at].tolist(),
        outcome.opened_at[at].tolist(),
        REASON[outcome.reason[at]].tolist(),
        SEVERITY[severity.severities(outcome.peak[at])].tolist(),
        *cells,
        *ids.places(_pick(points.offset, at), _pick(points.index, at)),
    )


def _results(points: Points, outcome: Outcome, ids: _Ids, at: Sequence[int], shape: Shape = PLAIN) -> list[Result]:
    """One result a position. ``at``: ascending positions."""
    if not len(at):
        return []
    rows: Any = slice(at.start, None) if isinstance(at, range) else at
    anomaly = outcome.anomaly[rows]
    inside = np.count_nonzero(anomaly) > 0  # of few points in a tenth of the time of any()
    severe = np.where(anomaly, outcome.peak[rows], outcome.alert[rows]) if inside else outcome.alert[rows]
    metric, *cells = _cells(points, outcome, at)
    columns = (
        ids.of(_pick(points.offset if points.named is None else points.named, at), _pick(points.index, at)),
        _pick(points.source, at),
        _pick(points.timestamp, at),
        metric,
        _labels(points, at),
        *cells,
        outcome.score[rows].tolist(),
        outcome.alert[rows].tolist(),
        anomaly.tolist(),
        _episodes(ids, outcome, rows, anomaly) if inside else repeat(UNSET),
        KIND[np.where(anomaly, outcome.kind[rows], -1)].tolist() if inside else repeat(UNSET),
        SEVERITY[severity.severities(severe)].tolist(),
        STATUS[outcome.status[rows]].tolist(),
        DIRECTION[outcome.direction[rows]].tolist(),
        _maintenance(outcome, rows),
        DRIFT[outcome.drift[rows].astype(np.int64)].tolist() if np.count_nonzero(outcome.drift) else repeat(UNSET),
        _votes(outcome, rows),
        _weights(outcome, rows, anomaly) if inside else repeat(UNSET),
        _where(outcome.attribution, at),
        _where(outcome.explanation, at),
        *_figures(outcome, at),
        [outcome.profiles[number].config_hash for number in outcome.profile[rows].tolist()],
    )
    found = list(map(Result, *columns))
    return found if shape == PLAIN else list(map(shape.applied, found))


def _pick(column: list, at: Sequence[int]) -> list:
    if isinstance(at, range):
        return column[at.start :] if at.start else column
    return [column[i] for i in at]


def _where(known: dict[int, Any], at: Sequence[int]) -> Iterable[Any]:
    return [known.get(i, UNSET) for i in at] if known else repeat(UNSET)


def _figures(outcome: Outcome, at: Sequence[int]) -> Sequence[Iterable[Any]]:
    if not outcome.figure:
        return repeat(UNSET), repeat(UNSET)
    return list(zip(*(outcome.figure.get(i, (UNSET, UNSET)) for i in at)))


def _episodes(ids: _Ids, outcome: Outcome, rows: Any, anomaly: np.ndarray) -> Iterable[Any]:
    openers = ids.of(outcome.episode_offset[rows].tolist(), outcome.episode_index[rows].tolist())
    return [id if inside else UNSET for id, inside in zip(openers, anomaly.tolist())]


def _maintenance(outcome: Outcome, rows: Any) -> Iterable[Any]:
    if not np.count_nonzero(outcome.maintenance >= 0):
        return repeat(UNSET)
    found = zip(outcome.profile[rows].tolist(), outcome.maintenance[rows].tolist())
    return [UNSET if at < 0 else outcome.profiles[number].maintenance.spans[at].name for number, at in found]


def _votes(outcome: Outcome, rows: Any) -> list[Any]:
    """{name: score} of each point's detectors that voted."""
    votes, profiles = outcome.votes[rows], outcome.profile[rows]
    voted = votes == votes  # nan: left out
    types = [_votes_type(tuple(profile.detectors)) for profile in outcome.profiles]
    if len(types) == 1 and np.count_nonzero(voted) == voted.size:
        return list(map(types[0], *votes.T.tolist()))
    cast = voted.sum(axis=1)
    widths = np.array([len(profile.detectors) for profile in outcome.profiles])
    complete = cast == widths[profiles]
    return [
        (types[number](*row[: widths[number]]) if whole else _some(types[number], row)) if given else UNSET
        for row, number, given, whole in zip(votes.tolist(), profiles.tolist(), cast.tolist(), complete.tolist())
    ]


def _weights(outcome: Outcome, rows: Any, anomaly: np.ndarray) -> Iterable[Any]:
    """{name: share} of each anomaly that more than one detector scored."""
    shares, profiles = outcome.shares[rows], outcome.profile[rows].tolist()
    several = anomaly & ((shares == shares).sum(axis=1) > 1)
    return [
        {name: round(share, 6) for name, share in zip(outcome.profiles[number].detectors, row) if share == share}
        if shown else UNSET
        for row, number, shown in zip(shares.tolist(), profiles, several.tolist())
    ]  # fmt: skip


def _some(type_: Any, row: list[float]) -> Any:
    return type_(*(UNSET if vote != vote else vote for vote in row[: len(type_.__struct_fields__)]))


@lru_cache(maxsize=256)
def _votes_type(detectors: tuple[str, ...]) -> Any:
    fields: list[tuple] = [(f"vote{i}", float | UnsetType, UNSET) for i in range(len(detectors))]
    rename = {f"vote{i}": name for i, name in enumerate(detectors)}
    return msgspec.defstruct("Votes", fields, rename=rename, gc=False)


def _cells(points: Points, outcome: Outcome, at: Sequence[int]) -> tuple[Iterable[Any], ...]:
    """metric, value, values, expected, expected_lower, expected_upper."""
    bands = (outcome.expected, outcome.lower, outcome.upper)
    if points.start is None or points.metrics is None:
        names = repeat(UNSET) if points.metric is None else [name or UNSET for name in _pick(points.metric, at)]
        known = [_known(band[at.start :] if isinstance(at, range) else band[at]) for band in bands]
        return names, _pick(points.values, at), repeat(UNSET), *known
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [])
    flat = [band.tolist() for band in bands]
    for i in at:
        first, end = points.start[i], points.start[i + 1]
        metrics = points.metrics[first:end]
        if end - first == 1 and (points.single or metrics[0] == VALUE or (points.metric and points.metric[i])):
            row = (
                UNSET if metrics[0] == VALUE else metrics[0],
                points.values[first],
                UNSET,
                *(UNSET if band[first] != band[first] else band[first] for band in flat),
            )
        else:
            row = (
                UNSET,
                UNSET,
                dict(zip(metrics, points.values[first:end])),
                *({m: v for m, v in zip(metrics, band[first:end]) if v == v} or UNSET for band in flat),
            )
        for column, cell in zip(columns, row):
            column.append(cell)
    return columns


def _known(band: np.ndarray) -> list[Any]:
    numbers = band.tolist()
    return numbers if not np.count_nonzero(np.isnan(band)) else [UNSET if v != v else v for v in numbers]

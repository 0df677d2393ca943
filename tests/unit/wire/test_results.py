"""Results and episodes: the wire format, held to a dict built field by field and to Python's json."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.detectors.kinds import KINDS
from app.pipeline import Pipeline
from app.pipeline.outcome import Figure, Outcome, Rejected
from app.pipeline.points import Points
from app.scoring.maintenance import Maintenance, Span
from app.scoring.severity import severity
from app.settings import Detection, InputSettings
from app.state.series import to_bytes
from app.wire.reader import Reader
from app.wire.results import encode_episodes, encode_results

ORDER = [
    *(
        "id",
        "source",
        "timestamp",
        "metric",
        "labels",
        "value",
        "values",
        "expected",
        "expected_lower",
        "expected_upper",
    ),
    *("anomaly_score", "alert_score", "is_anomaly", "episode", "kind", "severity", "status", "direction"),
    *("maintenance", "drift", "detectors", "weights", "attribution", "explanation", "figure", "usual", "config_hash"),
]
SPANS = Maintenance([Span("A", 0.0, 1.0, "*"), Span('Büro "7"', 0.0, 1.0, "*")])
PROFILES = (
    SimpleNamespace(detectors=("moving_average", "Half-Space Trees"), config_hash="0badcafe", maintenance=SPANS),
    SimpleNamespace(detectors=("zscore",), config_hash="deadbeef", maintenance=SPANS),
)
NAN = math.nan
LABELS = [None, {"tags.host": "web-1"}, {'ro"om': "B\u00fcro", "floor": 3, "open": True}]
score = st.floats(0, 1).map(lambda s: math.floor(s * 1e6 + 0.5) / 1e6)
number = st.floats(-1e150, 1e150)


@st.composite
def scored(draw, several: bool | None = None):
    """Points, and an outcome of them with every column drawn."""
    n = draw(st.integers(1, 5))
    several = draw(st.booleans()) if several is None else several
    cells = [draw(st.integers(1, 3)) for _ in range(n)] if several else [1] * n
    names = [["value"], ["flow"], ["a", "b"], ["x", "y", "z"]]
    metrics = [draw(st.sampled_from([m for m in names if len(m) == c])) for c in cells]
    # Names of series, and vectors that have one metric.
    metric = [draw(st.sampled_from(["", m[0]])) if len(m) == 1 and several else "" for m in metrics]
    if not several:
        metric = [draw(st.sampled_from(["", "flow", 'st"röm'])) for _ in range(n)]
    metric = ["" if name == "value" else name for name in metric]
    flat = sum(cells)

    def column(of, size=n, dtype=np.float64):
        return np.array(draw(st.lists(of, min_size=size, max_size=size)), dtype)

    start = [0, *np.cumsum(cells).tolist()]
    points = Points(
        offset=sorted(draw(st.lists(st.integers(0, 2**60), min_size=n, max_size=n))),
        index=draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)),
        source=draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=n, max_size=n)),
        timestamp=draw(st.lists(st.floats(0, 7e9), min_size=n, max_size=n)),
        own_time=[True] * n,
        values=draw(st.lists(number, min_size=flat, max_size=flat)),
        metrics=[m for of in metrics for m in of] if several else None,
        start=start if several else None,
        metric=metric if any(metric) else None,
        labels=draw(st.none() | st.lists(st.sampled_from(LABELS), min_size=n, max_size=n)),
    )
    anomaly = column(st.booleans(), dtype=bool)
    events, others = column(st.booleans(), dtype=bool), column(st.booleans(), dtype=bool)
    outcome = Outcome(
        profiles=PROFILES,
        profile=column(st.integers(0, 1), dtype=np.int64),
        offset=np.array(points.offset, np.int64),
        named=np.array(points.offset, np.int64),
        index=np.array(points.index, np.int64),
        timestamp=np.array(points.timestamp),
        slot=column(st.integers(-1, 5), dtype=np.int64),
        score=column(score),
        alert=column(score | st.sampled_from([0.8, 0.9, 0.95])),
        anomaly=anomaly,
        status=column(st.integers(0, 2), dtype=np.uint8),
        direction=column(st.integers(-1, 1), dtype=np.int8),
        maintenance=column(st.integers(-1, 1), dtype=np.int64),
        drift=column(st.booleans(), dtype=bool),
        votes=column(score | st.just(NAN), 2 * n).reshape(n, 2),
        shares=column(score | st.just(NAN), 2 * n).reshape(n, 2),
        opened=events & anomaly,
        changed=others & ~events & anomaly,
        closed=events & ~anomaly,
        kind=column(st.integers(0, len(KINDS) - 1), dtype=np.int8),
        reason=column(st.integers(1, 2), dtype=np.uint8),
        episode_offset=column(st.integers(0, 2**60), dtype=np.int64),
        episode_index=column(st.integers(0, 9), dtype=np.int64),
        opened_at=column(st.floats(0, 7e9)),
        peak=column(score),
        length=column(st.integers(1, 9), dtype=np.int64),
        repeat=column(st.booleans(), dtype=bool),
        lasts=column(st.booleans(), dtype=bool),
        adapted=column(st.booleans(), dtype=bool),
        value=np.array(points.values),
        expected=column(number | st.just(NAN), flat),
        lower=column(number | st.just(NAN), flat),
        upper=column(number | st.just(NAN), flat),
        cell_score=column(score, flat),
        explanation={i: f"because {i}" for i in np.flatnonzero(anomaly).tolist()},
        figure=draw(st.fixed_dictionaries({}, optional={i: st.builds(Figure, number, number) for i in range(n)})),
        attribution={i: {"a": 0.5} for i in np.flatnonzero(anomaly).tolist()},
        rejected=[],
    )
    outcome.votes[outcome.profile == 1, 1] = NAN  # of the profile with one detector
    outcome.shares[outcome.profile == 1, 1] = NAN
    outcome.rejected = [Rejected(i, "too_many_metrics", "no") for i in np.flatnonzero(outcome.slot < 0).tolist()]
    return points, outcome


def expected(points: Points, outcome: Outcome, i: int) -> dict:
    """The result of point i, from the description of the wire format."""
    first, end = (points.start[i], points.start[i + 1]) if points.start else (i, i + 1)
    metrics = points.names(i)
    alone = metrics == ["value"] or (points.metric is not None and points.metric[i] != "")
    profile = PROFILES[outcome.profile[i]]
    found = {
        "id": f"raw-data:3:{points.offset[i]}:{points.index[i]}",
        "source": points.source[i],
        "timestamp": points.timestamp[i],
    }
    if alone and metrics != ["value"]:
        found["metric"] = metrics[0]
    if points.labels and points.labels[i]:
        found["labels"] = points.labels[i]
    if alone:
        found["value"] = points.values[first]
    else:
        found["values"] = dict(zip(metrics, points.values[first:end], strict=True))
    for name, band in (
        ("expected", outcome.expected),
        ("expected_lower", outcome.lower),
        ("expected_upper", outcome.upper),
    ):
        known = {m: float(v) for m, v in zip(metrics, band[first:end], strict=True) if not math.isnan(v)}
        if known:
            found[name] = known[metrics[0]] if alone else known
    found |= {
        "anomaly_score": float(outcome.score[i]),
        "alert_score": float(outcome.alert[i]),
        "is_anomaly": bool(outcome.anomaly[i]),
    }
    if outcome.anomaly[i]:
        found["episode"] = f"raw-data:3:{outcome.episode_offset[i]}:{outcome.episode_index[i]}"
        found["kind"] = KINDS[outcome.kind[i]]
    alert = outcome.peak[i] if outcome.anomaly[i] else outcome.alert[i]
    found["severity"] = "critical" if alert > 0.95 else "high" if alert > 0.9 else "medium" if alert > 0.8 else "low"
    found["status"] = ["warming_up", "ok", "degraded"][outcome.status[i]]
    if outcome.direction[i]:
        found["direction"] = "above" if outcome.direction[i] > 0 else "below"
    if outcome.maintenance[i] >= 0:
        found["maintenance"] = SPANS.spans[outcome.maintenance[i]].name
    if outcome.drift[i]:
        found["drift"] = True
    votes = {d: float(v) for d, v in zip(profile.detectors, outcome.votes[i]) if not math.isnan(v)}
    if votes:
        found["detectors"] = votes
    weights = {d: round(float(v), 6) for d, v in zip(profile.detectors, outcome.shares[i]) if not math.isnan(v)}
    if outcome.anomaly[i] and len(weights) > 1:
        found["weights"] = weights
    if i in outcome.attribution:
        found["attribution"] = outcome.attribution[i]
    if i in outcome.explanation:
        found["explanation"] = outcome.explanation[i]
    if i in outcome.figure:
        found |= {"figure": outcome.figure[i].about, "usual": outcome.figure[i].usual}
    return found | {"config_hash": profile.config_hash}


def strict(value: bytes) -> dict:
    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    return json.loads(value.decode(), parse_constant=refuse)


@given(scored(), st.integers(0, 5))
def test_a_result_is_what_the_wire_format_says(drawn, start):
    points, outcome = drawn
    encoded = encode_results(points, outcome, "raw-data", 3, start)
    kept = [i for i in range(start, len(points)) if outcome.slot[i] >= 0]
    assert [key for key, _ in encoded] == [points.source[i].encode() for i in kept]
    for i, (_, value) in zip(kept, encoded, strict=True):
        found = strict(value)
        assert found == expected(points, outcome, i)
        assert list(found) == [name for name in ORDER if name in found]
    assert encoded == encode_results(points, outcome, "raw-data", 3, start)


@given(scored(), st.integers(0, 5))
def test_an_episode_is_told_where_it_opens_changes_and_closes(drawn, start):
    points, outcome = drawn
    encoded = encode_episodes(points, outcome, "raw-data", 3, start)
    events = outcome.opened | outcome.changed | outcome.closed
    told = [i for i in range(start, len(points)) if events[i] and outcome.slot[i] >= 0]
    assert [key for key, _ in encoded] == [to_bytes(points.series()[i]) for i in told]
    for i, (_, value) in zip(told, encoded, strict=True):
        result, place = expected(points, outcome, i), {"offset": points.offset[i], "index": points.index[i]}
        standing = {
            "opened_at": outcome.opened_at[i], "points": outcome.length[i], "peak_score": outcome.peak[i], **place
        }  # fmt: skip
        if not outcome.closed[i]:
            found = {"event": "opened" if outcome.opened[i] else "changed"} | result | standing
            assert strict(value) == found and list(strict(value)) == list(found)
        else:
            numbers = ("value", "values", "expected", "expected_lower", "expected_upper")
            assert strict(value) == place | {
                **{name: result[name] for name in numbers if name in result},
                "severity": severity(float(outcome.peak[i])),
                "event": "closed",
                "episode": f"raw-data:3:{outcome.episode_offset[i]}:{outcome.episode_index[i]}",
                "kind": KINDS[outcome.kind[i]],
                "source": points.source[i],
                "timestamp": points.timestamp[i],
                **({"metric": points.metric[i]} if points.metric and points.metric[i] else {}),
                **({"labels": points.labels[i]} if points.labels and points.labels[i] else {}),
                "points": outcome.length[i],
                "peak_score": outcome.peak[i],
                "opened_at": outcome.opened_at[i],
                "reason": ["", "recovered", "adapted"][outcome.reason[i]],
            }


def test_no_points_no_results():
    assert encode_results(Points(), SimpleNamespace(rejected=[]), "raw-data", 3) == []


def test_results_of_a_real_run_are_the_same_bytes_however_it_is_split():
    """From bytes to bytes: read, scored, encoded; batches of 1, of 7, and all at once."""
    detection = Detection(
        detectors={"moving_average": {"threshold_multiplier": 3.0}, "statistical": {"method": "zscore"}}
    )
    values = [10 + math.sin(i) + (9 if i in (70, 71, 90) else 0) for i in range(100)]
    raw = [json.dumps({"source": "pump-7", "timestamp": i, "value": v}).encode() for i, v in enumerate(values)]
    records = [SimpleNamespace(value=v, key=b"pump-7", headers=(), timestamp=0, offset=i) for i, v in enumerate(raw)]

    def told(size: int) -> tuple[list, list]:
        pipeline = Pipeline(detection, engine="python")
        sources, results, episodes = pipeline.sources(), [], []
        for at in range(0, len(records), size):
            points, dead_letters, *_ = Reader(InputSettings(), "raw-data", 0, True).read(records[at : at + size])
            outcome = pipeline.run(sources, points)
            assert dead_letters == []
            results += encode_results(points, outcome, "raw-data", 0)
            episodes += encode_episodes(points, outcome, "raw-data", 0)
        return results, episodes

    results, episodes = told(100)
    assert told(1) == told(7) == (results, episodes)
    found = [strict(value) for _, value in results]
    assert [one["id"] for one in found] == [f"raw-data:0:{i}:0" for i in range(100)]
    assert [one["value"] for one in found] == values
    assert found[0]["status"] == "warming_up"
    assert found[70]["is_anomaly"]
    assert found[70]["episode"] == found[70]["id"]
    opened = [strict(value) for _, value in episodes if b'"opened"' in value]
    openers = [one for one in found if one.get("episode") == one["id"]]
    for event, one in zip(opened, openers, strict=True):
        added = {"event": "opened", "opened_at": one["timestamp"], "points": 1, "peak_score": one["alert_score"]}
        assert event == one | added | {"offset": int(one["id"].split(":")[2]), "index": 0}
    assert sum(b'"closed"' in value for _, value in episodes) in (len(opened), len(opened) - 1)


def test_the_checker_would_notice_a_wrong_field():
    with pytest.raises(AssertionError, match="NaN"):
        strict(b'{"value": NaN}')

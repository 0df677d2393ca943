"""Bytes of state, snapshots, results and events with these settings, found by scoring some points.

The points are noise of three decimals from sources of similar names; other values pack better or worse.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np

from app.compiled.byte_columns import Encoded
from app.kafka.record_batch import framed
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.scoring.profile import PAIR, SOURCE
from app.settings import Settings
from app.state import snapshot
from app.wire.results import encode_episodes, encode_results
from app.wire.shapes import Shape

FILLED = 400  # points of a source until its windows are full
SOURCES, ADAPTED_SOURCES = 12, 1  # models of libraries take long to fit
BATCHES = (1, 10, 100, 1000)  # records in a batch that is packed
LIMIT = 900_000
SPIKE = 40.0


@dataclass(frozen=True)
class Footprint:
    """Bytes, of a record with so many metrics. ``packed_*``: records in a batch -> bytes of one in the log."""

    metrics: int
    methods: dict[str, int]  # detector -> how many of the settings use it
    row: int  # of a series in memory, without models of libraries
    snapshot: int  # before it is packed
    packed_snapshot: float
    result: float  # before it is packed
    packed_result: dict[int, float]
    event: float  # of an episode, in a batch of its own
    raw: float  # value and key of a record of the plain shape, before it is packed
    packed_raw: dict[str, float]  # codec -> share of it that is left, in batches of 100


def of(settings: Settings, metrics: int = 1) -> Footprint:
    """Raises ConfigurationError where the detectors cannot be made."""
    warnings.simplefilter("ignore")  # of libraries, about our noise
    pipeline = Pipeline(settings.detection, max_metrics=max(metrics, settings.input.max_metrics))
    pipeline.compile()
    profile = pipeline.profiles[0]
    sources, count = pipeline.sources(), ADAPTED_SOURCES if profile.adapters else SOURCES
    shape = Shape.of(settings.output)
    points = made(count, metrics, FILLED)
    outcome = pipeline.run(sources, points)
    results = encode_results(points, outcome, settings.kafka.log_topic, 0, shape=shape)[-BATCHES[-1] :]
    saved = [(b"source-%d" % slot + bytes(9), snapshot.dumps(sources, slot, len(points))) for slot in range(count)]
    spiked = made(count, metrics, 1, SPIKE)
    events = encode_episodes(spiked, pipeline.run(sources, spiked), settings.kafka.log_topic, 0, shape=shape)
    codec = settings.kafka.compression
    joint = metrics > 1 and profile.joins
    raw = [(f"source-{i % count}".encode(), record(points, i)) for i in range(100)]
    return Footprint(
        metrics=metrics,
        methods=dict(Counter(member.method for member in profile.members)),
        row=SOURCE.itemsize + profile.cell.itemsize * (metrics + joint) + PAIR.itemsize * metrics * joint,
        snapshot=max(len(value) for _, value in saved),
        packed_snapshot=packed(saved, codec),
        result=sum(len(key) + len(value) for key, value in results) / len(results),
        packed_result={n: packed(results[-n:], codec) for n in BATCHES},
        event=packed(events[:1] or results[-1:], codec),
        raw=sum(len(key) + len(value) for key, value in raw) / len(raw),
        packed_raw={one: packed(raw, one) / packed(raw, "none") for one in ("none", "gzip", "snappy", "lz4", "zstd")},
    )


def packed(records: list[tuple[bytes, bytes]], codec: str) -> float:
    """Bytes of one of these records in the log, in a batch of all of them."""
    return sum(batch.size() for batch in framed(Encoded.of(records), LIMIT, 0, codec)) / len(records)


def made(sources: int, metrics: int, each: int, away: float = 0.0) -> Points:
    """Points of these sources in turn."""
    n = sources * each
    values = np.round(np.random.default_rng(5).normal(50.0 + away, 5.0, n * metrics), 3).tolist()
    at = range(n) if not away else range(10_000_000, 10_000_000 + n)
    points = Points([*at], [0] * n, [f"source-{i % sources}" for i in range(n)], [1.7e9 + i / 8 for i in at],
                    [True] * n, values)  # fmt: skip
    if metrics > 1:
        points.metrics = [f"metric-{m}" for m in range(metrics)] * n
        points.start = [*range(0, n * metrics + 1, metrics)]
    return points


def record(points: Points, i: int) -> bytes:
    """The point as plain JSON."""
    metrics = len(points.values) // len(points)
    values = points.values[i * metrics : (i + 1) * metrics]
    if points.metrics is None:
        said = f'"value":{values[0]}'
    else:
        pairs = ",".join(f'"{name}":{x}' for name, x in zip(points.metrics, values))
        said = f'"values":{{{pairs}}}'
    return f'{{"source":"{points.source[i]}","timestamp":{points.timestamp[i]},{said}}}'.encode()

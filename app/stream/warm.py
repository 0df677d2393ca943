"""Everything that is compiled, compiled (or loaded from its cache) before the group is joined.

A cold cache costs seconds. Spent on the first batch they would hold up every partition, and a worker killed
meanwhile would leave nothing for the next: seen in a clean clone, where six workers killed in turn answered nothing.
"""

from app import assembly, restore, snapshot
from app.pipeline import Pipeline
from app.records import Points
from app.results import Encoded, encode_columns
from app.sources import Sources
from app.stream.fetched import Fetched
from app.stream.record_batch import framed

POINTS = 200  # more than any detector's default warm-up, so that both kinds of common results occur


def warm(pipeline: Pipeline) -> None:
    """Send points that nobody sees through all that a batch passes, and their state through recovery."""
    pipeline.compile()
    points = Points(
        offset=list(range(POINTS)),
        index=[0] * POINTS,
        source=["warm"] * POINTS,
        timestamp=[60.0 * i for i in range(POINTS)],
        own_time=[True] * POINTS,
        values=[float(i % 7) for i in range(POINTS)],
    )
    sources, restored = pipeline.sources(), pipeline.sources()
    outcome = pipeline.run(sources, points)
    list(framed(encode_columns(points, outcome, "warm", 0), 1_000_000, 0))
    if assembly.AVAILABLE:  # else recovery reads records, not fetches: see app/stream/fetched.py
        _recover(restored, (b"warm\0", snapshot.dumps(sources, 0, POINTS)))


def _recover(sources: Sources, saved: tuple[bytes, bytes]) -> None:
    for batch in framed(Encoded.of([saved]), 1_000_000, 0):
        if fetched := Fetched.of(bytes(batch._build()), 0):
            records = fetched.records()
            restore.load(sources, records, restore.examine(sources, records, 1), {"warm": 0})

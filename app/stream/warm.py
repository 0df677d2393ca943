"""Everything that is compiled, compiled (or loaded from its cache) before the group is joined.

A cold cache costs seconds. Spent on the first batch they would hold up every partition, and a worker killed
meanwhile would leave nothing for the next: seen in a clean clone, where six workers killed in turn answered nothing.
"""

from app import restore, snapshot
from app.pipeline import Pipeline
from app.records import Points
from app.results import Encoded, encode_columns
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
    saved = Encoded.of([(b"warm\0", snapshot.dumps(sources, 0, POINTS))])
    for batch in framed(saved, 1_000_000, 0):
        if fetched := Fetched.of(bytes(batch._build()), 0):
            records = fetched.records()
            restore.load(restored, records, restore.examine(restored, records, 1), {"warm": 0})

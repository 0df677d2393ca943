"""Everything that is compiled, compiled (or loaded from its cache) before the group is joined.

A cold cache costs seconds. Spent on the first batch they would hold up every partition, and a worker killed
meanwhile would leave nothing for the next: seen in a clean clone, where six workers killed in turn answered nothing.
"""

from types import SimpleNamespace

from app.compiled import jit
from app.compiled.byte_columns import Encoded
from app.kafka.fetched import Fetched
from app.kafka.record_batch import framed
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.state import bulk_restore, snapshot
from app.stream.output_watermark import last_emitted
from app.wire.results import encode_columns

TOPICS = SimpleNamespace(input_topic="warm", output_topic="warm")
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
    results = _fetched(encode_columns(points, outcome, "warm", 0))
    snapshots = _fetched(Encoded.of([(b"warm\0", snapshot.dumps(sources, 0, POINTS))]))
    if jit.AVAILABLE:  # else recovery reads records, not fetches: see app/kafka/fetched.py
        last_emitted(TOPICS, 0, results)
        for fetched in snapshots:
            records = fetched.records()
            bulk_restore.load(restored, records, bulk_restore.examine(restored, records, 1), {"warm": 0})


def _fetched(records: Encoded) -> list[Fetched]:
    """As they would come back from a broker."""
    read = [Fetched.of(bytes(batch._build()), 0) for batch in framed(records, 1_000_000, 0)]
    return [fetched for fetched in read if fetched]

"""What a configuration costs: CPU time of a point, bytes of a source."""

import statistics
import time
from typing import NamedTuple

from app.compiled import sparse
from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Settings
from app.state import snapshot
from tests.bench import job

SOURCES, BATCH, BATCHES = 100, 2000, 20  # so that windows of 100 points are full after half of it


class Cost(NamedTuple):
    us_per_point: float  # CPU time of the step, without reading and writing; what is done now and then is in it
    bytes_per_source: int  # in memory: window, detectors, models as they are saved


def cost(settings: Settings) -> Cost:
    """Of points of one value, one thread. CPU time, so that what else the machine does counts little."""
    pipeline = Pipeline.of(settings)
    pipeline.compile()
    sources, taken = pipeline.sources(), []
    values = job.values(BATCH * BATCHES, SOURCES)
    for first in range(0, len(values), BATCH):
        points = _points(first, values[first : first + BATCH])
        begun = time.process_time()
        pipeline.run(sources, points)
        taken.append(time.process_time() - begun)
    late = statistics.mean(taken[BATCHES // 2 :])
    saved = snapshot.dumps(sources, 0, 0)
    packed = sparse.pack(sources.cells[0].dump(0))
    return Cost(late / BATCH * 1e6, len(saved) - len(packed) + sources.cells[0].kind.itemsize)


def _points(first: int, values: list[tuple[str, float]]) -> Points:
    return Points(
        offset=list(range(first, first + len(values))),
        index=[0] * len(values),
        source=[source for source, _ in values],
        timestamp=[job.START + first + i for i in range(len(values))],
        own_time=[True] * len(values),
        values=[value for _, value in values],
    )

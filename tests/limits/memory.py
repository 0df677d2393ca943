"""Memory of many sources in one process, without Kafka: ``python -m tests.limits.memory SOURCES rows|default``.

Run as a process of its own, because what a process has once taken it seldom gives back. Prints one JSON object.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from app.pipeline import Pipeline
from app.pipeline.points import Points
from app.settings import Detection
from tables.sources import SourcesTable

BATCH = 4000
POINTS = 2  # of each source: its row is complete with the first, its models with the second
DETECTIONS: dict[str, Any] = {  # the section of the settings
    "rows": {"detectors": {"moving_average": {}, "zscore": {}}},  # two of ours, which need the window alone
    "default": {"detectors": {}},  # integration.run has some of its own
}


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def batches(sources: int):
    for first in range(0, sources * POINTS, BATCH):
        at = range(first, min(first + BATCH, sources * POINTS))
        yield Points(
            offset=list(at),
            index=[0] * len(at),
            source=[f"source-{i % sources:07d}" for i in at],
            timestamp=[1.7e9 + i for i in at],
            own_time=[True] * len(at),
            values=[50.0 + i % 7 for i in at],
        )


def measure(sources: int, detection: Detection) -> dict[str, float]:
    pipeline = Pipeline(detection)
    pipeline.compile()
    owned = SourcesTable(pipeline).take_over()
    base, began, longest = resident(), time.perf_counter(), 0.0
    for points in batches(sources):
        at = time.perf_counter()
        pipeline.run(owned.rows, points)
        longest = max(longest, time.perf_counter() - at)
    took = time.perf_counter() - began
    assert len(owned.rows) == sources and owned.rows.warming_up == sources
    return {
        "base_bytes": base,
        "bytes_a_source": (resident() - base) / sources,
        "row_bytes": owned.rows.nbytes / sources,
        "points_per_s": sources * POINTS / took,
        "longest_batch_s": longest,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), Detection(**DETECTIONS[sys.argv[2]]))))

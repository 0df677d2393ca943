"""raw-data, or the topic by source, to anomaly-results: whole fetched batches, each to the task of its partition.

The task (app/stream/partition.py) scores a batch and sends its output. This hop only hands batches over, so that a
partition that waits for acknowledgements does not delay another.
"""

from typing import Any

from app.stream.assignment import Partitions


def attach(app: Any, raw_data: Any, partitions: Partitions) -> Any:
    """Declare the agent on the Faust application. ``partitions`` are those assigned to this worker."""

    @app.agent(raw_data, name="score")
    async def score(batches: Any) -> None:
        async for event in batches.noack().events():
            await partitions.take(event.message)

    return score

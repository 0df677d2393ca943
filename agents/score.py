"""raw-data, or the topic by source, to anomaly-results: whole fetched batches, each to the task of its partition.

The task (app/stream/partition.py) scores them and sends what they give; this hop only hands over, so that a
partition waiting for its acks does not hold up another.
"""

from typing import Any


def attach(app: Any, raw_data: Any, partitions: Any) -> Any:
    """Declare the agent on the application. ``partitions`` are the ones this worker owns."""

    @app.agent(raw_data, name="score")
    async def score(batches: Any) -> None:
        async for event in batches.noack().events():
            await partitions.take(event.message)

    return score

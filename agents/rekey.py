"""raw-data to the topic by source, with input.rekey: whole fetched batches, each to the task of its partition.

The task (app/stream/rekey.py) reads a batch and sends its points to the partitions of their sources; agents/score.py
takes them from there.
"""

from typing import Any

from app.stream.rekey import RekeyPartitions


def attach(app: Any, raw_data: Any, partitions: RekeyPartitions) -> Any:
    """Declare the agent on the Faust application. ``partitions`` of raw-data are those assigned to this worker."""

    @app.agent(raw_data, name="rekey")
    async def rekey(batches: Any) -> None:
        async for event in batches.noack().events():
            await partitions.take(event.message)

    return rekey

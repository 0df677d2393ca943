"""raw-data to the topic by source, with input.rekey: whole fetched batches of one partition, each to its task.

The task (app/stream/rekey.py) reads them and sends their points to the partitions of their sources; agents/score.py
takes them from there.
"""

from typing import Any


def attach(app: Any, raw_data: Any, rekeying: Any) -> Any:
    """Declare the agent on the application. ``rekeying`` are the partitions of raw-data that this worker owns."""

    @app.agent(raw_data, name="rekey")
    async def rekey(batches: Any) -> None:
        async for event in batches.noack().events():
            await rekeying.take(event.message)

    return rekey

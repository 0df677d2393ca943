"""Stock Faust as its manual shows it, with our pipeline: a table written and results sent for every record.

python stock_faust.py worker --config FILE

It gives the same bytes as the worker as long as nothing fails. What it loses and repeats in a crash is its own:
a control of the checker (controls.py).
"""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import faust

from app.pipeline import Pipeline
from app.settings import load
from app.state import snapshot
from app.state.series import to_bytes
from app.wire.reader import Reader
from app.wire.results import encode_results


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Any
    timestamp: int
    offset: int


def make(config: str) -> faust.App:
    """The application for the settings in this file."""
    settings = load(config, dict(os.environ))
    kafka, partitions = settings.kafka, int(os.environ["STOCK_PARTITIONS"])
    pipeline = Pipeline(settings.detection, settings.sources, settings.input.max_metrics)
    app = faust.App(
        kafka.group_id,
        broker=[f"kafka://{server}" for server in kafka.bootstrap_servers],
        store="memory://",
        topic_partitions=partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.session_timeout_s / 4,
        broker_commit_interval=1.0,
        web_enabled=False,
    )
    raw = {"key_type": bytes, "value_type": bytes, "value_serializer": "raw"}
    points = app.topic(kafka.input_topic, **raw)
    results = app.topic(kafka.output_topic, **raw)
    letters = app.topic(kafka.dead_letters_topic, **raw)
    states = app.Table("states", key_type=bytes, value_type=bytes)
    states.key_serializer = states.value_serializer = "raw"

    @app.agent(points)
    async def score(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            record = Record(message.key, message.value, (), int(message.timestamp * 1000), message.offset)
            reader = Reader(settings.input, kafka.input_topic, message.partition, partitions > 1)
            read, refused, *_ = reader.read([record])
            sources = pipeline.sources()
            for name in dict.fromkeys(read.series()):
                if (saved := states.get(to_bytes(name))) is not None:
                    snapshot.loads(sources, saved)
            outcome = pipeline.run(sources, read)
            for slot, name in enumerate(sources.names):
                states[to_bytes(name)] = snapshot.dumps(sources, slot, message.offset)
            for key, value in encode_results(read, outcome, kafka.input_topic, message.partition):
                await results.send(key=key, value=value, partition=message.partition)
            for letter in refused:
                key, value, headers = letter.record(kafka.input_topic, message.partition)
                await letters.send(key=key, value=value, headers=list(headers), partition=message.partition)

    return app


if __name__ == "__main__":
    application = make(sys.argv[sys.argv.index("--config") + 1])
    faust.Worker(application, loglevel="info").execute_from_commandline()

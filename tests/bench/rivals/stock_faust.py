"""Stock Faust as its manual shows it, tuned: a table written and a result sent for every event.

The table holds a window as bytes (24 + 800), because Faust writes the whole value to the changelog at
each event and any other codec costs more. Settings: uvloop, no leader topic, no standby, no web server,
larger producer batches; each was measured to help or not to hurt.
"""

import os
import struct

import faust
import msgspec

from tests.bench.job import PARTITIONS, THRESHOLD_Z, WINDOW, judge

BROKER, INPUT, OUTPUT, GROUP = (os.environ["BENCH_" + name] for name in ("BROKER", "INPUT", "OUTPUT", "GROUP"))
ANOMALY = THRESHOLD_Z / (THRESHOLD_Z + THRESHOLD_Z / 4.0)
HEAD, CELL = struct.Struct("<iidd"), struct.Struct("<d")  # values held, next cell, sum, sum of squares

app = faust.App(
    GROUP,
    broker=f"kafka://{BROKER}",
    store="memory://",
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=10.0,
    broker_heartbeat_interval=1.0,
    broker_commit_interval=1.0,
    producer_request_timeout=30.0,
    producer_max_batch_size=262_144,
    producer_linger=float(os.environ.get("BENCH_LINGER", "0.02")),
    web_enabled=False,
)
points = app.topic(INPUT, key_type=bytes, value_type=bytes, value_serializer="raw")
results = app.topic(OUTPUT, key_type=bytes, value_type=bytes, value_serializer="raw")
windows = app.Table("windows", key_type=bytes, value_type=bytes)
windows.key_serializer = windows.value_serializer = "raw"  # a table takes no argument for it; the default is JSON


class Point(msgspec.Struct):
    source: str
    timestamp: float
    value: float


decode = msgspec.json.Decoder(Point).decode
encode = msgspec.json.Encoder().encode


def step(state: bytes | None, x: float) -> tuple[bytes, float | None, float]:
    """The window after x, and what it said before: (bytes, mean or None, score)."""
    state = bytearray(state or HEAD.size + CELL.size * WINDOW)
    n, cell, total, squares = HEAD.unpack_from(state)
    mean, score = judge(n, total, squares, x)
    at = HEAD.size + CELL.size * cell
    if n == WINDOW:
        old = CELL.unpack_from(state, at)[0]
        total -= old
        squares -= old * old
    CELL.pack_into(state, at, x)
    HEAD.pack_into(state, 0, min(n + 1, WINDOW), (cell + 1) % WINDOW, total + x, squares + x * x)
    return bytes(state), mean, score


@app.agent(points)
async def score(stream):
    async for event in stream.events():
        point, message = decode(event.value), event.message
        state, mean, anomaly_score = step(windows.get(event.key), point.value)
        windows[event.key] = state
        await results.send(
            key=event.key,
            partition=message.partition,
            value=encode(
                {
                    "id": f"{INPUT}:{message.partition}:{message.offset}:0",
                    "source": point.source,
                    "timestamp": point.timestamp,
                    "value": point.value,
                    "anomaly_score": anomaly_score,
                    "is_anomaly": anomaly_score >= ANOMALY,
                    "expected": mean,
                }
            ),
        )


if __name__ == "__main__":
    app.main()

"""How many events a second the history takes in, and what they cost: ``python -m tests.bench.store``.

Episodes that open and close, with what was told of them, from memory into SQLite and into a PostgreSQL of its own, as
fast as it goes; a worker reads for a fifth of the time (app/store/history.py).
"""

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from app.settings import load
from app.store.database import Database
from app.store.history import BATCH
from app.store.projection import EPISODES, NOTIFICATIONS, PartitionRange, Projection, TopicRecord
from app.wire import notifications
from tests.support.postgres import running
from tests.unit.store.logs import event, notification

EPISODE_COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
VOTES = {"prediction_interval": 1.0, "residual": 0.82997, "novelty": 0.99998, "StandardAbsoluteDeviation": 0.93085}
SENTENCE = "90.44 is 40.42 above the expected 50.02; the usual error is 3.029"


def records(count: int) -> list[TopicRecord]:
    """For each episode: its opening, its end, and a message of each, queued and sent."""
    import msgspec

    made, now = [], time.time()
    for number in range(count):
        name = f"raw-data:3:{number}:0"
        more = {"source": f"pump-{number % 5000}", "detectors": VOTES, "weights": VOTES, "explanation": SENTENCE}
        opened = event(name, offset=number, **more, attribution={"value": 0.83478}, expected_lower=40.2)
        closed = event(name, what="closed", offset=number, index=1, source=more["source"])
        for one in (opened, closed):
            made.append(TopicRecord("anomalies", 0, b"", msgspec.json.encode(one), now))
            for state in ("queued", "sent"):
                told = notification(f"{name}-{one.event}", state, one, answer="200 OK")
                made.append(TopicRecord("notifications", 0, b"", notifications.encode(told), now))
    return made


async def measure(name: str, url: str, made: list[TopicRecord]) -> None:
    database = Database.of(load(environ={}, storage={"url": url}))
    await database.open()
    kinds = {"anomalies": EPISODES, "notifications": NOTIFICATIONS}
    busy_s, before_kib = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with database.writer() as connection:
        projection = Projection(connection, kinds, 90.0)
        await projection.begin({(topic, 0): PartitionRange("id", 0, len(made)) for topic in kinds})
        ends = dict.fromkeys(kinds, 0)
        began, cpu = time.perf_counter(), time.process_time()
        for first in range(0, len(made), BATCH):
            batch = made[first : first + BATCH]
            for record in batch:
                ends[record.topic] += 1
            at = time.thread_time()
            await projection.take(batch, {(topic, 0): end for topic, end in ends.items()})
            busy_s.append(time.thread_time() - at)
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    await database.close()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    size = sum(path.stat().st_size for path in database.path.parent.iterdir()) if database.path else 0
    bytes_each = f", {size / EPISODE_COUNT:,.0f} bytes an episode with its messages" if size else ""
    print(
        f"{name}: {len(made) / took_s:,.0f} records/s, {cpu_s / len(made) * 1e6:.0f} us of CPU each, "
        f"{statistics.median(busy_s) * 1000:.0f} ms of the event loop for {BATCH}, {grown:.0f} MB more{bytes_each}"
    )


def main() -> None:
    made = records(EPISODE_COUNT)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure("SQLite", f"sqlite:///{Path(folder) / 'history.db'}", made))
    with running() as server:
        asyncio.run(measure("PostgreSQL", server.url(), made))


if __name__ == "__main__":
    main()

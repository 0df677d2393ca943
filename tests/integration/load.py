"""raw-data for the crash tests: every kind of record a worker may meet, at a steady rate, while things fail.

Records come from a seed, so a failure can be looked at again; which offset each gets, and what a source without
timestamps is given as its time, is Kafka's, and the oracle reads it from there.
"""

import asyncio
import csv
import json
import random
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path

from aiokafka import AIOKafkaProducer
from support.kafka_tools import HANG_S

ROOT = Path(__file__).parents[2]
SERIES = (ROOT / "generators" / "series", ROOT.parent / "shared" / "data" / "dev")  # the second where it is present
SERIES_ROWS = 5000  # of a file
PRODUCER = {"acks": "all", "enable_idempotence": True, "request_timeout_ms": int(HANG_S * 1000)}  # a broker may be away
NOT_VALUES = {"label", "anomaly", "changepoint"}
START = 1_700_000_000.0  # event time of the first record, epoch s
RISE_S = 300.0
MALFORMED = (
    b'{"source": "pump-1", "oops',
    b'{"source": "pump-1", "value": NaN}',
    b'{"source": "pump-1", "value": "high"}',
    b'{"value": 1.0}',
    b'{"source": "pump-1", "value": 1e200}',
    b'{"source": "pump-1", "timestamp": "yesterday", "value": 1.0}',
    b"\xff\xfe",
    b"[]",
    b"",
    None,
)


def partition_of(key: bytes, partitions: int) -> int:
    """Not where Kafka's Java clients put it: a worker must follow the record's own partition."""
    return zlib.crc32(key) % partitions


def real_series(*directories: Path) -> dict[str, list[bytes]]:
    """Source -> its points as JSON, of every CSV file below these directories: column 1 is the time."""
    found = {}
    for directory in directories:
        for path in sorted(directory.glob("**/*.csv")):
            with path.open(newline="") as file:
                rows = list(islice(csv.DictReader(file), SERIES_ROWS))
            found[str(path.relative_to(directory))] = [
                json.dumps(_real(str(path.relative_to(directory)), *row.items())).encode() for row in rows
            ]
    return found


def _real(source: str, time_of: tuple[str, str], *columns: tuple[str, str]) -> dict:
    values = {name: float(text) for name, text in columns if name not in NOT_VALUES}
    timestamp = float(time_of[1]) if time_of[1].replace(".", "").isdigit() else time_of[1]
    said = {"value": values["value"]} if values.keys() == {"value"} else {"values": values}
    return {"source": source, "timestamp": timestamp, **said}


def records(
    seed: int, sources: int = 80, real: Mapping[str, list[bytes]] | None = None
) -> Iterator[tuple[bytes, bytes | None]]:
    """(key, value), without end: points, arrays, vectors, series, spikes, repeats, rare sources, 1 % of damaged ones.

    In each five minutes of event time a few sources rise, so that there are episodes that go on and get worse.

    With ``real`` (see ``real_series``) a third of the records are from there, over and over.
    """
    rng = random.Random(seed)
    series = [(name.encode(), cycle(points)) for name, points in (real or {}).items()]
    names = [f"pump-{i}" if i % 9 else f'Pumpe \u00e4\u2192 "{i}"' for i in range(sources)]
    last: dict[int, bytes] = {}
    at = START
    while True:
        if series and rng.random() < 1 / 3:
            key, points = rng.choice(series)
            whole = rng.random() < 0.1
            yield key, b"[" + b",".join(islice(points, rng.randrange(1, 6))) + b"]" if whole else next(points)
            continue
        i = rng.randrange(sources)
        if i % 10 == 0 and rng.random() < 0.98:
            i += 1  # one source in ten has fifty times fewer points
        key = names[i].encode()
        at += 0.3
        chance = rng.random()
        if chance < 0.005:
            yield key, rng.choice(MALFORMED)
        elif chance < 0.01:
            yield b"another-" + key, json.dumps(_point(rng, i, names[i], at)).encode()
        elif chance < 0.03 and i in last:
            yield key, last[i]
        elif chance < 0.08:
            last.pop(i, None)
            elements = [_point(rng, i, names[i], at + j / 10_000) for j in range(rng.randrange(1, 6))]
            if rng.random() < 0.05:
                elements[-1]["value"] = None
            yield key, json.dumps(elements).encode()
        else:
            last[i] = json.dumps(_point(rng, i, names[i], at), ensure_ascii=bool(i % 2)).encode()
            yield key, last[i]


def _point(rng: random.Random, i: int, name: str, at: float) -> dict:
    turn, into = divmod(at - START, RISE_S)
    rise = 8.0 + 0.2 * into if turn % 60 == i % 60 else 0.0
    value = round(rng.gauss(50.0 + i, 2.0) + rise + (60.0 if rng.random() < 0.005 else 0.0), 3)
    if i % 7 == 3:
        values = {"temperature": value, "pressure": round(rng.gauss(2.0, 0.1), 4)}
        if rng.random() < 0.1:
            del values["pressure"]  # a metric may be missing in a point
        return {"source": name, "timestamp": at, "values": values}
    if i % 7 == 6:  # metrics that come one by one, each a series of its own, between plain values
        name_of = ("cpu", "mem", None)[int(1000 * value) % 3]
        return {"source": name, "timestamp": at, "metric": name_of, "value": value}
    if i % 7 == 5:
        return {"source": name, "value": value}  # its time is Kafka's
    return {"source": name, "timestamp": at, "value": value}


class Load:
    """Produces at a rate from a thread, as a context; ``handed`` counts records given to the client so far.

    ``sources`` are synthetic ones; ``real`` others, see ``real_series``. Without ``keyed`` records have no key, and go
    to each partition in turn. What is due is handed over every ``every_s``: the fewer requests, the less they cost.
    """

    def __init__(
        self,
        servers: list[str],
        topic: str,
        partitions: int,
        per_s: float,
        seed: int = 1,
        sources: int = 80,
        real: Mapping[str, list[bytes]] | None = None,
        keyed: bool = True,
        every_s: float = 0.05,
    ) -> None:
        self.handed = 0
        self._every_s = every_s
        self._keyed = keyed
        self._servers, self._topic, self._partitions, self._per_s = servers, topic, partitions, per_s
        self._records = records(seed, sources, real)
        self._ending = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"load of {topic}", daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End the load; returns the records sent once all of them are acknowledged."""
        self._ending.set()
        self._thread.join(HANG_S)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError(f"{self._topic}: the last records are not acknowledged after {HANG_S:.0f} s")
        return self.handed

    def _run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:  # noqa: BLE001 - handed to stop()
            self._error = error

    async def _produce(self) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._servers, linger_ms=2, **PRODUCER) as producer:
            began = time.monotonic()
            acks = []
            while not self._ending.is_set():
                due = int((time.monotonic() - began) * self._per_s)
                while self.handed < due:
                    key, value = next(self._records)
                    number = partition_of(key, self._partitions)
                    if not self._keyed:
                        number, key = self.handed % self._partitions, None if value is not None else key
                    acks.append(await producer.send(self._topic, value, key, partition=number))
                    self.handed += 1
                await asyncio.sleep(self._every_s)
            for ack in acks:
                await ack


def produce(servers: list[str], topic: str, records: list[tuple[int, bytes | None, bytes | None]]) -> None:
    """Write (partition, key, value) records, in order, and return when the broker has them."""

    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=2 << 20, **PRODUCER) as producer:
            acks = [await producer.send(topic, value, key, partition=number) for number, key, value in records]
            for ack in acks:
                await ack

    asyncio.run(write())

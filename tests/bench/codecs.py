"""``python -m tests.bench.codecs``: what each codec makes of the results and snapshots of a job, and in what time.

Record batches as a worker sends them: results of 4,000 points and of 40, as under a backlog and at a small rate, and
the snapshots of 100 sources. The points are those of the throughput bench; detectors are the default ones. One thread,
its CPU time; the fastest of several batches.
"""

import time
from collections.abc import Callable
from importlib.metadata import version

import click
from aiokafka import codec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from app.compiled.byte_columns import Encoded
from app.kafka.fetched import Fetched
from app.kafka.record_batch import CODECS, PACKED, framed
from app.pipeline import Pipeline
from app.settings import Detection, InputSettings
from app.state import snapshot
from app.wire.reader import Reader
from app.wire.results import encode_columns
from tests.bench.point import batches
from tests.bench.report import hardware
from tests.docs import pages

FILLED = 70  # batches of 4,000 points: 280 points a source, beyond the warm-up
SAVED = 100  # sources
OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip, level 6": lambda body: codec.gzip_encode(body, 6),
    "lz4, level 9": lambda body: codec.lz4_encode(body, 9),
    "zstd, level 3": lambda body: codec.zstd_encode(body, 3),
}
UNPACKED = {
    "gzip": codec.gzip_decode,
    "snappy": codec.snappy_decode,
    "lz4": codec.lz4_decode,
    "zstd": codec.zstd_decode,
}


@click.command()
@click.option("--write-docs", is_flag=True, help="Write the table into docs/benchmarks.md.")
def main(write_docs: bool) -> None:
    """Size and time of each codec on results and snapshots."""
    bodies = written()
    lines = [
        "| codec | " + " | ".join(f"{name}: size | pack | unpack" for name in bodies) + " |",
        "|---|" + "---:|" * 3 * len(bodies),
        "| none | " + " | ".join(f"{size(body):,} B | | " for body in bodies.values()) + " |",
    ]
    for name, pack in {**{f"{name} (used)": pack for name, pack in PACKED.items()}, **OTHERS}.items():
        unpack = UNPACKED[name.split()[0].strip(",")]
        lines.append(f"| {name} | " + " | ".join(cells(body, pack, unpack) for body in bodies.values()) + " |")
    lines += ["", "| raw-data in | size of a point | read for scoring | read by recovery |", "|---|---:|---:|---:|"]
    lines += [f"| {codec} | {read_of(codec)} |" for codec in CODECS]
    text = "\n".join([*lines, "", f"{hardware()}, cramjam {version('cramjam')}."])
    print(text)
    if write_docs:
        pages.write("codecs", text)


def written() -> dict[str, tuple[bytes, int]]:
    """What is packed -> the body of a record batch of it, and how many records that holds."""
    pipeline = Pipeline(Detection())
    sources, reader = pipeline.sources(), Reader(InputSettings(), "raw-data", 0, True)
    given = batches(FILLED)
    for batch in given:
        points = reader.read(batch).points
        outcome = pipeline.run(sources, points)
    results = encode_columns(points, outcome, "raw-data", 0)
    few = Encoded.of(results.pairs()[:40])
    saved = Encoded.of([(b"pump-%d" % slot + bytes(9), snapshot.dumps(sources, slot, 10**6)) for slot in range(SAVED)])
    made = {"results of 4,000 points": results, "of 40": few, f"snapshots of {SAVED} sources": saved}
    return {name: (body_of(records), len(records)) for name, records in made.items()}


def read_of(codec: str) -> str:
    """Bytes of a point of a batch of raw-data, and the time of each of the two ways in which batches are read."""
    given = [record for batch in batches(1) for record in batch]
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, 0, 64 << 20)
    for i, record in enumerate(given):
        builder.append(i, record.timestamp, record.key, record.value, [])
    data = bytes(builder.build())
    times = [fastest(parsed, data), fastest(read_whole, data)]
    return f"{len(data) / len(given):.0f} B | " + " | ".join(f"{ns / len(given) / 1000:.2f} us" for ns in times)


def parsed(data: bytes) -> bytes:
    """By aiokafka, as a worker's records."""
    batch = MemoryRecords(data).next_batch()
    assert batch.validate_crc()
    return b"" if list(batch) else data


def read_whole(data: bytes) -> bytes:
    fetched = Fetched.of(data, 0)
    return fetched.records().data if fetched else b""


def body_of(records: Encoded) -> bytes:
    (batch,) = framed(records, 64 << 20, 0)
    return batch._body


def size(body: tuple[bytes, int]) -> int:
    return round(len(body[0]) / body[1])


def cells(body: tuple[bytes, int], pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]) -> str:
    data, count = body
    packed = pack(data)
    assert unpack(packed) == data
    times = [fastest(pack, data), fastest(unpack, packed)]
    return f"{100 * len(packed) / len(data):.0f} % | " + " | ".join(f"{ns / count / 1000:.2f} us" for ns in times)


def fastest(call: Callable[[bytes], bytes], data: bytes) -> int:
    return min(_timed(call, data) for _ in range(15))


def _timed(call: Callable[[bytes], bytes], data: bytes) -> int:
    begun = time.thread_time_ns()
    call(data)
    return time.thread_time_ns() - begun


if __name__ == "__main__":
    main()

"""Partitions of topics as a broker keeps them, in memory: real record batches, as the worker packs them.

``MadeLog`` has the methods of app.kafka.log_reader.LogReader that app/web/stored_results calls. ``result`` is a result
as a worker encodes it, with the fields that its readers look at.
"""

import struct
from collections import defaultdict
from types import SimpleNamespace

import msgspec
from aiokafka.errors import OffsetOutOfRangeError

from app.compiled.byte_columns import Column, Encoded, Header
from app.kafka.log_reader import PartitionData
from app.kafka.record_batch import framed

RAW, RESULTS = "raw-data", "anomaly-results"


def result(partition, offset, source="pump-1", time=0.0, value=1.0, index=0, **more):
    id = f"{RAW}:{partition}:{offset}:{index}"
    fields = {"id": id, "source": source, "timestamp": float(time), "value": float(value), "anomaly_score": 0.25}
    return msgspec.json.encode(fields | {"is_anomaly": False, "config_hash": "0123456789ab"} | more)


class MadeLog:
    """Topics with so many partitions each."""

    def __init__(self, partitions=1):
        self.partitions = partitions
        self.batches = defaultdict(list)  # (topic, number) -> (first offset, offset after the last, ms, bytes)
        self.begins = defaultdict(int)
        self.fetches = 0

    def end(self, topic, number=0):
        batches = self.batches[topic, number]
        return batches[-1][1] if batches else self.begins[topic, number]

    def write(self, values, topic=RESULTS, number=0, written=0.0, per_batch=10, codec="zstd", headers=None, keys=None):
        """Values, in batches of so many, all written at one time (epoch s)."""
        for at in range(0, len(values), per_batch):
            some = values[at : at + per_batch]
            keyed = Column.of(keys[at : at + per_batch] if keys else [b"k"] * len(some))
            header = headers and Header(headers[0], Column.of(headers[1][at : at + per_batch]))
            [batch] = framed(Encoded(keyed, Column.of(some), header), 1 << 30, int(written * 1000), codec)
            data = bytearray(batch._build())
            first = self.end(topic, number)
            struct.pack_into(">q", data, 0, first)
            self.batches[topic, number].append((first, first + len(some), int(written * 1000), bytes(data)))

    def delete_before(self, offset, topic=RESULTS, number=0):
        self.begins[topic, number] = offset
        self.batches[topic, number] = [one for one in self.batches[topic, number] if one[1] > offset]

    async def start(self):
        pass

    async def stop(self):
        pass

    async def count(self, topic):
        return self.partitions

    async def beginning_offsets(self, partitions):
        return {one: self.begins[one.topic, one.partition] for one in partitions}

    async def last_stable_offsets(self, partitions):
        return {one: self.end(*one) for one in partitions}

    async def offsets_for_times(self, times):
        found = {}
        for one, ms in times.items():
            late = [batch[0] for batch in self.batches[one.topic, one.partition] if batch[2] >= ms]
            found[one] = SimpleNamespace(offset=late[0]) if late else None
        return found

    async def fetch(self, partition, offset, size, wait_ms=0):
        self.fetches += 1
        if not self.begins[partition] <= offset <= self.end(*partition):
            raise OffsetOutOfRangeError(partition)
        data = b""
        for _, end, _, batch in self.batches[partition]:
            if end <= offset:
                continue
            if data and len(data) + len(batch) > size:
                break
            data += batch
        return PartitionData(data, offset, [], self.end(*partition))

    def leader(self, partition):
        return 0

    async def fetch_of_leader(self, offsets, size, wait_ms, most):
        return {one: await self.fetch(one, offset, size) for one, offset in offsets.items()}

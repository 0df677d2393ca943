"""A copy of a group's state in one file: it names itself, and is refused before it is trusted. No pickle.

    magic, format, length of the head
    head: JSON, what the copy is of (``Head``)
    for each record: which topic, partition, Kafka's timestamp, lengths of key and value (-1: none), key, value
    end: no topic, number of records, CRC-32 of everything before

All numbers are little-endian. The head is written first, as positions must be read before the records that go with
them; what is only known at the end is a record of no topic.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zlib import crc32

import msgspec

from app.errors import StateError

MAGIC, FORMAT = b"fasb", 1
_HEAD = struct.Struct("<4sHI")
_RECORD = struct.Struct("<Biqii")
_END = struct.Struct("<QI")
_NO_TOPIC, _LAST = 255, 254  # in place of a topic's number: the end; what is known at the end
_MOST = 1 << 30  # bytes of a part; a length beyond is damage


class Commit(msgspec.Struct):
    """What the group had committed of one partition."""

    topic: str
    partition: int
    offset: int
    metadata: str


class Head(msgspec.Struct, kw_only=True):
    """What a copy is of. ``ids`` of topics by name, "" where the broker gave none; ``partitions`` of the log."""

    program: str  # version
    made: str  # ISO 8601
    group: str
    log: str  # the topic that was scored
    input: str  # that of the ids; the same without input.rekey
    partitions: int
    topics: list[str]  # those whose records are in the copy; the first is the changelog
    ids: dict[str, str]
    commits: list[Commit]


class CopyRecord(NamedTuple):
    """``at``: where in the file its value is."""

    topic: str
    partition: int
    timestamp: int  # ms
    key: bytes | None
    value: bytes | None
    at: int


class CopyWriter:
    """Writes a copy; without ``end`` it is refused as cut off."""

    def __init__(self, file: BinaryIO, head: Head) -> None:
        self._file, self._check, self.records, self.bytes = file, 0, 0, 0
        self._numbers = {name: number for number, name in enumerate(head.topics)}
        encoded = msgspec.json.encode(head)
        self._write(_HEAD.pack(MAGIC, FORMAT, len(encoded)) + encoded)

    def add(self, topic: str, partition: int, timestamp: int, key: bytes | None, value: bytes | None) -> None:
        lengths = [-1 if part is None else len(part) for part in (key, value)]
        self._write(_RECORD.pack(self._numbers[topic], partition, timestamp, *lengths) + (key or b"") + (value or b""))
        self.records += 1

    def end(self, not_drained: str) -> None:
        """``not_drained``: why points may follow that the state does not hold; "" when none does."""
        text = not_drained.encode()
        self._write(_RECORD.pack(_LAST, 0, 0, -1, len(text)) + text)
        self._write(_RECORD.pack(_NO_TOPIC, 0, 0, -1, -1))
        self._file.write(_END.pack(self.records, self._check))
        self._file.flush()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._check = crc32(data, self._check)
        self.bytes += len(data)


class CopyReader:
    """Reads one; ``not_drained`` is known after all records were."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._check = path, file, 0
        self.not_drained = ""
        magic, version, length = _HEAD.unpack(self._take(_HEAD.size))
        if magic != MAGIC:
            raise StateError(
                f"{path}: a copy begins with {MAGIC!r}, found {magic!r}: `faust-anomaly backup` writes them"
            )
        if version != FORMAT:
            raise StateError(f"{path}: a copy of format {version}; this release reads format {FORMAT}")
        try:
            self.head = msgspec.json.decode(self._take(length), type=Head)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateError(f"{path}: the head of the copy is damaged: {error}") from error
        self._begin, self._check_of_head = file.tell(), self._check

    def records(self) -> Iterator[CopyRecord]:
        """From the first; whether they are whole is known only after the last. StateError when they are not."""
        self._file.seek(self._begin)
        self._check, count = self._check_of_head, 0
        while True:
            number, partition, timestamp, key_size, size = _RECORD.unpack(self._take(_RECORD.size))
            if number == _NO_TOPIC:
                break
            key = None if key_size < 0 else self._take(key_size)
            at = self._file.tell()
            value = None if size < 0 else self._take(size)
            if number == _LAST:
                self.not_drained = (value or b"").decode(errors="replace")
                continue
            if number >= len(self.head.topics):
                raise self._damaged(f"a record of topic {number} of {len(self.head.topics)}")
            count += 1
            yield CopyRecord(self.head.topics[number], partition, timestamp, key, value, at)
        check = self._check
        if (found := _END.unpack(self._take(_END.size))) != (count, check):
            raise self._damaged(f"records and checksum must be {found[0]} and {found[1]:08x}, are {count}, {check:08x}")
        if self._file.read(1):
            raise self._damaged("more follows behind its end")

    def _take(self, size: int) -> bytes:
        data = self._file.read(size) if size <= _MOST else b""
        if len(data) != size:
            raise self._damaged("it is cut off")
        self._check = crc32(data, self._check)
        return data

    def _damaged(self, why: str) -> StateError:
        return StateError(f"{self._path}: the copy is damaged at byte {self._file.tell()}: {why}")

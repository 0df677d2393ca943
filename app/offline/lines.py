"""Lines of a text file, also with gzip, a byte order mark, UTF-16 or another encoding.

They are returned as UTF-8, in blocks of whole lines, so that memory is bounded and a pipe is read as data arrive.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO

from app.errors import ConfigurationError

BLOCK_BYTES, MAX_LINE_BYTES = 1 << 18, 16 << 20
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"


class Lines:
    """Lines of a binary file, each with its end; knows whether one more is there without waiting for it.

    ``encoding``: of the text, where it is not UTF-8 and has no byte order mark.
    """

    def __init__(self, file: BinaryIO, name: str, encoding: str | None = None) -> None:
        self.name, self.number = name, 0  # of the line given out last, from 1
        self._pieces = _text(_unpacked(_blocks(file), name), name, encoding)
        self._block = b""  # what is there, unless it was cut into lines: the next one last
        self._ready: list[bytes] = []
        self._tail = b""
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._ready:
            if not self._block:
                if self._ended:
                    raise StopIteration
                self._fill()
            self._ready, self._block = self._block.splitlines(keepends=True)[::-1], b""
        self.number += 1
        return self._ready.pop()

    @property
    def ready(self) -> bool:
        return bool(self._ready or self._block)

    @property
    def ended(self) -> bool:
        return self._ended and not self.ready

    def take(self) -> bytes:
        """All lines that are there, at least one; nothing at the end. ``skipped`` says how many they were."""
        while not self.ready and not self._ended:
            self._fill()
        block, self._block = b"".join(self._ready[::-1]) + self._block, b""
        self._ready = []
        return block

    def skipped(self, block: bytes) -> None:
        """Count the lines of what ``take`` gave."""
        self.number += block.count(b"\n")
        if b"\r" in block:
            self.number += block.count(b"\r") - block.count(b"\r\n")

    def give_back(self, block: bytes) -> None:
        """``take`` gave this, and it was not read."""
        self._block = block + b"".join(self._ready[::-1]) + self._block
        self._ready = []

    def _fill(self) -> None:
        piece = next(self._pieces, b"")
        self._ended = not piece
        data = self._tail + piece
        cut = len(data) if self._ended else data.rfind(b"\n") + 1
        self._block, self._tail = data[:cut], data[cut:]
        if len(self._tail) > MAX_LINE_BYTES:
            found = f"a line of more than {MAX_LINE_BYTES >> 20} MiB"
            raise ConfigurationError(f"{self.name}: expected CSV, NDJSON or Parquet, found {found}")


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    read: Callable[[int], bytes] = getattr(file, "read1", file.read)
    while block := read(BLOCK_BYTES):
        yield block


def _starting(blocks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, at least so many where there are, and all blocks."""
    start = b""
    while len(start) < size and (block := next(blocks, b"")):
        start += block
    return start, chain([start] if start else [], blocks)


def _unpacked(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    start, blocks = _starting(blocks, 2)
    if start[:2] != GZIP:
        yield from blocks
        return
    packed = zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            while block:
                if packed.eof:  # files that were put one behind the other
                    packed = zlib.decompressobj(wbits=31)
                if piece := packed.decompress(block, BLOCK_BYTES):
                    yield piece
                block = packed.unused_data.lstrip(b"\0") if packed.eof else packed.unconsumed_tail
    except zlib.error as error:
        raise ConfigurationError(f"{name}: expected gzip, {error}") from None
    if not packed.eof:
        raise ConfigurationError(f"{name}: expected gzip, its end is missing")


def _text(blocks: Iterator[bytes], name: str, encoding: str | None) -> Iterator[bytes]:
    """The same as UTF-8, without a byte order mark."""
    start, blocks = _starting(blocks, 4)
    if start.startswith(BOM):
        yield start[len(BOM) :]
        next(blocks)
    elif start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif encoding is None and (start[1:4:2] == b"\0\0" or start[:3:2] == b"\0\0"):
        encoding = "utf-16-le" if start[1] == 0 else "utf-16-be"
    if start.startswith(BOM) or encoding is None:
        yield from blocks
        return
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    yield from filter(None, (decode(block).encode() for block in blocks))

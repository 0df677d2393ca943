"""Whether the key of a record is its source, however its producer wrote it.

Seen through are JSON quotes ("s1" with them), the prefix of a schema registry, Java's Integer and Long in big endian,
and a JSON object with one field (Kafka Connect), also inside a payload: in each of these forms one source has one key,
so that all its points are in one partition.
"""

from __future__ import annotations

from typing import Any

import msgspec

from app.wire import framing


def is_source(key: bytes | None, source: str) -> bool:
    """Whether this key stands for the source.

    >>> keys = (b"7", b'"7"', b"\\x00\\x00\\x00\\x07", b'{"id":7}', b"\\x00\\x00\\x00\\x00\\x01\\"7\\"", b"8", None)
    >>> [is_source(key, "7") for key in keys]
    [True, True, True, True, True, False, False]
    """
    if key is None:
        return False
    if key == source.encode():
        return True
    if len(key) in (4, 8) and key == _integer(source, len(key)):
        return True
    return any(_text(one) == source for one in (key, key[5:] if key[:1] == b"\x00" else b"") if one[:1] in (b'"', b"{"))


def _integer(source: str, length: int) -> bytes | None:
    try:
        number = int(source)
        return number.to_bytes(length, "big", signed=True) if str(number) == source else None
    except (ValueError, OverflowError):
        return None


def _text(key: bytes) -> str | None:
    """The text in JSON; None for other bytes."""
    try:
        found: Any = msgspec.json.decode(key.removeprefix(framing.BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(found, dict) and isinstance(found.get("payload"), dict):
        found = found["payload"]
    if isinstance(found, dict) and len(found) == 1:
        [found] = found.values()
    return str(found) if type(found) in (str, int) else None

"""Bytes around JSON that producers send, and formats that are not JSON.

Accepted are a byte order mark; the prefix of a schema registry (its schema is not needed to read JSON); and several
objects in one message, one on each line (NDJSON) or one after the other. Other formats are recognized by their first
bytes and named in the dead letter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

BOM = b"\xef\xbb\xbf"
# First bytes, and length of the whole. None of them can begin JSON. Confluent: a zero byte and an id of four bytes;
# Apicurio: of eight; AWS Glue: version 3, no compression, an id of 16.
PREFIXES = ((b"\x00", 5), (b"\x00", 9), (b"\x03\x00", 18))
FIRST = (b"\x00", b"\x03", b"\xef")  # with which framed JSON begins
OTHERS = {
    b"\x00": "the prefix of a schema registry, with Avro or Protobuf behind it: use the JSON (Schema) serializer",
    b"\x03\x00": "the prefix of AWS Glue's schema registry, with Avro or Protobuf behind it: use JSON",
    b"\x03\x05": "the prefix of AWS Glue's schema registry, compressed: use JSON without compression",
    b"Obj\x01": "an Avro file",
    b"\xc3\x01": "an Avro object",
    b"\x1f\x8b": "gzip: let Kafka compress (compression.type), not the producer's program",
    b"\x28\xb5\x2f\xfd": "zstd: let Kafka compress (compression.type), not the producer's program",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"{\x00": "UTF-16",
    b"\x00{": "UTF-16",
}

_JSON = json.JSONDecoder()


def unframed(value: bytes) -> bytes:
    """The JSON in ``value``; other bytes as they are."""
    for first, length in PREFIXES:
        if value.startswith(first):
            inner = value[length:].removeprefix(BOM)
            if inner.lstrip()[:1] in (b"{", b"["):
                return inner
    return value.removeprefix(BOM)


def named(value: bytes) -> str:
    """What these bytes, which are no JSON, seem to be; "" when unknown."""
    found = [name for first, name in OTHERS.items() if value.startswith(first)]
    return found[-1] if found else ""


def objects(value: bytes) -> Sequence[bytes] | None:
    """The parts of ``value``, which is not one JSON value, if it is several objects; else None.

    On lines of their own a bad one does not spoil the others; on one line all have to be JSON.
    """
    lines = [line for line in map(bytes.strip, value.split(b"\n")) if line]
    whole = [line.startswith(b"{") and line.endswith(b"}") for line in lines]
    if len(lines) > 1 and all(whole):
        return lines
    found = _behind_each_other(value) if value.count(b"{") > 1 else None
    return lines if found is None and len(lines) > 1 and whole[0] else found


def _behind_each_other(value: bytes) -> Sequence[bytes] | None:
    text = value.decode().strip()
    found, at = [], 0
    try:
        while at < len(text):
            if text[at] != "{":
                return None
            _, end = _JSON.raw_decode(text, at)
            found.append(text[at:end].encode())
            at = end
            while text[at : at + 1].isspace():
                at += 1
    except ValueError:
        return None
    return found if len(found) > 1 else None

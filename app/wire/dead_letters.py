"""Records of the topic of dead letters: the bytes of a record that could not be read, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CUT_VALUE, CUT_KEY, CUT_HEADERS, CUT_REASON = 512 * 1024, 64 * 1024, 64 * 1024, 1024  # bytes


@dataclass(slots=True)
class DeadLetter:
    """A record, or an element of an array in it, that could not be read.

    ``reason``: a sentence that begins with topic[partition]@offset; ``label``: one of malformed.LABELS or of the
    pipeline's; ``key`` and ``headers`` are the record's; ``value`` is the record's, or that of the element.
    """

    offset: int
    index: int
    reason: str
    label: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    def record(self, topic: str, partition: int) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
        """Key, value and headers of the dead letter; always the same for the same record."""
        headers = [
            ("reason", _cut(self.reason, CUT_REASON)),
            ("topic", topic.encode()),
            *((name, b"%d" % n) for name, n in [("partition", partition), ("offset", self.offset)]),
            ("index", b"%d" % self.index),
        ]
        for name, raw, most in (("value", self.value, CUT_VALUE), ("key", self.key, CUT_KEY)):
            if raw is not None and len(raw) > most:
                headers.append((f"{name}-length", b"%d" % len(raw)))
        room = CUT_HEADERS - sum(len(name) + len(text) for name, text in headers)
        for taken, header in enumerate(self.headers):
            room -= len(header[0].encode("utf-8", "replace")) + len(header[1] or b"")
            if room < 0:
                headers.append(("headers-dropped", b"%d" % (len(self.headers) - taken)))
                break
            headers.append(header)
        key = self.key if self.key is None else self.key[:CUT_KEY]
        return key, self.value if self.value is None else self.value[:CUT_VALUE], headers


def _cut(text: str, most: int) -> bytes:
    raw = text.encode("utf-8", "backslashreplace")
    return raw if len(raw) <= most else raw[: most - 3].decode("utf-8", "ignore").encode() + b"..."

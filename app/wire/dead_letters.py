"""Records of the topic of dead letters: the bytes of a record that could not be read, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.compiled.numeric import MAX_VALUE_TEXT
from app.state.series import MAX_METRIC_BYTES

# Label of a reason -> what the operator can do; most labels are those of malformed.LABELS.
TO_DO = {
    "bad_metric": f"Correct the producer: a metric's name has 1 to {MAX_METRIC_BYTES} bytes.",
    "bad_source": "Correct the producer, or name the field of the source in input.source_field.",
    "bad_timestamp": "Correct the producer, or set input.timestamp_field and input.timestamp_unit.",
    "empty": "Correct the producer: a record is a JSON object or an array of them.",
    "foreign": "Only workers may write to the topic by source: find the other program.",
    "invalid_json": "Correct the producer: records are JSON in UTF-8.",
    "key_mismatch": "Key the records by source, so that all of a source are in one partition, or set input.rekey.",
    "no_value": "Correct the producer, or name the fields with values in input.value_fields.",
    "not_finite": "Correct the producer: NaN and Infinity are no values; leave the field out.",
    "not_read": "Correct the producer: too many elements of one array are bad.",
    "out_of_range": f"Correct the producer: values are from -{MAX_VALUE_TEXT} to {MAX_VALUE_TEXT}.",
    "too_deep": "Correct the producer: records are nested too deeply.",
    "too_many_metrics": "Raise input.max_metrics, or send the metrics as several sources.",
    "too_many_sources": "Raise state.max_sources, or find the producer that sends new names all the time.",
    "wrong_type": "Correct the producer, or name the right fields: input.source_field, input.value_fields.",
}

CUTS = CUT_VALUE, CUT_KEY, CUT_HEADERS = 512 * 1024, 64 * 1024, 64 * 1024  # bytes
CUT_REASON = 1024


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
    origin: tuple[str, int, int, int] | None = None  # topic, partition, offset, index, if not as they were read

    def record(
        self, topic: str, partition: int, limit: int | None = None
    ) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
        """Key, value and headers of the dead letter; always the same for the same record and limit.

        ``topic`` and ``partition`` are those it was read from; ``limit``: bytes of the largest record batch that the
        topic of dead letters accepts, 4,096 or more.
        """
        limit = 2 * CUT_VALUE if limit is None else limit
        cut_value, cut_key, cut_headers = (min(cut, limit * cut // (2 * CUT_VALUE)) for cut in CUTS)
        of, *numbers = self.origin or (topic, partition, self.offset, self.index)
        headers = [
            ("reason", _cut(self.reason, CUT_REASON)),
            ("topic", of.encode()),
            *((name, b"%d" % n) for name, n in zip(("partition", "offset", "index"), numbers)),
        ]
        for name, raw, most in (("value", self.value, cut_value), ("key", self.key, cut_key)):
            if raw is not None and len(raw) > most:
                headers.append((f"{name}-length", b"%d" % len(raw)))
        room = cut_headers - sum(len(name) + len(text) for name, text in headers)
        for taken, header in enumerate(self.headers):
            room -= len(header[0].encode("utf-8", "replace")) + len(header[1] or b"")
            if room < 0:
                headers.append(("headers-dropped", b"%d" % (len(self.headers) - taken)))
                break
            headers.append(header)
        key = self.key if self.key is None else self.key[:cut_key]
        return key, self.value if self.value is None else self.value[:cut_value], headers


def _cut(text: str, most: int) -> bytes:
    raw = text.encode("utf-8", "backslashreplace")
    return raw if len(raw) <= most else raw[: most - 3].decode("utf-8", "ignore").encode() + b"..."
